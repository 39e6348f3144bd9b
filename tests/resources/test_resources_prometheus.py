"""A real Prometheus that scrapes embedded servers, and stand-ins for one that misbehaves."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.client import METRICS_PATH
from model_load_test.components.resources.align import aligned, even_cells
from model_load_test.components.resources.gaps import gap_findings
from model_load_test.components.resources.prometheus import Prometheus, matchers_text, parse_matchers
from model_load_test.components.resources.series import Window
from model_load_test.components.resources.spec import parse_resource_spec
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server

SECOND = 10**9
Serve = Callable[..., str]


def source(url: str, **fields: Any) -> Prometheus:
    values = {"url": url, "candidate": {"job": "candidate"}, "baseline": {"job": "baseline"}, **fields}
    found = parse_resource_spec({"prometheus": values}, {}).prometheus
    assert found is not None
    return found


# --- a real one -----------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, EmbeddedServer]]:
    with embedded_server("digits", backend="numpy") as one, embedded_server("digits", backend="numpy") as two:
        yield {"candidate": one, "baseline": two}


@pytest.fixture(scope="module")
def real(servers: Mapping[str, EmbeddedServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that scrapes each server every half second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not on PATH (Debian's package prometheus has it)")
    folder = tmp_path_factory.mktemp("prometheus")
    jobs = [
        {
            "job_name": arm,
            "scrape_interval": "500ms",
            "scrape_timeout": "400ms",
            "metrics_path": METRICS_PATH,
            "static_configs": [{"targets": [server.rest.address]}],
        }
        for arm, server in servers.items()
    ]
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": jobs}))
    port = free_port()
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ],
        stdout=log,
        stderr=log,
    )
    try:
        _until_scraping(f"http://127.0.0.1:{port}", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        log.close()


def _until_scraping(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Both targets are up; a Prometheus begins to scrape some seconds after it is ready."""
    for _ in range(150):
        try:
            with urllib.request.urlopen(f"{url}/api/v1/query?query=up", timeout=1) as answer:
                found = json.loads(answer.read())["data"]["result"]
            if [one["value"][1] for one in found] == ["1", "1"]:
                return
        except OSError:
            pass
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def predict(server: EmbeddedServer, count: int) -> None:
    body = json.dumps({"instances": [{"images": [0.5] * 64}]}).encode()
    for _ in range(count):
        url = f"{server.rest}/v1/models/digits:predict"
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=5) as answer:
            answer.read()


def test_what_a_prometheus_scraped_is_what_the_servers_did(
    real: str, servers: Mapping[str, EmbeddedServer]
) -> None:
    time.sleep(1.5)  # a scrape before
    start_ns = time.time_ns()
    predict(servers["candidate"], 40)
    predict(servers["baseline"], 10)
    window = Window(start_ns, time.time_ns() + SECOND, complete=True)
    reading = source(real, expressions={"scraped": "up{$matchers}"}, step_seconds=0.5)(window)
    assert not reading.findings
    cells = even_cells(Window(start_ns - SECOND, window.end_ns), 60)
    risen = {}
    for one in reading.series:
        if one.metric == "served_requests":
            risen[one.arm] = one.values[-1] - one.values[0]
    assert risen == {"candidate": 40, "baseline": 10}
    rows = aligned(reading.series, cells)
    cpu = [row for row in rows if row.metric == "cpu_cores"]
    assert {row.arm for row in cpu} == {"candidate", "baseline"}
    assert all(0 < row.value < 2 for row in cpu)
    assert {row.replica for row in cpu} == {server.rest.address for server in servers.values()}
    latency = [row for row in rows if row.metric == "server_latency_seconds_p95" and row.arm == "candidate"]
    assert latency[0].method == "histogram quantile"
    assert 0 < latency[0].value < 1
    assert {one.metric for one in reading.series} >= {"cpu_seconds", "memory_bytes", "scraped"}


