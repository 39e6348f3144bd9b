"""The sub-DAG `deploy_and_gate`: plan, validate, deploy both, the whole gate, and teardown in any case.

Three DAGs, one in the other, because of how KFP runs what must always run: a task that ignores
upstream failure becomes an exit hook of every task it depends on, so teardown depends on one task
alone, which is the sub-DAG of everything that may fail, and it learns the deployment's name from its
own DAG's inputs, not from a task.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Dict, Final, List

from kfp import dsl

from model_load_test.components import (
    deploy_model_server,
    plan_serving,
    teardown_model_server,
    validate_model_server,
)
from model_load_test.components.protocols.endpoint import ENDPOINT_SCHEMES, check_endpoints
from model_load_test.pipelines.knobs import checked, combined, described, own_knobs
from model_load_test.pipelines.load_test_gate.pipeline import GateOutputs, load_test_gate


def serving_knobs(
    model_name: str,
    candidate_model: str = "",
    baseline_model: str = "",
    candidate_endpoint: str = "",
    baseline_endpoint: str = "",
    serving: Dict[str, object] = {},
    storage: Dict[str, object] = {},
    infra_blessing: str = "",
    validate: bool = True,
    validation_requests: Dict[str, object] = {},
    server_tolerations: List[Dict[str, object]] = [],
    server_node_selector: Dict[str, str] = {},
    server_affinity: Dict[str, object] = {},
    server_resources: Dict[str, object] = {},
    serving_namespace: str = "",
    serving_deadline_seconds: int = 7200,
) -> None:
    """Deploys a candidate beside its baseline, load tests both and breaks the run when it is slower.

    Args:
        model_name: Name the model is served by.
        candidate_model: The new model: pvc://, gs://, s3://, minio://, http(s):// (an archive), or the
            URI of a KFP artifact; `#sha256=...` behind it is verified.
        baseline_model: The model in production, likewise; empty to compare with recorded runs only.
        candidate_endpoint: A live server of the new model instead: grpc://HOST:PORT,
            http(s)://HOST:PORT, service://NAME, inferenceservice://NAME, seldondeployment://NAME or
            ingress://NAME. It is checked, and never changed or removed.
        baseline_endpoint: A live server of the model in production, likewise.
        serving: How to serve: {"kind": "tf-serving" | "triton" | "kserve" | "seldon", "image": ...,
            "flags": [...], ...}, or TFX InfraValidator's ServingSpec as JSON.
        storage: How to get at the models: {"endpoint": ..., "secret": ...}, or a KFP artifact's
            store_session_info.
        infra_blessing: What an infrastructure validation upstream said: 1 or 0, the blessing's metadata
            as JSON, or its URI; anything but 1 stops the run. Empty where there was none.
        validate: Whether to load the candidate and send it requests before the load test, as TFX's
            InfraValidator does.
        validation_requests: Which: {"requests": 10, "signature_names": [...], "examples": "gs://..."}, or
            TFX InfraValidator's RequestSpec as JSON.
        server_tolerations: Kubernetes tolerations of the servers' pods.
        server_node_selector: Node labels that the servers' pods must find.
        server_affinity: Kubernetes affinity of the servers' pods.
        server_resources: Resources of each server, such as {"requests": {"cpu": "2"}}.
        serving_namespace: Where to deploy; empty for the pipeline's own.
        serving_deadline_seconds: After which the cluster removes the servers by itself, whatever
            becomes of the run.
    """


_DECIDED_BY_DEPLOYMENT: Final = (
    "candidate_endpoint",
    "baseline_endpoint",
    "model_name",
    "server_kind",
    "server_image",
    "server_flags",
    "server_replicas",
)
"""Inputs of `load_test_gate` that deploying answers."""

GATE_KNOBS: Final = own_knobs(load_test_gate.pipeline_func, without=_DECIDED_BY_DEPLOYMENT)
SERVING_KNOBS: Final = own_knobs(serving_knobs)
_NO_CACHE: Final = False


def _sub_dag(name: str, body: Callable[[Mapping[str, Any]], GateOutputs], *first: inspect.Parameter) -> Any:
    """A pipeline whose inputs are `first`, the serving's and the gate's."""
    knobs = [*first, *SERVING_KNOBS, *GATE_KNOBS]

    def compose(*values: Any) -> GateOutputs:
        return body(dict(zip([knob.name for knob in knobs], values, strict=True)))

    documented = combined(compose, knobs, GateOutputs, described(serving_knobs, load_test_gate.pipeline_func))
    return dsl.pipeline(
        name=name, description="Is the candidate slower to serve than the baseline? Both are deployed for it."
    )(documented)


def _measure(given: Mapping[str, Any]) -> GateOutputs:
    blessing = validate_model_server(
        **_for(given, "model_name", "candidate_model", "validate", "serving", "storage", "deployment"),
        **_placement(given),
        requests=given["validation_requests"],
        namespace=given["serving_namespace"],
        deadline_seconds=given["serving_deadline_seconds"],
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        task_id=dsl.PIPELINE_TASK_ID_PLACEHOLDER,
    )
    servers = deploy_model_server(
        **_for(given, "model_name", "candidate_model", "baseline_model", "candidate_endpoint"),
        **_for(given, "baseline_endpoint", "serving", "storage", "signature_name", "deployment"),
        **_placement(given),
        infra_blessing=blessing.outputs["infra_blessing"],
        namespace=given["serving_namespace"],
        deadline_seconds=given["serving_deadline_seconds"],
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        task_id=dsl.PIPELINE_TASK_ID_PLACEHOLDER,
    )
    gate = load_test_gate(
        **_for(given, *(knob.name for knob in GATE_KNOBS)),
        candidate_endpoint=servers.outputs["endpoint_of_candidate"],
        baseline_endpoint=servers.outputs["endpoint_of_baseline"],
        model_name=servers.outputs["served_model_name"],
        server_kind=servers.outputs["server_kind"],
        server_image=servers.outputs["server_image"],
        server_flags=servers.outputs["server_flags"],
        server_replicas=servers.outputs["server_replicas"],
    )
    _without_cache(blessing, servers, gate)
    return _outputs_of(gate)


def _guard(given: Mapping[str, Any]) -> GateOutputs:
    measured = _measured(**given)
    # Every argument is given: where one is not, kfp fails on a task that ignores upstream failure.
    removed = (
        teardown_model_server(
            deployment=given["deployment"],
            namespace=given["serving_namespace"],
            run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        )
        .after(measured)
        .ignore_upstream_failure()
    )
    _without_cache(measured, removed)
    return _outputs_of(measured)


def _plan(given: Mapping[str, Any]) -> GateOutputs:
    plan = plan_serving(
        **_for(given, "model_name", "candidate_model", "baseline_model", "candidate_endpoint"),
        **_for(given, "baseline_endpoint", "serving", "storage", "infra_blessing"),
        **_placement(given),
        deadline_seconds=given["serving_deadline_seconds"],
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        task_id=dsl.PIPELINE_TASK_ID_PLACEHOLDER,
    )
    guarded = _guarded(deployment=plan.outputs["deployment"], **given)
    _without_cache(plan, guarded)
    return _outputs_of(guarded)


def _outputs_of(task: Any) -> GateOutputs:
    return GateOutputs(**{name: task.outputs[name] for name in GateOutputs._fields})


def _for(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: given[name] for name in names}


def _placement(given: Mapping[str, Any]) -> dict[str, Any]:
    return _for(given, "server_tolerations", "server_node_selector", "server_affinity", "server_resources")


def _without_cache(*tasks: Any) -> None:
    for task in tasks:
        task.set_caching_options(_NO_CACHE)


_DEPLOYMENT: Final = inspect.Parameter("deployment", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)

_measured: Final = _sub_dag("validate-deploy-and-measure", _measure, _DEPLOYMENT)
_guarded: Final = _sub_dag("measure-and-tear-down", _guard, _DEPLOYMENT)


def _check(known: Mapping[str, Any]) -> None:
    # Names of services are taken too; what they speak is found out in the cluster.
    ends = [str(known.get(f"{arm}_endpoint", "")) for arm in ("candidate", "baseline")]
    check_endpoints(*(end if end.startswith(ENDPOINT_SCHEMES) else "" for end in ends))


deploy_and_gate: Final = checked(_sub_dag("deploy-and-gate", _plan), _check)
