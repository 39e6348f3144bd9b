"""What the load cost the servers, in the report and on a page of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
import pytest

from model_load_test.components.report.html import render_page
from model_load_test.components.report.markdown import render_summary
from model_load_test.components.report.metrics import metrics
from model_load_test.components.report.model import RunReport, build_run_report
from model_load_test.components.report.resources import quantity_text, resource_rows
from model_load_test.components.report.resources_page import render_resources, resources_figure
from model_load_test.components.report.wording import ABSENT
from model_load_test.components.report.writing import encode_report, read_report
from model_load_test.components.results.checks import Check
from model_load_test.components.results.resource_use import CpuUse, Level, ReplicaChange, RunResources
from model_load_test.components.results.table import RunMetadata

RESOURCES = RunResources(
    cpu=(
        CpuUse("candidate", 0, 1, 0.59, 200),
        CpuUse("baseline", 0, 1, 0.5, 200),
        CpuUse("candidate", 1, 1, 0.61, 200),
        CpuUse("baseline", 1, 1, 0.5, 200),
    ),
    levels={
        "candidate": {
            "cpu_cores": Level(0.6, 0.81, "cores", "rate"),
            "memory_bytes": Level(512 * 2**20, 512 * 2**20, "bytes"),
            "server_latency_seconds_p95": Level(0.0112, 0.02, "s", "histogram quantile"),
        },
        "baseline": {"cpu_cores": Level(0.5, 0.52, "cores", "rate")},
    },
)


@pytest.fixture
def report(results_table: Callable[..., pa.Table], report_of: Callable[..., RunReport]) -> RunReport:
    table = results_table(pairs=20)
    first_ns = min(table["sent_at_ns"].to_pylist())
    changes = (ReplicaChange("candidate", first_ns + 9_000_000_000, 1, 3),)
    metadata = RunMetadata(resources=msgspec.structs.replace(RESOURCES, changes=changes))
    return build_run_report(report_of("PASS").verdict, table, metadata)


def test_the_report_names_what_each_arm_cost(report: RunReport) -> None:
    rows = dict(resource_rows(report))
    assert next(iter(rows)) == "CPU per request"
    assert [re.sub(r"\s", " ", value) for value in rows["CPU per request"]] == ["3.00 ms", "2.50 ms"]
    assert re.sub(r"\s", " ", rows["CPU"][0]) == "0.600 cores, peak 0.810 cores"
    assert re.sub(r"\s", " ", rows["Memory"][0]) == "512 MiB"
    assert rows["Memory"][1] == ABSENT
    assert "Latency on the server, p95 (from a histogram)" in rows


def test_page_summary_and_metrics_hold_it(report: RunReport) -> None:
    page = render_page(report)
    assert "What it cost the servers" in page
    assert "candidate 1 → 3" in page
    assert "Candidate: from 1 to 3 replicas after 9" in page
    assert "CPU time per request: candidate 3.00" in render_summary(report).replace("\N{NO-BREAK SPACE}", " ")
    numbers = metrics(report)
    assert numbers["candidate_cpu_ms"] == pytest.approx(3.0)
    assert numbers["baseline_cpu_ms"] == pytest.approx(2.5)


def test_a_run_that_no_one_watched_says_nothing_of_it(report_of: Callable[..., RunReport]) -> None:
    plain = report_of("PASS")
    assert "What it cost the servers" not in render_page(plain)
    assert "CPU time" not in render_summary(plain)
    assert not any("cpu" in name for name in metrics(plain))
    assert b"resources" not in encode_report(plain)


def test_it_survives_the_file(report: RunReport, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(encode_report(report))
    again = read_report(tmp_path / "report.json")
    assert again.resources == report.resources
    assert again.scaling == report.scaling
    assert again.scaling[0].at_seconds == 9.0


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.25, "share", "25 %"),
        (3 * 2**30, "bytes", "3 GiB"),
        (1536, "bytes/s", "1.50 KiB/s"),
        (2, "replicas", "2"),
        (120.0, "W", "120 W"),
        (None, "bytes/s", ABSENT),
        (12, "bytes", "12 B"),
    ],
)
def test_quantities_have_handy_units(value: float | None, unit: str, text: str) -> None:
    assert re.sub(r"\s", " ", quantity_text(value, unit)) == text


def tidy(**columns: Any) -> pd.DataFrame:
    rows = [
        ("candidate", "latency_seconds_p95", "", 0.01, "s", "measured"),
        ("candidate", "cpu_cores", "a", 0.5, "cores", "rate"),
        ("candidate", "cpu_cores", "b", 0.7, "cores", "rate"),
        ("candidate", "gpu_busy_share", "a", 0.2, "share", "sampled"),
        ("candidate", "gpu_busy_share", "b", 0.4, "share", "sampled"),
        ("candidate", "server_latency_seconds_p95", "a", 0.008, "s", "histogram quantile"),
    ]
    frame = pd.DataFrame(rows, columns=["arm", "metric", "replica", "value", "unit", "method"])
    both = pd.concat([frame.assign(seconds=1.0), frame.assign(seconds=2.0)])
    return both.assign(start_ns=10**9, **columns)


def test_a_page_of_its_own_has_a_panel_for_each_quantity() -> None:
    figure = resources_figure(tidy())
    assert figure is not None
    titles = ["p95 latency", "CPU, cores", "GPU busy", "Latency on the server, p95"]
    assert [panel.title for panel in figure.panels] == titles
    assert "histogram" in figure.panels[-1].caption
    assert figure.columns[1:3] == ("p95 latency, candidate", "CPU, candidate")
    first = [re.sub(r"\s", " ", value) for value in figure.rows[0]]
    assert first == ["1 s", "10.0 ms", "1.20 cores", "30 %", "8.00 ms"], "cores add up, shares average"


def test_the_page_marks_the_autoscaler_and_tells_the_findings() -> None:
    changes = [ReplicaChange("candidate", 10**9 + 1_500_000_000, 2, 1)]
    finding = Check("resources-gap", "A gap of <b>5 s</b>.", "WARNING")
    page = render_resources(tidy(), changes, [finding])
    assert page.count("candidate 2 → 1</text>") == 1
    assert page.count("mark scaling candidate") == 4
    assert "&lt;b&gt;5 s" in page
    assert "http" not in re.sub(r'xmlns="[^"]+"', "", page.split("<main>")[1].split("<script>")[0])


def test_nothing_known_is_said() -> None:
    assert "No source told anything" in render_resources(tidy().iloc[:0])
