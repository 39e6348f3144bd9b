"""KFP's API server over HTTP: the few calls a store of baselines needs.

Not by `kfp_server_api`: no release of it knows the artifact API yet, and the one that will must not be
needed to talk to the servers that came before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from model_load_test.components.baseline.store import FIELD, StoreUnavailable
from model_load_test.components.errors import InputError

API: Final = "/apis/v2beta1"

CALL_SECONDS: Final = 10.0
"""Longest wait for one answer of the server."""

_NOT_SERVED: Final = (404, 405, 501)
_WRONG_REQUEST: Final = 400
_MOST_BYTES: Final = 64 << 20


class NotServed(LookupError):
    """The server has no such path: it is older than it, or the thing asked for does not exist."""


class KfpApi:
    """A way to the API server.

    Args:
        address: `http://host:port`, with the path's prefix where the server stands behind a proxy.
        store: The store's URI, for errors.
        authority_file: PEM file of the certificate authority; the system's authorities when None.
        token_file: File of the bearer token, read anew for each call: Kubernetes renews it.
    """

    def __init__(
        self, address: str, store: str, *, authority_file: str | None = None, token_file: Path | None = None
    ) -> None:
        import urllib3

        if authority_file is not None and not Path(authority_file).is_file():
            raise InputError("ca", authority_file, "name the PEM file of the certificate authority")
        self._pool = urllib3.PoolManager(ca_certs=authority_file, retries=False)
        self._address = address
        self._store = store
        self._token_file = token_file

    def get(self, path: str, query: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Asks for `path`, counted from `API`.

        Raises:
            NotServed: The server answered that it has no such path or thing.
            InputError: The server says that the request is wrong.
            StoreUnavailable: It does not answer, refuses access, or answers with what is no JSON object.
        """
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path, None)

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Sends `body` as JSON; raises as `get`."""
        return self._call("POST", path, json.dumps(body).encode())

    def close(self) -> None:
        """Ends the connections."""
        self._pool.clear()

    def _call(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        import urllib3

        headers = {"Accept": "application/json", **self._authorization()}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            answer = self._pool.request(
                method,
                f"{self._address}{API}{path}",
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(total=CALL_SECONDS),
                redirect=False,
                preload_content=False,
            )
            content = answer.read(_MOST_BYTES)
            answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreUnavailable(self._store, f"{type(error).__name__}: {error}") from error
        if answer.status in _NOT_SERVED:
            raise NotServed(_message(content))
        if answer.status == _WRONG_REQUEST:
            raise InputError(FIELD, self._store, f"the API server refused: {_message(content)}")
        if answer.status != 200:
            raise StoreUnavailable(self._store, f"HTTP {answer.status}: {_message(content)}")
        try:
            decoded = json.loads(content)
        except ValueError as error:
            raise StoreUnavailable(self._store, f"an answer that is no JSON: {error}") from error
        if not isinstance(decoded, dict):
            raise StoreUnavailable(self._store, "an answer that is no JSON object")
        return decoded

    def _authorization(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            token = self._token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("token_file", str(self._token_file), f"name a readable file: {error}") from error
        return {"Authorization": f"Bearer {token}"}


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content[:200].decode(errors="replace").strip() or "no reason given"
