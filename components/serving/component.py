"""KFP interface of the serving room: container components that change a cluster, and say so."""

# ruff: noqa: ARG001 -- KFP puts every argument into the executor input, which the task reads

from typing import Dict, List

from kfp import dsl

from model_load_test.components.image import load_test_image

_COMMAND = ["python3", "-u", "-m", "model_load_test.components.tasks"]
_EXECUTOR_INPUT = "{{$}}"


@dsl.container_component
def plan_serving(
    deployment: dsl.OutputPath(str),
    model_name: str,
    candidate_model: str = "",
    baseline_model: str = "",
    candidate_endpoint: str = "",
    baseline_endpoint: str = "",
    serving: Dict[str, object] = {},
    storage: Dict[str, object] = {},
    infra_blessing: str = "",
    server_tolerations: List[object] = [],
    server_node_selector: Dict[str, object] = {},
    server_affinity: Dict[str, object] = {},
    server_resources: Dict[str, object] = {},
    deadline_seconds: int = 7200,
    run_id: str = "",
    task_id: str = "",
) -> dsl.ContainerSpec:
    """Checks everything a deployment needs before anything is created, and gives it a name.

    An `infra_blessing` from upstream that is not 1 stops the run here, with its reason.

    Args:
        deployment: The deployment's name in this run, for `deploy_model_server` and
            `teardown_model_server`.
        model_name: Name the model is served by.
        candidate_model: The new model, as for `deploy_model_server`.
        baseline_model: The model in production, as for `deploy_model_server`.
        candidate_endpoint: A live server of the new model instead.
        baseline_endpoint: A live server of the model in production instead.
        serving: How to serve, as for `deploy_model_server`.
        storage: How to get at the models, as for `deploy_model_server`.
        infra_blessing: What an infrastructure validation upstream said: 1 or 0, the blessing's
            metadata as JSON, or its URI; empty where there was none.
        server_tolerations: Kubernetes tolerations of the servers' pods.
        server_node_selector: Node labels that the servers' pods must find.
        server_affinity: Kubernetes affinity of the servers' pods.
        server_resources: Resources of each server.
        deadline_seconds: After which the cluster removes the servers by itself.
        run_id: The pipeline run: give dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        task_id: This task: give dsl.PIPELINE_TASK_ID_PLACEHOLDER.
    """
    return dsl.ContainerSpec(
        image=load_test_image(), command=_COMMAND, args=["plan_serving", _EXECUTOR_INPUT]
    )


@dsl.container_component
def deploy_model_server(
    endpoint_of_candidate: dsl.OutputPath(str),
    endpoint_of_baseline: dsl.OutputPath(str),
    served_model_name: dsl.OutputPath(str),
    server_kind: dsl.OutputPath(str),
    server_image: dsl.OutputPath(str),
    server_flags: dsl.OutputPath(list),
    server_replicas: dsl.OutputPath(int),
    model_sha256: dsl.OutputPath(str),
    resources: dsl.OutputPath(str),
    model_name: str,
    candidate_model: str = "",
    baseline_model: str = "",
    candidate_endpoint: str = "",
    baseline_endpoint: str = "",
    serving: Dict[str, object] = {},
    storage: Dict[str, object] = {},
    signature_name: str = "",
    model_version: str = "",
    infra_blessing: str = "",
    server_tolerations: List[object] = [],
    server_node_selector: Dict[str, object] = {},
    server_affinity: Dict[str, object] = {},
    server_resources: Dict[str, object] = {},
    namespace: str = "",
    deadline_seconds: int = 7200,
    deployment: str = "",
    loader_image: str = load_test_image(),
    run_id: str = "",
    task_id: str = "",
) -> dsl.ContainerSpec:
    """Deploys candidate and baseline side by side as equals, or finds servers that run already.

    It ends when every version of each model is AVAILABLE. When it fails, or is told to stop, it
    removes what it made; a retry takes up what is there.

    Args:
        endpoint_of_candidate: Where the candidate is served.
        endpoint_of_baseline: Where the baseline is served; empty without one.
        served_model_name: The name by which the servers know the model.
        server_kind: What the servers are, for the fingerprint.
        server_image: Their image with its digest, for the fingerprint.
        server_flags: Their flags, for the fingerprint.
        server_replicas: Replicas of each, for the fingerprint.
        model_sha256: Of the candidate's files, as they were loaded.
        resources: What was to be created, written before it was.
        model_name: Name the model is served by.
        candidate_model: The new model: pvc://, gs://, s3://, minio://, http(s):// (an archive), or
            the URI of a KFP artifact; `#sha256=...` behind it is verified.
        baseline_model: The model in production, likewise; empty for none.
        candidate_endpoint: A live server of the new model instead: grpc://HOST:PORT,
            http(s)://HOST:PORT, service://NAME, inferenceservice://NAME, seldondeployment://NAME or
            ingress://NAME. It is checked, and never changed or removed.
        baseline_endpoint: A live server of the model in production, likewise.
        serving: How to serve: {"kind": "tf-serving" | "triton" | "kserve" | "seldon" | "seldon-v2",
            "image": ..., "flags": [...], ...}, or TFX InfraValidator's ServingSpec as JSON.
        storage: How to get at the models: {"endpoint": ..., "secret": ...}, or a KFP artifact's
            store_session_info.
        signature_name: The signature that live servers must have; empty for any.
        model_version: The version that a live candidate must serve; empty for any.
        infra_blessing: What an infrastructure validation upstream said; not 1 stops the run.
        server_tolerations: Kubernetes tolerations of the servers' pods.
        server_node_selector: Node labels that the servers' pods must find.
        server_affinity: Kubernetes affinity of the servers' pods.
        server_resources: Resources of each server, such as {"requests": {"cpu": "2"}}.
        namespace: Where to deploy; empty for the pipeline's own.
        deadline_seconds: After which the cluster removes the servers by itself.
        deployment: The deployment's name, as `plan_serving` gave it; empty for one of this
            task's own.
        loader_image: Image of the container that loads the model; it has this package.
        run_id: The pipeline run: give dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        task_id: This task: give dsl.PIPELINE_TASK_ID_PLACEHOLDER.
    """
    return dsl.ContainerSpec(
        image=load_test_image(), command=_COMMAND, args=["deploy_model_server", _EXECUTOR_INPUT]
    )


