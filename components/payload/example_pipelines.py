"""Requests for a served model, made from its own signature."""

from kfp import dsl

from model_load_test.components import generate_payload


@dsl.pipeline(name="payload-example")
def make_requests(endpoint: str = "grpc://digits.serving:8500", model_name: str = "digits") -> None:
    """Asks the server what the model takes, and makes 500 different valid requests."""
    generate_payload(endpoint=endpoint, model_name=model_name, requests=500, batch_sizes=[1, 2, 4])
