"""The results table: one row a request, the contract between every room.

Written as parquet. Everything the project says about a run is computed from this table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION: Final = 1
_METADATA_KEY: Final = b"model_load_test"

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
    tool: str = ""
    tool_version: str = ""
    command: tuple[str, ...] = ()
    """The generator's command line with secrets redacted; one entry a process."""
    host: dict[str, Any] = {}
    """Facts about the generator's machine: cores, CPU model, load before and after."""
    fingerprint: dict[str, Any] = {}
    """What makes two runs comparable: `baseline.fingerprint.Fingerprint` as JSON values."""
    checks: tuple[dict[str, Any], ...] = ()
    """Findings made while loading (`Check` as JSON values), e.g. a generator that died."""
    cut_off: int = 0
    """Requests the generator itself cut off at the end; they are not rows."""
    started_at_ns: int = 0
    ended_at_ns: int = 0


def write_results(path: Path, table: pa.Table, metadata: RunMetadata) -> None:
    """Writes `table` (cast to `SCHEMA`) with its metadata to a parquet file."""
    encoded = table.select(SCHEMA.names).cast(SCHEMA)
    encoded = encoded.replace_schema_metadata({_METADATA_KEY: msgspec.json.encode(metadata)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(encoded, path, compression="zstd")