@dsl.container_component
def validate_model_server(
    blessing: dsl.Output[dsl.Artifact],
    blessed: dsl.OutputPath(int),
    infra_blessing: dsl.OutputPath(str),
    model_name: str,
    candidate_model: str = "",
    validate: bool = True,
    serving: Dict[str, object] = {},
    storage: Dict[str, object] = {},
    requests: Dict[str, object] = {},
    server_tolerations: List[object] = [],
    server_node_selector: Dict[str, object] = {},
    server_affinity: Dict[str, object] = {},
    server_resources: Dict[str, object] = {},
    namespace: str = "",
    deadline_seconds: int = 7200,
    deployment: str = "",
    loader_image: str = load_test_image(),
    run_id: str = "",
    task_id: str = "",
) -> dsl.ContainerSpec:
    """Loads the candidate into the server that will serve it, sends requests, and blesses it or not.

    TFX InfraValidator's check, on KFP v2. The task succeeds either way; what deploys the model
    refuses one that is not blessed.

    Args:
        blessing: Marker file and metadata (`blessed` 1 or 0, `reason`), as TFX's.
        blessed: 1 or 0.
        infra_blessing: The same with its reason, for `deploy_model_server`.
        model_name: Name the model is served by.
        candidate_model: The new model, as for `deploy_model_server`; empty to validate nothing.
        validate: Whether to; without it everything is blessed.
        serving: How to serve, as for `deploy_model_server`.
        storage: How to get at the model, as for `deploy_model_server`.
        requests: Which requests to send: {"requests": 10, "signature_names": ["serving_default"],
            "examples": "gs://..."}, or TFX InfraValidator's RequestSpec as JSON. {"requests": 0} only
            loads the model; without examples values are random.
        server_tolerations: Kubernetes tolerations of the server's pod.
        server_node_selector: Node labels that the server's pod must find.
        server_affinity: Kubernetes affinity of the server's pod.
        server_resources: Resources of the server.
        namespace: Where; empty for the pipeline's own.
        deadline_seconds: After which the cluster removes the server by itself.
        deployment: The deployment's name, as `plan_serving` gave it; empty for one of this
            task's own.
        loader_image: Image of the container that loads the model; it has this package.
        run_id: The pipeline run: give dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        task_id: This task: give dsl.PIPELINE_TASK_ID_PLACEHOLDER.
    """
    return dsl.ContainerSpec(
        image=load_test_image(), command=_COMMAND, args=["validate_model_server", _EXECUTOR_INPUT]
    )


@dsl.container_component
def require_infra_blessing(
    blessing: dsl.Input[dsl.Artifact], blessed: dsl.OutputPath(int)
) -> dsl.ContainerSpec:
    """Stops the run when the infrastructure validation upstream did not bless the model.

    Args:
        blessing: InfraValidator's output, TFX's or ours.
        blessed: 1.
    """
    return dsl.ContainerSpec(
        image=load_test_image(), command=_COMMAND, args=["require_infra_blessing", _EXECUTOR_INPUT]
    )


@dsl.container_component
def teardown_model_server(
    deployment: str = "",
    namespace: str = "",
    run_id: str = "",
) -> dsl.ContainerSpec:
    """Removes what a deployment has created, and returns when it is gone.

    Live servers that were found and not deployed are none of it.

    Args:
        deployment: The deployment's name, as `plan_serving` gave it; empty to do nothing.
        namespace: Where it is; empty for the pipeline's own.
        run_id: The pipeline run: give dsl.PIPELINE_JOB_ID_PLACEHOLDER.
    """
    return dsl.ContainerSpec(
        image=load_test_image(), command=_COMMAND, args=["teardown_model_server", _EXECUTOR_INPUT]
    )
