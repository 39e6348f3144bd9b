"""A payload set on disk: its requests, what the load generator needs to send them, and its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from model_load_test.components.errors import InputError

SCHEMA_VERSION: Final = 1

MANIFEST_NAME: Final = "manifest.json"
GRPC_REQUESTS_NAME: Final = "requests.bin"
"""Binary PredictRequests, each after its length as a varint: ghz's --binary-file."""
HTTP_BODIES_NAME: Final = "bodies.jsonl"
"""One REST body a line."""
PROTOSET_NAME: Final = "tf_serving.protoset"
"""ghz's --protoset, for servers without reflection."""


class PayloadError(InputError):
    """A payload set that cannot be made or read."""


class PayloadInput(msgspec.Struct, frozen=True):
    """One input of the requests."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    """As the signature has it: -1 where any size will do, null where even the rank is open."""


class PayloadManifest(msgspec.Struct, frozen=True):
    """What a payload set is."""

    protocol: Literal["grpc", "http"]
    model_name: str
    signature_name: str
    method: str
    """The gRPC method (`/package.Service/Method`) or the HTTP method."""
    path: str
    """Path and query of the URL; empty for gRPC."""
    requests: int
    batch_sizes: Mapping[str, int]
    """Number of requests by batch size."""
    inputs: tuple[PayloadInput, ...]
    seed: int
    content_bytes: int
    hash: str
    """SHA-256 of protocol, method, path and all requests: two sets with one hash are the same load."""
    summary: str
    """One line for people."""
    body_format: Literal["", "row", "columnar"] = ""
    """TF Serving's REST format; empty for gRPC."""
    schema_version: int = SCHEMA_VERSION


def read_manifest(folder: Path) -> PayloadManifest:
    """Reads the manifest of the payload set in `folder`.

    Raises:
        PayloadError: It is missing, cannot be read, was written by a newer version, or its requests
            are not all there.
    """
    path = folder / MANIFEST_NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=PayloadManifest)
    except FileNotFoundError:
        raise PayloadError(
            "payload", str(path), "no such file; make the payload set with make_payload"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise PayloadError("payload", str(path), f"cannot be read ({error}); make it anew") from None
    if manifest.schema_version > SCHEMA_VERSION:
        raise PayloadError(
            "schema_version", manifest.schema_version, f"this version reads up to {SCHEMA_VERSION}; update it"
        )
    _refuse_incomplete(content_path(folder, manifest), manifest.content_bytes)
    return manifest


def content_path(folder: Path, manifest: PayloadManifest) -> Path:
    """The file with the requests."""
    return folder / (GRPC_REQUESTS_NAME if manifest.protocol == "grpc" else HTTP_BODIES_NAME)


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
    return _content(folder, manifest).splitlines()


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
    content = _content(folder, manifest)
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
