"""KFP interface of the payload room."""

from typing import Dict, List

from kfp import dsl

from model_load_test.components.image import load_test_image


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def generate_payload(
    payload: dsl.Output[dsl.Dataset],
    endpoint: str,
    model_name: str,
    signature_name: str = "serving_default",
    signatures: Dict[str, object] = {},
    requests: int = 1000,
    batch_sizes: List[int] = [1, 2, 4],
    distributions: Dict[str, object] = {},
    examples: str = "",
    saved_model: str = "",
    inputs: Dict[str, str] = {},
    api: str = "auto",
    body_format: str = "auto",
    connection: Dict[str, object] = {},
    seed: int = 0,
) -> None:
    """Makes valid, varied requests for a served model from the signature the server publishes.

    Args:
        payload: The set of requests, its manifest and what the load generator needs to send them.
        endpoint: The model server, as grpc://HOST:PORT or http://HOST:PORT.
        model_name: The model's name on the server.
        signature_name: The signature to call; servers of other APIs than TF Serving's have no choice.
        signatures: Several signatures in one set instead: by name a weight, or an object with
            weight, examples and distributions of its own.
        requests: How many different requests to make.
        batch_sizes: Batch sizes to draw from, each equally likely.
        distributions: What else is to vary and how: by batch_size, sequence_length, image_size,
            string_length, value or value.INPUT a number, a list, or an object such as
            {"distribution": "lognormal", "median": 40, "sigma": 0.8, "low": 1, "high": 512}.
        examples: Path or URI of the user's own data to draw from: JSON, CSV or parquet rows, TFRecords,
            a warm-up file, images, recorded requests; empty for random values.
        saved_model: Path or URI of the SavedModel to take the signature from; empty for the server's
            own metadata.
        inputs: The model's inputs, such as {"x": "float32[?, 4]"}, for servers that publish none.
        api: tf-serving, oip (Open Inference v2: Triton, KServe, MLServer), seldon, vertex, or auto: the
            server is asked.
        body_format: row or columnar, raw or typed, json or binary, tensor or ndarray, if there is a choice.
        connection: How to reach the server, by files that are mounted into the task, as for
            `run_load_test`.
        seed: The same seed makes the same requests.
    """
    from contextlib import ExitStack

    from model_load_test.components.load.connection import reachable
    from model_load_test.components.parameters import whole_numbers
    from model_load_test.components.payload.locations import local_copy
    from model_load_test.components.payload.make import make_payload
    from model_load_test.components.payload.mix import with_local_examples
    from model_load_test.components.protocols.client import api_told_by

    server = reachable(endpoint, connection)
    with ExitStack() as copies:
        model = copies.enter_context(local_copy(saved_model, "saved_model")) if saved_model else None
        manifest = make_payload(
            model or server,
            server=server,
            model_name=model_name,
            api=api_told_by(server, api),
            signature_name=signature_name,
            signatures=with_local_examples(signatures, copies),
            requests=requests,
            batch_sizes=whole_numbers("batch_sizes", batch_sizes),
            distributions=distributions,
            examples=copies.enter_context(local_copy(examples, "examples")) if examples else None,
            inputs=inputs,
            body_format=body_format,
            seed=seed,
            out_dir=payload.path,
        )
    payload.metadata["hash"] = manifest.hash
    payload.metadata["summary"] = manifest.summary


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def generate_payload_from_examples(
    examples: dsl.Input[dsl.Artifact],
    payload: dsl.Output[dsl.Dataset],
    endpoint: str,
    model_name: str,
    signature_name: str = "serving_default",
    requests: int = 1000,
    batch_sizes: List[int] = [1, 2, 4],
    distributions: Dict[str, object] = {},
    inputs: Dict[str, str] = {},
    api: str = "auto",
    body_format: str = "auto",
    connection: Dict[str, object] = {},
    seed: int = 0,
) -> None:
    """Makes requests for a served model out of the data that an earlier task made.

    Args:
        examples: Rows, TFRecords (such as TFX's Examples), images or recorded requests.
        payload: The set of requests, its manifest and what the load generator needs to send them.
        endpoint: The model server, as grpc://HOST:PORT or http://HOST:PORT.
        model_name: The model's name on the server.
        signature_name: The signature to call; servers of other APIs than TF Serving's have no choice.
        requests: How many different requests to make.
        batch_sizes: Batch sizes to draw from, each equally likely.
        distributions: What else is to vary and how, as for `generate_payload`.
        inputs: The model's inputs, such as {"x": "float32[?, 4]"}, for servers that publish none.
        api: tf-serving, oip (Open Inference v2), seldon, vertex, or auto: the server is asked.
        body_format: row or columnar, raw or typed, json or binary, tensor or ndarray, if there is a choice.
        connection: How to reach the server, by files that are mounted into the task, as for
            `run_load_test`.
        seed: The same seed makes the same requests.
    """
    from model_load_test.components.load.connection import reachable
    from model_load_test.components.parameters import whole_numbers
    from model_load_test.components.payload.make import make_payload

    manifest = make_payload(
        reachable(endpoint, connection),
        model_name=model_name,
        api=api,
        signature_name=signature_name,
        requests=requests,
        batch_sizes=whole_numbers("batch_sizes", batch_sizes),
        distributions=distributions,
        examples=examples.path,
        inputs=inputs,
        body_format=body_format,
        seed=seed,
        out_dir=payload.path,
    )
    payload.metadata["hash"] = manifest.hash
    payload.metadata["summary"] = manifest.summary
