"""The Open Inference Protocol's status and metadata, over gRPC and REST."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import grpc

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.connection import (
    SHOWN_ANSWER_CHARACTERS,
    ModelNotFound,
    UnexpectedAnswer,
    call_message,
    call_with_metadata,
    get,
    get_document,
    unreachable_by,
)
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.protocols.open_inference import (
    MODEL_METADATA,
    MODEL_READY,
    SERVER_METADATA,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ServerMetadataRequest,
    ServerMetadataResponse,
    model_path,
)
from model_load_test.components.protocols.open_inference_tensors import dtype_of
from model_load_test.components.protocols.signature import NAMELESS, Signature, TensorSpec
from model_load_test.components.protocols.status import VersionStatus
from model_load_test.components.protocols.tensors import TensorError

_UNKNOWN_MODEL: Final = re.compile(r"unknown model|not found|does not exist|no such model", re.IGNORECASE)

_NONE_LOADED: Final = "has no available versions"
"""Triton's words for a model that it has, but is still loading or could not load."""


class Introduction(NamedTuple):
    """What a server says of itself."""

    name: str
    extensions: tuple[str, ...]
    """Of the protocol, by name, such as `binary_tensor_data`."""


class _Tensor(NamedTuple):
    name: str
    datatype: str
    shape: tuple[int, ...]


class _Metadata(NamedTuple):
    """What both transports tell of a model."""

    versions: tuple[str, ...]
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]


def versions(endpoint: Endpoint, model_name: str, timeout_seconds: float) -> tuple[VersionStatus, ...]:
    """The state of each version the server names, or of the model where it names none.

    The protocol tells of a model only whether it is ready: AVAILABLE or UNAVAILABLE.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        ModelNotFound: The server has no such model.
        UnexpectedAnswer: What answers does not speak this protocol.
    """
    try:
        ready = _is_ready(endpoint, model_name, timeout_seconds)
    except ModelNotFound as error:
        if _NONE_LOADED not in str(error):
            raise
        return (VersionStatus("", "UNAVAILABLE", error_message=_NONE_LOADED),)
    if not ready:
        return (VersionStatus("", "UNAVAILABLE"),)
    named = _metadata(endpoint, model_name, timeout_seconds).versions
    return tuple(VersionStatus(version, "AVAILABLE") for version in named or ("",))


def signatures(endpoint: Endpoint, model_name: str, timeout_seconds: float) -> dict[str, Signature]:
    """The model's one signature, which has no name; without inputs where the server publishes none.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        ModelNotFound: The server has no such model.
        UnexpectedAnswer: What answers does not speak this protocol.
    """
    found = _metadata(endpoint, model_name, timeout_seconds)
    return {NAMELESS: Signature(NAMELESS, "", _specs(found.inputs), _specs(found.outputs))}


def server_name(endpoint: Endpoint, timeout_seconds: float) -> str:
    """What the server calls itself, such as `triton`, `mlserver` or `kserve`.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        UnexpectedAnswer: What answers does not speak this protocol.
    """
    return introduction(endpoint, timeout_seconds).name


def introduction(endpoint: Endpoint, timeout_seconds: float) -> Introduction:
    """How the server introduces itself.

    Raises:
        InputError: As `server_name`.
    """
    if endpoint.protocol == "grpc":
        answer = _call(endpoint, SERVER_METADATA, ServerMetadataRequest(), "", timeout_seconds)
        return Introduction(str(answer.name), tuple(answer.extensions))
    status, document, text = get_document(endpoint, "/v2", timeout_seconds)
    name = (document or {}).get("name")
    if status != http.client.OK or not isinstance(name, str):
        raise _not_open_inference(endpoint, f"HTTP {status}: {text}")
    extensions = (document or {}).get("extensions")
    return Introduction(name, tuple(map(str, extensions)) if isinstance(extensions, list) else ())


def response_metadata(endpoint: Endpoint, timeout_seconds: float) -> dict[str, str]:
    """What the server sends beside its answer to a question for its name, by lower-case name.

    Raises:
        InputError: As `server_name`.
    """
    if endpoint.protocol == "http":
        _, headers, _ = get(endpoint, "/v2", timeout_seconds)
        return {name.lower(): value for name, value in headers.items()}
    request = ServerMetadataRequest()
    try:
        return call_with_metadata(
            endpoint, SERVER_METADATA, request, ServerMetadataResponse, timeout_seconds
        )[1]
    except grpc.RpcError as error:
        raise _explained(endpoint, "", error) from None


