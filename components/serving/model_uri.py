"""Where a model lies: a volume, an object store, a web server, or wherever KFP has put an artifact."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from model_load_test.components.errors import InputError
from model_load_test.components.parameters import refuse_unknown

SCHEMES: Final = ("pvc", "gs", "s3", "minio", "http", "https")
ARCHIVES: Final = (".tar.gz", ".tgz", ".tar", ".zip")

_ARTIFACT_FOLDERS: Final[Mapping[str, str]] = {"/gcs/": "gs://", "/minio/": "minio://", "/s3/": "s3://"}
"""Where KFP's launcher shows artifacts to a task, and what it means."""

_KFP_MINIO: Final = "http://minio-service.kubeflow:9000"
_KFP_MINIO_SECRET: Final = "mlpipeline-minio-artifact"
_CHECKSUM: Final = re.compile(r"sha256=([0-9a-f]{64})")


class ModelUriError(InputError):
    """No model can be loaded from there."""


@dataclass(frozen=True)
class ModelUri:
    """The place of a model, such as `gs://bucket/models/digits`."""

    scheme: str
    place: str
    """Bucket, claim or host."""
    path: str
    """Inside of it, without a slash at either end."""
    sha256: str = ""
    """What it must be: of the archive, or of the list of a folder's files; empty for whatever it is."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}" + (f"/{self.path}" if self.path else "")


class Storage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to get at an object store. Secrets are named, never given."""

    endpoint: str = ""
    """URL of an S3-compatible store; empty for the provider's own (KFP's for minio://)."""
    region: str = ""
    secret: str = ""
    """Name of a Secret in the namespace; empty for the ServiceAccount's own identity."""
    access_key: str = "accesskey"
    """Key of that Secret with the access key's id."""
    secret_key: str = "secretkey"
    """Key of that Secret with the secret access key."""
    token_key: str = "key.json"
    """Key of that Secret with a Google service account's key file."""


def parse_model_uri(text: str, field: str = "model") -> ModelUri:
    """Parses a model's URI, or the path at which KFP shows an artifact.

    A checksum may follow as `#sha256=...`.

    Raises:
        ModelUriError: It is none that a server could be given.
    """
    for folder, scheme in _ARTIFACT_FOLDERS.items():
        if text.startswith(folder):
            text = scheme + text.removeprefix(folder)
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        raise ModelUriError(
            field,
            text,
            "give " + ", ".join(f"{scheme}://..." for scheme in SCHEMES) + ", or the URI of a KFP artifact",
        )
    if parts.username or parts.password:
        raise ModelUriError(
            field,
            f"{parts.scheme}://...",
            "credentials do not belong in a URI; name a Secret as `storage.secret`",
        )
    if not parts.netloc:
        raise ModelUriError(field, text, "the bucket, claim or host is missing")
    path = unquote(parts.path).strip("/") if parts.scheme == "pvc" else parts.path.strip("/")
    if any(part in ("..", ".") for part in path.split("/")):
        raise ModelUriError(field, text, "a path with '.' or '..' in it leads elsewhere; write it out")
    if parts.scheme in ("http", "https"):
        if not path.endswith(ARCHIVES):
            raise ModelUriError(
                field, text, f"over HTTP a model is one archive; give a file ending in {', '.join(ARCHIVES)}"
            )
        path += f"?{parts.query}" if parts.query else ""
    elif not path and parts.scheme != "pvc":
        raise ModelUriError(field, text, "name the model's folder in the bucket")
    elif parts.query:
        raise ModelUriError(field, text, "give what stands after '?' as `storage`")
    return ModelUri(parts.scheme, parts.netloc, path, _checksum(parts.fragment, text, field))


def parse_storage(given: Mapping[str, Any], uri: ModelUri | None = None) -> Storage:
    """Parses how to get at a store: ours, or the `store_session_info` of a KFP artifact.

    Args:
        given: From JSON; empty for the defaults.
        uri: The model's URI: `minio://` without anything else means the one KFP comes with.

    Raises:
        ModelUriError: A field is unknown or of the wrong type.
    """
    if not isinstance(given, Mapping):
        raise ModelUriError("storage", given, 'give an object such as {"secret": "s3-credentials"}')
    values = _from_session_info(given) if "Provider" in given else dict(given)
    if uri is not None and uri.scheme == "minio" and "endpoint" not in values:
        values = {"endpoint": _KFP_MINIO, "secret": _KFP_MINIO_SECRET, **values}
    refuse_unknown("storage", values, Storage.__struct_fields__, ModelUriError, prefix="storage.")
    try:
        return msgspec.convert(values, Storage)
    except msgspec.ValidationError as error:
        raise ModelUriError("storage", dict(given), f"mend the field named here: {error}") from None


def _from_session_info(given: Mapping[str, Any]) -> dict[str, str]:
    """KFP writes beside an artifact how its launcher got at the store."""
    params = given.get("Params") or {}
    endpoint = str(params.get("endpoint", ""))
    if endpoint and "://" not in endpoint:
        plain = str(params.get("disableSSL", "false")).lower() == "true"
        endpoint = f"{'http' if plain else 'https'}://{endpoint}"
    values = {
        "endpoint": endpoint,
        "region": str(params.get("region", "")),
        "access_key": str(params.get("accessKeyKey", "")),
        "secret_key": str(params.get("secretKeyKey", "")),
        "token_key": str(params.get("tokenKey", "")),
    }
    if str(params.get("fromEnv", "false")).lower() != "true":
        values["secret"] = str(params.get("secretName", ""))
    return {name: value for name, value in values.items() if value}


def _checksum(fragment: str, text: str, field: str) -> str:
    if not fragment:
        return ""
    found = _CHECKSUM.fullmatch(fragment)
    if not found:
        raise ModelUriError(field, text, "write a checksum as #sha256= and 64 hexadecimal digits")
    return found[1]
