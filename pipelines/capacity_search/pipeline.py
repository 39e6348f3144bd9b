"""The pipeline `capacity_search`: requests, then the highest load at which objectives hold."""

from typing import Dict, List, NamedTuple

from kfp import dsl, kubernetes

from model_load_test.components import find_capacity, generate_payload


class CapacityOutputs(NamedTuple):
    """What a pipeline that embeds the search can use."""

    confirmed: float


@dsl.pipeline(name="capacity-search", description="How much load can this model server take?")
def capacity_search(
    candidate_endpoint: str,
    model_name: str,
    objectives: List[str] = ["p99_ms<=50", "error_rate<=0.001"],
    baseline_endpoint: str = "",
    signature_name: str = "serving_default",
    candidate_metrics: str = "",
    baseline_metrics: str = "",
    load_kind: str = "rate",
    probe_seconds: float = 5.0,
    lowest: float = 1.0,
    highest: float = 5000.0,
    most_probes: int = 20,
    target_rps: float = 0.0,
    headroom: float = 0.3,
    timeout_seconds: float = 5.0,
    connections: int = 1,
    connection: Dict[str, object] = {},
    allowed_hosts: List[str] = [],
    payload_requests: int = 1000,
    batch_sizes: List[int] = [1, 2, 4],
    seed: int = 0,
    tolerations: List[Dict[str, str]] = [],
    node_selector: Dict[str, str] = {},
) -> CapacityOutputs:
    """Finds the highest load at which the objectives hold, with its uncertainty and its limit.

    Args:
        candidate_endpoint: The server, as grpc://HOST:PORT or http://HOST:PORT.
        model_name: The model's name on the server.
        objectives: Percentiles and error rates that must hold, such as ["p99_ms<=50"].
        baseline_endpoint: A second server to compare with; empty for none.
        signature_name: The signature to call.
        candidate_metrics: Where the server shows its own metrics: http://HOST:PORT/PATH.
        baseline_metrics: The same of the second server.
        load_kind: rate (requests per second, open loop) or connections (simultaneous requests).
        probe_seconds: Least length of a probe.
        lowest: The least load to try.
        highest: The highest load to try.
        most_probes: Probes of a server after which the search ends.
        target_rps: A rate to plan replicas for; 0 for none.
        headroom: Share of the capacity that each replica keeps free.
        timeout_seconds: After which a request has failed.
        connections: gRPC connections per server.
        connection: How to reach the servers, by files that are mounted into the task.
        allowed_hosts: Hosts that may be loaded beside those of the cluster.
        payload_requests: How many different requests to make.
        batch_sizes: Batch sizes to draw from.
        seed: Of the requests and the random orders.
        tolerations: Kubernetes tolerations of the load generator's pod.
        node_selector: Node labels that the load generator's pod must find.

    Returns:
        The confirmed load of the candidate; 0 if none was.
    """
    payload = generate_payload(
        endpoint=candidate_endpoint,
        model_name=model_name,
        signature_name=signature_name,
        requests=payload_requests,
        batch_sizes=batch_sizes,
        seed=seed,
    )
    found = find_capacity(
        payload=payload.outputs["payload"],
        candidate_endpoint=candidate_endpoint,
        model_name=model_name,
        objectives=objectives,
        baseline_endpoint=baseline_endpoint,
        signature_name=signature_name,
        candidate_metrics=candidate_metrics,
        baseline_metrics=baseline_metrics,
        load_kind=load_kind,
        probe_seconds=probe_seconds,
        lowest=lowest,
        highest=highest,
        most_probes=most_probes,
        target_rps=target_rps,
        headroom=headroom,
        timeout_seconds=timeout_seconds,
        connections=connections,
        connection=connection,
        allowed_hosts=allowed_hosts,
        seed=seed,
    )
    kubernetes.add_toleration_json(found, tolerations)
    kubernetes.add_node_selector_json(found, node_selector)
    for task in (payload, found):
        task.set_caching_options(False)
    return CapacityOutputs(confirmed=found.outputs["Output"])
