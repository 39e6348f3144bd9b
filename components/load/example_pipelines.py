"""Candidate and baseline under load at once, a request's row each in `results`."""

from kfp import dsl

from model_load_test.components import generate_payload, run_load_test


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
