"""Brings a model into the server's pod, lays it out as the server wants it, and says what it is.

python -m model_load_test.components.serving.model_loading --uri URI --into FOLDER --layout tf-serving

Runs in the init container of every server that we deploy: candidate and baseline are loaded the
same way, from a disk of their own. It ends with 2 when there is no model, or another one than the
checksum says. What it has loaded stands as JSON in the termination message.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import msgspec

from model_load_test.components.errors import InputError
from model_load_test.components.serving.model_uri import ModelUri, ModelUriError, parse_model_uri
from model_load_test.components.serving.triton_configuration import CONFIGURATION_FILE, with_fields

CLAIM_MOUNT: Final = Path("/claim")
"""Where the init container sees the volume of a pvc:// model."""

WARMUP_NAME: Final = "tf_serving_warmup_requests"
BAD_INPUT: Final = 2

Layout = Literal["tf-serving", "triton"]

_TERMINATION_LOG: Final = Path("/dev/termination-log")
_CHUNK_BYTES: Final = 1 << 20
_HTTP_TIMEOUT_SECONDS: Final = 60.0
_SAVED_MODEL: Final = ("saved_model.pb", "saved_model.pbtxt")
_TRITON_FILES: Final = {".onnx": "model.onnx", ".pt": "model.pt", ".plan": "model.plan"}


class LoadedModel(msgspec.Struct, frozen=True):
    """What has been loaded."""

    uri: str
    sha256: str
    """Of the list of the model's files as `sha256sum` writes it, sorted by name."""
    files: int
    size_bytes: int
    versions: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Loads the model; 0, or 2 when there is none to load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uri", required=True)
    parser.add_argument(
        "--into", type=Path, required=True, help="the model's folder, made where it is missing"
    )
    parser.add_argument("--layout", choices=("tf-serving", "triton"), default="tf-serving")
    parser.add_argument("--warmup", default="", help="URI of a warm-up file")
    parser.add_argument(
        "--configuration", default="", help="fields of Triton's config.pbtxt, in the place of the model's own"
    )
    parser.add_argument("--claim", type=Path, default=CLAIM_MOUNT, help="where the volume claim is mounted")
    parser.add_argument("--report", type=Path, default=_TERMINATION_LOG)
    given = parser.parse_args(arguments)
    try:
        loaded = load_model(
            parse_model_uri(given.uri),
            given.into,
            given.layout,
            warmup=given.warmup,
            configuration=given.configuration,
            claim=given.claim,
        )
    except InputError as error:
        print(error, file=sys.stderr, flush=True)
        _report(given.report, str(error).encode())
        return BAD_INPUT
    text = msgspec.json.encode(loaded)
    print(text.decode(), flush=True)
    _report(given.report, text)
    return 0


def load_model(
    uri: ModelUri,
    into: Path,
    layout: Layout,
    *,
    warmup: str = "",
    configuration: str = "",
    claim: Path = CLAIM_MOUNT,
) -> LoadedModel:
    """Brings the model at `uri` into the folder `into`.

    Args:
        uri: Where it lies; its checksum, if it has one, is verified.
        into: The folder that the server is given; emptied first, so that a restart loads anew.
        layout: What the server wants: TF Serving's version folders, or Triton's model folder.
        warmup: URI of a warm-up file for every version.
        configuration: Fields of Triton's config.pbtxt, in the place of the model's own.
        claim: Where the volume of a pvc:// model is mounted.

    Returns:
        What was loaded.

    Raises:
        ModelUriError: There is no model, it cannot be had, or it is not the one of the checksum.
        TritonConfigurationError: The model's own config.pbtxt cannot be read.
    """
    if into.exists():
        shutil.rmtree(into)
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".incoming-") as work:
        fetched = _fetched(uri, Path(work), claim)
        digest = tree_sha256(fetched)
        if uri.sha256 and uri.scheme not in ("http", "https") and digest != uri.sha256:
            raise _other_model(uri, digest)
        versions = _lay_out(uri, fetched, into, layout)
    if warmup:
        _add_warmup(parse_model_uri(warmup, "warmup"), into, versions, claim)
    if configuration:
        path = into / CONFIGURATION_FILE
        own = path.read_text(encoding="utf-8") if path.is_file() else ""
        path.write_text(with_fields(own, configuration), encoding="utf-8")
    files = [path for path in into.rglob("*") if path.is_file()]
    return LoadedModel(
        uri=str(uri),
        sha256=digest,
        files=len(files),
        size_bytes=sum(path.stat().st_size for path in files),
        versions=tuple(versions),
    )


def tree_sha256(folder: Path) -> str:
    """The SHA-256 of what `sha256sum` prints for the files of `folder`, by their names in it, sorted."""
    digest = hashlib.sha256()
    names = sorted(
        str(PurePosixPath(path.relative_to(folder))) for path in folder.rglob("*") if path.is_file()
    )
    for name in names:
        digest.update(f"{_file_sha256(folder / name)}  {name}\n".encode())
    return digest.hexdigest()


