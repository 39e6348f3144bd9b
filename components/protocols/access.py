"""How a client is let in by a server: whom it trusts, how it identifies itself, what it sends along."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model_load_test.components.errors import InputError


@dataclass(frozen=True)
class Access:
    """Certificates and headers of one endpoint; what is secret in it is never printed."""

    ca_file: Path | None = None
    """Certificate authorities to trust, as PEM; the system's where there is none."""
    certificate_file: Path | None = None
    """The client's own certificate chain, as PEM."""
    key_file: Path | None = None
    """The key of the client's certificate, as PEM."""
    server_name: str = ""
    """The name the server's certificate must have; the endpoint's host where it is empty."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request: tokens, or the Host by which an ingress finds the model."""


def ssl_context(access: Access) -> ssl.SSLContext:
    """The TLS settings of an HTTP client.

    Raises:
        InputError: A certificate or key file cannot be used.
    """
    context = ssl.create_default_context()
    if access.ca_file:
        try:
            context = ssl.create_default_context(cafile=access.ca_file)
        except OSError as error:
            raise unusable("ca_file", access.ca_file, error) from None
    if access.certificate_file:
        try:
            context.load_cert_chain(access.certificate_file, access.key_file)
        except OSError as error:
            raise unusable("certificate_file", access.certificate_file, error) from None
    return context


def https_connection(
    host: str, port: int, access: Access, timeout_seconds: float
) -> http.client.HTTPSConnection:
    """A connection that checks the server's certificate for the name `access` says.

    Raises:
        InputError: A certificate or key file cannot be used.
    """
    return _NamedHTTPSConnection(host, port, access, timeout_seconds)


class _NamedHTTPSConnection(http.client.HTTPSConnection):
    """http.client checks certificates for the address alone, which in a cluster is seldom their name."""

    def __init__(self, host: str, port: int, access: Access, timeout_seconds: float) -> None:
        self._ssl = ssl_context(access)
        super().__init__(host, port, timeout=timeout_seconds, context=self._ssl)
        self._server_name = access.server_name or host

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._ssl.wrap_socket(self.sock, server_hostname=self._server_name)


def unusable(field_name: str, path: Path, error: OSError) -> InputError:
    """The complaint about a certificate or key file."""
    return InputError(
        field_name, str(path), f"cannot be used ({error.strerror or error}); give a readable PEM file"
    )
