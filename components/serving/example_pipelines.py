"""A model that is deployed beside the one in production, for as long as something is done with both."""

from google_cloud_pipeline_components.v1.endpoint import ModelDeployOp
from google_cloud_pipeline_components.v1.model import ModelUploadOp
from kfp import dsl

from model_load_test.components import (
    deploy_model_server,
    plan_serving,
    require_infra_blessing,
    run_load_test,
    teardown_model_server,
    validate_model_server,
)
from model_load_test.components.payload.component import generate_payload
from model_load_test.components.serving.vertex.component import (
    create_vertex_endpoint,
    find_vertex_servers,
    plan_vertex_serving,
    teardown_vertex_servers,
)


@dsl.pipeline(name="measure-deployed")
def measure_deployed(candidate_model: str, baseline_model: str, deployment: str) -> None:
    """Validates the candidate, deploys both models, and loads them."""
    run = {"run_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER, "deployment": deployment}
    validated = validate_model_server(candidate_model=candidate_model, model_name="digits", **run)
    servers = deploy_model_server(
        candidate_model=candidate_model,
        baseline_model=baseline_model,
        model_name="digits",
        infra_blessing=validated.outputs["infra_blessing"],
        **run,
    )
    candidate = servers.outputs["endpoint_of_candidate"]
    requests = generate_payload(endpoint=candidate, model_name="digits")
    run_load_test(
        payload=requests.outputs["payload"],
        candidate_endpoint=candidate,
        baseline_endpoint=servers.outputs["endpoint_of_baseline"],
        model_name="digits",
    )


@dsl.pipeline(name="guarded")
def guarded(candidate_model: str, baseline_model: str, deployment: str) -> None:
    """Teardown depends on one task alone: KFP makes it an exit hook of each task it depends on."""
    measured = measure_deployed(
        candidate_model=candidate_model, baseline_model=baseline_model, deployment=deployment
    )
    teardown_model_server(deployment=deployment, namespace="", run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER).after(
        measured
    ).ignore_upstream_failure()


@dsl.pipeline(name="serving-example")
def deploy_and_measure(
    blessing: dsl.Input[dsl.Artifact],
    candidate_model: str = "gs://models/digits/42",
    baseline_model: str = "gs://models/digits/41",
) -> None:
    """Takes the servers down again whatever happens, and starts only with a blessed model."""
    checked = require_infra_blessing(blessing=blessing)
    plan = plan_serving(
        candidate_model=candidate_model,
        baseline_model=baseline_model,
        model_name="digits",
        serving={"kind": "tf-serving", "image": "tensorflow/serving:2.19.1"},
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        task_id=dsl.PIPELINE_TASK_ID_PLACEHOLDER,
    ).after(checked)
    guarded(
        candidate_model=candidate_model,
        baseline_model=baseline_model,
        deployment=plan.outputs["deployment"],
    )


@dsl.pipeline(name="serving-on-vertex-example")
def deploy_on_vertex(
    candidate_model: str = "gs://models/digits/42", baseline_endpoint: str = "1234567890"
) -> None:
    """Deploys a model beside a live endpoint of Vertex AI, with Google's own components in between.

    What is to be done with both stands after `find_vertex_servers`; `vertex_deploy_and_gate` has it all.
    """
    plan = plan_vertex_serving(
        model_name="digits",
        candidate_model=candidate_model,
        baseline_endpoint=baseline_endpoint,
        endpoint_kind="dedicated",
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    )
    endpoint = create_vertex_endpoint(
        endpoint_id=plan.outputs["candidate_endpoint_id"],
        display_name=plan.outputs["candidate_name"],
        labels=plan.outputs["candidate_labels"],
    )
    model = ModelUploadOp(
        display_name=plan.outputs["candidate_name"],
        unmanaged_container_model=plan.outputs["candidate_container"],
        labels=plan.outputs["candidate_labels"],
    )
    deployed = ModelDeployOp(
        model=model.outputs["model"],
        endpoint=endpoint.outputs["endpoint"],
        traffic_split={"0": "100"},
        dedicated_resources_machine_type="n1-standard-4",
        dedicated_resources_min_replica_count=1,
    )
    servers = find_vertex_servers(
        model_name="digits", baseline_endpoint=baseline_endpoint, deployment=plan.outputs["deployment"]
    ).after(deployed)
    teardown_vertex_servers(deployment=plan.outputs["deployment"]).after(servers)
