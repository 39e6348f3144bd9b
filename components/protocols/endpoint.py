"""Where a model server listens."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.access import Access

_SCHEMES = ("grpc", "grpcs", "http", "https")
_API_PATH = re.compile(r"^/(v1|v2|api)(/|$)|/(predictions|infer)$|:predict$")


@dataclass(frozen=True)
class Endpoint:
    """An address with its protocol, such as `grpc://10.0.0.7:8500`."""

    scheme: str
    host: str
    port: int
    base_path: str = ""
    """What an ingress puts before every path, such as `/seldon/models/flowers`; HTTP only."""
    access: Access = field(default=Access(), repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}{self.base_path}"

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


def parse_endpoint(text: str, field_name: str = "endpoint") -> Endpoint:
    """Parses `scheme://host:port`, for HTTP with the base path of an ingress behind it.

    Args:
        text: The endpoint as the user wrote it.
        field_name: Name of the parameter, for the error.

    Raises:
        InputError: The scheme, host or port is missing or unknown.
    """
    example = "write it as grpc://HOST:8500 or http://HOST:8501"
    if "://" not in text:
        raise InputError(field_name, text, f"the scheme is missing; {example}")
    parts = urlsplit(text)
    if parts.scheme not in _SCHEMES:
        raise InputError(field_name, text, f"unknown scheme {parts.scheme!r}; {example}")
    if parts.username or parts.password:
        raise InputError(
            field_name, f"{parts.scheme}://...", "credentials do not belong in an endpoint; pass a token file"
        )
    if parts.query or parts.fragment or (parts.scheme.startswith("grpc") and parts.path.strip("/")):
        raise InputError(field_name, text, f"only scheme, host and port belong here; {example}")
    if _API_PATH.search(parts.path):
        raise InputError(
            field_name, text, f"leave the API's own path away, it follows from the model's name; {example}"
        )
    try:
        port = parts.port
    except ValueError:
        raise InputError(field_name, text, f"the port is not a number from 1 to 65535; {example}") from None
    if not parts.hostname:
        raise InputError(field_name, text, f"the host is missing; {example}")
    if port is None:
        port = {"http": 80, "https": 443}.get(parts.scheme)
    if not port:
        raise InputError(field_name, text, f"the port is missing; {example}")
    return Endpoint(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))