def test_samples_are_those_that_were_scraped_not_a_grid(
    real: str, servers: Mapping[str, EmbeddedServer]
) -> None:
    """Scraped at its own offset every half second; evaluated on a grid the times would be round."""
    end_ns = time.time_ns()
    reading = source(real)(Window(end_ns - 2 * SECOND, end_ns, complete=True))
    cpu = next(one for one in reading.series if one.metric == "cpu_seconds")
    assert np.median(np.diff(cpu.at_ns)) == pytest.approx(0.5 * SECOND, rel=0.1)
    assert cpu.at_ns[-1] >= end_ns, "it waited for the first sample after the window"
    offsets = {
        one.arm: one.at_ns[-1] % (SECOND // 2) for one in reading.series if one.metric == "cpu_seconds"
    }
    assert len(set(offsets.values())) == 2


def test_a_real_ones_clock_is_ours_to_the_millisecond(real: str) -> None:
    skew_seconds, uncertain_seconds = source(real).clock_skew()
    assert abs(skew_seconds) <= uncertain_seconds + 0.05


def test_labels_that_nothing_has_are_told(real: str) -> None:
    reading = source(real, candidate={"job": "condidate"})(Window(time.time_ns() - SECOND, time.time_ns()))
    (finding,) = reading.findings
    assert finding.code == "resources-unmatched"
    assert 'job="condidate"' in finding.detail
    assert {one.arm for one in reading.series} == {"baseline"}


def test_a_query_it_refuses_is_told_with_its_reason(real: str) -> None:
    reading = source(real, expressions={"broken": "rate(up{$matchers})"})(Window(0, SECOND))
    (finding,) = reading.findings
    assert finding.code == "resources-unavailable"
    assert "parse error" in finding.detail


# --- stand-ins ------------------------------------------------------------------------------------


class StandIn:
    """Answers as the HTTP API does (prometheus.io/docs/prometheus/latest/querying/api), with one counter."""

    def __init__(self, ahead_seconds: float = 0.0, missing: tuple[float, float] = (0, 0)) -> None:
        self.ahead_seconds = ahead_seconds
        self.missing = missing
        self.begun = time.time()
        self.queries: list[str] = []
        self.headers: list[Mapping[str, str]] = []

    def __call__(
        self, path: str, query: Mapping[str, list[str]], headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        self.headers.append(headers)
        if path != "/api/v1/query":
            return 404, b"404 page not found"
        (text,) = query["query"]
        self.queries.append(text)
        now = time.time() + self.ahead_seconds
        if text == "time()":
            return 200, {"status": "success", "data": {"resultType": "scalar", "result": [now, str(now)]}}
        arm = "candidate" if 'job="candidate"' in text else "baseline"
        if "container_cpu" not in text:
            return 200, {"status": "success", "data": {"resultType": "matrix", "result": []}}
        ends = float(query["time"][0])
        begins = ends - float(text.rpartition("[")[2].removesuffix("s]"))
        values = [
            [round(self.begun + self.ahead_seconds + at, 3), str(100 + 0.5 * at)]
            for at in np.arange(-20, 20, 1.0)
            if not self.missing[0] <= at < self.missing[1]
            and begins < self.begun + self.ahead_seconds + at <= ends
        ]
        labels = {"__name__": "container_cpu_usage_seconds_total", "pod": f"{arm}-0", "container": "server"}
        result = [{"metric": labels, "values": values}]
        return 200, {"status": "success", "data": {"resultType": "matrix", "result": result}}

    def window(self) -> Window:
        return Window(round((self.begun - 10) * 1e9), round((self.begun + 10) * 1e9))


@pytest.mark.parametrize("ahead", [300.0, -300.0])
def test_a_clock_that_is_wrong_is_put_right_and_told(serve: Serve, ahead: float) -> None:
    stand_in = StandIn(ahead_seconds=ahead)
    reading = source(serve(stand_in))(stand_in.window())
    (finding,) = reading.findings
    assert finding.code == "clock-skew"
    assert finding.numbers["skew_seconds"] == pytest.approx(ahead, abs=0.2)
    assert ("ahead of" if ahead > 0 else "behind") in finding.detail
    for one in reading.series:
        at_zero = one.values[np.argmin(np.abs(one.at_ns - round(stand_in.begun * 1e9)))]
        assert at_zero == pytest.approx(100, abs=0.2)


def test_a_gap_is_told_and_not_filled(serve: Serve) -> None:
    stand_in = StandIn(missing=(-3.0, 5.0))
    reading = source(serve(stand_in))(stand_in.window())
    findings = gap_findings(reading.series, stand_in.window())
    assert {finding.code for finding in findings} == {"resources-gap"}
    assert len(findings) == 2, "one an arm"
    assert findings[0].numbers == {"gap_seconds": 9.0, "usual_seconds": 1.0}
    assert "6 s after the load began" in findings[0].detail
    cells = even_cells(stand_in.window(), 1.0)
    told = {row.cell for row in aligned(reading.series, cells) if row.arm == "candidate"}
    assert not told & set(range(8, 14))


def test_one_that_is_down_is_told_and_nothing_raised() -> None:
    reading = source(f"http://127.0.0.1:{free_port()}")(Window(0, SECOND))
    assert reading.series == ()
    (finding,) = reading.findings
    assert (finding.code, finding.consequence) == ("resources-unavailable", "WARNING")
    assert "does not answer" in finding.detail


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((503, b"Service Unavailable"), "503"),
        ((200, b"<html>a login page</html>"), "is no Prometheus"),
        ((200, {"status": "error", "error": "query timed out"}), "query timed out"),
        ((200, {"status": "success", "data": {"result": []}}), "does not answer as Prometheus"),
        ((200, b"[]"), "is no Prometheus"),
    ],
)
def test_what_is_no_prometheus_is_told(serve: Serve, answer: tuple[int, Any], said: str) -> None:
    (finding,) = source(serve(lambda *_: answer))(Window(0, SECOND)).findings
    assert finding.code == "resources-unavailable"
    assert said in finding.detail


