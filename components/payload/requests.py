"""The requests of a payload set as messages: tensorflow-serving-api's own types where it is installed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from model_load_test.components.payload.encoding import encoding_of
from model_load_test.components.payload.manifest import (
    PayloadError,
    read_manifest,
    read_messages,
    split_messages,
)
from model_load_test.components.payload.recorded import is_request, request_inputs
from model_load_test.components.protocols import open_inference, tf_serving
from model_load_test.components.protocols.signature import Signature

_TYPES: Final = {
    tf_serving.PREDICT: ("predict_pb2", "PredictRequest", tf_serving.PredictRequest),
    tf_serving.CLASSIFY: ("classification_pb2", "ClassificationRequest", tf_serving.ClassificationRequest),
    tf_serving.REGRESS: ("regression_pb2", "RegressionRequest", tf_serving.RegressionRequest),
}
"""By method: module and name in tensorflow_serving.apis, and the same message from the protoset."""


def read_requests(folder: Path) -> Iterator[Any]:
    """The requests of a gRPC payload set.

    Yields:
        For TF Serving `PredictRequest`, `ClassificationRequest` or `RegressionRequest`: those of
        tensorflow-serving-api where it is installed, else messages of the same fields; for Open
        Inference `ModelInferRequest`.

    Raises:
        PayloadError: The set cannot be read, or is not for gRPC.
    """
    manifest = read_manifest(folder)
    message_class = request_type(manifest.method)
    for message in read_messages(folder):
        yield message_class.FromString(message)


def predict_request(body: bytes | str, signature: Signature, model_name: str) -> Any:
    """A recorded REST body as the gRPC request that means the same, whatever its dtypes and batch.

    Args:
        body: JSON of TF Serving (`instances`, `inputs`, or `examples` for classify and regress), Open
            Inference or Seldon.
        signature: What it calls, from `model_metadata` or `read_signatures`.
        model_name: The model's name on the server.

    Returns:
        `PredictRequest`, or for a classify or regress signature its request; of
        tensorflow-serving-api where it is installed.

    Raises:
        PayloadError: The body is no request, calls another signature, or does not fit this one.
    """
    try:
        document = json.loads(body)
    except ValueError as error:
        raise PayloadError("body", body, f"not JSON ({error})") from None
    inputs = request_inputs(document, signature, "body") if is_request(document) else None
    if inputs is None:
        raise PayloadError("body", document, f"it is no request for the signature {signature.name!r}")
    encoding = encoding_of("tf-serving", "grpc", model_name, [signature], "auto")
    (message,) = split_messages(encoding.record(signature, inputs))
    return request_type(encoding.method).FromString(message)


def request_type(method: str) -> Any:
    """The class of the requests of a gRPC method: tensorflow-serving-api's where it is installed."""
    if method not in _TYPES:
        return open_inference.ModelInferRequest
    module_name, name, own = _TYPES[method]
    try:
        module = importlib.import_module(f"tensorflow_serving.apis.{module_name}")
    except ImportError:
        return own
    return getattr(module, name)
