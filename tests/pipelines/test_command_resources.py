"""`model-load-test resources` on a run whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from model_load_test.components.resources.files import write_samples
from model_load_test.components.resources.series import Reading, Series
from model_load_test.components.results.checks import Check
from model_load_test.components.results.table import SCHEMA, RunMetadata, write_results
from model_load_test.pipelines.command_line import main

START_NS = 1_773_480_000 * 10**9


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Path]:
    """Ten blocks of a second at 100 requests/s; the candidate takes 6 ms of CPU, the baseline 5."""
    parts, series = [], []
    for arm, cpu_ms in (("candidate", 6.0), ("baseline", 5.0)):
        at_ns = START_NS + np.arange(1000) * 10**7
        values = {name: np.ones(1000, np.int64) for name in SCHEMA.names}
        texts = {"arm": [arm] * 1000, "status": ["OK"] * 1000, "error": [""] * 1000}
        more = {
            "block": np.arange(1000) // 100,
            "sent_at_ns": at_ns,
            "ok": [True] * 1000,
            "latency_ns": np.full(1000, 10**7),
        }
        columns = {name: pa.array({**values, **texts, **more}[name]) for name in SCHEMA.names}
        parts.append(pa.table(columns).cast(SCHEMA))
        looks_ns = START_NS - 10**9 + np.arange(60) * 2 * 10**8
        used = (looks_ns - looks_ns[0]) / 1e9 * 100 * cpu_ms / 1e3
        series.append(
            Series(*("cpu_seconds", "counter", arm, "pod"), "prometheus", looks_ns, used, labels={"a": "b"})
        )
    write_results(tmp_path / "results.parquet", pa.concat_tables(parts), RunMetadata())
    finding = Check("clock-skew", "The clock is wrong.", "WARNING")
    write_samples(tmp_path / "samples.parquet", Reading(tuple(series), (finding,)))
    return tmp_path / "results.parquet", tmp_path / "samples.parquet"


def test_tables_and_a_page_are_written(
    run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["resources", *map(str, run), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "candidate: CPU per request 6 ms" in said
    assert "baseline: CPU per request 5 ms" in said
    tidy = pd.read_parquet(output / "tidy.parquet")
    cores = tidy[tidy["metric"] == "cpu_cores"].groupby("arm")["value"].mean()
    assert cores["candidate"] == pytest.approx(0.6)
    wide = pd.read_parquet(output / "wide.parquet")
    assert wide["candidate|cpu_cores|pod|"].iloc[3] == pytest.approx(0.6)
    assert wide["baseline|latency_seconds_p50||"].iloc[3] == pytest.approx(0.01)
    page = (output / "resources.html").read_text()
    assert "The clock is wrong." in page
    assert "CPU, cores" in page


def test_normalised_columns_lie_between_nought_and_one(run: tuple[Path, Path], tmp_path: Path) -> None:
    assert main(["resources", *map(str, run), "--output", str(tmp_path), "--normalise"]) == 0
    values = pd.read_parquet(tmp_path / "wide.parquet").drop(columns=["seconds", "block"])
    assert values.min().min() == 0
    assert values.max().max() <= 1


def test_a_prometheus_that_is_down_leaves_the_load_and_says_so(
    run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = '{"prometheus": {"url": "http://127.0.0.1:9", "candidate": {"pod": "a"}}}'
    assert main(["resources", str(run[0]), "--sources", sources, "--output", str(tmp_path)]) == 0
    assert "does not answer" in capsys.readouterr().out
    tidy = pd.read_parquet(tmp_path / "tidy.parquet")
    assert set(tidy["source"]) == {"load"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give samples or --sources"),
        (["--sources", "{"], "write it as JSON"),
        (["--sources", '{"pages": {"candidate": "http://h:1"}}'], "only knows the present"),
        (["--sources", "{}"], "name prometheus or cloud_monitoring"),
        (["no-such-file"], "give the samples"),
    ],
)
def test_bad_input_is_one_line(
    run: tuple[Path, Path], arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resources", str(run[0]), *arguments]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert said in errors[0]
