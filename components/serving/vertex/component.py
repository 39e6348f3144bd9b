"""KFP interface of serving on Vertex AI: container components around those of GCPC, which deploy."""

# ruff: noqa: ARG001 -- KFP puts every argument into the executor input, which the task reads

from typing import Dict, List

from google_cloud_pipeline_components import _placeholders
from google_cloud_pipeline_components.types.artifact_types import (
    UnmanagedContainerModel,
    VertexEndpoint,
    VertexModel,
)
from kfp import dsl

from model_load_test.components.image import load_test_image

_COMMAND = ["python3", "-u", "-m", "model_load_test.components.tasks"]
_EXECUTOR_INPUT = "{{$}}"


@dsl.container_component
def plan_vertex_serving(
    candidate_container: dsl.Output[UnmanagedContainerModel],
    candidate_registered: dsl.Output[VertexModel],
    baseline_container: dsl.Output[UnmanagedContainerModel],
    baseline_registered: dsl.Output[VertexModel],
    candidate_source: dsl.OutputPath(str),
    candidate_name: dsl.OutputPath(str),
    candidate_labels: dsl.OutputPath(dict),
    candidate_endpoint_id: dsl.OutputPath(str),
    baseline_source: dsl.OutputPath(str),
    baseline_name: dsl.OutputPath(str),
    baseline_labels: dsl.OutputPath(dict),
    baseline_endpoint_id: dsl.OutputPath(str),
    deployment: dsl.OutputPath(str),
    place_project: dsl.OutputPath(str),
    place_location: dsl.OutputPath(str),
    signature_of: dsl.OutputPath(str),
    model_name: str,
    candidate_model: str = "",
    baseline_model: str = "",
    candidate_endpoint: str = "",
    baseline_endpoint: str = "",
    serving: Dict[str, object] = {},
    server_machine_type: str = "n1-standard-4",
    server_accelerator_type: str = "",
    server_accelerator_count: int = 0,
    server_replicas: int = 1,
    endpoint_kind: str = "shared",
    endpoint_network: str = "",
    saved_model: str = "",
    infra_blessing: str = "",
    deadline_seconds: int = 7200,
    project: str = _placeholders.PROJECT_ID_PLACEHOLDER,
    location: str = _placeholders.LOCATION_PLACEHOLDER,
    run_id: str = "",
) -> dsl.ContainerSpec:
    """Checks everything a deployment on Vertex AI needs before anything is created, and gives it a name.

    Args:
        candidate_container: The candidate and its serving container, for GCPC's ModelUploadOp.
        candidate_registered: The candidate where it is in the registry, for GCPC's ModelDeployOp.
        baseline_container: The baseline, likewise.
        baseline_registered: The baseline, likewise.
        candidate_source: upload, registry, or empty where it is not deployed.
        candidate_name: What the console shows.
        candidate_labels: Of its model and endpoint; teardown goes by them.
        candidate_endpoint_id: Of an endpoint with a name of its own.
        baseline_source: As the candidate's.
        baseline_name: As the candidate's.
        baseline_labels: As the candidate's.
        baseline_endpoint_id: As the candidate's.
        deployment: The deployment's name, for `find_vertex_servers` and `teardown_vertex_servers`.
        place_project: The project.
        place_location: The location.
        signature_of: The SavedModel to make requests from: as given, or the candidate's own.
        model_name: Name of the model.
        candidate_model: The new model: a folder gs://BUCKET/FOLDER, or a registered model
            projects/PROJECT/locations/LOCATION/models/ID@VERSION.
        baseline_model: The model in production, likewise; empty for none.
        candidate_endpoint: A live endpoint of the new model instead:
            projects/PROJECT/locations/LOCATION/endpoints/ID, or its URL.
        baseline_endpoint: A live endpoint of the model in production, likewise.
        serving: The serving container of models from folders: image, and for one of your own
            predict_route, health_route, port, command, arguments, environment.
        server_machine_type: Machine of each replica.
        server_accelerator_type: Such as NVIDIA_TESLA_T4; empty for none.
        server_accelerator_count: Of each replica.
        server_replicas: Of each arm, all the time.
        endpoint_kind: shared, dedicated (a name of its own) or peered (from a network only).
        endpoint_network: For peered endpoints, projects/NUMBER/global/networks/NAME.
        saved_model: URI of the SavedModel to take the signature from; empty for the candidate's.
        infra_blessing: What an infrastructure validation upstream said; not 1 stops the run.
        deadline_seconds: After which `model-load-test cleanup --vertex` takes it for left over.
        project: Where to deploy; the pipeline's own when left out.
        location: Where to deploy; the pipeline's own when left out.
        run_id: The pipeline run: give dsl.PIPELINE_JOB_ID_PLACEHOLDER.
    """
    return dsl.ContainerSpec(
        image=load_test_image(), command=_COMMAND, args=["plan_vertex_serving", _EXECUTOR_INPUT]
    )


