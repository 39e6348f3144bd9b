import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import GateSpec
from model_load_test.components.results.table import SCHEMA, RunMetadata, write_results
from model_load_test.pipelines.command_line import judge as command

LOAD_SPEC = {"mode": "duet", "looks": [30], "rate_rps": 200.0, "block_seconds": 1.0}
KEYS = {
    "file",
    "verdict",
    "reasons",
    "metrics",
    "pairs",
    "pairs_wanted",
    "detectable_effect",
    "noise_floor",
    "checks",
}
METRIC_KEYS = {"ratio", "lower", "upper", "margin", "p_holm", "n", "verdict"}


def measured(ratio: float = 1.0, pairs: int = 30, requests: int = 200, seed: int = 3) -> pa.Table:
    rng = np.random.default_rng(seed)
    blocks = np.tile(np.repeat(np.arange(pairs), requests), 2)
    arms = np.repeat(["candidate", "baseline"], pairs * requests)
    latencies = rng.lognormal(np.log(6e-3), 0.25, blocks.size) * np.where(arms == "candidate", ratio, 1.0)
    within = np.tile(np.arange(requests) * 10**9 // requests, 2 * pairs)
    rows = blocks.size
    return pa.table(
        {
            "arm": pa.array(arms.tolist()),
            "block": blocks,
            "worker": np.zeros(rows, np.int16),
            "sent_at_ns": 1_700_000_000 * 10**9 + blocks * 10**9 + within,
            "scheduled_at_ns": pa.nulls(rows, pa.int64()),
            "latency_ns": (latencies * 1e9).astype(np.int64),
            "ok": np.ones(rows, bool),
            "status": pa.array(["200"] * rows),
            "error": pa.array([""] * rows),
            "request_bytes": pa.nulls(rows, pa.int64()),
            "response_bytes": pa.nulls(rows, pa.int64()),
        }
    ).cast(SCHEMA)


def write(path: Path, table: pa.Table, load_spec: dict[str, Any] | None = LOAD_SPEC) -> Path:
    write_results(path, table, RunMetadata(load_spec=load_spec or {}))
    return path


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(dest="subcommand"))
    return command.run(parser.parse_args(["judge", *words]))


def test_json_is_one_object_a_line_with_the_keys_of_the_contract(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [write(tmp_path / f"{ratio}.parquet", measured(ratio)) for ratio in (1.0, 1.2)]
    assert run(*map(str, files), "--format", "json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == [str(file) for file in files]
    assert [line["verdict"] for line in lines] == ["PASS", "FAIL"]
    for line in lines:
        assert line.keys() >= KEYS
        for metric in line["metrics"].values():
            assert metric.keys() >= METRIC_KEYS


def test_a_file_without_metadata_is_judged_with_the_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = measured(pairs=60)
    pq.write_table(table, tmp_path / "foreign.parquet")
    assert run(str(tmp_path / "foreign.parquet"), "--format", "json") == 0
    line = json.loads(capsys.readouterr().out)
    expected = judge(table, GateSpec())
    assert line["verdict"] == expected.verdict
    assert line["looks"] == [10, 15, 20, 30, 60]
    assert line["metrics"]["p50"]["upper"] == pytest.approx(expected.metrics["p50"].upper)


def test_margins_alpha_and_objectives_change_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(write(tmp_path / "results.parquet", measured(1.08)))

    def verdict(*options: str) -> str:
        assert run(file, *options, "--format", "json") == 0
        return str(json.loads(capsys.readouterr().out)["verdict"])

    assert verdict() == "FAIL"
    wide = [word for name in ("mean", "p50", "p95", "p99") for word in ("--margin", f"{name}=0.5")]
    assert verdict(*wide) == "PASS"
    assert verdict(*wide, "--slo", "p50_ms<=1") == "FAIL"
    assert verdict(*wide, "--slo", "p99_ms<=100") == "PASS"
    assert verdict("--margin", "mean=0.078", "--margin", "p50=0.078", "--alpha", "0.0001") == "INCONCLUSIVE"
    off = [word for name in ("mean", "p50", "p95", "p99", "goodput") for word in ("--margin", f"{name}=off")]
    assert verdict(*off) == "PASS"


def test_a_bad_file_is_told_in_one_line_and_the_others_are_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write(tmp_path / "good.parquet", measured())
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    pq.write_table(measured().drop_columns(["ok"]), tmp_path / "lacking.parquet")
    bad = [str(tmp_path / name) for name in ("missing.parquet", "bad.parquet", "lacking.parquet")]
    assert run(*bad, str(good), "--format", "json") == 2
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.out.splitlines()]
    assert [set(line) for line in lines[:3]] == [{"file", "error"}] * 3
    assert all(set(line["error"]) == {"code", "detail"} for line in lines[:3])
    assert lines[3]["verdict"] == "PASS"
    assert len(captured.err.splitlines()) == 3


def test_the_table_form_names_verdict_reason_and_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(write(tmp_path / "results.parquet", measured(1.2))), "--slo", "p99_ms<=90") == 0
    text = capsys.readouterr().out
    assert "FAIL" in text.splitlines()[0]
    assert "The candidate is worse" in text
    assert "goodput" in text
    assert "p99_ms<=90: PASS" in text


def test_invalid_runs_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = measured()
    doubled = write(tmp_path / "doubled.parquet", pa.concat_tables([table, table]))
    assert run(str(doubled), "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "INVALID"


@pytest.mark.parametrize(
    "options",
    [
        ("--margin", "p95"),
        ("--margin", "p95=-0.1"),
        ("--margin", "p95=nan"),
        ("--margin", "p95=a"),
        ("--margin", "p90=0.1"),
        ("--alpha", "0.7"),
        ("--slo", "p99<=5"),
        ("--looks", "60,30"),
        ("--looks", "many"),
    ],
)
def test_bad_options_are_refused_before_any_file_is_read(tmp_path: Path, options: tuple[str, str]) -> None:
    with pytest.raises(InputError):
        run(str(tmp_path / "missing.parquet"), *options)
