"""Seldon Core 1's prediction API over REST: messages, readiness and metadata.

One model behind an endpoint, named by nothing in the request; one matrix a request, as `tensor`
(doubles, flat) or `ndarray` (nested, of any JSON). Feedback is never sent: it would change a router.
"""

from __future__ import annotations

import http.client
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.connection import (
    SHOWN_ANSWER_CHARACTERS,
    UnexpectedAnswer,
    get,
    get_document,
)
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.protocols.open_inference_tensors import dtype_of
from model_load_test.components.protocols.signature import NAMELESS, Signature, TensorSpec
from model_load_test.components.protocols.status import VersionStatus
from model_load_test.components.protocols.tensors import Array, TensorError

PREDICT_PATH: Final = "/api/v1.0/predictions"
METADATA_PATH: Final = "/api/v1.0/metadata"
READY_PATH: Final = "/ready"
INPUT_NAME: Final = "data"
"""What the one input of a Seldon model is called here; the API has no name for it."""

DataFormat = Literal["tensor", "ndarray"]

_WRAPPER_READY_PATH: Final = "/health/ping"
"""Where a model's own container answers that stands alone, without Seldon's executor before it."""


def versions(endpoint: Endpoint, timeout_seconds: float) -> tuple[VersionStatus, ...]:
    """One nameless version, AVAILABLE or UNAVAILABLE.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        UnexpectedAnswer: What answers has no readiness as Seldon has it, or the endpoint is not HTTP.
    """
    require_http(endpoint)
    status, _, text = get_document(endpoint, READY_PATH, timeout_seconds)
    # A wrapped model alone has no such path, which it says with 500.
    if status == http.client.OK or _wrapper_answers(endpoint, timeout_seconds):
        return (VersionStatus("", "AVAILABLE"),)
    if status >= http.client.INTERNAL_SERVER_ERROR:
        return (VersionStatus("", "UNAVAILABLE", error_message=text[:SHOWN_ANSWER_CHARACTERS]),)
    raise _not_seldon(endpoint, f"HTTP {status}: {text}")


def signatures(endpoint: Endpoint, timeout_seconds: float) -> dict[str, Signature]:
    """The graph's one signature, which has no name; without inputs where its models publish none.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        UnexpectedAnswer: The endpoint is not HTTP.
    """
    require_http(endpoint)
    status, document, _ = get_document(endpoint, METADATA_PATH, timeout_seconds)
    published = {} if status != http.client.OK or document is None else document
    inputs = published.get("graphinputs") or published.get("inputs")
    outputs = published.get("graphoutputs") or published.get("outputs")
    found, columns = _spec(inputs)
    answered, _ = _spec(outputs)
    return {NAMELESS: Signature(NAMELESS, "", found, answered, columns)}


def response_headers(endpoint: Endpoint, timeout_seconds: float) -> dict[str, str]:
    """The headers of the answer to a question for readiness, by lower-case name.

    Raises:
        InputError: As `versions`.
    """
    require_http(endpoint)
    _, headers, _ = get(endpoint, READY_PATH, timeout_seconds)
    return {name.lower(): value for name, value in headers.items()}


def speaks_seldon(endpoint: Endpoint, timeout_seconds: float) -> bool:
    """Whether what answers there is Seldon's prediction API.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
    """
    if endpoint.protocol != "http":
        return False
    status, document, _ = get_document(endpoint, METADATA_PATH, timeout_seconds)
    if status == http.client.OK and document is not None:
        return True
    # The path takes POST alone, which a server that has the path says.
    status, _, _ = get_document(endpoint, PREDICT_PATH, timeout_seconds)
    return status == http.client.METHOD_NOT_ALLOWED


def require_http(endpoint: Endpoint) -> None:
    """Refuses a gRPC endpoint.

    Raises:
        UnexpectedAnswer: It is one.
    """
    if endpoint.protocol != "http":
        raise UnexpectedAnswer(
            "endpoint", str(endpoint), "Seldon's tensor and ndarray are JSON; give its REST port"
        )


