from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.readers import read_report
from model_load_test.components.results.report_summary import summarize_report

Write = Callable[..., Path]


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "name": "predict",
        "method": "POST",
        "last_request_timestamp": 1795259273.5,
        "start_time": 1795259270.0,
        "num_requests": 100,
        "num_none_requests": 0,
        "num_failures": 0,
        "total_response_time": 1000.0,
        "max_response_time": 40.5,
        "min_response_time": 6.5,
        "response_times": {"9": 60, "12": 39, "40": 1},
    } | changes


def test_entries_are_added_never_averaged(write: Write) -> None:
    slow = entry(name="slow", response_times={"100": 300}, num_requests=300, total_response_time=30000.0)
    (summary,) = summarize_report(read_report(write([entry(), slow])))
    assert (summary.requests, summary.ok) == (400, 400)
    assert summary.latency_ns.p50 == 100_000_000
    assert summary.latency_ns.mean == pytest.approx(31000.0 / 400 * 1e6)


def test_several_workers_files_add_their_buckets(write: Write) -> None:
    paths = [write([entry()], "a"), write([entry(response_times={"9": 100})], "b")]
    (summary,) = summarize_report(read_report(paths))
    assert summary.requests == 200
    assert summary.latency_ns.p50 == 9_000_000


def test_rounded_buckets_never_exceed_the_rank(write: Write) -> None:
    (summary,) = summarize_report(read_report(write([entry()])))
    assert summary.latency_ns.p50 == 9_000_000
    assert summary.latency_ns.max == 40_500_000
    assert "percentiles-estimated" in [w.code for w in summary.warnings]


def test_failures_are_mixed_in_so_latencies_are_left_out(write: Write) -> None:
    (summary,) = summarize_report(read_report(write([entry(num_failures=1)])))
    assert (summary.ok, summary.failed) == (99, 1)
    assert summary.latency_ns.p50 is None
    assert "latency-includes-failures" in [w.code for w in summary.warnings]


def test_zero_requests_are_told(write: Write) -> None:
    (summary,) = summarize_report(read_report(write(b"[]\n")))
    assert (summary.requests, summary.warnings[0].code) == (0, "no-requests")


def test_a_single_request_has_a_window_of_its_own_length(shared: Path) -> None:
    (summary,) = summarize_report(read_report(shared / "fixtures/locust-single/stdout.json"))
    assert summary.achieved_rps == pytest.approx(61, rel=0.05)


def test_csv_loses_requests_and_says_so(shared: Path) -> None:
    for name in ("run_stats.csv", "run_stats_history.csv"):
        report = read_report(shared / "fixtures/locust-clean" / name)
        (summary,) = summarize_report(report)
        assert summary.ok == 360  # the server answered 456
        assert "locust-csv-loses-requests" in [w.code for w in summary.warnings]


@pytest.mark.parametrize(
    "change",
    [
        {"num_failures": 101},
        {"num_requests": 99},
        {"num_requests": -1},
        {"num_requests": 1.5},
        {"response_times": {"x": 100}},
        {"response_times": {"-9": 100}},
        {"response_times": [1]},
        {"response_times": {"9": 2**63}},
        {"max_response_time": -1},
        {"max_response_time": 1e300},
        {"start_time": 1e300},
        {"total_response_time": "1"},
    ],
)
def test_damage_is_refused(write: Write, change: dict[str, Any]) -> None:
    with pytest.raises(ResultsError) as caught:
        read_report(write([entry(**change)]))
    assert caught.value.position.startswith("[0].")


def test_a_cut_or_doubled_document_is_refused(write: Write) -> None:
    text = json.dumps([entry()]).encode()
    for cut in range(len(text) - 1, 120, -37):
        with pytest.raises(ResultsError):
            read_report(write(text[:cut]))
    with pytest.raises(ResultsError):
        read_report(write(text.replace(b'"num_requests": 100', b'"num_requests": 100, "num_requests": 1')))


def test_a_cut_csv_is_refused(shared: Path, write: Write) -> None:
    text = (shared / "fixtures/locust-clean/run_stats.csv").read_bytes()
    with pytest.raises(ResultsError) as caught:
        read_report(write(text[:-5]))
    assert caught.value.code == "truncated"
