"""Requests on their way to the results table: an Arrow stream that a killed worker leaves readable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from model_load_test.components.load.blocks import TIMER_JITTER_NS
from model_load_test.components.results import columns
from model_load_test.components.results.error_text import normalise
from model_load_test.components.results.table import ROWS_SCHEMA

_NAME: Final = "rows-{worker:04d}.arrow"

_COLUMNS: Final[dict[str, pa.DataType]] = {
    "sent_at_ns": pa.int64(),
    "scheduled_at_ns": pa.int64(),
    "latency_ns": pa.int64(),
    "ok": pa.bool_(),
    "status": pa.string(),
    "error": pa.string(),
    "request_bytes": pa.int64(),
    "response_bytes": pa.int64(),
}
STREAM_SCHEMA: Final = pa.schema(_COLUMNS)
"""The rows of one worker: unknown numbers are `UNKNOWN`, and texts plain, since a stream cannot add
words to a dictionary later."""

UNKNOWN: Final = -1


class Row(NamedTuple):
    """One request, in the order of `STREAM_SCHEMA`; its latency is counted from sending."""

    sent_at_ns: int
    scheduled_at_ns: int
    latency_ns: int
    ok: bool
    status: str
    error: str
    request_bytes: int
    response_bytes: int


class RowWriter:
    """Writes the rows of one worker, batch by batch."""

    def __init__(self, folder: Path, worker: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / _NAME.format(worker=worker)).open("wb")
        self._stream = pa.ipc.new_stream(self._file, STREAM_SCHEMA)
        self._waiting: list[Row] = []
        self._error_texts = {"": ""}
        self.written = 0

    def add(self, row: Row) -> None:
        """Keeps a row for the next `flush`, its error without addresses and secrets."""
        self._waiting.append(row._replace(error=self._normalised(row.error)) if row.error else row)

    def flush(self) -> None:
        """Hands all rows so far to the operating system, where a killed process cannot lose them."""
        if not self._waiting:
            return
        rows, self._waiting = self._waiting, []
        arrays = [
            _array(field.type, values)
            for field, values in zip(STREAM_SCHEMA, zip(*rows, strict=True), strict=True)
        ]
        self._stream.write_batch(pa.RecordBatch.from_arrays(arrays, schema=STREAM_SCHEMA))
        self._file.flush()
        self.written += len(rows)

    def close(self) -> None:
        """Flushes and ends the stream."""
        self.flush()
        self._stream.close()
        self._file.close()

    def _normalised(self, error: str) -> str:
        text = self._error_texts.get(error)
        if text is None:
            text = self._error_texts[error] = normalise(error)
        return text


def _array(kind: pa.DataType, values: Sequence[Any]) -> pa.Array[Any]:
    # by its buffers: `pyarrow.array` imports pandas, which stops all users for a second
    if pa.types.is_string(kind):
        return columns.strings(values)
    if pa.types.is_boolean(kind):
        return columns.booleans(np.array(values, dtype=np.bool_))
    return columns.integers(np.array(values, dtype=np.int64), kind)


def read_rows(folder: Path) -> pa.Table:
    """The rows of all workers in the shape of `ROWS_SCHEMA`, each latency counted from its schedule.

    A request sent late waited in the generator; without that wait the latency would hide it
    (coordinated omission). Lateness within the timer's own jitter is not counted. A stream that
    breaks off, as a killed worker leaves it, gives the batches it has.
    """
    tables = [
        _with_worker(pa.Table.from_batches(_batches(path), STREAM_SCHEMA), int(path.stem.split("-")[1]))
        for path in sorted(folder.glob(_NAME.format(worker=0).replace("0000", "*")))
    ]
    if not tables:
        return ROWS_SCHEMA.empty_table()
    rows = _with_nulls(_from_schedule(pa.concat_tables(tables)))
    return rows.select(ROWS_SCHEMA.names).cast(ROWS_SCHEMA)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        try:
            yield from pa.ipc.open_stream(file)
        except (pa.ArrowInvalid, OSError):
            return


def _with_worker(rows: pa.Table, worker: int) -> pa.Table:
    return rows.append_column("worker", pa.array(np.full(rows.num_rows, worker, np.int16)))


def _from_schedule(rows: pa.Table) -> pa.Table:
    sent_at_ns, scheduled_at_ns = rows["sent_at_ns"].to_numpy(), rows["scheduled_at_ns"].to_numpy()
    late_ns = np.where(scheduled_at_ns >= 0, sent_at_ns - scheduled_at_ns, 0)
    latency_ns = rows["latency_ns"].to_numpy() + np.where(late_ns > TIMER_JITTER_NS, late_ns, 0)
    return _replaced(rows, "latency_ns", pa.array(latency_ns))


def _with_nulls(rows: pa.Table) -> pa.Table:
    for name in ("scheduled_at_ns", "request_bytes", "response_bytes"):
        values = rows[name].to_numpy()
        rows = _replaced(rows, name, pa.array(values, mask=values == UNKNOWN))
    return rows


def _replaced(rows: pa.Table, name: str, values: pa.Array[Any]) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, values)
