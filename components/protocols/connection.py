"""How a server wants to be spoken to: whom to trust, what to show, which name to call it by."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.parameters import refuse_unknown

if TYPE_CHECKING:
    from model_load_test.components.protocols.endpoint import Endpoint

SYSTEM_CA: Final = "system"
"""As `ca_file`: the certificate authorities that the machine itself trusts."""

_HEADER_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_OURS: Final = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "te"})
"""Headers that the request itself decides."""
_LARGEST_SECRET_BYTES: Final = 1 << 16
_FIRST_PRINTABLE: Final = 0x20
_DELETE: Final = 0x7F


class ConnectionOptionsError(InputError):
    """Connection options that cannot be used."""


@dataclass(frozen=True)
class HeaderFile:
    """A header whose value stands in a file, such as a mounted Kubernetes secret."""

    name: str
    path: str
    prefix: str = ""

    def value(self) -> str:
        """The header's value as the file has it now: a mounted secret may be renewed while we run.

        Raises:
            InputError: The file cannot be read, or holds nothing that fits into a header. The
                error never shows the content.
        """
        try:
            with Path(self.path).open("rb") as file:
                content = file.read(_LARGEST_SECRET_BYTES + 1)
        except OSError as error:
            raise _unreadable(self.name, self.path, error) from None
        try:
            text = content.decode("ascii").strip()
        except UnicodeDecodeError:
            text = ""
        if not text or len(content) > _LARGEST_SECRET_BYTES or not _is_header_text(text):
            raise ConnectionOptionsError(
                self.name, self.path, "put one line of printable ASCII text into that file, the value alone"
            )
        return self.prefix + text


@dataclass(frozen=True)
class ConnectionOptions:
    """What a connection needs beside its address: names of files, never what stands in them."""

    ca_file: str = ""
    """PEM file of the certificate authority, or `system`; empty for an unencrypted connection."""
    certificate_file: str = ""
    """PEM file of the client's own certificate, where the server asks for one."""
    key_file: str = ""
    server_name: str = ""
    """The name that the server's certificate holds, where it is not the endpoint's host."""
    headers: tuple[HeaderFile, ...] = ()

    def header_values(self) -> dict[str, str]:
        """Header names (lower case) to values, read now. Secret: never log or store them.

        Raises:
            InputError: A file cannot be read.
        """
        return {header.name: header.value() for header in self.headers}

    def ssl_context(self) -> ssl.SSLContext:
        """What `http.client` checks the server by and shows it."""
        own_ca = self.ca_file and self.ca_file != SYSTEM_CA
        context = ssl.create_default_context(cafile=self.ca_file if own_ca else None)
        if self.certificate_file:
            context.load_cert_chain(self.certificate_file, self.key_file)
        return context


def parse_connection_options(values: Mapping[str, Any]) -> ConnectionOptions:
    """Parses and validates connection options; reads each file once, so that none is missing later.

    Args:
        values: `ca_file`, `certificate_file`, `key_file`, `server_name`, `token_file` (sent as
            `authorization: Bearer ...`) and `header_files`, a mapping from header names to files.

    Raises:
        InputError: A field is unknown, a file cannot be read or does not hold what it should. No
            error shows a file's content.
    """
    known = ("ca_file", "certificate_file", "key_file", "server_name", "token_file", "header_files")
    refuse_unknown("connection options", values, known, ConnectionOptionsError)
    texts = {field: values.get(field) or "" for field in known[:-1]}
    for field, text in texts.items():
        if not isinstance(text, str):
            raise ConnectionOptionsError(field, type(text).__name__, "give a text")
    options = ConnectionOptions(
        ca_file=texts["ca_file"],
        certificate_file=texts["certificate_file"],
        key_file=texts["key_file"],
        server_name=texts["server_name"],
        headers=_header_files(texts["token_file"], values.get("header_files") or {}),
    )
    _refuse_unusable_certificates(options)
    options.header_values()
    return options


