"""One question to a server and its answer, over gRPC or HTTP, whatever API it speaks."""

from __future__ import annotations

import http.client
import json
from typing import Any, Final

import grpc

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.access import https_connection
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.protocols.grpc_access import channel_credentials, with_headers

DEFAULT_TIMEOUT_SECONDS: Final = 5.0
SHOWN_ANSWER_CHARACTERS: Final = 300

# A proxy from the environment would stand between the load test and the server it is to measure.
_CHANNEL_OPTIONS: Final = (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1))


class ServerUnreachable(InputError):
    """Nothing answers at the endpoint, or not in time."""


class ModelNotFound(InputError):
    """The server answers, and has no such model or version."""


class ModelNotReady(InputError):
    """The server knows the model, and it is not available."""


class UnexpectedAnswer(InputError):
    """Something answers, but not in the API that was meant."""


def require_model_name(model_name: str) -> None:
    """Refuses an empty name.

    Raises:
        InputError: It is empty.
    """
    if not model_name:
        raise InputError("model_name", model_name, "give the name the model is served by")


def open_channel(endpoint: Endpoint) -> Any:
    """A gRPC channel to the endpoint, encrypted for `grpcs`; to be closed by the caller."""
    access = endpoint.access
    if not endpoint.secure:
        return with_headers(grpc.insecure_channel(endpoint.address, _CHANNEL_OPTIONS), access)
    name = (("grpc.ssl_target_name_override", access.server_name),) if access.server_name else ()
    channel = grpc.secure_channel(endpoint.address, channel_credentials(access), (*_CHANNEL_OPTIONS, *name))
    return with_headers(channel, access)


def call_message(endpoint: Endpoint, method: str, request: Any, answer: Any, timeout_seconds: float) -> Any:
    """Calls a gRPC method and returns its answer.

    Raises:
        grpc.RpcError: The call failed; `unreachable_by` tells whether the server was not there.
    """
    return call_with_metadata(endpoint, method, request, answer, timeout_seconds)[0]


def call_with_metadata(
    endpoint: Endpoint, method: str, request: Any, answer: Any, timeout_seconds: float
) -> tuple[Any, dict[str, str]]:
    """Calls a gRPC method; returns its answer and the trailing metadata.

    Raises:
        grpc.RpcError: As `call_message`.
    """
    with open_channel(endpoint) as channel:
        call = channel.unary_unary(
            method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        message, answered = call.with_call(request, timeout=timeout_seconds)
        return message, {str(name): str(value) for name, value in answered.trailing_metadata() or ()}


def unreachable_by(endpoint: Endpoint, error: Any) -> ServerUnreachable | None:
    """What a failed call says where no server was reached; None for a server that answered."""
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        return _unreachable(endpoint, error.details())
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        return _unreachable(endpoint, "no answer in time")
    return None


def http_connection(endpoint: Endpoint, timeout_seconds: float) -> http.client.HTTPConnection:
    """An HTTP connection to the endpoint, encrypted for `https`; to be closed by the caller."""
    if endpoint.secure:
        return https_connection(endpoint.host, endpoint.port, endpoint.access, timeout_seconds)
    return http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout_seconds)


def get(endpoint: Endpoint, path: str, timeout_seconds: float) -> tuple[int, http.client.HTTPMessage, bytes]:
    """GETs a path below the endpoint's base path: status, headers and body.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        UnexpectedAnswer: What answers does not speak HTTP.
    """
    connection = http_connection(endpoint, timeout_seconds)
    try:
        headers = {"Accept": "application/json", **endpoint.access.headers}
        connection.request("GET", endpoint.base_path + path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    except TimeoutError:
        raise _unreachable(endpoint, "no answer in time") from None
    except OSError as error:
        raise _unreachable(endpoint, error.strerror or str(error)) from None
    except http.client.HTTPException as error:
        raise UnexpectedAnswer(
            "endpoint", str(endpoint), f"what answers there does not speak HTTP ({error!r}); check the port"
        ) from None
    finally:
        connection.close()


def get_document(
    endpoint: Endpoint, path: str, timeout_seconds: float
) -> tuple[int, dict[str, Any] | None, str]:
    """GETs a JSON object: status, the object or None where it is none, and the text as it came.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        UnexpectedAnswer: What answers does not speak HTTP.
    """
    status, _, body = get(endpoint, path, timeout_seconds)
    text = body.decode(errors="replace")
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    return status, document if isinstance(document, dict) else None, text


def _unreachable(endpoint: Endpoint, why: str) -> ServerUnreachable:
    return ServerUnreachable(
        "endpoint", str(endpoint), f"no model server answers there ({why}); check host, port and that it runs"
    )
