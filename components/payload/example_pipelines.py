"""Requests for a served model, made from its own signature, or from data at hand."""

from kfp import dsl

from model_load_test.components import generate_payload, generate_payload_from_examples


@dsl.pipeline(name="payload-example")
def make_requests(endpoint: str = "grpc://digits.serving:8500", model_name: str = "digits") -> None:
    """Asks the server what the model takes, and makes 500 different valid requests."""
    generate_payload(endpoint=endpoint, model_name=model_name, requests=500, batch_sizes=[1, 2, 4])


@dsl.pipeline(name="payload-from-examples-example")
def make_requests_from_examples(
    examples_uri: str = "gs://models/digits/eval-examples",
    endpoint: str = "grpc://digits.serving:8500",
    model_name: str = "digits",
) -> None:
    """Makes requests out of data that was imported, or made by an earlier task."""
    data = dsl.importer(artifact_uri=examples_uri, artifact_class=dsl.Dataset)
    generate_payload_from_examples(
        examples=data.output,
        endpoint=endpoint,
        model_name=model_name,
        distributions={"batch_size": {"distribution": "zipf", "low": 1, "high": 32}},
    )
