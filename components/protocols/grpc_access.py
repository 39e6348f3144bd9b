"""The same as `access` says, for gRPC: whoever only names an endpoint needs no gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from model_load_test.components.protocols.access import Access, unusable


def channel_credentials(access: Access) -> Any:
    """The TLS settings of a gRPC client.

    Raises:
        InputError: A certificate or key file cannot be read.
    """
    return grpc.ssl_channel_credentials(
        _content("ca_file", access.ca_file),
        _content("key_file", access.key_file),
        _content("certificate_file", access.certificate_file),
    )


def with_headers(channel: Any, access: Access) -> Any:
    """`channel`, whose unary calls send the headers along."""
    if not access.headers:
        return channel
    return grpc.intercept_channel(channel, _HeaderInterceptor(access.headers))


class _CallDetails(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _HeaderInterceptor(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # grpc has no types
    def __init__(self, headers: Mapping[str, str]) -> None:
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        changed = _CallDetails(
            details.method,
            details.timeout,
            (*(details.metadata or ()), *self._metadata),
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )
        return continuation(changed, request)


def _content(field_name: str, path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise unusable(field_name, path, error) from None