@dsl.container_component
def create_vertex_endpoint(
    endpoint: dsl.Output[VertexEndpoint],
    endpoint_id: str,
    display_name: str,
    labels: Dict[str, str] = {},
    project: str = _placeholders.PROJECT_ID_PLACEHOLDER,
    location: str = _placeholders.LOCATION_PLACEHOLDER,
) -> dsl.ContainerSpec:
    """Makes an endpoint with a name of its own, which GCPC's EndpointCreateOp cannot.

    A retried task finds the endpoint that is there.

    Args:
        endpoint: The endpoint, for GCPC's ModelDeployOp.
        endpoint_id: The last part of its resource name.
        display_name: What the console shows.
        labels: Of the endpoint.
        project: Where; the pipeline's own when left out.
        location: Where; the pipeline's own when left out.
    """
    return dsl.ContainerSpec(
        image=load_test_image(), command=_COMMAND, args=["create_vertex_endpoint", _EXECUTOR_INPUT]
    )


@dsl.container_component
def find_vertex_servers(
    endpoint_of_candidate: dsl.OutputPath(str),
    endpoint_of_baseline: dsl.OutputPath(str),
    served_model_name: dsl.OutputPath(str),
    server_kind: dsl.OutputPath(str),
    server_image: dsl.OutputPath(str),
    server_flags: dsl.OutputPath(list),
    server_replicas: dsl.OutputPath(int),
    model_sha256: dsl.OutputPath(str),
    resources: dsl.OutputPath(str),
    hosts: dsl.OutputPath(list),
    reached_by: dsl.OutputPath(dict),
    monitored_by: dsl.OutputPath(dict),
    model_name: str,
    candidate_endpoint: str = "",
    baseline_endpoint: str = "",
    deployment: str = "",
    allowed_hosts: List[object] = [],
    connection: Dict[str, object] = {},
    resource_sources: Dict[str, object] = {},
    project: str = _placeholders.PROJECT_ID_PLACEHOLDER,
    location: str = _placeholders.LOCATION_PLACEHOLDER,
) -> dsl.ContainerSpec:
    """Finds candidate and baseline on Vertex AI, and says of them what `deploy_model_server` says.

    Arms on different machines, and endpoints that share their traffic out, are refused.

    Args:
        endpoint_of_candidate: Where the candidate is served.
        endpoint_of_baseline: Where the baseline is served; empty without one.
        served_model_name: The model's name, as given.
        server_kind: vertex.
        server_image: The serving container's image, by its tag: Vertex AI tells no digest.
        server_flags: Kind of endpoint, machine type, accelerator and replicas.
        server_replicas: The least number of replicas of each.
        model_sha256: Empty: Vertex AI tells none.
        resources: Resource names of the endpoints.
        hosts: `allowed_hosts` and the endpoints' own.
        reached_by: The connection: as given, or TLS with tokens of this run's service account.
        monitored_by: Where the endpoints' own numbers are: as given, or their series in Cloud Monitoring.
        model_name: Name of the model.
        candidate_endpoint: A live endpoint, as for `plan_vertex_serving`.
        baseline_endpoint: A live endpoint, likewise.
        deployment: As `plan_vertex_serving` named it; empty where nothing was deployed.
        allowed_hosts: Hosts that may be loaded beside.
        connection: How to reach the endpoints, as for `run_load_test`; empty for the usual way.
        resource_sources: Where their CPU, memory and replicas are told, as for `run_load_test`; empty for
            Cloud Monitoring.
        project: Where; the pipeline's own when left out.
        location: Where; the pipeline's own when left out.
    """
    return dsl.ContainerSpec(
        image=load_test_image(), command=_COMMAND, args=["find_vertex_servers", _EXECUTOR_INPUT]
    )


@dsl.container_component
def teardown_vertex_servers(
    deployment: str = "",
    project: str = _placeholders.PROJECT_ID_PLACEHOLDER,
    location: str = _placeholders.LOCATION_PLACEHOLDER,
) -> dsl.ContainerSpec:
    """Undeploys and deletes what a deployment on Vertex AI has created, and returns when it is gone.

    Live endpoints and registered models that were found and not made are none of it.

    Args:
        deployment: As `plan_vertex_serving` named it; empty to do nothing.
        project: Where; the pipeline's own when left out.
        location: Where; the pipeline's own when left out.
    """
    return dsl.ContainerSpec(
        image=load_test_image(), command=_COMMAND, args=["teardown_vertex_servers", _EXECUTOR_INPUT]
    )
