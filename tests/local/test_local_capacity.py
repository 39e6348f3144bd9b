"""The capacity of a real embedded server under real load."""

from collections.abc import Callable
from pathlib import Path

import pytest

from model_load_test.components.load.capacity.result import read_capacity, write_capacity
from model_load_test.components.load.capacity.run import find_capacity, parse_question
from model_load_test.components.load.preflight import prepare
from model_load_test.components.report.capacity_page import render_capacity


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rate", "connections"])
def test_a_server_whose_requests_take_time_has_a_capacity(
    start_server: Callable, payload: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    # one worker, 10 ms a request: 100 requests per second, or 5 at once within 50 ms
    server = start_server(compute_ms=10, compute_threads=1)
    test = prepare(
        candidate_endpoint=str(server.grpc),
        baseline_endpoint="",
        model_name="digits",
        signature_name="serving_default",
        payload_path=payload(str(server.grpc)),
        mode="auto",
        spec_values={"rate_rps": 1},
        work_path=tmp_path / "work",
    )
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
