"""Where users keep models and examples: paths, and URIs of object stores."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final

from model_load_test.components.payload.manifest import PayloadError

_EXTRA_OF_SCHEME: Final = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3"}


@contextmanager
def local_copy(place: str, field: str) -> Iterator[Path]:
    """A file or folder as a path: itself, or a copy that lasts as long as the block.

    Args:
        place: A path, or a URI that fsspec reads: gs://, s3:// (and KFP's minio://), http(s)://, ...
        field: Name of the parameter, for the error.

    Raises:
        PayloadError: There is nothing at the place, or it cannot be fetched.
    """
    if "://" not in place or place.startswith("file://"):
        path = Path(place.removeprefix("file://"))
        if not path.exists():
            raise PayloadError(field, place, "there is nothing there; give an existing file or folder")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="load-test-") as folder:
        target = Path(folder) / (PurePosixPath(place.rstrip("/")).name or "copy")
        _fetch(place.replace("minio://", "s3://", 1), target, field)
        yield target


def _fetch(uri: str, target: Path, field: str) -> None:
    import fsspec

    scheme = uri.partition("://")[0]
    try:
        store, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        extra = _EXTRA_OF_SCHEME.get(scheme)
        remedy = f"install model-load-test[{extra}] to read it" if extra else "give a path, gs:// or s3://"
        raise PayloadError(field, uri, f"{remedy} ({error})") from None
    try:
        _download(store, path, target)
    except FileNotFoundError:
        raise PayloadError(field, uri, "there is nothing there; give an existing file or folder") from None
    except Exception as error:  # noqa: BLE001  # every store has exceptions of its own
        raise PayloadError(
            field, uri, f"cannot be fetched ({type(error).__name__}: {error}); check name and rights"
        ) from None


def _download(store: Any, path: str, target: Path) -> None:
    if not store.isdir(path):
        store.get_file(path, str(target))
        return
    for remote in store.find(path):
        inside = PurePosixPath(remote).relative_to(PurePosixPath(path.rstrip("/")))
        local = target / inside
        local.parent.mkdir(parents=True, exist_ok=True)
        store.get_file(remote, str(local))
