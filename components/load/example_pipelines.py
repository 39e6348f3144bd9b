"""Candidate and baseline under load at once, a request's row each in `results`."""

from kfp import dsl

from model_load_test.components import find_capacity, generate_payload, run_load_job, run_load_test


@dsl.pipeline(name="load-example")
def load_both(
    candidate: str = "grpc://digits-new.serving:8500",
    baseline: str = "grpc://digits.serving:8500",
    model_name: str = "digits",
) -> None:
    """Offers 300 requests a second to each server, in at most 30 pairs of blocks."""
    requests = generate_payload(endpoint=candidate, model_name=model_name)
    load = run_load_test(
        payload=requests.outputs["payload"],
        candidate_endpoint=candidate,
        baseline_endpoint=baseline,
        model_name=model_name,
        rate_rps=300.0,
        looks=[10, 20, 30],
    )
    load.set_caching_options(False)


@dsl.pipeline(name="load-job-example")
def load_from_six_pods(server: str = "grpc://digits.serving:8500", model_name: str = "digits") -> None:
    """Offers 4 000 requests a second from six pods on the nodes that are reserved for load."""
    requests = generate_payload(endpoint=server, model_name=model_name)
    load = run_load_job(
        payload=requests.outputs["payload"],
        candidate_endpoint=server,
        model_name=model_name,
        rate_rps=4000.0,
        generators=6,
        node_selector={"pool": "load"},
        tolerations=[{"key": "pool", "value": "load", "effect": "NoSchedule"}],
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        task_id=dsl.PIPELINE_TASK_ID_PLACEHOLDER,
    )
    load.set_caching_options(False)


@dsl.pipeline(name="capacity-example")
def how_much(
    server: str = "grpc://digits.serving:8500", model_name: str = "digits", target_rps: float = 2000.0
) -> None:
    """The highest rate at which p99 stays below 50 ms, and the replicas wanted for 2 000 requests/s."""
    requests = generate_payload(endpoint=server, model_name=model_name)
    found = find_capacity(
        payload=requests.outputs["payload"],
        candidate_endpoint=server,
        model_name=model_name,
        objectives=["p99_ms<=50"],
        target_rps=target_rps,
    )
    found.set_caching_options(False)