def test_a_token_is_sent_and_never_shown(serve: Serve, tmp_path: Path) -> None:
    stand_in = StandIn()
    (tmp_path / "token").write_text("s3cret\n")
    asked = source(serve(stand_in), token_file=str(tmp_path / "token"))
    asked(stand_in.window())
    assert {one.get("Authorization") for one in stand_in.headers} == {"Bearer s3cret"}
    assert "s3cret" not in repr(asked)


def test_few_queries_ask_for_everything(serve: Serve) -> None:
    stand_in = StandIn()
    source(serve(stand_in))(stand_in.window())
    selectors = [text for text in stand_in.queries if text != "time()"]
    assert len(selectors) <= 4
    assert sum('container!=""' in text for text in selectors) == 2
    pods = source(serve(stand_in), candidate={"namespace": "s", "pod": "=~new-.*"}, baseline=None)
    stand_in.queries.clear()
    pods(stand_in.window())
    assert any('exported_pod=~"new-.*"' in text for text in stand_in.queries), "as DCGM's exporter is scraped"


def test_matchers_are_written_as_promql_has_them() -> None:
    matchers = parse_matchers({"namespace": "serving", "pod": '=~a"b-.*', "tier": "!=test"}, "x")
    assert matchers_text(matchers) == 'namespace="serving",pod=~"a\\"b-.*",tier!="test"'


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"url": "prometheus:9090"}, "resource_sources.prometheus.url"),
        ({"url": "http://u:p@h:1"}, "resource_sources.prometheus.url"),
        ({"url": "http://h:1"}, "resource_sources.prometheus"),
        ({"url": "http://h:1", "candidate": {"pod": "=~("}}, "resource_sources.prometheus.candidate.pod"),
        ({"url": "http://h:1", "candidate": {"a-b": "x"}}, "resource_sources.prometheus.candidate.a-b"),
        ({"url": "http://h:1", "candidate": {"pod": 3}}, "resource_sources.prometheus.candidate.pod"),
        (
            {"url": "http://h:1", "candidate": {"pod": "a"}, "baseline": {"pod": "a"}},
            "resource_sources.prometheus.baseline",
        ),
        ({"url": "http://h:1", "candidat": {"pod": "a"}}, "resource_sources.prometheus.candidat"),
        (
            {"url": "http://h:1", "candidate": {"pod": "a"}, "token_file": "/no/such/file"},
            "resource_sources.prometheus.token_file",
        ),
        (
            {"url": "http://h:1", "candidate": {"pod": "a"}, "step_seconds": 0},
            "resource_sources.prometheus.step_seconds",
        ),
    ],
)
def test_bad_input_is_refused_by_its_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_resource_spec({"prometheus": values}, {})
    assert caught.value.field == field
    assert "u:p" not in str(caught.value)
