"""The questions a load test asks a model server before it sends load: TF Serving's, over gRPC and REST."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import grpc
from google.protobuf import json_format

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.protocols.signature import Signature, signatures_from_defs
from model_load_test.components.protocols.tf_serving import (
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    SignatureDefMap,
)

DEFAULT_TIMEOUT_SECONDS: Final = 5.0

SERVER_KIND_KEY: Final = "model-load-test-server-kind"
"""Response metadata in which a server that is no production server says so."""

METRICS_PATH: Final = "/monitoring/prometheus/metrics"
"""Where TF Serving shows its metrics, if it was told to."""

_SIGNATURE_DEF: Final = "signature_def"
_ANSWERED_MODEL: Final = re.compile(r':tensorflow:serving:request_count\{model_name="([^"]+)",status="OK"\}')
_POLL_SECONDS: Final = 0.1
_SHOWN_ANSWER_CHARACTERS: Final = 300

# A proxy from the environment would stand between the load test and the server it is to measure.
_CHANNEL_OPTIONS: Final = (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1))


class ServerUnreachable(InputError):
    """Nothing answers at the endpoint, or not in time."""


class ModelNotFound(InputError):
    """The server answers, and has no such model or version."""


class ModelNotReady(InputError):
    """The server knows the model, and it is not available."""


class UnexpectedAnswer(InputError):
    """Something answers, but not as a TF Serving server does."""


@dataclass(frozen=True)
class VersionStatus:
    """The state of one version of a model on a server."""

    version: int
    state: str
    """START, LOADING, AVAILABLE, UNLOADING or END."""
    error_code: str = "OK"
    error_message: str = ""


def model_status(
    endpoint: Endpoint, model_name: str, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
) -> tuple[VersionStatus, ...]:
    """Asks the server for the states of all versions of a model.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        ModelNotFound: The server has no such model.
        UnexpectedAnswer: What answers is not a TF Serving server of that protocol.
    """
    _require_name(model_name)
    if endpoint.protocol == "grpc":
        request = GetModelStatusRequest()
        request.model_spec.name = model_name
        answer = _call_grpc(
            endpoint, model_name, GET_MODEL_STATUS, request, GetModelStatusResponse, timeout_seconds
        )
    else:
        document = _get_json(endpoint, model_name, _model_path(model_name), timeout_seconds)
        if "model_version_status" not in document:
            raise _not_tf_serving(endpoint, json.dumps(document))
        answer = _parsed(document, GetModelStatusResponse, endpoint)
    states = answer.DESCRIPTOR.fields_by_name["model_version_status"].message_type.enum_types_by_name["State"]
    return tuple(
        VersionStatus(
            version=one.version,
            state=states.values_by_number[one.state].name,
            error_code=_error_code_name(one),
            error_message=one.status.error_message,
        )
        for one in sorted(answer.model_version_status, key=lambda one: int(one.version))
    )


def model_metadata(
    endpoint: Endpoint, model_name: str, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
) -> dict[str, Signature]:
    """Asks the server for the signatures of a model's latest version, by name.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        ModelNotFound: The server has no such model, or none of its versions is available.
        UnexpectedAnswer: What answers is not a TF Serving server of that protocol.
    """
    _require_name(model_name)
    signature_defs = SignatureDefMap()
    if endpoint.protocol == "grpc":
        request = GetModelMetadataRequest()
        request.model_spec.name = model_name
        request.metadata_field.append(_SIGNATURE_DEF)
        answer = _call_grpc(
            endpoint, model_name, GET_MODEL_METADATA, request, GetModelMetadataResponse, timeout_seconds
        )
        answer.metadata[_SIGNATURE_DEF].Unpack(signature_defs)
    else:
        path = f"{_model_path(model_name)}/metadata"
        document = _get_json(endpoint, model_name, path, timeout_seconds)
        metadata = document.get("metadata")
        if not isinstance(metadata, dict) or _SIGNATURE_DEF not in metadata:
            raise _not_tf_serving(endpoint, json.dumps(document))
        signature_defs = _parsed(metadata[_SIGNATURE_DEF], SignatureDefMap, endpoint)
    return signatures_from_defs(signature_defs.signature_def)


def declared_server_kind(
    endpoint: Endpoint, model_name: str, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
) -> str:
    """What the server says it is: `embedded` for ours, empty for those that say nothing.

    Raises:
        InputError: As `model_status`.
    """
    if endpoint.protocol == "grpc":
        request = GetModelStatusRequest()
        request.model_spec.name = model_name
        with open_channel(endpoint) as channel:
            call = _unary_call(channel, GET_MODEL_STATUS, request, GetModelStatusResponse)
            try:
                _, answered = call.with_call(request, timeout=timeout_seconds)
            except grpc.RpcError as error:
                raise _explained(endpoint, model_name, error) from None
        return str(dict(answered.trailing_metadata() or ()).get(SERVER_KIND_KEY, ""))
    _, headers, _ = _get(endpoint, _model_path(model_name), timeout_seconds)
    return headers.get(SERVER_KIND_KEY, "")


def wait_until_ready(
    endpoint: Endpoint,
    model_name: str,
    deadline_seconds: float,
    *,
    keep_waiting: Callable[[], bool] = lambda: True,
) -> tuple[VersionStatus, ...]:
    """Waits until the server has the model available and is loading no further version of it.

    Args:
        endpoint: Where the server listens, or will.
        model_name: The model it is to serve.
        deadline_seconds: How long to wait at most.
        keep_waiting: Asked before every try; where it says no (the server's process has ended,
            say) the wait ends as at the deadline.

    Returns:
        The states of the model's versions.

    Raises:
        ModelNotReady: The model failed to load, or is not available at the deadline.
        ServerUnreachable: Nothing answers at the deadline.
        ModelNotFound: The server has no such model at the deadline.
        UnexpectedAnswer: What answers is not a TF Serving server of that protocol.
    """
    deadline = time.monotonic() + deadline_seconds
    while True:
        left_seconds = deadline - time.monotonic()
        try:
            versions = model_status(
                endpoint, model_name, max(_POLL_SECONDS, min(left_seconds, DEFAULT_TIMEOUT_SECONDS))
            )
            states = {version.state for version in versions}
            if "AVAILABLE" in states and not states & {"START", "LOADING"}:
                return versions
            failure: InputError = _not_ready(endpoint, model_name, versions)
            if states == {"END"}:
                raise failure
        except (ServerUnreachable, ModelNotFound) as error:
            failure = error
        if time.monotonic() + _POLL_SECONDS >= deadline or not keep_waiting():
            raise failure
        time.sleep(_POLL_SECONDS)


def _require_name(model_name: str) -> None:
    if not model_name:
        raise InputError("model_name", model_name, "give the name the model is served by")


def _not_ready(endpoint: Endpoint, model_name: str, versions: tuple[VersionStatus, ...]) -> ModelNotReady:
    states = ", ".join(
        f"version {one.version} {one.state}" + (f" ({one.error_message})" if one.error_message else "")
        for one in versions
    )
    return ModelNotReady(
        "model_name", model_name, f"{endpoint} has it not available: {states or 'no version'}; see its log"
    )


def _error_code_name(status: Any) -> str:
    codes = status.status.DESCRIPTOR.fields_by_name["error_code"].enum_type
    known = codes.values_by_number.get(status.status.error_code)
    return known.name if known else str(status.status.error_code)


def _call_grpc(
    endpoint: Endpoint, model_name: str, method: str, request: Any, answer: Any, timeout_seconds: float
) -> Any:
    with open_channel(endpoint) as channel:
        call = _unary_call(channel, method, request, answer)
        try:
            return call(request, timeout=timeout_seconds)
        except grpc.RpcError as error:
            raise _explained(endpoint, model_name, error) from None


def _unary_call(channel: Any, method: str, request: Any, answer: Any) -> Any:
    return channel.unary_unary(
        method,
        request_serializer=type(request).SerializeToString,
        response_deserializer=answer.FromString,
    )


def open_channel(endpoint: Endpoint) -> Any:
    """A gRPC channel to the endpoint, encrypted for `grpcs`; to be closed by the caller."""
    if endpoint.secure:
        return grpc.secure_channel(endpoint.address, grpc.ssl_channel_credentials(), _CHANNEL_OPTIONS)
    return grpc.insecure_channel(endpoint.address, _CHANNEL_OPTIONS)


def _explained(endpoint: Endpoint, model_name: str, error: Any) -> InputError:
    code, details = error.code(), error.details()
    if code == grpc.StatusCode.NOT_FOUND:
        return _model_not_found(endpoint, model_name, details)
    if code == grpc.StatusCode.UNAVAILABLE:
        return _unreachable(endpoint, details)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return _unreachable(endpoint, "no answer in time")
    return _not_tf_serving(endpoint, f"{code.name}: {details}")


def _model_path(model_name: str) -> str:
    return f"/v1/models/{quote(model_name, safe='')}"


def _get_json(endpoint: Endpoint, model_name: str, path: str, timeout_seconds: float) -> dict[str, Any]:
    status, _, body = _get(endpoint, path, timeout_seconds)
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise _not_tf_serving(endpoint, f"HTTP {status}: {body.decode(errors='replace')}")
    if status == http.client.NOT_FOUND and "error" in document:
        said = str(document["error"])
        raise _model_not_found(endpoint, model_name, said, _served_models(endpoint, timeout_seconds))
    if status != http.client.OK:
        raise _not_tf_serving(endpoint, f"HTTP {status}: {document.get('error', document)}")
    return document


def _get(endpoint: Endpoint, path: str, timeout_seconds: float) -> tuple[int, http.client.HTTPMessage, bytes]:
    if endpoint.secure:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            endpoint.host, endpoint.port, timeout=timeout_seconds, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout_seconds)
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    except TimeoutError:
        raise _unreachable(endpoint, "no answer in time") from None
    except OSError as error:
        raise _unreachable(endpoint, error.strerror or str(error)) from None
    except http.client.HTTPException as error:
        raise _not_tf_serving(endpoint, repr(error)) from None
    finally:
        connection.close()


def _parsed(document: dict[str, Any], message: Any, endpoint: Endpoint) -> Any:
    try:
        return json_format.ParseDict(document, message(), ignore_unknown_fields=True)
    except json_format.ParseError:
        raise _not_tf_serving(endpoint, json.dumps(document)) from None


def _unreachable(endpoint: Endpoint, why: str) -> ServerUnreachable:
    return ServerUnreachable(
        "endpoint", str(endpoint), f"no model server answers there ({why}); check host, port and that it runs"
    )


def _model_not_found(
    endpoint: Endpoint, model_name: str, said: str, served: Sequence[str] = ()
) -> ModelNotFound:
    known = f"; it serves: {', '.join(served)}" if served else ""
    return ModelNotFound(
        "model_name", model_name, f"{endpoint} does not serve it ({said}){known}; give a name it serves"
    )


def _served_models(endpoint: Endpoint, timeout_seconds: float) -> list[str]:
    """The models that a server's metrics say it answered OK for: TF Serving has no call that lists them."""
    try:
        _, _, page = _get(endpoint, METRICS_PATH, timeout_seconds)
    except InputError:
        return []
    return sorted(set(_ANSWERED_MODEL.findall(page.decode(errors="replace"))))


def _not_tf_serving(endpoint: Endpoint, said: str) -> UnexpectedAnswer:
    other = "http://HOST:8501" if endpoint.protocol == "grpc" else "grpc://HOST:8500"
    return UnexpectedAnswer(
        "endpoint",
        str(endpoint),
        f"what answers there is not TF Serving's {endpoint.protocol} port "
        f"({said[:_SHOWN_ANSWER_CHARACTERS]}); if it is its other port, write it as {other}",
    )