def _header_files(token_file: str, header_files: object) -> tuple[HeaderFile, ...]:
    if not isinstance(header_files, Mapping):
        raise ConnectionOptionsError(
            "header_files", type(header_files).__name__, 'give a mapping such as {"x-api-key": "/path"}'
        )
    found = [HeaderFile("authorization", token_file, "Bearer ")] if token_file else []
    for name, path in header_files.items():
        lowered = str(name).lower()
        field = f"header_files.{name}"
        if not _HEADER_NAME.fullmatch(lowered) or lowered in _OURS or lowered.endswith("-bin"):
            raise ConnectionOptionsError(field, path, "give the name of a header with text, such as x-api-key")
        if lowered.startswith("grpc-"):
            raise ConnectionOptionsError(field, path, "names that begin with grpc- are gRPC's own")
        if lowered in {header.name for header in found}:
            raise ConnectionOptionsError(field, path, "this header is given twice; leave one of them out")
        if not isinstance(path, str) or not path:
            raise ConnectionOptionsError(field, type(path).__name__, "give the file that holds the header's value")
        found.append(HeaderFile(lowered, path))
    return tuple(found)


def _refuse_unusable_certificates(options: ConnectionOptions) -> None:
    if bool(options.certificate_file) != bool(options.key_file):
        missing = "key_file" if options.certificate_file else "certificate_file"
        raise ConnectionOptionsError(missing, "", "a client certificate needs both certificate_file and key_file")
    for field in ("ca_file", "certificate_file", "key_file"):
        path = getattr(options, field)
        if path and path != SYSTEM_CA:
            try:
                with Path(path).open("rb") as file:
                    file.read(1)
            except OSError as error:
                raise _unreadable(field, path, error) from None
    try:
        ConnectionOptions(ca_file=options.ca_file).ssl_context()
    except (ssl.SSLError, OSError):
        raise ConnectionOptionsError("ca_file", options.ca_file, "give a PEM file with CA certificates") from None
    try:
        options.ssl_context()
    except (ssl.SSLError, OSError):
        raise ConnectionOptionsError(
            "certificate_file",
            options.certificate_file,
            "give a PEM certificate and, as key_file, its own PEM key without a passphrase",
        ) from None


def refuse_unfit(endpoint: Endpoint, field: str) -> None:
    """Refuses an endpoint whose scheme and connection options contradict each other.

    Raises:
        InputError: It is encrypted and no certificate authority is named, or the other way round.
    """
    options = endpoint.connection
    if endpoint.secure and not options.ca_file:
        raise ConnectionOptionsError(
            field,
            str(endpoint),
            f"name the CA that signed the server's certificate as ca_file, or {SYSTEM_CA!r} for the "
            "machine's own list",
        )
    if not endpoint.secure and (options.ca_file or options.certificate_file or options.server_name):
        secure = str(endpoint).replace("://", "s://", 1)
        raise ConnectionOptionsError(
            field, str(endpoint), f"this is not encrypted; write {secure}, or leave the certificates out"
        )


def http_connection(endpoint: Endpoint, timeout_seconds: float) -> http.client.HTTPConnection:
    """An HTTP/1.1 connection to the endpoint, not yet opened; to be closed by the caller."""
    if not endpoint.secure:
        return http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout_seconds)
    return _NamedConnection(endpoint, timeout_seconds)


class _NamedConnection(http.client.HTTPSConnection):
    """Connects to the endpoint, but calls the server by the name its certificate holds."""

    def __init__(self, endpoint: Endpoint, timeout_seconds: float) -> None:
        self._address = (endpoint.host, endpoint.port)
        self._tls = endpoint.connection.ssl_context()
        name = endpoint.connection.server_name or endpoint.host
        super().__init__(name, endpoint.port, timeout=timeout_seconds, context=self._tls)

    def connect(self) -> None:
        plain = socket.create_connection(self._address, self.timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def _is_header_text(text: str) -> bool:
    return all(_FIRST_PRINTABLE <= ord(character) < _DELETE for character in text)


def _unreadable(field: str, path: str, error: OSError) -> ConnectionOptionsError:
    return ConnectionOptionsError(
        field, path, f"cannot be read ({error.strerror}); is the secret mounted into this pod?"
    )
