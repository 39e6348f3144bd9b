"""Sends every request of a payload set once, before any load: a refused request measures nothing."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc

from model_load_test.components.payload.manifest import (
    PayloadError,
    PayloadManifest,
    read_bodies,
    read_manifest,
    read_messages,
)
from model_load_test.components.protocols.client import ServerUnreachable, open_channel
from model_load_test.components.protocols.endpoint import Endpoint

_SHOWN_ANSWER_CHARACTERS: Final = 300


def try_payload(folder: Path, endpoint: Endpoint, timeout_seconds: float = 10.0) -> int:
    """Sends each request of the set in `folder` once, one after the other.

    Args:
        folder: A payload set.
        endpoint: The server to ask, of the set's protocol.
        timeout_seconds: For each request.

    Returns:
        How many requests were answered: all of them.

    Raises:
        PayloadError: The set cannot be read, or the server refuses one of its requests; the error
            tells which and what it said.
        ServerUnreachable: Nothing answers at the endpoint, or not in time.
    """
    manifest = read_manifest(folder)
    if manifest.protocol != endpoint.protocol:
        raise PayloadError("payload", str(folder), f"it is for {manifest.protocol}; {endpoint} is not")
    send_all = _send_messages if manifest.protocol == "grpc" else _send_bodies
    send_all(folder, manifest, endpoint, timeout_seconds)
    return manifest.requests


def _send_messages(
    folder: Path, manifest: PayloadManifest, endpoint: Endpoint, timeout_seconds: float
) -> None:
    with open_channel(endpoint) as channel:
        call: Callable[..., Any] = channel.unary_unary(manifest.method)
        for number, message in enumerate(read_messages(folder)):
            try:
                call(message, timeout=timeout_seconds)
            except grpc.RpcError as error:
                code, details = error.code(), error.details()
                if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise _unanswered(endpoint, number, f"{code.name}: {details}") from None
                raise _refused(folder, number, f"{code.name}: {details}") from None


def _send_bodies(folder: Path, manifest: PayloadManifest, endpoint: Endpoint, timeout_seconds: float) -> None:
    if endpoint.secure:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            endpoint.host, endpoint.port, timeout=timeout_seconds, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout_seconds)
    try:
        for number, body in enumerate(read_bodies(folder)):
            try:
                connection.request(manifest.method, manifest.path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as error:
                raise _unanswered(endpoint, number, str(error) or type(error).__name__) from None
            if response.status != http.client.OK:
                raise _refused(folder, number, f"HTTP {response.status}: {_error_text(answer)}")
    finally:
        connection.close()


def _error_text(answer: bytes) -> str:
    """TF Serving's `error`, or what else stands there."""
    text = answer.decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, TypeError, KeyError):
        return text


def _refused(folder: Path, number: int, said: str) -> PayloadError:
    return PayloadError(
        "payload",
        str(folder),
        f"the server refuses request {number + 1} ({said[:_SHOWN_ANSWER_CHARACTERS]}); make the payload "
        "from this server's signature, or from examples it accepts",
    )


def _unanswered(endpoint: Endpoint, number: int, why: str) -> ServerUnreachable:
    return ServerUnreachable(
        "endpoint", str(endpoint), f"no answer to request {number + 1} ({why}); look at the server's log"
    )
