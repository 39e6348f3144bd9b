"""KFP interface of the capacity search."""

from typing import Dict, List

from kfp import dsl

from model_load_test.components.image import load_test_image


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def find_capacity(
    payload: dsl.Input[dsl.Dataset],
    capacity: dsl.Output[dsl.Artifact],
    results: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
    candidate_endpoint: str,
    model_name: str,
    objectives: List[str] = ["p99_ms<=50", "error_rate<=0.001"],
    baseline_endpoint: str = "",
    signature_name: str = "",
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
    max_requests: int = 2000000,
    max_seconds: float = 3600.0,
    seed: int = 0,
) -> float:
    """Finds the highest load at which the objectives hold, and how sure that is.

    A doubling ramp, a bisection of what is believed, and a confirmation at 95 %; with a baseline the
    probes of both servers alternate, and their ratio is told.

    Args:
        payload: Requests made by `generate_payload`.
        capacity: capacity.json: estimate, 80 % interval, confirmed load, limits, curve.
        results: One row a request; the block is the probe's number.
        metrics: The same as flat numbers.
        page: The curve of latency by load.
        candidate_endpoint: The server, as grpc://HOST:PORT or http://HOST:PORT.
        model_name: The model's name on the servers.
        objectives: Percentiles and error rates that must hold, such as ["p99_ms<=50"].
        baseline_endpoint: A second server to compare with; empty for none.
        signature_name: The signature to call, or one of the payload's; empty for the payload's own.
        candidate_metrics: Where the server shows its own metrics, if not in the usual place:
            http://HOST:PORT/PATH. They tell what the server was busy with.
        baseline_metrics: The same of the second server.
        load_kind: rate (requests per second, open loop) or connections (simultaneous requests,
            closed loop).
        probe_seconds: Least length of a probe; longer where the objectives need more requests.
        lowest: The least load to try.
        highest: The highest load to try.
        most_probes: Probes of a server after which the search ends.
        target_rps: A rate to plan replicas for; 0 for none.
        headroom: Share of the capacity that each replica keeps free.
        timeout_seconds: After which a request has failed.
        connections: gRPC connections per server.
        connection: How to reach the servers, by files that are mounted into the task.
        allowed_hosts: Hosts that may be loaded beside those of the cluster and this machine.
        max_requests: Most requests of a probe.
        max_seconds: Longest duration of a probe.
        seed: Of the random orders.

    Returns:
        The confirmed load of the candidate; 0 if none was.
    """
    import tempfile
    from pathlib import Path

    from model_load_test.components.load.capacity.result import metrics_of, write_capacity
    from model_load_test.components.load.capacity.run import find_capacity as search_capacity
    from model_load_test.components.load.capacity.run import parse_question
    from model_load_test.components.load.preflight import prepare
    from model_load_test.components.load.run import interruptible
    from model_load_test.components.report.capacity_page import render_capacity
    from model_load_test.components.results.table import write_results

    question = parse_question(
        {
            "objectives": objectives,
            "kind": load_kind,
            "probe_seconds": probe_seconds,
            "lowest": lowest,
            "highest": highest,
            "most_probes": most_probes,
            "target_rps": target_rps or None,
            "headroom": headroom,
            "seed": seed,
        }
    )
    with tempfile.TemporaryDirectory(prefix="capacity-") as work_path:
        test = prepare(
            candidate_endpoint=candidate_endpoint,
            baseline_endpoint=baseline_endpoint,
            model_name=model_name,
            signature_name=signature_name,
            payload_path=Path(payload.path),
            mode="auto",
            spec_values={
                "rate_rps": lowest,
                "timeout_seconds": timeout_seconds,
                "connections": connections,
                "seed": seed,
            },
            work_path=Path(work_path),
            connection=connection,
            limits={
                "allowed_hosts": allowed_hosts,
                "max_rate_rps": highest,
                "max_requests": max_requests,
                "max_seconds": max_seconds,
            },
            metrics={
                arm: address
                for arm, address in (("candidate", candidate_metrics), ("baseline", baseline_metrics))
                if address
            },
        )
        with interruptible() as interruption:
            found, rows, metadata = search_capacity(test, question, interruption=interruption)
            write_capacity(Path(capacity.path), found)
            write_results(Path(results.path), rows, metadata)
            Path(page.path).write_text(render_capacity(found), encoding="utf-8")
    for name, value in metrics_of(found).items():
        metrics.log_metric(name, value)
    return found.arms["candidate"].confirmed or 0.0
