"""Where a model server listens."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from model_load_test.components.errors import InputError

_SCHEMES = ("grpc", "grpcs", "http", "https")


@dataclass(frozen=True)
class Endpoint:
    """An address with its protocol, such as `grpc://10.0.0.7:8500`."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"

    @property
    def address(self) -> str:
        """`host:port` as clients want it; an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("grpcs", "https")

    @property
    def protocol(self) -> str:
        """`grpc` or `http`, whether or not it is encrypted."""
        return "grpc" if self.scheme.startswith("grpc") else "http"


def parse_endpoint(text: str, field: str = "endpoint") -> Endpoint:
    """Parses `scheme://host:port`.

    Args:
        text: The endpoint as the user wrote it.
        field: Name of the parameter, for the error.

    Raises:
        InputError: The scheme, host or port is missing or unknown.
    """
    example = "write it as grpc://HOST:8500 or http://HOST:8501"
    if "://" not in text:
        raise InputError(field, text, f"the scheme is missing; {example}")
    parts = urlsplit(text)
    if parts.scheme not in _SCHEMES:
        raise InputError(field, text, f"unknown scheme {parts.scheme!r}; {example}")
    if parts.username or parts.password:
        raise InputError(
            field, f"{parts.scheme}://...", "credentials do not belong in an endpoint; pass a token file"
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InputError(field, text, f"only scheme, host and port belong here; {example}")
    try:
        port = parts.port
    except ValueError:
        raise InputError(field, text, f"the port is not a number from 1 to 65535; {example}") from None
    if not parts.hostname:
        raise InputError(field, text, f"the host is missing; {example}")
    if port is None:
        port = {"http": 80, "https": 443}.get(parts.scheme)
    if not port:
        raise InputError(field, text, f"the port is missing; {example}")
    return Endpoint(parts.scheme, parts.hostname, port)
