from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_reports import START_NS, make_rows

from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.readers import read_report
from model_load_test.components.results.report_summary import summarize_report
from model_load_test.components.results.table import (
    SCHEMA,
    RunMetadata,
    read_results,
    with_arm,
    write_results,
)

ROWS = make_rows([START_NS, START_NS + 10], [5, 7], ok=[True, False], error=["", "EOF"])


def both_arms() -> pa.Table:
    tables = [with_arm(ROWS, "candidate", 0), with_arm(ROWS, "baseline", np.array([0, -1], dtype=np.int32))]
    return pa.concat_tables(tables).unify_dictionaries()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a" / "results.parquet"
    metadata = RunMetadata(tool="ghz", cut_off=3, load_spec={"rate_rps": 5.0}, command=("ghz -n 1",))
    write_results(path, both_arms(), metadata)
    results = read_results(path)
    assert results.metadata == metadata
    assert results.table.schema.equals(SCHEMA)
    assert results.table.to_pydict() == both_arms().to_pydict()
    assert results.table["block"].to_pylist() == [0, 0, 0, -1]


def test_a_table_without_our_metadata_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "foreign.parquet"
    plain = {name: both_arms()[name].to_pylist() for name in SCHEMA.names}
    types = [(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in SCHEMA]
    pq.write_table(pa.table(plain, schema=pa.schema(types)), path)
    results = read_results(path)
    assert results.metadata == RunMetadata()
    assert results.table.schema.equals(SCHEMA)


def changed(column: str, values: list[object], kind: pa.DataType) -> pa.Table:
    table = both_arms().cast(pa.schema([f.with_nullable(True) for f in SCHEMA]))
    return table.set_column(SCHEMA.get_field_index(column), column, pa.array(values, kind))


@pytest.mark.parametrize(
    ("table", "position"),
    [
        (pa.table({"x": [1]}), "schema"),
        (both_arms().drop_columns(["error"]), "schema"),
        (changed("latency_ns", [1, -2, 3, 4], pa.int64()), "latency_ns"),
        (changed("sent_at_ns", [-1, 2, 3, 4], pa.int64()), "sent_at_ns"),
        (changed("ok", [None, True, True, True], pa.bool_()), "ok"),
        (changed("latency_ns", [1.5, 2, 3, 4], pa.float64()), ""),
        (changed("latency_ns", ["x", "2", "3", "4"], pa.string()), ""),
    ],
)
def test_foreign_tables_are_refused_clearly(tmp_path: Path, table: pa.Table, position: str) -> None:
    path = tmp_path / "foreign.parquet"
    pq.write_table(table, path)
    with pytest.raises(ResultsError) as caught:
        read_results(path)
    assert caught.value.position == position


@pytest.mark.parametrize("metadata", [b"{", b'{"schema_version": 99}', b'{"cut_off": "x"}', b"\xff"])
def test_foreign_metadata_is_refused_clearly(tmp_path: Path, metadata: bytes) -> None:
    path = tmp_path / "foreign.parquet"
    pq.write_table(both_arms().replace_schema_metadata({b"model_load_test": metadata}), path)
    with pytest.raises(ResultsError):
        read_results(path)


def test_a_results_table_has_a_summary_an_arm_without_its_warm_up(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    write_results(path, both_arms(), RunMetadata(tool="vegeta", tool_version="12.13.0"))
    summaries = summarize_report(read_report(path))
    assert [(s.arm, s.requests, s.ok) for s in summaries] == [("candidate", 2, 1), ("baseline", 1, 1)]
    assert (summaries[0].tool, summaries[0].tool_version) == ("vegeta", "12.13.0")
