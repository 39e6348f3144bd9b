"""Keeping a measured run, even while the store is down."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import msgspec

from model_load_test.components.baseline.discovery import resolve_store
from model_load_test.components.baseline.lookup import ask_store
from model_load_test.components.baseline.record import Record, decode_record, encode_record
from model_load_test.components.baseline.store import StoreUnavailable
from model_load_test.components.errors import InputError

FILE_NAME: Final = "baseline_record.json"
"""Name of a run's record beside its artifacts."""

_log = logging.getLogger(__name__)


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a run reached its store."""

    recorded: bool
    reason: str
    """One sentence for the report."""


def record_run(
    store_uri: str,
    record: Record,
    beside: Path,
    *,
    artifact_id: int | None = None,
    time_limit_seconds: float = 30.0,
) -> Recorded:
    """Writes the record beside the run's artifacts, then into the store.

    A store that does not answer costs nothing but time: the file can be recorded later with
    `model-load-test baseline record FOLDER --store URI`.

    Args:
        store_uri: See `store.open_store`; empty for none, as is `auto` where the place has none.
        record: The run.
        beside: Folder of the run's artifacts.
        artifact_id: MLMD id of the run's Metrics artifact, to be linked with the key.
        time_limit_seconds: A store that is down or slow is asked again until then.

    Raises:
        InputError: The folder cannot be written, the URI cannot be used, or the store has no such
            artifact. The file is written before the store is asked.
    """
    path = beside / FILE_NAME
    if artifact_id:
        record = msgspec.structs.replace(record, artifact_id=artifact_id)
    try:
        beside.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_record(record))
    except OSError as error:
        raise InputError("beside", str(beside), f"choose a folder that can be written: {error}") from error
    resolved = resolve_store(store_uri)
    if not resolved.uri:
        reason = f"no baseline store: {resolved.reason}; the record is kept as a file"
        return Recorded(recorded=False, reason=reason)
    try:
        ask_store(
            resolved.uri, lambda store: store.record(record.key, record, artifact_id), time_limit_seconds
        )
    except StoreUnavailable as error:
        _log.warning("%s; the record stays in %s", error, path)
        return Recorded(recorded=False, reason=f"{error}; the record stays in {path.name}")
    how = "recorded" if record.passing else "kept in the history, not as a baseline,"
    return Recorded(recorded=True, reason=f"run {record.run_id} {how} under {record.key.name}")


def read_record_file(path: Path) -> Record:
    """Reads what `record_run` left: the file, or the folder that holds it.

    Raises:
        InputError: There is no such file, or it is no record.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        return decode_record(file.read_bytes())
    except OSError as error:
        raise InputError(
            "run", str(path), f"name a run's folder or its {FILE_NAME}: {error.strerror}"
        ) from error
