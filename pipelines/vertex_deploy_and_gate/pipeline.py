"""The sub-DAG `vertex_deploy_and_gate`: plan, deploy both through GCPC, the whole gate, teardown in any case.

As in `deploy_and_gate` teardown depends on one task alone, the sub-DAG of everything that may fail, and
knows the deployment's name from its own DAG's inputs. What was created it finds by labels: outputs of
a task that failed, or of one in a branch, would not reach it.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Dict, Final, List

from google_cloud_pipeline_components.types.artifact_types import UnmanagedContainerModel, VertexModel
from google_cloud_pipeline_components.v1.endpoint import EndpointCreateOp, ModelDeployOp
from google_cloud_pipeline_components.v1.model import ModelUploadOp
from kfp import dsl

from model_load_test.components import (
    create_vertex_endpoint,
    find_vertex_servers,
    plan_vertex_serving,
    teardown_vertex_servers,
)
from model_load_test.components.protocols.endpoint import ENDPOINT_SCHEMES, check_endpoints
from model_load_test.pipelines.knobs import checked, combined, described, own_knobs
from model_load_test.pipelines.load_test_gate.pipeline import GateOutputs
from model_load_test.pipelines.load_test_gate.vertex import (
    DOCUMENTATION,
    KNOBS,
    compose_on_vertex,
)


def serving_knobs(
    model_name: str,
    candidate_model: str = "",
    baseline_model: str = "",
    candidate_endpoint: str = "",
    baseline_endpoint: str = "",
    serving: Dict[str, object] = {},
    server_machine_type: str = "n1-standard-4",
    server_accelerator_type: str = "",
    server_accelerator_count: int = 0,
    replicas: int = 1,
    server_service_account: str = "",
    endpoint_kind: str = "shared",
    endpoint_network: str = "",
    infra_blessing: str = "",
    serving_deadline_seconds: int = 7200,
    project: str = "{{$.pipeline_google_cloud_project_id}}",
    location: str = "{{$.pipeline_google_cloud_location}}",
) -> None:
    """Deploys a candidate beside its baseline on Vertex AI, load tests both, and removes them again.

    Args:
        model_name: Name of the model.
        candidate_model: The new model: a folder gs://BUCKET/FOLDER, or a registered model
            projects/PROJECT/locations/LOCATION/models/ID@VERSION.
        baseline_model: The model in production, likewise; empty to compare with recorded runs only.
        candidate_endpoint: A live endpoint of the new model instead:
            projects/PROJECT/locations/LOCATION/endpoints/ID, or its URL. It is never changed or removed.
        baseline_endpoint: A live endpoint of the model in production, likewise. The load reaches whoever
            else uses it.
        serving: The serving container of models from folders: {"image": ...}, and for one of your own
            predict_route, health_route, port, command, arguments, environment.
        server_machine_type: Machine of each replica.
        server_accelerator_type: Such as NVIDIA_TESLA_T4; empty for none.
        server_accelerator_count: Of each replica.
        replicas: Of each arm, all the time.
        server_service_account: Service account that the serving containers run as; empty for Vertex AI's.
        endpoint_kind: shared, dedicated (a name of its own) or peered (reached from a network only).
        endpoint_network: For peered endpoints, projects/NUMBER/global/networks/NAME.
        infra_blessing: What an infrastructure validation upstream said: 1 or 0, the blessing's metadata
            as JSON, or its URI; anything but 1 stops the run. Empty where there was none.
        serving_deadline_seconds: After which `model-load-test cleanup --vertex` takes what was deployed
            for left over.
        project: Where to deploy; the pipeline's own when left out.
        location: Where to deploy; the pipeline's own when left out.
    """


_FOUND: Final[Mapping[str, str]] = {
    "candidate_endpoint": "endpoint_of_candidate",
    "baseline_endpoint": "endpoint_of_baseline",
    "model_name": "served_model_name",
    "server_kind": "server_kind",
    "server_image": "server_image",
    "server_flags": "server_flags",
    "server_replicas": "server_replicas",
    "allowed_hosts": "hosts",
    "connection": "reached_by",
    "resource_sources": "monitored_by",
}
"""Inputs of the gate by the outputs of `find_vertex_servers` that answer them."""
_ASKED_STILL: Final = ("allowed_hosts", "connection", "resource_sources")
"""Those of them that the user may answer too."""

_GATE_KNOBS: Final = [
    knob for knob in KNOBS if knob.name not in {"api", *_FOUND} or knob.name in _ASKED_STILL
]
_SERVING_KNOBS: Final = own_knobs(serving_knobs)
_ALL_TRAFFIC: Final = {"0": "100"}
"""To the model that is being deployed, which GCPC calls 0: without it no request reaches the model."""


@dsl.pipeline(
    name="deploy-to-endpoint", description="Makes an endpoint of the kind and deploys a model to it."
)
def _deploy_to_endpoint(
    model: dsl.Input[VertexModel],
    kind: str,
    endpoint_id: str,
    display_name: str,
    labels: Dict[str, str],
    network: str,
    machine_type: str,
    accelerator_type: str,
    accelerator_count: int,
    replicas: int,
    service_account: str,
    project: str,
    location: str,
) -> None:
    def deploy(endpoint: Any) -> None:
        deployed = ModelDeployOp(
            model=model,
            endpoint=endpoint,
            traffic_split=_ALL_TRAFFIC,
            dedicated_resources_machine_type=machine_type,
            dedicated_resources_min_replica_count=replicas,
            dedicated_resources_max_replica_count=replicas,
            dedicated_resources_accelerator_type=accelerator_type,
            dedicated_resources_accelerator_count=accelerator_count,
            service_account=service_account,
        )
        deployed.set_caching_options(False)

    with dsl.If(kind == "dedicated"):
        own = create_vertex_endpoint(
            endpoint_id=endpoint_id,
            display_name=display_name,
            labels=labels,
            project=project,
            location=location,
        )
        own.set_caching_options(False)
        deploy(own.outputs["endpoint"])
    with dsl.Else():
        made = EndpointCreateOp(
            display_name=display_name, labels=labels, network=network, project=project, location=location
        )
        made.set_caching_options(False)
        deploy(made.outputs["endpoint"])


@dsl.pipeline(
    name="deploy-arm", description="Uploads a model, or takes it from the registry, and deploys it."
)
def _deploy_arm(
    container: dsl.Input[UnmanagedContainerModel],
    registered: dsl.Input[VertexModel],
    source: str,
    kind: str,
    endpoint_id: str,
    display_name: str,
    labels: Dict[str, str],
    network: str,
    machine_type: str,
    accelerator_type: str,
    accelerator_count: int,
    replicas: int,
    service_account: str,
    project: str,
    location: str,
) -> None:
    def deploy(model: Any) -> None:
        deployed = _deploy_to_endpoint(
            model=model,
            kind=kind,
            endpoint_id=endpoint_id,
            display_name=display_name,
            labels=labels,
            network=network,
            machine_type=machine_type,
            accelerator_type=accelerator_type,
            accelerator_count=accelerator_count,
            replicas=replicas,
            service_account=service_account,
            project=project,
            location=location,
        )
        deployed.set_caching_options(False)

    with dsl.If(source == "upload"):
        uploaded = ModelUploadOp(
            display_name=display_name,
            unmanaged_container_model=container,
            labels=labels,
            project=project,
            location=location,
        )
        uploaded.set_caching_options(False)
        deploy(uploaded.outputs["model"])
    with dsl.Elif(source == "registry"):
        deploy(registered)


def _sub_dag(name: str, body: Callable[[Mapping[str, Any]], GateOutputs], *first: inspect.Parameter) -> Any:
    """A pipeline of these inputs; one inside of another has `first` too, and is given them all."""
    knobs = [*first, *_SERVING_KNOBS, *_GATE_KNOBS]
    if first:
        knobs = [knob.replace(default=inspect.Parameter.empty) for knob in knobs]

    def compose(*values: Any) -> GateOutputs:
        return body(dict(zip([knob.name for knob in knobs], values, strict=True)))

    documented = combined(compose, knobs, GateOutputs, _documentation())
    return dsl.pipeline(
        name=name, description="Is the candidate slower to serve than the baseline? Both are deployed for it."
    )(documented)


def _documentation() -> str:
    def of_the_gate() -> None:
        pass

    of_the_gate.__doc__ = DOCUMENTATION
    return described(serving_knobs, of_the_gate)


def _measure(given: Mapping[str, Any]) -> GateOutputs:
    servers = find_vertex_servers(
        **_for(given, "model_name", "candidate_endpoint", "baseline_endpoint", "deployment"),
        **_for(given, *_ASKED_STILL, "project", "location"),
    ).after(*(_arm(arm, given) for arm in ("candidate", "baseline")))
    servers.set_caching_options(False)
    found = {name: servers.outputs[output] for name, output in _FOUND.items()}
    return compose_on_vertex({**_for(given, *(knob.name for knob in _GATE_KNOBS)), **found, "api": "vertex"})


def _arm(arm: str, given: Mapping[str, Any]) -> Any:
    deployed = _deploy_arm(
        container=given[f"{arm}_container"],
        registered=given[f"{arm}_registered"],
        source=given[f"{arm}_source"],
        endpoint_id=given[f"{arm}_endpoint_id"],
        display_name=given[f"{arm}_name"],
        labels=given[f"{arm}_labels"],
        kind=given["endpoint_kind"],
        network=given["endpoint_network"],
        machine_type=given["server_machine_type"],
        accelerator_type=given["server_accelerator_type"],
        accelerator_count=given["server_accelerator_count"],
        replicas=given["replicas"],
        service_account=given["server_service_account"],
        **_for(given, "project", "location"),
    )
    deployed.set_caching_options(False)
    return deployed


def _guard(given: Mapping[str, Any]) -> GateOutputs:
    measured = _measured(**given)
    # Every argument is given: where one is not, kfp fails on a task that ignores upstream failure.
    removed = (
        teardown_vertex_servers(**_for(given, "deployment", "project", "location"))
        .after(measured)
        .ignore_upstream_failure()
    )
    _without_cache(measured, removed)
    return _outputs_of(measured)


def _plan(given: Mapping[str, Any]) -> GateOutputs:
    plan = plan_vertex_serving(
        **_for(given, *(name for name in plan_vertex_serving.component_spec.inputs if name in given)),
        server_replicas=given["replicas"],
        deadline_seconds=given["serving_deadline_seconds"],
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    )
    planned = {knob.name: plan.outputs[knob.name] for knob in _PLANNED}
    place = {"project": plan.outputs["place_project"], "location": plan.outputs["place_location"]}
    guarded = _guarded(**{**given, **planned, **place, "saved_model": plan.outputs["signature_of"]})
    _without_cache(plan, guarded)
    return _outputs_of(guarded)


def _outputs_of(task: Any) -> GateOutputs:
    return GateOutputs(**{name: task.outputs[name] for name in GateOutputs._fields})


def _for(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: given[name] for name in names}


def _without_cache(*tasks: Any) -> None:
    for task in tasks:
        task.set_caching_options(False)


def _planned_knobs() -> List[inspect.Parameter]:
    """What the plan decides, and the DAGs below hand on."""
    of_an_arm: dict[str, Any] = {
        "container": dsl.Input[UnmanagedContainerModel],
        "registered": dsl.Input[VertexModel],
        "source": str,
        "endpoint_id": str,
        "name": str,
        "labels": dict[str, str],
    }
    kinds = {f"{arm}_{name}": kind for arm in ("candidate", "baseline") for name, kind in of_an_arm.items()}
    return [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
        for name, kind in {**kinds, "deployment": str}.items()
    ]


def _check(known: Mapping[str, Any]) -> None:
    # Names of endpoints are taken too; what stands behind them is found out on Vertex AI.
    ends = [str(known.get(f"{arm}_endpoint", "")) for arm in ("candidate", "baseline")]
    candidate, baseline = (end if end.startswith(ENDPOINT_SCHEMES) else "" for end in ends)
    check_endpoints(candidate, baseline, "http")


_PLANNED: Final = _planned_knobs()
_measured: Final = _sub_dag("deploy-and-measure", _measure, *_PLANNED)
_guarded: Final = _sub_dag("measure-and-tear-down", _guard, *_PLANNED)
vertex_deploy_and_gate: Final = checked(_sub_dag("vertex-deploy-and-gate", _plan), _check)
"""The gate with servers of its own on Vertex AI: deployed, loaded, judged and removed again."""
