"""A user's pipeline with the gate in it, compiled for the image that MODEL_LOAD_TEST_IMAGE names.

python3 train_and_push.py PIPELINE_YAML
"""

import sys

from kfp import compiler, dsl

from model_load_test.components.image import load_test_image
from model_load_test.pipelines import load_test_gate


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def push(verdict: str) -> str:
    """Stands for what must not happen after a FAIL."""
    print(f"pushed after {verdict}")
    return "pushed"


@dsl.pipeline(name="train-and-push")
def train_and_push(
    candidate_endpoint: str,
    baseline_endpoint: str,
    rate_rps: float,
    block_seconds: float,
    looks: list[int],
    warmup_seconds: float,
    payload_requests: int,
    margins: dict[str, float],
    tolerations: list[dict[str, str]] = [],  # noqa: B006
    node_selector: dict[str, str] = {},  # noqa: B006
) -> None:
    """Judges the candidate and pushes it."""
    gate = load_test_gate(
        candidate_endpoint=candidate_endpoint,
        baseline_endpoint=baseline_endpoint,
        model_name="digits",
        rate_rps=rate_rps,
        block_seconds=block_seconds,
        looks=looks,
        warmup_seconds=warmup_seconds,
        payload_requests=payload_requests,
        margins=margins,
        tolerations=tolerations,
        node_selector=node_selector,
    )
    push(verdict=gate.outputs["verdict"]).after(gate)


if __name__ == "__main__":
    compiler.Compiler().compile(train_and_push, sys.argv[1])
