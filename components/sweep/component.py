"""KFP interface of the serving sweep: a container component, since it deploys servers and removes them."""

# ruff: noqa: ARG001 -- KFP puts every argument into the executor input, which the task reads

from typing import Dict, List

from kfp import dsl

from model_load_test.components.image import load_test_image


@dsl.container_component
def sweep_serving(
    sweep: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    manifests: dsl.Output[dsl.Artifact],
    batching: dsl.Output[dsl.Artifact],
    serving_of_best: dsl.OutputPath(dict),
    best_configuration: dsl.OutputPath(str),
    candidate_model: str,
    model_name: str,
    parameters: Dict[str, object],
    serving: Dict[str, object] = {},
    reference: Dict[str, object] = {},
    search: str = "grid",
    trials: int = 20,
    rates_rps: List[float] = [100.0],
    mode: str = "duet",
    pairs: int = 15,
    block_seconds: float = 0.0,
    warmup_seconds: float = 2.0,
    timeout_seconds: float = 5.0,
    connections: int = 1,
    objectives: List[str] = [],
    goal: str = "p95",
    prices: Dict[str, object] = {},
    alpha: float = 0.05,
    signature_name: str = "serving_default",
    payload_requests: int = 1000,
    batch_sizes: List[int] = [1, 2, 4],
    journal: str = "",
    storage: Dict[str, object] = {},
    server_tolerations: List[object] = [],
    server_node_selector: Dict[str, object] = {},
    server_affinity: Dict[str, object] = {},
    server_resources: Dict[str, object] = {},
    allowed_hosts: List[str] = [],
    namespace: str = "",
    deadline_seconds: int = 7200,
    deployment: str = "serving-sweep",
    loader_image: str = load_test_image(),
    run_id: str = "",
    seed: int = 0,
) -> dsl.ContainerSpec:
    """Tries serving parameters, one configuration at a time beside the reference, and tells the best.

    The reference is measured against itself first; then, in random order, each configuration is
    deployed with a fresh reference, both are loaded at once, and both are removed. What was measured
    stands in the journal: a retried task goes on there.

    Args:
        sweep: A folder with sweep.json, sweep.html, best.yaml, batching.txt and serving.json.
        page: The Pareto front, latency by rate, and the table.
        metrics: The best configuration as flat numbers.
        manifests: The best configuration as Kubernetes manifests.
        batching: Its batching parameters file, or its fields of Triton's config.pbtxt; empty without.
        serving_of_best: Its serving spec, for `deploy_and_gate` and `deploy_model_server`.
        best_configuration: Its parameters in words; empty where none holds the objectives.
        candidate_model: The model to serve: pvc://, gs://, s3://, minio://, http(s)://, or a KFP URI.
        model_name: Name the model is served by.
        parameters: By parameter the values to try, such as {"enable_batching": [true],
            "max_batch_size": [8, 32]}; docs/sweep.md lists them. For Optuna also ranges, such as
            {"low": 1, "high": 64, "log": true}.
        serving: How all are served, as for `deploy_model_server`.
        reference: Parameters of the reference configuration; `serving` itself where empty.
        search: grid (every combination) or optuna.
        trials: Configurations that Optuna may try.
        rates_rps: Offered requests per second; each configuration is measured at each of them.
        mode: duet (both at once) or interleaved (in turn, random order).
        pairs: Pairs of blocks at each rate.
        block_seconds: Length of a block; 0 for one second or 200 requests.
        warmup_seconds: Load before the first block.
        timeout_seconds: After which a request has failed.
        connections: gRPC connections per server.
        objectives: What the best configuration must be shown to hold, such as ["p99_ms<=50"].
        goal: What it has least of: mean, p50, p95, p99 or cost.
        prices: Per hour, such as {"cpu": 0.033, "memory_gib": 0.004, "gpu": 0.35, "replica": 0.1,
            "machines": {"n2-standard-4": 0.19}}.
        alpha: Chance of any wrong interval among all that are compared.
        signature_name: The signature to call.
        payload_requests: How many different requests to make.
        batch_sizes: Batch sizes to draw from.
        journal: Folder or URI (gs://, s3://) that outlives the task, for a retry to go on from; empty for
            the task's own disk.
        storage: How to get at the model, as for `deploy_model_server`.
        server_tolerations: Kubernetes tolerations of the servers' pods.
        server_node_selector: Node labels that the servers' pods must find.
        server_affinity: Kubernetes affinity of the servers' pods.
        server_resources: Resources of each server.
        allowed_hosts: Hosts that may be loaded beside those of the cluster.
        namespace: Where to deploy; empty for the pipeline's own.
        deadline_seconds: After which the cluster removes a configuration's servers by itself.
        deployment: The deployment's name in this run, for `teardown_model_server`.
        loader_image: Image of the container that loads the model; it has this package.
        run_id: The pipeline run: give dsl.PIPELINE_JOB_ID_PLACEHOLDER.
        seed: Of the requests, the order of the configurations, and Optuna.
    """
    return dsl.ContainerSpec(
        image=load_test_image(),
        command=["python3", "-u", "-m", "model_load_test.components.tasks"],
        args=["sweep_serving", "{{$}}"],
    )