def speaks_open_inference(endpoint: Endpoint, timeout_seconds: float) -> bool:
    """Whether what answers there speaks this protocol.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
    """
    try:
        server_name(endpoint, timeout_seconds)
    except (UnexpectedAnswer, ModelNotFound):
        return False
    return True


def _is_ready(endpoint: Endpoint, model_name: str, timeout_seconds: float) -> bool:
    if endpoint.protocol == "grpc":
        request = ModelReadyRequest(name=model_name)
        answer = _call(endpoint, MODEL_READY, request, model_name, timeout_seconds)
        if not answer.ready:
            _metadata(endpoint, model_name, timeout_seconds)  # Triton: not ready, or not known?
        return bool(answer.ready)
    status, document, text = get_document(endpoint, f"{model_path(model_name)}/ready", timeout_seconds)
    if status == http.client.OK:
        return document is None or bool(document.get("ready", True))
    if document is None and status == http.client.NOT_FOUND:
        raise _not_open_inference(endpoint, f"HTTP {status}: {text}")
    _metadata(endpoint, model_name, timeout_seconds)
    return False


def _metadata(endpoint: Endpoint, model_name: str, timeout_seconds: float) -> _Metadata:
    if endpoint.protocol == "grpc":
        request = ModelMetadataRequest(name=model_name)
        answer = _call(endpoint, MODEL_METADATA, request, model_name, timeout_seconds)
        return _Metadata(
            tuple(answer.versions), _message_tensors(answer.inputs), _message_tensors(answer.outputs)
        )
    status, document, text = get_document(endpoint, model_path(model_name), timeout_seconds)
    if status != http.client.OK or document is None:
        said = str((document or {}).get("error", text))
        if document is not None and (_UNKNOWN_MODEL.search(said) or model_name in said):
            raise _model_not_found(endpoint, model_name, said)
        raise _not_open_inference(endpoint, f"HTTP {status}: {said}")
    try:
        return _Metadata(
            tuple(str(version) for version in document.get("versions") or ()),
            _document_tensors(document.get("inputs")),
            _document_tensors(document.get("outputs")),
        )
    except (TypeError, KeyError, ValueError):
        raise _not_open_inference(endpoint, text) from None


def _message_tensors(tensors: Sequence[Any]) -> tuple[_Tensor, ...]:
    return tuple(_Tensor(one.name, one.datatype, tuple(one.shape)) for one in tensors)


def _document_tensors(tensors: Any) -> tuple[_Tensor, ...]:
    return tuple(
        _Tensor(str(one["name"]), str(one["datatype"]), tuple(int(size) for size in one["shape"]))
        for one in tensors or ()
    )


def _specs(tensors: Sequence[_Tensor]) -> dict[str, TensorSpec]:
    return {one.name: TensorSpec(_dtype(one.datatype), one.shape) for one in tensors}


def _dtype(datatype: str) -> str:
    try:
        return dtype_of(datatype.removeprefix("TYPE_"))
    except TensorError:
        return datatype


_ANSWERS: Final[dict[str, Callable[..., Any]]] = {
    SERVER_METADATA: ServerMetadataResponse,
    MODEL_READY: ModelReadyResponse,
    MODEL_METADATA: ModelMetadataResponse,
}


def _call(endpoint: Endpoint, method: str, request: Any, model_name: str, timeout_seconds: float) -> Any:
    try:
        return call_message(endpoint, method, request, _ANSWERS[method], timeout_seconds)
    except grpc.RpcError as error:
        raise _explained(endpoint, model_name, error) from None


def _explained(endpoint: Endpoint, model_name: str, error: Any) -> InputError:
    unreachable = unreachable_by(endpoint, error)
    # MLServer and KServe answer INVALID_ARGUMENT and INTERNAL for a model they do not have.
    unknown = error.code() == grpc.StatusCode.NOT_FOUND or _UNKNOWN_MODEL.search(error.details() or "")
    if model_name and unknown and error.code() != grpc.StatusCode.UNIMPLEMENTED and not unreachable:
        return _model_not_found(endpoint, model_name, error.details())
    return unreachable or _not_open_inference(endpoint, f"{error.code().name}: {error.details()}")


def _model_not_found(endpoint: Endpoint, model_name: str, said: str) -> ModelNotFound:
    return ModelNotFound(
        "model_name", model_name, f"{endpoint} does not serve it ({said}); give a name it serves"
    )


def _not_open_inference(endpoint: Endpoint, said: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        "endpoint",
        str(endpoint),
        f"what answers there does not speak the Open Inference Protocol over {endpoint.protocol} "
        f"({said[:SHOWN_ANSWER_CHARACTERS]}); check the port, or give another api",
    )
