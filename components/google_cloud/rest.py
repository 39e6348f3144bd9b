"""Calls of a Google service's REST API: JSON there and back, tried again where that may help."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.google_cloud.credentials import google_credentials

TIMEOUT_SECONDS: Final = 30.0

_MOMENTARY: Final = (429, 500, 502, 503, 504)
_TRIES: Final = 5
_BACKOFF_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 5.0
_PAGE_SIZE: Final = 100
_SHOWN_CHARACTERS: Final = 400

_STATUS_OF_CODE: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "UNAUTHENTICATED",
    HTTPStatus.FORBIDDEN: "PERMISSION_DENIED",
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    16: "UNAUTHENTICATED",
}
"""Where an answer has no status in words: by HTTP's code, or in an operation by that of google.rpc.Code."""


class GoogleApiError(InputError):
    """A Google service refuses a call, or does not answer it."""


class NotFound(GoogleApiError):
    """There is no such thing, or not for us."""


class AlreadyExists(GoogleApiError):
    """Something of that name is there."""


def authorized_session() -> Any:
    """A session of `requests` with this process's Google identity; it tries again what may pass.

    Raises:
        CredentialsMissing: There is no identity.
    """
    from google.auth.transport.requests import AuthorizedSession
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    session = AuthorizedSession(google_credentials().credentials)
    retry = Retry(
        _TRIES,
        backoff_factor=_BACKOFF_SECONDS,
        status_forcelist=_MOMENTARY,
        allowed_methods=None,
        raise_on_status=False,
    )
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


@dataclass(frozen=True)
class RestApi:
    """One service at one address, such as `https://europe-west4-aiplatform.googleapis.com`."""

    address: str
    session: Any = field(default_factory=authorized_session, repr=False)
    pause: Callable[[float], None] = field(default=time.sleep, repr=False)
    """How to wait between two looks at an operation."""

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """GETs a resource.

        Raises:
            NotFound: There is none.
            GoogleApiError: The service refuses, or stays away.
        """
        return self._call("GET", path, params=query)

    def post(
        self, path: str, body: Mapping[str, Any], query: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """POSTs a body.

        Raises:
            AlreadyExists: What was to be made is there.
            NotFound: There is no such place.
            GoogleApiError: The service refuses, or stays away.
        """
        return self._call("POST", path, params=query, json=body)

    def delete(self, path: str) -> dict[str, Any]:
        """DELETEs a resource.

        Raises:
            NotFound: It is gone already.
            GoogleApiError: The service refuses, or stays away.
        """
        return self._call("DELETE", path)

    def pages(
        self, path: str, items: str, query: Mapping[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The items of a list, whatever number of pages it comes in.

        Args:
            path: Of the list.
            items: The name it has in the answer.
            query: The list's own parameters.

        Raises:
            GoogleApiError: As `get`.
        """
        asked = {"pageSize": _PAGE_SIZE, **(query or {})}
        while True:
            page = self.get(path, asked)
            yield from page.get(items, [])
            if not page.get("nextPageToken"):
                return
            asked["pageToken"] = page["nextPageToken"]

    def wait(self, operation: Mapping[str, Any], deadline_seconds: float) -> dict[str, Any]:
        """Waits for a long-running operation, and returns its response.

        Raises:
            GoogleApiError: It failed, or is not done in time.
        """
        deadline = time.monotonic() + deadline_seconds
        current = dict(operation)
        while not current.get("done"):
            if time.monotonic() >= deadline:
                raise GoogleApiError(
                    "operation", current.get("name"), f"it is not done after {deadline_seconds:g} s"
                )
            self.pause(_POLL_SECONDS)
            current = self.get(f"/v1/{current['name']}")
        if "error" in current:
            raise _refusal("operation", current.get("name"), current["error"])
        response: dict[str, Any] = current.get("response", {})
        return response

    def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        try:
            answer = self.session.request(method, self.address + path, timeout=TIMEOUT_SECONDS, **content)
        except (RequestException, GoogleAuthError) as error:
            raise GoogleApiError(
                "service",
                self.address,
                f"it does not answer ({type(error).__name__}); check the location and the network",
            ) from None
        try:
            document = answer.json()
        except ValueError:
            document = None
        if answer.ok and isinstance(document, dict):
            return document
        told = document.get("error") if isinstance(document, dict) else None
        if not isinstance(told, dict):
            told = {"code": answer.status_code, "message": answer.text}
        raise _refusal("resource", path, told)


def _refusal(field_name: str, value: object, error: Mapping[str, Any]) -> GoogleApiError:
    """The error for what a service said."""
    code = error.get("code")
    status = str(error.get("status") or _STATUS_OF_CODE.get(code if isinstance(code, int) else 0, code))
    said = f"{status}: {str(error.get('message', ''))[:_SHOWN_CHARACTERS]}"
    if status == "NOT_FOUND":
        return NotFound(field_name, value, f"it is not there ({said}); check project, location and name")
    if status == "ALREADY_EXISTS":
        return AlreadyExists(field_name, value, f"it is there already ({said})")
    if status in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
        return GoogleApiError(
            field_name, value, f"the service account may not ({said}); roles/aiplatform.user has the rights"
        )
    return GoogleApiError(field_name, value, f"the service refuses ({said})")
