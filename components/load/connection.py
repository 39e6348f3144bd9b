"""How the servers are reached: certificates, names and tokens, as files that never leave their place."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from model_load_test.components.errors import InputError
from model_load_test.components.google_cloud.credentials import SURELY_LASTING_SECONDS, google_headers
from model_load_test.components.load.spec import LoadSpec
from model_load_test.components.parameters import refuse_unknown
from model_load_test.components.payload.manifest import HttpBody
from model_load_test.components.protocols.access import Access
from model_load_test.components.protocols.endpoint import Endpoint, parse_endpoint

SYSTEM_CA: Final = "system"
"""As `ca_file`: the certificate authorities that the machine itself trusts."""

GOOGLE: Final = "google"
"""As `token_source`: access tokens of the Google identity that this process has."""

_FIELDS: Final = (
    "ca_file",
    "certificate_file",
    "key_file",
    "server_name",
    "token_file",
    "token_source",
    "host",
    "header_files",
)
_HEADER_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}")
_DECIDED_BY_THE_REQUEST: Final = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "te"}
)
_USUAL_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
_LARGEST_SECRET_BYTES: Final = 1 << 16
_OWNER_ONLY: Final = 0o600


class ConnectionOptionsError(InputError):
    """Connection options that cannot be used."""


@dataclass(frozen=True)
class HeaderFile:
    """A header whose value stands in a file, such as a mounted Kubernetes secret."""

    name: str
    path: str
    prefix: str = ""

    def value(self) -> str:
        """The header's value as the file has it.

        Raises:
            ConnectionOptionsError: The file cannot be read, or holds nothing that fits into a
                header. The error never shows the content.
        """
        content = _read(self.name, self.path)
        text = content.decode("ascii", errors="replace").strip()
        if not text or len(content) > _LARGEST_SECRET_BYTES or not (text.isascii() and text.isprintable()):
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
    host: str = ""
    """The Host by which an ingress finds the model; HTTP only."""
    header_files: tuple[HeaderFile, ...] = ()
    token_source: str = ""
    """`google` for access tokens that are renewed as they end; empty for none but those in files."""

    def header_values(self, lasting_seconds: float = 0.0) -> dict[str, str]:
        """Header names (lower case) to values, as they are now. Secret: never log or store them.

        Args:
            lasting_seconds: How long they are to be good for, where they are renewed.

        Raises:
            ConnectionOptionsError: A file cannot be read.
            CredentialsMissing: The source of tokens gives none.
        """
        renewed = google_headers(lasting_seconds) if self.token_source == GOOGLE else {}
        return {**renewed, **{header.name: header.value() for header in self.header_files}}

    def secrets(self) -> tuple[str, ...]:
        """Every text that must not be seen: header values whole and word by word, longest first."""
        values = self.header_values().values()
        return tuple(sorted({word for value in values for word in (value, *value.split())}, key=len))[::-1]

    def access(self) -> Access:
        """The same for the project's own clients, which ask the servers before any load."""

        def path(text: str) -> Path | None:
            return Path(text) if text else None

        headers = {
            **({"Host": self.host} if self.host else {}),
            **self.header_values(SURELY_LASTING_SECONDS),
        }
        return Access(
            ca_file=None if self.ca_file == SYSTEM_CA else path(self.ca_file),
            certificate_file=path(self.certificate_file),
            key_file=path(self.key_file),
            server_name=self.server_name,
            headers=headers,
        )


def parse_connection_options(values: Mapping[str, Any]) -> ConnectionOptions:
    """Parses and validates connection options; reads each file once, so that none is missing later.

    Args:
        values: `ca_file`, `certificate_file`, `key_file`, `server_name`, `host`, `token_file` (sent
            as `authorization: Bearer ...`), `token_source` (`google`, for tokens of this process's own
            Google identity) and `header_files`, from header names to files.

    Raises:
        ConnectionOptionsError: A field is unknown, a file cannot be read or does not hold what it
            should. No error shows a file's content.
    """
    refuse_unknown("connection options", values, _FIELDS, ConnectionOptionsError)
    texts = {field: values.get(field) or "" for field in _FIELDS if field != "header_files"}
    for field, text in texts.items():
        if not isinstance(text, str):
            raise ConnectionOptionsError(field, type(text).__name__, "give a text")
    for field in ("server_name", "host"):
        if texts[field] and not _HOST.fullmatch(texts[field]):
            raise ConnectionOptionsError(field, texts[field], "give the name alone, such as models.example")
    if texts["token_source"] not in ("", GOOGLE):
        raise ConnectionOptionsError(
            "token_source", texts["token_source"], f"give {GOOGLE!r}, or a token_file"
        )
    if texts["token_source"] and texts["token_file"]:
        raise ConnectionOptionsError("token_file", texts["token_file"], "give it or token_source, not both")
    header_files = _header_files(texts.pop("token_file"), values.get("header_files") or {})
    if texts["token_source"] and "authorization" in {header.name for header in header_files}:
        raise ConnectionOptionsError(
            "header_files.authorization", texts["token_source"], "the token_source sends this header already"
        )
    options = ConnectionOptions(**texts, header_files=header_files)
    _refuse_unusable_certificates(options)
    options.header_values()
    return options


