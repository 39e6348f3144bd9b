"""Access tokens of Google's identity service, renewed before they end."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from model_load_test.components.errors import InputError

SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)

SURELY_LASTING_SECONDS: Final = 225.0
"""What a token that was just asked for lasts at least: the metadata server hands out one token to all,
and a new one only when less than about four minutes of it are left."""


class CredentialsMissing(InputError):
    """There is no identity to ask tokens for, or Google gives none for it."""


class GoogleCredentials:
    """Tokens of one identity; safe for several threads.

    Args:
        credentials: Of google-auth.
        request: What they are renewed through: google-auth's transport.
        now: The time, in UTC.
    """

    def __init__(
        self,
        credentials: Any,
        request: Callable[..., Any],
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._credentials = credentials
        self._request = request
        self._now = now
        self._lock = threading.Lock()

    @property
    def credentials(self) -> Any:
        """What google-auth and its sessions take."""
        return self._credentials

    def headers(self, lasting_seconds: float = 0.0) -> dict[str, str]:
        """What identifies us to a service, by lower-case name. Secret: never log or store it.

        Args:
            lasting_seconds: How long it is to be good for; it is renewed where it is not. Above
                `SURELY_LASTING_SECONDS` this is more than Google promises.

        Raises:
            CredentialsMissing: No token is given, and there is none that still is valid.
        """
        with self._lock:
            if not self._lasts(lasting_seconds):
                self._renew()
            applied: dict[str, str] = {}
            # A person's own credentials name the project that pays beside the token.
            self._credentials.apply(applied)
            return {name.lower(): value for name, value in applied.items()}

    def _renew(self) -> None:
        from google.auth.exceptions import GoogleAuthError

        try:
            self._credentials.refresh(self._request)
        except GoogleAuthError as error:
            if not self._lasts(0.0):
                raise CredentialsMissing(
                    "token_source",
                    "google",
                    f"Google gives no token ({_without_token(error)}); check this task's service account",
                ) from None

    def _lasts(self, seconds: float) -> bool:
        if not self._credentials.token:
            return False
        expiry: datetime | None = self._credentials.expiry
        if expiry is None:
            return True
        ends = expiry if expiry.tzinfo else expiry.replace(tzinfo=timezone.utc)
        return ends - self._now() > timedelta(seconds=seconds)


@functools.cache
def google_credentials() -> GoogleCredentials:
    """The identity that this process has: a key file, a person's login, or the machine's own.

    Google calls it Application Default Credentials; in a pipeline it is the service account of the run.

    Raises:
        CredentialsMissing: There is none, or google-auth is not installed.
    """
    try:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
        from google.auth.transport.requests import Request
    except ImportError as error:
        raise CredentialsMissing(
            "token_source", "google", f"pip install google-auth requests ({error})"
        ) from None
    try:
        credentials, _ = google.auth.default(scopes=SCOPES)
    except DefaultCredentialsError as error:
        raise CredentialsMissing(
            "token_source",
            "google",
            f"this process has no Google identity ({_without_token(error)}); run it with a service account, "
            "or name a key file in GOOGLE_APPLICATION_CREDENTIALS",
        ) from None
    return GoogleCredentials(credentials, Request())


def google_headers(lasting_seconds: float = 0.0) -> Mapping[str, str]:
    """The headers of `google_credentials`.

    Raises:
        CredentialsMissing: As `google_credentials` and `GoogleCredentials.headers`.
    """
    return google_credentials().headers(lasting_seconds)


def _without_token(error: Exception) -> str:
    """The error's own words; what the token server answered stands behind them and is left out."""
    return str(error.args[0] if error.args else type(error).__name__).splitlines()[0][:200]
