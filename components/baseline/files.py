"""Baselines as JSON files in a folder or a bucket: the store that works everywhere.

    <root>/mlt1/<namespace>/<model>/<hash>/
        key.json                          the key
        runs/<run>.json                   a record
        index/<day>/<time>-<verdict>-<run>    empty; its name is all a listing needs
        promotions/<time>-<run>           empty; the newest names the reference

No file is ever changed by two writers in a way that matters: a run has its own file, and index and
promotions only grow by files with names of their own. So there is nothing to lock, and an object
store does as well as a disk. A record is written before its index entry: a writer that dies between
the two leaves a run that is not seen, and recording it again mends that.
"""

from __future__ import annotations

import hashlib
import logging
import os
import posixpath
import time
import uuid
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from model_load_test.components.baseline.key import NAME_PREFIX, BaselineKey
from model_load_test.components.baseline.record import Record, decode_record, encode_record
from model_load_test.components.baseline.store import FIELD, StoreUnavailable
from model_load_test.components.errors import InputError

_NS_DIGITS: Final = 20
_PASSING: Final = "pass"
_OTHER: Final = "other"
_READ_AT_ONCE: Final = 32

_log = logging.getLogger(__name__)


def open_file_store(uri: str) -> FileStore:
    """Opens a folder (created when missing) or a bucket's prefix.

    Raises:
        InputError: The folder cannot be written, or fsspec's package for the scheme is not installed.
        StoreUnavailable: The object store does not answer.
    """
    import fsspec

    try:
        # Other writers' files must be seen.
        filesystem, root = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    except ImportError as error:
        raise InputError(FIELD, uri, f"install what fsspec needs for it: {error}") from error
    except ValueError as error:
        raise InputError(FIELD, uri, f"fsspec does not know it: {error}") from error
    if not root.strip("/"):
        raise InputError(
            FIELD, uri, "name a folder: file:///folder, s3://bucket/prefix or gs://bucket/prefix"
        )
    if uri.startswith("file:"):
        try:
            filesystem.makedirs(root, exist_ok=True)
        except OSError as error:
            raise InputError(FIELD, uri, f"choose a folder that can be made: {error.strerror}") from error
        if not os.access(root, os.W_OK | os.X_OK):
            raise InputError(FIELD, uri, "choose a folder that can be written")
    return FileStore(filesystem, root.rstrip("/"), uri)