def refuse_unfit(options: ConnectionOptions, endpoint: Endpoint, field: str) -> None:
    """Refuses options that contradict the endpoint's scheme.

    Raises:
        ConnectionOptionsError: It is encrypted and no certificate authority is named, or the other
            way round; or a Host is named for gRPC.
    """
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
    if options.token_source and not endpoint.secure and not _is_loopback(endpoint.host):
        raise ConnectionOptionsError(
            field, str(endpoint), "a token is not sent unencrypted; write https, or leave token_source out"
        )
    if options.server_name and ":" in endpoint.host and endpoint.protocol == "http":
        raise ConnectionOptionsError(
            field, str(endpoint), "vegeta cannot call an IPv6 address by another name; use a host name"
        )
    if options.host and endpoint.protocol == "grpc":
        raise ConnectionOptionsError("host", options.host, "only HTTP has a Host; leave it out for gRPC")


def reachable(text: str, values: Mapping[str, Any], field: str = "endpoint") -> Endpoint:
    """The endpoint with what lets us in.

    Args:
        text: As the user wrote it.
        values: As `parse_connection_options` takes them.
        field: Name of the parameter, for the error.

    Raises:
        InputError: Either cannot be used, or they do not fit together.
    """
    options, endpoint = parse_connection_options(values), parse_endpoint(text, field)
    refuse_unfit(options, endpoint, field)
    return replace(endpoint, access=options.access())


def refuse_longer_than_token(options: ConnectionOptions, spec: LoadSpec) -> None:
    """Refuses stretches of load that a renewed token might not outlive: it changes only between them.

    Raises:
        ConnectionOptionsError: A block or the warm-up is longer than that.
    """
    if not options.token_source:
        return
    longest_seconds = SURELY_LASTING_SECONDS - spec.timeout_seconds
    for field in ("block_seconds", "warmup_seconds"):
        if getattr(spec, field) > longest_seconds:
            raise ConnectionOptionsError(
                field,
                getattr(spec, field),
                f"a token may end after {SURELY_LASTING_SECONDS:g} s and is renewed between blocks; stay at "
                f"or below {longest_seconds:g}",
            )


def ghz_connection_flags(
    options: ConnectionOptions, spec: LoadSpec, endpoint: Endpoint, metadata_file: Path | None
) -> tuple[str, ...]:
    """The flags of ghz for a connection; what is secret stays in the files they name."""
    metadata = (f"--metadata-file={metadata_file}",) if metadata_file else ()
    connections = (f"--connections={spec.connections}", *metadata)
    if not endpoint.secure:
        return (*connections, "--insecure")
    own_ca = options.ca_file and options.ca_file != SYSTEM_CA
    return (
        *connections,
        *((f"--cacert={options.ca_file}",) if own_ca else ()),
        *((f"--cert={options.certificate_file}", f"--key={options.key_file}") if options.key_file else ()),
        *((f"--cname={options.server_name}",) if options.server_name else ()),
    )


def vegeta_connection_flags(
    options: ConnectionOptions, spec: LoadSpec, endpoint: Endpoint
) -> tuple[str, ...]:
    """The flags of vegeta for a connection; headers stand in its target file."""
    flags = [
        f"-http2={'true' if spec.http_version == '2' and endpoint.secure else 'false'}",
        f"-keepalive={'true' if spec.keep_alive else 'false'}",
    ]
    if spec.http_version == "2" and not endpoint.secure:
        flags.append("-h2c")
    if spec.max_connections:
        flags.append(f"-max-connections={spec.max_connections}")
    if options.ca_file and options.ca_file != SYSTEM_CA:
        flags.append(f"-root-certs={options.ca_file}")
    if options.key_file:
        flags += [f"-cert={options.certificate_file}", f"-key={options.key_file}"]
    if options.server_name:
        flags.append(f"-connect-to={options.server_name}:{endpoint.port}:{endpoint.address}")
    return tuple(flags)


