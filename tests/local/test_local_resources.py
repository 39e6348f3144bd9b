"""A candidate that is as fast and costs more CPU, found out by real servers and generators."""

from __future__ import annotations

import shutil
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pyarrow.compute as pc
import pytest

from model_load_test.components import run_load_test
from model_load_test.components.baseline.lookup import FoundBaseline
from model_load_test.components.payload.make import make_payload
from model_load_test.components.report.html import render_page
from model_load_test.components.report.judging import judge_results
from model_load_test.components.report.markdown import render_summary
from model_load_test.components.report.metrics import metrics
from model_load_test.components.report.resources_page import render_resources
from model_load_test.components.resources.collecting import collected
from model_load_test.components.resources.files import read_samples
from model_load_test.components.results.table import read_results
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server

BURNING = """\
import threading, time
from model_load_test.components.serving.embedded.numpy_backend import NumpyModel, digits

def burn(inputs):
    done = time.thread_time() + {cpu_ms} / 1e3
    while time.thread_time() < done:
        pass
    time.sleep({sleep_ms} / 1e3)
    return digits.function(inputs)

model = NumpyModel(digits.signature, burn)
"""


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, EmbeddedServer]]:
    """Both take 5 ms a request: the candidate 3 ms of CPU and 2 ms of sleep, the baseline 1 and 4."""
    (tmp_path / "thirsty.py").write_text(BURNING.format(cpu_ms=3, sleep_ms=2))
    (tmp_path / "modest.py").write_text(BURNING.format(cpu_ms=1, sleep_ms=4))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with ExitStack() as stack:
        yield {
            arm: stack.enter_context(
                embedded_server("digits", backend="numpy", callable_place=f"{module}:model")
            )
            for arm, module in (("candidate", "thirsty"), ("baseline", "modest"))
        }


@pytest.fixture
def ghz() -> str:
    """The protocol that ghz speaks, for what does not depend on the protocol."""
    if shutil.which("ghz") is None:
        pytest.skip("ghz is not on PATH (`make tools` says why it could not be installed)")
    return "grpc"


def run(servers: dict[str, EmbeddedServer], protocol: str, folder: Path, **values: Any) -> Path:
    endpoints = {arm: server.grpc if protocol == "grpc" else server.rest for arm, server in servers.items()}
    make_payload(endpoints["candidate"], model_name="digits", out_dir=folder / "payload", requests=20)
    run_load_test.python_func(
        payload=SimpleNamespace(path=str(folder / "payload")),
        results=SimpleNamespace(path=str(folder / "results.parquet")),
        resource_usage=SimpleNamespace(path=str(folder / "samples.parquet")),
        candidate_endpoint=str(endpoints["candidate"]),
        baseline_endpoint=str(endpoints["baseline"]),
        model_name="digits",
        **{
            "rate_rps": 60.0,
            "block_seconds": 0.5,
            "looks": [8.0],
            "warmup_seconds": 0.5,
            "resource_sources": {"processes": "listening", "every_seconds": 0.1},
            **values,
        },
    )
    return folder / "results.parquet"


def judged(results: Path, margins: dict[str, Any]) -> Any:
    history = results.with_name("history.json")
    history.write_bytes(msgspec.json.encode(FoundBaseline(history=(), reason="", store_answered=True)))
    values = {
        "margins": {**dict.fromkeys(("mean", "p50", "p95", "p99", "errors", "goodput"), "off"), **margins}
    }
    return judge_results(results, history, gate_values=values, model_name="digits")


def test_equally_fast_but_thirstier_fails_by_its_margin(
    servers: dict[str, EmbeddedServer], protocol: str, tmp_path: Path
) -> None:
    results = run(servers, protocol, tmp_path, margins={"cpu": 0.1})
    report = judged(results, {"cpu": 0.1})
    metric = report.verdict.metrics["cpu"]
    assert metric.n >= 6
    assert metric.ratio is not None
    assert 1.3 < metric.ratio < 3
    assert report.verdict.verdict == "FAIL"
    numbers = metrics(report)
    assert numbers["candidate_cpu_ms"] > numbers["baseline_cpu_ms"] > 1
    assert numbers["ratio_cpu_upper"] > numbers["ratio_cpu"] > 1.3
    page = render_page(report)
    assert "What it cost the servers" in page
    assert "CPU per request" in page
    assert "CPU time per request: candidate" in render_summary(report)

    reading = read_samples(results.with_name("samples.parquet"))
    found = collected(reading, read_results(results).table)
    cpu = found.tidy[found.tidy["metric"] == "cpu_cores"].groupby("arm")["value"].mean()
    assert cpu["candidate"] > cpu["baseline"] > 0
    drawn = render_resources(found.tidy, found.summary.changes, found.findings)
    assert "CPU over time. Candidate between" in drawn
    found.write_wide(tmp_path / "wide.parquet", normalise=True)
    assert (tmp_path / "wide.parquet").exists()


def test_pages_tell_the_same_and_one_that_goes_away_keeps_the_run(
    servers: dict[str, EmbeddedServer], ghz: str, tmp_path: Path
) -> None:
    pages = {arm: f"{server.rest}/monitoring/prometheus/metrics" for arm, server in servers.items()}
    sources = {
        "pages": {**pages, "baseline": "http://127.0.0.1:9/metrics"},
        "prometheus": {"url": "http://127.0.0.1:9", "candidate": {"pod": "a"}},
        "every_seconds": 0.1,
    }
    results = run(servers, ghz, tmp_path, resource_sources=sources, looks=[2.0])
    metadata = read_results(results).metadata
    levels = metadata.resources.levels["candidate"]
    assert levels["cpu_cores"].mean > 0
    assert levels["server_latency_seconds_p95"].method == "histogram quantile"
    samples = read_samples(results.with_name("samples.parquet")).series
    counted = [one for one in samples if one.metric == "served_requests" and one.arm == "candidate"]
    ours = read_results(results).table.filter(pc.field("arm") == "candidate")
    trial = 20  # each request once, before the watch began
    assert sum(one.values[-1] for one in counted) - trial == pytest.approx(ours.num_rows, abs=2)
    assert metadata.resources.cpu == (), "the baseline's CPU time is not known"
    codes = [check["code"] for check in metadata.checks]
    assert codes.count("resources-unreadable") == 1
    assert codes.count("resources-unavailable") == 1
    assert not any(check["consequence"] == "INVALID" for check in metadata.checks)
    assert read_results(results).table.num_rows > 100


def test_a_prometheus_can_follow_the_load(
    servers: dict[str, EmbeddedServer], ghz: str, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    pages: list[str] = []
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(0.1):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1) as answer:
                    pages.append(answer.read().decode())
            except OSError:
                continue

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        run(servers, ghz, tmp_path, metrics_port=port, resource_sources={}, looks=[2.0])
    finally:
        over.set()
        thread.join()
    assert any('model_load_test_requests_total{arm="candidate",outcome="ok"' in page for page in pages)
    assert any("model_load_test_block -1.0" in page for page in pages)
    assert 'model_load_test_latency_seconds_bucket{arm="baseline"' in pages[-1]


def test_without_sources_a_margin_of_cpu_is_refused_before_any_load(
    servers: dict[str, EmbeddedServer], ghz: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="resource_sources"):
        run(servers, ghz, tmp_path, resource_sources={}, margins={"cpu": 0.1})
    assert not (tmp_path / "results.parquet").exists()