class FileStore:
    """A `BaselineStore` on any file system that fsspec knows."""

    def __init__(self, filesystem: Any, root: str, uri: str) -> None:
        self._files = filesystem
        self._root = root
        self._uri = uri
        self._local = "file" in filesystem.protocol

    def latest(self, key: BaselineKey, n: int = 20) -> list[Record]:
        """See `BaselineStore.latest`."""
        # Writers of one run that disagree on its verdict leave an entry each; its file has the last word.
        passing = (record for record in self._records(key, (_PASSING,)) if record.passing)
        return list(islice(passing, n))

    def history(self, key: BaselineKey, n: int | None = None) -> list[Record]:
        """See `BaselineStore.history`."""
        return list(islice(self._records(key, (_PASSING, _OTHER)), n))

    def find(self, key: BaselineKey, run_id: str) -> Record | None:
        """See `BaselineStore.find`."""
        return next(self._read(key, [_run_name(run_id)], self._promotions(key)), None)

    def promoted(self, key: BaselineKey) -> Record | None:
        """See `BaselineStore.promoted`."""
        promotions = self._promotions(key)
        newest = next(iter(promotions), None)
        return next(self._read(key, [newest], promotions), None) if newest else None

    def record(self, key: BaselineKey, record: Record, artifact_id: int | None = None) -> None:
        """See `BaselineStore.record`."""
        if record.key != key:
            raise InputError("record.key", record.key.name, f"record it under its own key, not {key.name}")
        run = _run_name(record.run_id)
        present = next(self._read(key, [run], {}), None)
        kept = present or msgspec.structs.replace(
            record, artifact_id=artifact_id or record.artifact_id, promoted_at_ns=0
        )
        folder = self._folder(key)
        if present is None:
            self._write(f"{folder}/key.json", msgspec.json.encode(key))
            self._write(f"{folder}/runs/{run}.json", encode_record(kept))
        self._write(f"{folder}/{_index_entry(kept)}", b"")

    def promote(self, key: BaselineKey, run_id: str, at_ns: int) -> None:
        """See `BaselineStore.promote`."""
        run = _run_name(run_id)
        record = next(self._read(key, [run], {}), None)
        if record is None:
            raise InputError("run_id", run_id, f"name a run that {key.name} has")
        if not record.passing:
            raise InputError("run_id", run_id, f"its verdict is {record.verdict}; promote a passing run")
        self._write(f"{self._folder(key)}/promotions/{at_ns:0{_NS_DIGITS}d}-{run}", b"")

    def forget(self, key: BaselineKey, run_ids: Collection[str]) -> list[str]:
        """See `BaselineStore.forget`."""
        kept = next(iter(self._promotions(key)), None)
        forgotten = []
        for run_id in run_ids:
            run = _run_name(run_id)
            record = next(self._read(key, [run], {}), None) if run != kept else None
            if record is not None:
                self._remove(f"{self._folder(key)}/runs/{run}.json")
                self._remove(f"{self._folder(key)}/{_index_entry(record)}")
                forgotten.append(run_id)
        return forgotten

    def list_keys(self) -> list[BaselineKey]:
        """See `BaselineStore.list_keys`."""
        found = []
        for path in sorted(self._guarded(self._files.glob, f"{self._root}/{NAME_PREFIX}/*/*/*/key.json")):
            try:
                found.append(msgspec.json.decode(self._guarded(self._files.cat_file, path), type=BaselineKey))
            except (msgspec.MsgspecError, FileNotFoundError) as error:
                _log.warning("skipped %s: it holds no key: %s", path, error)
        return found

    def close(self) -> None:
        """See `BaselineStore.close`."""

    def _folder(self, key: BaselineKey) -> str:
        return f"{self._root}/{key.name}"

    def _records(self, key: BaselineKey, kinds: tuple[str, ...]) -> Iterator[Record]:
        promotions = self._promotions(key)
        seen: set[str] = set()
        runs = (run for kind, run in self._entries(key) if kind in kinds)
        while page := list(islice(runs, _READ_AT_ONCE)):
            # Two writers of one run with different times leave two entries for its one file.
            fresh = [run for run in dict.fromkeys(page) if run not in seen]
            seen.update(fresh)
            yield from self._read(key, fresh, promotions)

    def _entries(self, key: BaselineKey) -> Iterator[tuple[str, str]]:
        index = f"{self._folder(key)}/index"
        for day in self._names(index):
            for name in self._names(f"{index}/{day}"):
                parts = name.split("-")
                if len(parts) == 3:
                    yield parts[1], parts[2]
                else:
                    _log.warning("skipped %s/%s/%s: not an entry of the index", index, day, name)

    def _promotions(self, key: BaselineKey) -> dict[str, int]:
        """Time of the last promotion by run, the newest first."""
        times: dict[str, int] = {}
        for name in self._names(f"{self._folder(key)}/promotions"):
            at_ns, _, run = name.partition("-")
            if at_ns.isdecimal() and run:
                times.setdefault(run, int(at_ns))
        return times

    def _read(self, key: BaselineKey, runs: list[str], promotions: dict[str, int]) -> Iterator[Record]:
        paths = {run: f"{self._folder(key)}/runs/{run}.json" for run in runs}
        contents = self._cat(list(paths.values()))
        for run, path in paths.items():
            content = contents.get(path)
            if content is None:
                continue
            try:
                record = decode_record(content)
            except InputError as error:
                _log.warning("skipped %s: %s", path, error)
                continue
            if record.key != key or _run_name(record.run_id) != run:
                _log.warning("skipped %s: it is of another key or run", path)
                continue
            yield msgspec.structs.replace(
                record, promoted_at_ns=promotions.get(run, 0), promoted=run == next(iter(promotions), None)
            )

    def _cat(self, paths: list[str]) -> dict[str, bytes]:
        if not paths:
            return {}
        found = self._guarded(self._files.cat, paths, on_error="return")
        for path, content in found.items():
            # A run forgotten since the index was read is simply not there.
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise StoreUnavailable(self._uri, f"cannot read {path}: {content}") from content
        wanted = {self._files._strip_protocol(path): path for path in paths}
        return {
            wanted[self._files._strip_protocol(path)]: content
            for path, content in found.items()
            if isinstance(content, bytes)
        }

    def _names(self, folder: str) -> list[str]:
        """The names in a folder, the newest first: all of them begin with a time."""
        try:
            paths = self._guarded(self._files.ls, folder, detail=False)
        except FileNotFoundError:
            return []
        names = (posixpath.basename(path.rstrip("/")) for path in paths)
        return sorted((name for name in names if not name.startswith(".")), reverse=True)

    def _write(self, path: str, content: bytes) -> None:
        if not self._local:
            self._guarded(self._files.pipe_file, path, content)
            return
        # A reader must never see half a file; an object store gives that by itself.
        folder, name = posixpath.split(path)
        hidden = f"{folder}/.{name}.{uuid.uuid4().hex}"
        self._guarded(self._files.makedirs, folder, exist_ok=True)
        self._guarded(self._files.pipe_file, hidden, content)
        self._guarded(os.replace, hidden, path)

    def _remove(self, path: str) -> None:
        try:
            self._guarded(self._files.rm_file, path)
        except FileNotFoundError:
            return

    def _guarded(self, operation: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return operation(*arguments, **options)
        except FileNotFoundError:
            raise
        except Exception as error:
            # fsspec lets the errors of every cloud's own client through.
            raise StoreUnavailable(self._uri, f"{type(error).__name__}: {error}") from error


def _run_name(run_id: str) -> str:
    return hashlib.sha256(run_id.encode()).hexdigest()[:32]


def _index_entry(record: Record) -> str:
    day = time.strftime("%Y%m%d", time.gmtime(record.created_at_ns // 1_000_000_000))
    kind = _PASSING if record.passing else _OTHER
    return f"index/{day}/{record.created_at_ns:0{_NS_DIGITS}d}-{kind}-{_run_name(record.run_id)}"