def write_ghz_metadata(path: Path, options: ConnectionOptions) -> Path | None:
    """Writes ghz's metadata file, readable by its owner alone; None where there is nothing to send.

    ghz takes the file for a template: two braces are written so that they mean themselves.
    """
    values = options.header_values()
    if not values:
        return None
    _write_secret(path, json.dumps(values).replace("{{", "{{`{{`}}").encode())
    return path


def write_vegeta_targets(
    path: Path,
    endpoint: Endpoint,
    url_path: str,
    bodies: Sequence[HttpBody],
    options: ConnectionOptions,
) -> None:
    """Writes vegeta's JSON target file, readable by its owner alone: each body as one POST.

    Where the server's certificate has another name, the URLs call it by that name, and vegeta is
    told (`-connect-to`) to connect to the endpoint all the same; it has no flag for the name.
    """
    header = {name.title(): [value] for name, value in options.header_values().items()}
    if options.host or endpoint.port == _USUAL_PORTS.get(endpoint.scheme):
        # Go's Host has the port that the URL names; some proxies know their hosts without it only.
        header["Host"] = [options.host or options.server_name or endpoint.address.rpartition(":")[0]]
    base = str(endpoint)
    if options.server_name:
        base = base.replace(endpoint.address, f"{options.server_name}:{endpoint.port}", 1)

    def line(body: HttpBody) -> bytes:
        of_body = {name: [value] for name, value in body.headers.items()}
        target = {
            "method": "POST",
            "url": f"{base}{url_path}",
            "header": {**of_body, **header},
            "body": base64.b64encode(body.content).decode(),
        }
        return msgspec.json.encode(target) + b"\n"

    _write_secret(path, b"".join(map(line, bodies)))


def _header_files(token_file: str, header_files: object) -> tuple[HeaderFile, ...]:
    if not isinstance(header_files, Mapping):
        raise ConnectionOptionsError(
            "header_files", type(header_files).__name__, 'give a mapping such as {"x-api-key": "/path"}'
        )
    found = [HeaderFile("authorization", token_file, "Bearer ")] if token_file else []
    for name, path in header_files.items():
        lowered = str(name).lower()
        field = f"header_files.{name}"
        if not isinstance(path, str) or not path:
            raise ConnectionOptionsError(field, type(path).__name__, "give the file that holds the value")
        if not _HEADER_NAME.fullmatch(lowered) or lowered in _DECIDED_BY_THE_REQUEST:
            raise ConnectionOptionsError(field, path, "give the name of a header such as x-api-key")
        if lowered.startswith("grpc-") or lowered.endswith("-bin"):
            raise ConnectionOptionsError(field, path, "gRPC keeps names with grpc- or -bin for itself")
        if lowered in {header.name for header in found}:
            raise ConnectionOptionsError(field, path, "this header is given twice; leave one of them out")
        found.append(HeaderFile(lowered, path))
    return tuple(found)


def _refuse_unusable_certificates(options: ConnectionOptions) -> None:
    if bool(options.certificate_file) != bool(options.key_file):
        missing = "key_file" if options.certificate_file else "certificate_file"
        raise ConnectionOptionsError(
            missing, "", "a client certificate needs both certificate_file and key_file"
        )
    for field in ("ca_file", "certificate_file", "key_file"):
        path = getattr(options, field)
        if path and path != SYSTEM_CA:
            _read(field, path)
    own_ca = options.ca_file and options.ca_file != SYSTEM_CA
    try:
        context = ssl.create_default_context(cafile=options.ca_file if own_ca else None)
    except (ssl.SSLError, OSError):
        raise ConnectionOptionsError(
            "ca_file", options.ca_file, "give a PEM file with the certificate of a CA"
        ) from None
    if options.certificate_file:
        try:
            # a key with a passphrase would otherwise ask for it at the terminal
            context.load_cert_chain(options.certificate_file, options.key_file, password=lambda: "")
        except (ssl.SSLError, OSError, ValueError):
            raise ConnectionOptionsError(
                "certificate_file",
                options.certificate_file,
                "give a PEM certificate and, as key_file, its own PEM key without a passphrase",
            ) from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(field: str, path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_LARGEST_SECRET_BYTES + 1)
    except OSError as error:
        raise ConnectionOptionsError(
            field, path, f"cannot be read ({error.strerror}); is the secret mounted into this pod?"
        ) from None


def _write_secret(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
