"""The results table: one row a request, the contract between every room.

Written as parquet. Everything the project says about a run is computed from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model_load_test.components.results import columns
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.resource_use import NO_RESOURCES, RunResources

SCHEMA_VERSION: Final = 1
_METADATA_KEY: Final = b"model_load_test"

MOST_ROWS: Final = 200_000_000
"""Requests of one run; a file that promises more is damaged or hostile."""

SCHEMA: Final = pa.schema(
    [
        # "candidate" or "baseline"
        pa.field("arm", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        # index of the time block; blocks with the same number form a pair; -1 while warming up
        pa.field("block", pa.int32(), nullable=False),
        # index of the generator process that sent the request
        pa.field("worker", pa.int16(), nullable=False),
        # Unix time at which the request was sent
        pa.field("sent_at_ns", pa.int64(), nullable=False),
        # Unix time at which the open-loop schedule wanted it sent, where the tool tells
        pa.field("scheduled_at_ns", pa.int64()),
        # from sending (or the schedule, where known) to the complete answer
        pa.field("latency_ns", pa.int64(), nullable=False),
        # a complete answer that the protocol calls a success
        pa.field("ok", pa.bool_(), nullable=False),
        # gRPC code name or HTTP status as text; "0" when no answer came
        pa.field("status", pa.dictionary(pa.int16(), pa.string()), nullable=False),
        # normalised text: no ports, addresses or secrets; empty when ok
        pa.field("error", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("request_bytes", pa.int64()),
        pa.field("response_bytes", pa.int64()),
    ]
)


class RunMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the parquet file says about how its rows came to be."""

    schema_version: int = SCHEMA_VERSION
    load_spec: dict[str, Any] = {}
    """`LoadSpec` as JSON values; empty when the rows were read from a foreign report."""
    payload: dict[str, Any] = {}
    """What the requests contained: signature, number, batch sizes, hash."""
    tool: str = ""
    tool_version: str = ""
    command: tuple[str, ...] = ()
    """The generator's command line with secrets redacted; one entry a process."""
    host: dict[str, Any] = {}
    """Facts about the generator's machine: cores, CPU model, load before and after."""
    fingerprint: dict[str, Any] = {}
    """What makes two runs comparable: `baseline.fingerprint.Fingerprint` as JSON values."""
    noise_floor: dict[str, float] = {}
    """Per metric what identical servers differ by on this infrastructure, where it was calibrated."""
    checks: tuple[dict[str, Any], ...] = ()
    """Findings made while loading (`Check` as JSON values), e.g. a generator that died."""
    resources: RunResources = NO_RESOURCES
    """What the load cost the servers, where someone looked."""
    cut_off: int = 0
    """Requests the generator itself cut off at the end; they are not rows."""
    started_at_ns: int = 0
    ended_at_ns: int = 0


ROWS_SCHEMA: Final = pa.schema([field for field in SCHEMA if field.name not in ("arm", "block")])
"""What a reader knows: the results table before arm and block are assigned."""


@dataclass(frozen=True)
class Results:
    """A results file."""

    table: pa.Table
    """Rows in the shape of `SCHEMA`."""
    metadata: RunMetadata


def write_results(path: Path, table: pa.Table, metadata: RunMetadata) -> None:
    """Writes `table` (cast to `SCHEMA`) with its metadata to a parquet file."""
    import pyarrow.parquet as pq

    encoded = table.select(SCHEMA.names).cast(SCHEMA)
    encoded = encoded.replace_schema_metadata({_METADATA_KEY: msgspec.json.encode(metadata)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(encoded, path, compression="zstd")


def read_results(path: Path) -> Results:
    """Reads a results file; one without our file metadata gets the default `RunMetadata`.

    Raises:
        ResultsError: The file is no parquet, lacks a column, holds a null or an impossible number
            where none may be, or was written by a newer version.
    """
    import pyarrow.parquet as pq

    file = str(path)
    try:
        parquet = pq.ParquetFile(path)
        _refuse_missing_columns(file, parquet.schema_arrow)
        _refuse_too_many(file, parquet.metadata.num_rows)
        read = parquet.read(columns=SCHEMA.names)
        read.validate(full=True)
        _refuse_nulls(file, read)
        table = read.select(SCHEMA.names).cast(SCHEMA)
    except FileNotFoundError:
        raise ResultsError(file, "", Description("no such file"), "check the path", "unreadable") from None
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise ResultsError(
            file, "", Description(type(error).__name__), "give a results.parquet of this project", "malformed"
        ) from None
    metadata = _read_metadata(file, parquet.schema_arrow.metadata or {})
    _refuse_impossible_values(file, table)
    return Results(table.replace_schema_metadata(None), metadata)


def with_arm(rows: pa.Table, arm: str, block: int | npt.NDArray[np.int32]) -> pa.Table:
    """Completes a reader's rows to the results table.

    Args:
        rows: Columns of `ROWS_SCHEMA`.
        arm: `candidate` or `baseline`.
        block: One index for all rows, or one a row.
    """
    count = rows.num_rows
    blocks = np.broadcast_to(np.asarray(block, dtype=np.int32), (count,))
    arms = columns.dictionary(np.zeros(count, dtype=np.int8), [arm], pa.int8())
    completed = rows.select(ROWS_SCHEMA.names).add_column(0, SCHEMA.field("arm"), arms)
    completed = completed.add_column(1, SCHEMA.field("block"), columns.integers(blocks, pa.int32()))
    return completed.cast(SCHEMA)


def _refuse_missing_columns(file: str, schema: pa.Schema) -> None:
    missing = [name for name in SCHEMA.names if name not in schema.names]
    if missing:
        raise ResultsError(
            file,
            "schema",
            Description(f"without the columns {', '.join(missing)}"),
            "give a results.parquet of this project, or a table with the columns of its schema",
            "not-recognised",
        )


def _refuse_too_many(file: str, rows: int) -> None:
    if rows > MOST_ROWS:
        raise ResultsError(file, "rows", rows, f"a results table has at most {MOST_ROWS}", "too-large")


def _read_metadata(file: str, metadata: dict[bytes, bytes]) -> RunMetadata:
    encoded = metadata.get(_METADATA_KEY)
    if encoded is None:
        return RunMetadata()
    try:
        decoded = msgspec.json.decode(encoded, type=RunMetadata)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ResultsError(
            file, "file metadata", Description("not readable"), "write the file anew", "malformed"
        ) from None
    if decoded.schema_version > SCHEMA_VERSION:
        raise ResultsError(
            file,
            "schema_version",
            decoded.schema_version,
            f"this version reads up to {SCHEMA_VERSION}; install a newer model-load-test",
            "too-new",
        )
    return decoded


def _refuse_nulls(file: str, table: pa.Table) -> None:
    for field in SCHEMA:
        nulls = table.column(field.name).null_count
        if nulls and not field.nullable:
            raise ResultsError(
                file, field.name, Description(f"{nulls} nulls"), "every row needs a value", "out-of-range"
            )


def _refuse_impossible_values(file: str, table: pa.Table) -> None:
    for name in ("sent_at_ns", "latency_ns"):
        values = columns.numbers(table.column(name), np.int64)
        if len(values) and int(values.min()) < 0:
            raise ResultsError(
                file, name, int(values.min()), "times and latencies are not negative", "out-of-range"
            )
