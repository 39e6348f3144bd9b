"""Rows of CSV and parquet files: a column an input, or the columns of one matrix."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from model_load_test.components.payload.content import Row
from model_load_test.components.payload.json_rows import json_row
from model_load_test.components.payload.manifest import PayloadError
from model_load_test.components.payload.values import open_shape
from model_load_test.components.protocols.signature import Signature

TABLE_SUFFIXES: Final = (".csv", ".parquet")


def table_rows(path: Path, signature: Signature) -> Iterator[Row]:
    """The examples for `signature` in a table.

    Columns are taken by the inputs' names, others left alone. For a signature of one input that is
    no column, a row of `n` values each, the table must have exactly `n` columns. A cell of a CSV file
    that is to be more than one value holds JSON.

    Raises:
        PayloadError: The table cannot be read, lacks a column, or a row does not fit.
        OSError: It cannot be read.
    """
    number = 0
    for batch in _batches(path, signature):
        for values in batch.to_pylist():
            place = f"{path.name}[{number}]"
            yield json_row(_inputs_of(values, signature, place), signature, place)
            number += 1


def table_columns(path: Path) -> tuple[str, ...]:
    """The names of a table's columns.

    Raises:
        PayloadError: The table cannot be read.
        OSError: It cannot be read.
    """
    for batch in _batches(path, None):
        return tuple(batch.schema.names)
    return ()


def _inputs_of(values: dict[str, Any], signature: Signature, place: str) -> dict[str, Any]:
    missing = [name for name in signature.inputs if name not in values]
    if not missing:
        return {name: _cell(values[name], signature, name) for name in signature.inputs}
    if len(signature.inputs) == 1:
        ((name, spec),) = signature.inputs.items()
        width = open_shape(spec)[1:]
        if len(width) == 1 and width[0] in (-1, len(values)):
            return {name: _in_order(values, signature.columns, place)}
        if len(width) == 1:
            raise PayloadError(
                "examples",
                place,
                f"it has {len(values)} columns and {spec} takes {width[0]}; drop the others",
            )
    raise PayloadError(
        "examples", place, f"it has no column {', '.join(missing)}; it has {', '.join(values)}"
    )


def _in_order(values: dict[str, Any], columns: Sequence[str], place: str) -> list[Any]:
    if columns and set(columns) != set(values):
        raise PayloadError(
            "examples", place, f"it has the columns {', '.join(values)}, the model takes {', '.join(columns)}"
        )
    return [values[column] for column in columns or values]


def _cell(value: Any, signature: Signature, name: str) -> Any:
    spec = signature.inputs[name]
    if isinstance(value, str) and (spec.dtype != "string" or len(open_shape(spec)) > 1):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _batches(path: Path, signature: Signature | None) -> Iterator[pa.RecordBatch]:
    inputs = signature.inputs if signature else {}
    # Without this a column of digits would lose its leading zeros.
    texts = {name: pa.string() for name, spec in inputs.items() if spec.dtype == "string"}
    try:
        if path.suffix == ".parquet":
            yield from pa.parquet.ParquetFile(path).iter_batches()
        else:
            options = pa.csv.ConvertOptions(column_types=texts)
            yield from pa.csv.open_csv(path, convert_options=options)
    except pa.ArrowInvalid as error:
        raise PayloadError("examples", str(path), f"cannot be read ({error})") from None
