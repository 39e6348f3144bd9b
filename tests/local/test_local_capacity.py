"""The capacity of a real embedded server under real load."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from model_load_test.components import find_capacity as component
from model_load_test.components.load.capacity import result
from model_load_test.components.load.capacity.result import CapacityReport, read_capacity, write_capacity
from model_load_test.components.load.capacity.run import find_capacity, parse_question
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.progress import ProgressUpdate
from model_load_test.components.load.run import LoadTest
from model_load_test.components.report.capacity_page import render_capacity
from model_load_test.components.results.table import read_results
from model_load_test.components.serving.embedded.process import EmbeddedServer

Start = Callable[..., EmbeddedServer]
MakePayload = Callable[[str], Path]


def planned(server: EmbeddedServer, payload: MakePayload, folder: Path) -> LoadTest:
    return prepare(
        candidate_endpoint=str(server.grpc),
        baseline_endpoint="",
        model_name="digits",
        signature_name="serving_default",
        payload_path=payload(str(server.grpc)),
        mode="auto",
        spec_values={"rate_rps": 1},
        work_path=folder / "work",
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rate", "connections"])
def test_a_server_whose_requests_take_time_has_a_capacity(
    start_server: Start, payload: MakePayload, tmp_path: Path, kind: str
) -> None:
    # one worker, 10 ms a request: 100 requests per second, or 5 at once within 50 ms
    test = planned(start_server(compute_ms=10, compute_threads=1), payload, tmp_path)
    question = parse_question(
        {"objectives": ("p95_ms<=60",), "kind": kind, "probe_seconds": 1, "highest": 300, "target_rps": 500}
    )
    report, rows, _ = find_capacity(test, question)
    found = report.arms["candidate"]
    assert found.ending in ("found", "unconfirmed"), found.detail
    assert found.estimate is not None
    low, high = (40, 105) if kind == "rate" else (1.5, 8)
    assert low <= found.estimate <= high, found.detail
    assert found.limiting_objective == "p95_ms<=60"
    assert rows.num_rows == sum(point.requests for point in found.curve)
    assert (found.replicas_wanted or 0) >= 5 or kind == "connections"
    path = tmp_path / "capacity.json"
    write_capacity(path, report)
    assert read_capacity(path).arms["candidate"].estimate == pytest.approx(found.estimate)
    page = render_capacity(report)
    assert "p95_ms" in page
    assert found.detail.split(",")[0].split(" [")[0] in page
    longest = max(point.requests / point.achieved_rps for point in found.curve)
    assert longest < 10, "no probe takes more than it needs to be confirmed"


@pytest.mark.parametrize("kind", ["rate", "connections"])
def test_sigterm_before_the_first_probe_ends_the_search(
    start_server: Start, payload: MakePayload, tmp_path: Path, kind: str
) -> None:
    test = planned(start_server(), payload, tmp_path)
    default = signal.getsignal(signal.SIGTERM)

    def terminate() -> None:
        while signal.getsignal(signal.SIGTERM) is default:
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    terminator = threading.Thread(target=terminate)
    terminator.start()
    question = parse_question({"objectives": ("p95_ms<=60",), "kind": kind, "highest": 300})
    report, rows, _ = find_capacity(test, question)
    terminator.join()
    assert report.interrupted
    assert rows.num_rows == 0
    assert report.arms["candidate"].ending == "stopped"
    write_capacity(tmp_path / "capacity.json", report)
    assert "stopped after 0 probes" in render_capacity(read_capacity(tmp_path / "capacity.json"))


def test_sigterm_between_two_probes_keeps_the_rows_of_the_first(
    start_server: Start, payload: MakePayload, tmp_path: Path, sigterm: Callable[[], None]
) -> None:
    test = planned(start_server(), payload, tmp_path)
    lines: list[str] = []

    def terminate(update: ProgressUpdate) -> None:
        lines.append(update.text)
        sigterm()

    question = parse_question(
        {"objectives": ("p95_ms<=60",), "probe_seconds": 1, "start": 50, "highest": 300}
    )
    report, rows, _ = find_capacity(test, question, progress=terminate)
    assert len(lines) == 1, "one probe was told of, and no other began"
    assert report.interrupted
    assert rows.num_rows == report.arms["candidate"].curve[0].requests > 0
    assert report.arms["candidate"].ending == "stopped"


def test_sigterm_after_the_last_probe_loses_nothing(
    start_server: Start,
    payload: MakePayload,
    tmp_path: Path,
    sigterm: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write_late(path: Path, report: CapacityReport) -> None:
        sigterm()
        write_capacity(path, report)

    monkeypatch.setattr(result, "write_capacity", write_late)
    server = start_server()
    outputs = {name: SimpleNamespace(path=str(tmp_path / name)) for name in ("capacity", "results", "page")}
    component.python_func(
        payload=SimpleNamespace(path=str(payload(str(server.grpc)))),
        metrics=SimpleNamespace(log_metric=lambda _name, _value: None),
        candidate_endpoint=str(server.grpc),
        model_name="digits",
        objectives=["p95_ms<=60"],
        probe_seconds=1.0,
        highest=20.0,
        most_probes=3,
        **outputs,
    )
    found = read_capacity(tmp_path / "capacity").arms["candidate"]
    assert read_results(tmp_path / "results").table.num_rows == sum(point.requests for point in found.curve)
    assert "p95_ms" in (tmp_path / "page").read_text()
