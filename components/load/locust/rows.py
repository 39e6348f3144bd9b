"""Requests on their way to the results table: an Arrow stream that a killed worker leaves readable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from model_load_test.components.load.blocks import TIMER_JITTER_NS
from model_load_test.components.results.error_text import normalise
from model_load_test.components.results.table import ROWS_SCHEMA

_NAME: Final = "rows-{worker:04d}.arrow"

STREAM_SCHEMA: Final = pa.schema(
    [
        field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field
        for field in ROWS_SCHEMA
        if field.name != "worker"
    ]
)
"""The rows of one worker; texts are plain, since a stream cannot add words to a dictionary later."""


class Row(NamedTuple):
    """One request, in the order of `STREAM_SCHEMA`; its latency is counted from sending."""

    sent_at_ns: int
    scheduled_at_ns: int | None
    latency_ns: int
    ok: bool
    status: str
    error: str
    request_bytes: int | None
    response_bytes: int | None


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
        """Keeps a row for the next `flush`."""
        self._waiting.append(row)

    def flush(self) -> None:
        """Hands all rows so far to the operating system, where a killed process cannot lose them."""
        if not self._waiting:
            return
        rows, self._waiting = self._waiting, []
        values = dict(zip(Row._fields, zip(*rows, strict=True), strict=True))
        values["error"] = tuple(map(self._normalised, values["error"]))
        columns = [pa.array(values[field.name], field.type) for field in STREAM_SCHEMA]
        self._stream.write_batch(pa.record_batch(columns, schema=STREAM_SCHEMA))
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
    return _from_schedule(pa.concat_tables(tables)).select(ROWS_SCHEMA.names).cast(ROWS_SCHEMA)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with path.open("rb") as file:
        try:
            yield from pa.ipc.open_stream(file)
        except (pa.ArrowInvalid, OSError):
            return


def _with_worker(rows: pa.Table, worker: int) -> pa.Table:
    return rows.append_column("worker", pa.array(np.full(rows.num_rows, worker, np.int16)))


def _from_schedule(rows: pa.Table) -> pa.Table:
    sent_at_ns = rows["sent_at_ns"].to_numpy()
    scheduled_at_ns = rows["scheduled_at_ns"].fill_null(-1).to_numpy()
    late_ns = np.where(scheduled_at_ns >= 0, sent_at_ns - scheduled_at_ns, 0)
    latency_ns: Any = rows["latency_ns"].to_numpy() + np.where(late_ns > TIMER_JITTER_NS, late_ns, 0)
    index = rows.schema.get_field_index("latency_ns")
    return rows.set_column(index, STREAM_SCHEMA.field("latency_ns"), pa.array(latency_ns))