def _fetched(uri: ModelUri, work: Path, claim: Path) -> Path:
    if uri.scheme == "pvc":
        return _from_claim(uri, work, claim)
    if uri.scheme in ("http", "https"):
        return _from_web(uri, work)
    return _from_store(uri, work)


def _from_claim(uri: ModelUri, work: Path, claim: Path) -> Path:
    source = claim / uri.path
    if not source.exists():
        there = ", ".join(sorted(path.name for path in claim.iterdir())[:10]) if claim.is_dir() else ""
        raise ModelUriError(
            "model", str(uri), f"the volume has no such folder; at its top are: {there or 'nothing'}"
        )
    if source.is_file():
        return _unpacked(source, uri, work)
    target = work / "model"
    shutil.copytree(source, target)
    return target


def _from_web(uri: ModelUri, work: Path) -> Path:
    archive = work / PurePosixPath(uri.path.partition("?")[0]).name
    digest = hashlib.sha256()
    try:
        with (
            urllib.request.urlopen(str(uri), timeout=_HTTP_TIMEOUT_SECONDS) as answer,
            archive.open("wb") as file,
        ):
            while chunk := answer.read(_CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
            promised = answer.headers.get("Content-Length")
    except (urllib.error.URLError, OSError) as error:
        raise ModelUriError(
            "model", str(uri), f"cannot be had ({error}); check it from inside the cluster"
        ) from None
    if promised and archive.stat().st_size != int(promised):
        raise ModelUriError(
            "model", str(uri), f"ended after {archive.stat().st_size} of {promised} bytes; try again"
        )
    if uri.sha256 and digest.hexdigest() != uri.sha256:
        raise _other_model(uri, digest.hexdigest())
    return _unpacked(archive, uri, work)


def _from_store(uri: ModelUri, work: Path) -> Path:
    filesystem = _filesystem(uri)
    root = f"{uri.place}/{uri.path}"
    target = work / "model"
    try:
        found: dict[str, dict[str, Any]] = filesystem.find(root, detail=True)
        if list(found) == [root]:
            archive = work / PurePosixPath(root).name
            filesystem.get_file(root, str(archive))
            _verify_file(archive, found[root], uri)
            return _unpacked(archive, uri, work)
        for name, facts in found.items():
            relative = name.removeprefix(root).strip("/")
            if not relative or facts.get("type") != "file" or name.endswith("/"):
                continue
            path = target / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            filesystem.get_file(name, str(path))
            _verify_file(path, facts, uri)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 -- each store's library has errors of its own
        raise ModelUriError(
            "model",
            str(uri),
            f"cannot be had ({type(error).__name__}: {error}); check `storage` and the bucket",
        ) from None
    if not target.exists():
        raise ModelUriError("model", str(uri), "there is nothing under that name; check bucket and folder")
    return target


def _filesystem(uri: ModelUri) -> Any:
    """The store, as its library finds it: credentials and endpoint stand in the environment."""
    import fsspec

    protocol = "gs" if uri.scheme == "gs" else "s3"
    try:
        # Listings are asked for once; a cached one would hide a model that has just been written.
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        extra = "gcs" if protocol == "gs" else "s3"
        raise ModelUriError("model", str(uri), f"the image lacks the extra {extra!r} ({error})") from None


def _verify_file(path: Path, facts: dict[str, Any], uri: ModelUri) -> None:
    """Compares a file with what its store says of it: the size, and an MD5 where there is one."""
    size = facts.get("size")
    if size is not None and path.stat().st_size != size:
        raise ModelUriError(
            "model", str(uri), f"{path.name} has {path.stat().st_size} of {size} bytes; try again"
        )
    stated = str(facts.get("ETag", "")).strip('"')
    if len(stated) == 32 and "-" not in stated and not facts.get("SSEKMSKeyId"):
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in _chunks(path):
            digest.update(chunk)
        # Encrypted objects have ETags that are no MD5; their sizes were compared above.
        if digest.hexdigest() != stated and not facts.get("ServerSideEncryption"):
            raise ModelUriError(
                "model", str(uri), f"{path.name} is damaged (its MD5 is not {stated}); try again"
            )


def _unpacked(archive: Path, uri: ModelUri, work: Path) -> Path:
    target = work / "unpacked"
    target.mkdir()
    try:
        if archive.name.endswith(".zip"):
            _unzip(archive, target, uri)
        elif archive.name.endswith((".tar.gz", ".tgz", ".tar")):
            _untar(archive, target)
        elif archive.suffix in _TRITON_FILES:
            shutil.copyfile(archive, target / archive.name)
        else:
            raise ModelUriError("model", str(uri), "this is one file, and neither an archive nor a model")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise ModelUriError("model", str(uri), f"the archive cannot be unpacked: {error}") from None
    inside = [path for path in target.iterdir() if not path.name.startswith(".")]
    # An archive of one folder means the folder, unless the folder is a version.
    if len(inside) == 1 and inside[0].is_dir() and not inside[0].name.isdecimal():
        return inside[0]
    return target


def _untar(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(target, filter="data")
            return
        # Python before 3.10.12 and 3.11.4 has no filter: files and folders inside of the target only.
        inside = target.resolve()
        for member in tar.getmembers():
            if not (member.isfile() or member.isdir()):
                raise tarfile.TarError(f"{member.name} is neither a file nor a folder")
            if not (inside / member.name).resolve().is_relative_to(inside):
                raise tarfile.TarError(f"{member.name} would be written outside of the model")
        tar.extractall(target)


def _unzip(archive: Path, target: Path, uri: ModelUri) -> None:
    with zipfile.ZipFile(archive) as packed:
        for name in packed.namelist():
            if name.startswith("/") or ".." in PurePosixPath(name).parts:
                raise ModelUriError(
                    "model", str(uri), f"the archive wants to write outside of itself: {name}"
                )
        packed.extractall(target)


def _lay_out(uri: ModelUri, source: Path, into: Path, layout: Layout) -> list[str]:
    versions = sorted(
        (path for path in source.iterdir() if path.name.isdecimal() and path.is_dir()),
        key=lambda path: int(path.name),
    )
    if layout == "triton":
        return _lay_out_for_triton(uri, source, into, versions)
    served = [path for path in versions if any((path / name).is_file() for name in _SAVED_MODEL)]
    if any((source / name).is_file() for name in _SAVED_MODEL):
        shutil.move(source, into / "1")
        return ["1"]
    if not served:
        raise _no_model(uri, source, "a SavedModel (saved_model.pb), nor a version folder with one")
    for path in served:
        into.mkdir(exist_ok=True)
        shutil.move(path, into / path.name)
    return [path.name for path in served]


def _lay_out_for_triton(uri: ModelUri, source: Path, into: Path, versions: Sequence[Path]) -> list[str]:
    if any((source / name).is_file() for name in _SAVED_MODEL):
        (into / "1").mkdir(parents=True)
        shutil.move(source, into / "1" / "model.savedmodel")
        return ["1"]
    if versions:
        for version in versions:
            if any((version / name).is_file() for name in _SAVED_MODEL):
                inner = version.rename(version.with_name(f"{version.name}.savedmodel"))
                version.mkdir()
                inner.rename(version / "model.savedmodel")
        shutil.move(source, into)
        return [path.name for path in versions]
    files = [path for path in source.iterdir() if path.suffix in _TRITON_FILES]
    if len(files) != 1:
        raise _no_model(uri, source, "version folders, a SavedModel or one .onnx, .pt or .plan file")
    (into / "1").mkdir(parents=True)
    shutil.move(files[0], into / "1" / _TRITON_FILES[files[0].suffix])
    return ["1"]


def _add_warmup(uri: ModelUri, into: Path, versions: Sequence[str], claim: Path) -> None:
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".warmup-") as work:
        path = _one_file(uri, Path(work), claim)
        for version in versions:
            extra = into / version / "assets.extra"
            extra.mkdir(exist_ok=True)
            shutil.copyfile(path, extra / WARMUP_NAME)


def _one_file(uri: ModelUri, work: Path, claim: Path) -> Path:
    if uri.scheme == "pvc":
        path = claim / uri.path
        if not path.is_file():
            raise ModelUriError("warmup", str(uri), "the volume has no such file")
        return path
    if uri.scheme in ("http", "https"):
        folder = _from_web(uri, work)
        files = [path for path in folder.rglob("*") if path.is_file()]
        if len(files) != 1:
            raise ModelUriError("warmup", str(uri), f"the archive holds {len(files)} files; pack one alone")
        return files[0]
    path = work / WARMUP_NAME
    try:
        _filesystem(uri).get_file(f"{uri.place}/{uri.path}", str(path))
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 -- each store's library has errors of its own
        raise ModelUriError("warmup", str(uri), f"cannot be had ({type(error).__name__}: {error})") from None
    return path


def _no_model(uri: ModelUri, source: Path, wanted: str) -> ModelUriError:
    there = ", ".join(sorted(path.name for path in source.iterdir())[:10]) or "nothing"
    return ModelUriError("model", str(uri), f"no model is there: neither {wanted}; what is there: {there}")


def _other_model(uri: ModelUri, digest: str) -> ModelUriError:
    return ModelUriError(
        "model", str(uri), f"its SHA-256 is {digest} and not {uri.sha256}; is it the right model?"
    )


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _report(path: Path, text: bytes) -> None:
    try:
        path.write_bytes(text[:4096])  # what Kubernetes keeps of a termination message
    except OSError as error:
        print(f"the report cannot be written to {path}: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
