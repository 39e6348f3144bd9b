"""Samples to and from a file, so that they can be aligned again, otherwise, later."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from model_load_test.components.errors import InputError
from model_load_test.components.resources.align import (
    aligned,
    block_cells,
    even_cells,
    load_rows,
    tidy_frame,
    wide_frame,
)
from model_load_test.components.resources.series import Kind, Reading, Series, Window
from model_load_test.components.results import columns
from model_load_test.components.results.checks import Check

_FIELDS: Final[list[pa.Field[Any]]] = [
    pa.field("metric", pa.string()),
    pa.field("kind", pa.string()),
    pa.field("arm", pa.string()),
    pa.field("replica", pa.string()),
    pa.field("source", pa.string()),
    pa.field("signature", pa.string()),
    pa.field("labels", pa.string()),  # as a JSON object
    pa.field("limit", pa.float64()),  # of a bucket
    pa.field("at_ns", pa.int64()),  # on the load's clock
    pa.field("value", pa.float64()),
]

SCHEMA: Final = pa.schema(_FIELDS)
"""One row a sample, in our names and SI units."""

_EVEN_SECONDS: Final = 5.0


def write_samples(path: Path, reading: Reading) -> None:
    """Writes every sample of a reading, with its findings in the file's metadata."""
    import pyarrow.parquet as pq

    data: dict[str, list[Any]] = defaultdict(list)
    for one in reading.series:
        count = one.at_ns.size
        for name in ("metric", "kind", "arm", "replica", "source", "signature", "limit"):
            data[name] += [getattr(one, name)] * count
        data["labels"] += [json.dumps(dict(one.labels), sort_keys=True)] * count
        data["at_ns"] += one.at_ns.tolist()
        data["value"] += one.values.tolist()
    table = pa.table({name: data[name] for name in SCHEMA.names}, schema=SCHEMA)
    findings = json.dumps([[check.code, check.detail] for check in reading.findings])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"findings": findings}), path, compression="zstd")


def read_samples(path: Path) -> Reading:
    """Reads what `write_samples` wrote.

    Raises:
        InputError: The file is none of these.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        frame = table.select(SCHEMA.names).cast(SCHEMA).to_pandas()
    except (OSError, KeyError, ValueError, pa.ArrowException):
        raise InputError("resource_usage", str(path), "give the samples that run_load_test wrote") from None
    series = []
    keys = [name for name in SCHEMA.names if name not in ("at_ns", "value")]
    for values, rows in frame.groupby(keys, dropna=False, sort=False):
        one: dict[str, Any] = dict(zip(keys, values, strict=True))
        kind: Kind = one["kind"]
        series.append(
            Series(
                metric=one["metric"],
                kind=kind,
                arm=one["arm"],
                replica=one["replica"],
                source=one["source"],
                at_ns=rows["at_ns"].to_numpy(dtype=np.int64),
                values=rows["value"].to_numpy(dtype=np.float64),
                signature=one["signature"],
                labels=json.loads(one["labels"]),
                limit=None if pd.isna(one["limit"]) else float(one["limit"]),
            )
        )
    told = json.loads((table.schema.metadata or {}).get(b"findings", b"[]"))
    return Reading(tuple(series), tuple(Check(code, detail, "WARNING") for code, detail in told))


def frames(reading: Reading, table: pa.Table) -> tuple[Any, Any]:
    """The tidy and the wide data frame of a run: load and resources on the same blocks.

    Args:
        reading: What the sources told.
        table: The results table; one whose rows know no blocks is cut into stretches of five seconds.

    Returns:
        `align.tidy_frame` and `align.wide_frame`.
    """
    blocks = columns.numbers(table["block"], np.int32)
    if len(np.unique(blocks[blocks >= 0])) > 1:
        cells = block_cells(table)
    else:
        sent_ns = columns.numbers(table["sent_at_ns"], np.int64)
        if not len(sent_ns):
            raise InputError("results", "no rows", "give a results table with requests in it")
        cells = even_cells(Window(int(sent_ns.min()), int(sent_ns.max()) + 1), _EVEN_SECONDS)
    tidy = tidy_frame([*load_rows(table, cells), *aligned(reading.series, cells)], cells)
    return tidy, wide_frame(tidy)
