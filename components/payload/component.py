"""KFP interface of the payload room."""

from kfp import dsl

from model_load_test.components.image import load_test_image


@dsl.component(base_image=load_test_image(), install_kfp_package=False)
def generate_payload(
    payload: dsl.Output[dsl.Dataset],
    endpoint: str,
    model_name: str,
    signature_name: str = "serving_default",
    requests: int = 1000,
    batch_sizes: list[int] = [1, 2, 4],
    seed: int = 0,
) -> None:
    """Makes valid, varied requests for a served model from the signature the server publishes.

    Args:
        payload: The set of requests, its manifest and what the load generator needs to send them.
        endpoint: The model server, as grpc://HOST:PORT or http://HOST:PORT.
        model_name: The model's name on the server.
        signature_name: The signature to call.
        requests: How many different requests to make.
        batch_sizes: Batch sizes to draw from, each equally likely.
        seed: The same seed makes the same requests.
    """
    from model_load_test.components.parameters import whole_numbers
    from model_load_test.components.payload.make import make_payload
    from model_load_test.components.protocols.endpoint import parse_endpoint

    manifest = make_payload(
        parse_endpoint(endpoint),
        model_name=model_name,
        signature_name=signature_name,
        requests=requests,
        batch_sizes=whole_numbers("batch_sizes", batch_sizes),
        seed=seed,
        out_dir=payload.path,
    )
    payload.metadata["hash"] = manifest.hash
    payload.metadata["summary"] = manifest.summary
