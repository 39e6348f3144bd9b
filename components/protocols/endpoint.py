"""Where a model server listens."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.access import Access

_SCHEMES = ("grpc", "grpcs", "http", "https")
ENDPOINT_SCHEMES: Final = tuple(f"{scheme}://" for scheme in _SCHEMES)
_API_PATH = re.compile(r"^/(v1|v2|api)(/|$)|/(predictions|infer)$|:(predict|rawPredict)$")
_VERTEX_PATH = re.compile(
    r"/v1/(projects/[a-z0-9:.-]+/locations/(?P<location>[a-z0-9-]+)/endpoints/[a-z0-9-]+|models/[0-9]+)"
)
_PEERED_VERTEX_HOST = re.compile(r"[a-z0-9-]+\.aiplatform\.googleapis\.com")


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
    if _API_PATH.search(parts.path) and not _is_of_vertex(parts.hostname or "", parts.path.rstrip("/")):
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


def vertex_location(base_path: str) -> str | None:
    """The location in the path of a Vertex AI endpoint; None for any other path."""
    found = _VERTEX_PATH.fullmatch(base_path)
    return found["location"] if found else None


def _is_of_vertex(host: str, path: str) -> bool:
    found = _VERTEX_PATH.fullmatch(path)
    return found is not None and bool(found["location"] or _PEERED_VERTEX_HOST.fullmatch(host))


def check_endpoints(candidate: object, baseline: object, protocol: str = "") -> None:
    """Refuses endpoints that cannot be parsed, or that do not speak one protocol.

    Args:
        candidate: Endpoint of the candidate; empty, or no text, where it is not known yet: when a
            pipeline is compiled, another task or a parameter may stand for it.
        baseline: Endpoint of the baseline, likewise.
        protocol: grpc or http, where the load spec names it; empty for the candidate's.

    Raises:
        InputError: Which one, and what it should be.
    """
    known = _known(candidate, "candidate_endpoint")
    ends = {"candidate_endpoint": known, "baseline_endpoint": _known(baseline, "baseline_endpoint")}
    wanted = protocol or (known.protocol if known else "")
    for name, endpoint in ends.items():
        if endpoint and wanted and endpoint.protocol != wanted:
            example = "grpc://HOST:8500" if wanted == "grpc" else "http://HOST:8501"
            raise InputError(
                name,
                str(endpoint),
                f"use the protocol {wanted} for candidate and baseline, such as {example}",
            )
    if known and known == ends["baseline_endpoint"]:
        raise InputError(
            "baseline_endpoint", str(known), "this is the candidate's endpoint; name the other server"
        )


def _known(value: object, name: str) -> Endpoint | None:
    return parse_endpoint(value, name) if isinstance(value, str) and value else None