def message(array: Array, columns: Sequence[str], data_format: DataFormat) -> dict[str, Any]:
    """The request body of one matrix.

    Args:
        array: Numbers, booleans, or bytes as objects, which must be UTF-8.
        columns: Names of the last dimension's entries; may be empty.
        data_format: tensor, for numbers alone, or ndarray.

    Raises:
        TensorError: The format cannot carry the values.
    """
    data: dict[str, Any] = {"names": list(columns)} if columns else {}
    if data_format == "tensor":
        if array.dtype.kind not in "fiub":
            raise TensorError("body_format", data_format, f"a tensor carries numbers, not {array.dtype}")
        values = array.astype(np.float64).ravel().tolist()
        data["tensor"] = {"shape": list(array.shape), "values": values}
    else:
        data["ndarray"] = _texts(array).tolist() if array.dtype == object else array.tolist()
    return {"data": data}


def read_message(document: Mapping[str, Any]) -> tuple[Array, tuple[str, ...]]:
    """The matrix and column names of a message; numbers become doubles, text bytes as objects.

    Raises:
        TensorError: It is no message with a tensor or an ndarray.
    """
    data = document.get("data")
    if not isinstance(data, dict) or ("tensor" in data) == ("ndarray" in data):
        raise TensorError("data", data, "give a tensor or an ndarray")
    columns = tuple(str(name) for name in data.get("names") or ())
    if "ndarray" in data:
        return _nested(data["ndarray"]), columns
    tensor = data["tensor"]
    try:
        values = np.array(tensor["values"], np.float64)
        shape = tuple(int(size) for size in tensor["shape"])
    except (TypeError, KeyError, ValueError):
        raise TensorError("tensor", tensor, "give shape and values") from None
    if values.ndim != 1 or len(values) != math.prod(shape):
        raise TensorError("values", f"{values.size} values", f"shape {list(shape)} wants {math.prod(shape)}")
    return values.reshape(shape), columns


def _nested(values: Any) -> Array:
    try:
        array = np.array(values)
    except ValueError:
        raise TensorError("ndarray", values, "its lists differ in length") from None
    if array.dtype.kind in "iufb":
        return array.astype(np.float64)
    if array.dtype.kind != "U":
        raise TensorError("ndarray", values, "give numbers or strings")
    encoded = np.empty(array.shape, object)
    for index, value in np.ndenumerate(array):
        encoded[index] = str(value).encode()
    return encoded


def _texts(array: Array) -> Array:
    try:
        texts: Array = np.vectorize(bytes.decode, otypes=[object])(array)
    except UnicodeDecodeError:
        raise TensorError("body_format", "ndarray", "JSON carries UTF-8 text, these bytes are none") from None
    return texts


def _wrapper_answers(endpoint: Endpoint, timeout_seconds: float) -> bool:
    status, _, _ = get_document(endpoint, _WRAPPER_READY_PATH, timeout_seconds)
    return status == http.client.OK


def _spec(published: Any) -> tuple[dict[str, TensorSpec], tuple[str, ...]]:
    """The one tensor and its column names in metadata of Seldon's form, or of Open Inference's."""
    entries = published if isinstance(published, list) else [published] if published else []
    if len(entries) != 1 or not isinstance(entries[0], dict):
        return {}, ()
    entry = entries[0]
    try:
        if "messagetype" not in entry:
            shape = tuple(int(size) for size in entry["shape"])
            return {INPUT_NAME: TensorSpec(dtype_of(str(entry["datatype"])), shape)}, ()
        if entry["messagetype"] not in ("tensor", "ndarray"):
            return {}, ()
        schema = entry.get("schema") or {}
        columns = tuple(str(name) for name in schema.get("names") or ())
        shape = tuple(int(size) for size in schema.get("shape") or (len(columns),))
    except (TypeError, KeyError, ValueError, InputError):
        return {}, ()
    # Seldon's own examples give a row's shape beside its names, and a whole request's without them.
    whole = shape if len(shape) > 1 else (-1, *shape)
    return {INPUT_NAME: TensorSpec("float64", whole)}, columns


def _not_seldon(endpoint: Endpoint, said: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        "endpoint",
        str(endpoint),
        f"what answers there is not Seldon's prediction API ({said[:SHOWN_ANSWER_CHARACTERS]}); "
        "check the port and the ingress's path, or give another api",
    )
