"""The pipeline `serving_sweep`: serving parameters tried on the cluster, and the best ones told."""

from typing import Dict, List, NamedTuple

from kfp import dsl, kubernetes

from model_load_test.components import sweep_serving, teardown_model_server

_DEPLOYMENT = "serving-sweep"


class SweepOutputs(NamedTuple):
    """What a pipeline that embeds the sweep can use."""

    serving_of_best: dict  # type: ignore[type-arg]  # KFP reads the bare name
    best_configuration: str


@dsl.pipeline(name="serving-sweep", description="Which serving parameters are best for this model?")
def serving_sweep(
    candidate_model: str,
    model_name: str,
    parameters: Dict[str, object] = {
        "enable_batching": [True],
        "max_batch_size": [8, 32],
        "batch_timeout_micros": [0, 2000],
    },
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
    seed: int = 0,
    tolerations: List[Dict[str, str]] = [],
    node_selector: Dict[str, str] = {},
) -> SweepOutputs:
    """Tries serving parameters one configuration at a time, each beside the reference, and tells the best.

    Args:
        candidate_model: The model to serve: pvc://, gs://, s3://, minio://, http(s)://, or a KFP URI.
        model_name: Name the model is served by.
        parameters: By parameter the values to try; docs/sweep.md lists the parameters.
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
        prices: Per hour, such as {"cpu": 0.033, "memory_gib": 0.004, "gpu": 0.35}.
        alpha: Chance of any wrong interval among all that are compared.
        signature_name: The signature to call.
        payload_requests: How many different requests to make.
        batch_sizes: Batch sizes to draw from.
        journal: Folder or URI (gs://, s3://) that outlives the task, for a retry to go on from.
        storage: How to get at the model, as for `deploy_model_server`.
        server_tolerations: Kubernetes tolerations of the servers' pods.
        server_node_selector: Node labels that the servers' pods must find.
        server_affinity: Kubernetes affinity of the servers' pods.
        server_resources: Resources of each server.
        allowed_hosts: Hosts that may be loaded beside those of the cluster.
        namespace: Where to deploy; empty for the pipeline's own.
        deadline_seconds: After which the cluster removes a configuration's servers by itself.
        seed: Of the requests, the order of the configurations, and Optuna.
        tolerations: Kubernetes tolerations of the load generator's pod.
        node_selector: Node labels that the load generator's pod must find.

    Returns:
        The best configuration's serving spec, and its parameters in words; empty where there is none.
    """
    swept = sweep_serving(
        candidate_model=candidate_model,
        model_name=model_name,
        parameters=parameters,
        serving=serving,
        reference=reference,
        search=search,
        trials=trials,
        rates_rps=rates_rps,
        mode=mode,
        pairs=pairs,
        block_seconds=block_seconds,
        warmup_seconds=warmup_seconds,
        timeout_seconds=timeout_seconds,
        connections=connections,
        objectives=objectives,
        goal=goal,
        prices=prices,
        alpha=alpha,
        signature_name=signature_name,
        payload_requests=payload_requests,
        batch_sizes=batch_sizes,
        journal=journal,
        storage=storage,
        server_tolerations=server_tolerations,
        server_node_selector=server_node_selector,
        server_affinity=server_affinity,
        server_resources=server_resources,
        allowed_hosts=allowed_hosts,
        namespace=namespace,
        deadline_seconds=deadline_seconds,
        deployment=_DEPLOYMENT,
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        seed=seed,
    )
    # The task removes its servers itself; this removes those of one that was killed.
    removed = teardown_model_server(
        deployment=_DEPLOYMENT, namespace=namespace, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER
    )
    removed.after(swept).ignore_upstream_failure()
    kubernetes.add_toleration_json(swept, tolerations)
    kubernetes.add_node_selector_json(swept, node_selector)
    for task in (swept, removed):
        task.set_caching_options(False)
    return SweepOutputs(
        serving_of_best=swept.outputs["serving_of_best"],
        best_configuration=swept.outputs["best_configuration"],
    )
