"""One GET to a monitoring system: bounded in time and size, around any proxy, its failure in one sentence."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urlsplit

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.access import https_connection
from model_load_test.components.protocols.endpoint import Endpoint

TIMEOUT_SECONDS: Final = 5.0
_MOST_BYTES: Final = 1 << 26
_SHOWN_CHARACTERS: Final = 200


class DoesNotAnswer(Exception):
    """A monitoring system is down, refuses, or says something that cannot be used; the text says which."""


@dataclass(frozen=True)
class Answer:
    """What came back, and when."""

    body: bytes
    asked_at_ns: int
    answered_at_ns: int

    @property
    def middle_ns(self) -> int:
        """The moment at which the other side most likely wrote it; off by half a round trip at most."""
        return (self.asked_at_ns + self.answered_at_ns) // 2


def parse_address(text: str, field: str) -> Endpoint:
    """Parses `http://HOST:PORT/PREFIX`.

    Raises:
        InputError: It is no such address, or holds credentials.
    """
    parts = urlsplit(text)
    example = "write it as http://HOST:PORT"
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        port = None
    if parts.username or parts.password:
        raise InputError(
            field, f"{parts.scheme}://...", "credentials do not belong in an address; give a token_file"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not port:
        raise InputError(field, text, example)
    path = parts.path.rstrip("/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(parts.scheme, parts.hostname, port, path)


def get(
    endpoint: Endpoint,
    path: str = "",
    query: Mapping[str, str] | None = None,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Answer:
    """Asks for `endpoint` plus `path`.

    Raises:
        DoesNotAnswer: There was no answer in time, or not 200.
    """
    target = f"{endpoint.base_path}{path}" or "/"
    if query:
        target += f"?{urlencode(query)}"
    connection: http.client.HTTPConnection
    if endpoint.secure:
        connection = https_connection(endpoint.host, endpoint.port, endpoint.access, timeout_seconds)
    else:
        connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout_seconds)
    asked_at_ns = time.time_ns()
    try:
        connection.request("GET", target, headers=dict(endpoint.access.headers))
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES)
        answered_at_ns = time.time_ns()
    except (OSError, http.client.HTTPException) as error:
        raise DoesNotAnswer(f"{endpoint} does not answer ({error or type(error).__name__})") from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        said = " ".join(body.decode(errors="replace").split())[:_SHOWN_CHARACTERS]
        raise DoesNotAnswer(f"{endpoint} answers {answer.status}{': ' + said if said else ''}")
    return Answer(body, asked_at_ns, answered_at_ns)
