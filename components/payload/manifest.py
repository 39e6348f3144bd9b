"""A payload set on disk: its requests, what the load generator needs to send them, and its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

import msgspec

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.client import Api
from model_load_test.components.protocols.open_inference import JSON_LENGTH_HEADER

SCHEMA_VERSION: Final = 2

MANIFEST_NAME: Final = "manifest.json"
GRPC_REQUESTS_NAME: Final = "requests.bin"
"""Binary request messages, each after its length as a varint: ghz's --binary-file."""
HTTP_BODIES_NAME: Final = "bodies.jsonl"
"""One REST body a line."""
HTTP_BINARY_BODIES_NAME: Final = "bodies.bin"
"""Each body after its length, as in the file for gRPC."""
JSON_HEADERS: Final[Mapping[str, str]] = MappingProxyType({"Content-Type": "application/json"})
BINARY: Final = "binary"
"""The body format of Open Inference's binary tensors: a line of JSON, and the tensors' bytes after it."""


class PayloadError(InputError):
    """A payload set that cannot be made or read."""


class PayloadInput(msgspec.Struct, frozen=True):
    """One input of the requests."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    """As the signature has it: -1 where any size will do, null where even the rank is open."""


class PayloadSignature(msgspec.Struct, frozen=True):
    """One signature of the mix."""

    name: str
    """Empty where the API knows no signatures."""
    requests: int
    inputs: tuple[PayloadInput, ...]
    source: str = "random values"
    """Where the content comes from."""


class PayloadManifest(msgspec.Struct, frozen=True):
    """What a payload set is."""

    protocol: Literal["grpc", "http"]
    api: Api
    model_name: str
    signatures: tuple[PayloadSignature, ...]
    method: str
    """The gRPC method (`/package.Service/Method`) or the HTTP method."""
    path: str
    """Path and query of the URL; empty for gRPC."""
    requests: int
    batch_sizes: Mapping[str, int]
    """Number of requests by batch size."""
    seed: int
    content_bytes: int
    hash: str
    """SHA-256 of protocol, method, path and all requests: two sets with one hash are the same load."""
    summary: str
    """One line for people."""
    varied: Mapping[str, str] = {}
    """What varies between requests, and by which distribution, in words."""
    body_format: str = ""
    """How the API's requests are written where it offers a choice: row or columnar, raw or typed, json or
    binary, tensor or ndarray."""
    protoset: str = ""
    """The file in the folder that describes the messages: ghz's --protoset; empty for HTTP."""
    schema_version: int = SCHEMA_VERSION

    @property
    def signature_name(self) -> str:
        """The signature called, or all of a mix."""
        return ", ".join(signature.name for signature in self.signatures)

    @property
    def call(self) -> str:
        """The gRPC method as generators name it: `package.Service/Method`; empty for HTTP."""
        return self.method.removeprefix("/") if self.protocol == "grpc" else ""


def read_manifest(folder: Path) -> PayloadManifest:
    """Reads the manifest of the payload set in `folder`.

    Raises:
        PayloadError: It is missing, cannot be read, was written by a newer version, or its requests
            are not all there.
    """
    path = folder / MANIFEST_NAME
    try:
        content = path.read_bytes()
        _refuse_other_version(msgspec.json.decode(content, type=_Versioned).schema_version)
        manifest = msgspec.json.decode(content, type=PayloadManifest)
    except FileNotFoundError:
        raise PayloadError(
            "payload", str(path), "no such file; make the payload set with make_payload"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise PayloadError("payload", str(path), f"cannot be read ({error}); make it anew") from None
    _refuse_incomplete(content_path(folder, manifest), manifest.content_bytes)
    return manifest


class _Versioned(msgspec.Struct):
    """What is read of a manifest first."""

    schema_version: int


def _refuse_other_version(version: int) -> None:
    if version != SCHEMA_VERSION:
        remedy = "update the package" if version > SCHEMA_VERSION else "make the payload anew"
        raise PayloadError("schema_version", version, f"this version reads {SCHEMA_VERSION}; {remedy}")


def content_path(folder: Path, manifest: PayloadManifest) -> Path:
    """The file with the requests."""
    if manifest.protocol == "grpc":
        return folder / GRPC_REQUESTS_NAME
    return folder / (HTTP_BINARY_BODIES_NAME if manifest.body_format == BINARY else HTTP_BODIES_NAME)


def _refuse_incomplete(content: Path, content_bytes: int) -> None:
    try:
        found_bytes = content.stat().st_size
    except OSError as error:
        raise PayloadError(
            "payload", str(content), f"cannot be read ({error.strerror}); make it anew"
        ) from None
    if found_bytes != content_bytes:
        raise PayloadError(
            "payload",
            str(content),
            f"{found_bytes} bytes where the manifest says {content_bytes}; make it anew",
        )


def read_bodies(folder: Path) -> list[bytes]:
    """Reads the bodies of an HTTP payload set, one a request.

    Raises:
        PayloadError: As `read_manifest`, or the set is not for HTTP.
    """
    manifest = read_manifest(folder)
    if manifest.protocol != "http":
        raise PayloadError(
            "payload", str(folder), f"it holds {manifest.protocol} requests; make one for http"
        )
    content = _content(folder, manifest)
    return split_messages(content) if manifest.body_format == BINARY else content.splitlines()


class HttpBody(NamedTuple):
    """One HTTP request's body, and what the request says of it."""

    content: bytes
    headers: Mapping[str, str] = JSON_HEADERS


def read_http_bodies(folder: Path) -> list[HttpBody]:
    """Reads the bodies of an HTTP payload set with their headers.

    Raises:
        PayloadError: As `read_bodies`.
    """
    made = binary_body if read_manifest(folder).body_format == BINARY else HttpBody
    return [made(body) for body in read_bodies(folder)]


def binary_body(content: bytes) -> HttpBody:
    """A body of Open Inference's binary tensors, which says how long its line of JSON is."""
    json_bytes = content.index(b"\n") + 1
    return HttpBody(
        content, {"Content-Type": "application/octet-stream", JSON_LENGTH_HEADER: str(json_bytes)}
    )


def read_messages(folder: Path) -> list[bytes]:
    """Reads the serialised messages of a gRPC payload set, one a request.

    Raises:
        PayloadError: As `read_manifest`, or the set is not for gRPC.
    """
    manifest = read_manifest(folder)
    if manifest.protocol != "grpc":
        raise PayloadError(
            "payload", str(folder), f"it holds {manifest.protocol} requests; make one for grpc"
        )
    return split_messages(_content(folder, manifest))


def split_messages(content: bytes) -> list[bytes]:
    """The messages of a stream of delimited ones: each after its length as a varint."""
    messages = []
    position = 0
    while position < len(content):
        size, position = _read_varint(content, position)
        messages.append(content[position : position + size])
        position += size
    return messages


def _content(folder: Path, manifest: PayloadManifest) -> bytes:
    path = content_path(folder, manifest)
    try:
        return path.read_bytes()
    except OSError as error:
        raise PayloadError("payload", str(path), f"cannot be read ({error.strerror}); make it anew") from None


def _read_varint(content: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, position


def write_manifest(folder: Path, manifest: PayloadManifest) -> None:
    """Writes the manifest into `folder`, for people too."""
    document = msgspec.json.encode(manifest)
    (folder / MANIFEST_NAME).write_bytes(msgspec.json.format(document, indent=2) + b"\n")
