from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_reports import START_NS, ghz_detail, ghz_report, latencies_of

from model_load_test.components.results import columns, ghz
from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.readers import read_report
from model_load_test.components.results.report_summary import summarize_report

Write = Callable[..., Path]
CLOSED = "rpc error: desc = read tcp 127.0.0.1:1->127.0.0.1:2: use of closed network connection"
SECOND = 1_000_000_000


def codes(report: Any) -> list[str]:
    return [check.code for check in report.checks]


def test_details_are_stamped_at_their_end(write: Write) -> None:
    report = read_report(write(ghz_report([ghz_detail(START_NS + 7_000_000, 5_000_000)])))
    assert columns.numbers(report.rows["sent_at_ns"], np.int64).tolist() == [START_NS + 2_000_000]


def test_failures_are_not_in_the_latencies_though_they_are_in_ghz_mean(write: Write) -> None:
    details = [ghz_detail(START_NS + i * 1_000_000, 8_000_000) for i in range(1, 41)]
    details += [ghz_detail(START_NS + 50_000_000, 1_000, "Unavailable", "connection refused")] * 40
    (summary,) = summarize_report(read_report(write(ghz_report(details))))
    assert summary.latency_ns.mean == summary.latency_ns.p50 == 8_000_000
    assert (summary.ok, summary.failed) == (40, 40)
    assert summary.achieved_rps == pytest.approx(2 * summary.goodput_rps)


def in_flight_at_the_end(count: int, *, late_ns: int = 0, **changes: Any) -> dict[str, Any]:
    """A run of one second that ghz ended, and requests that look cut off."""
    details = [ghz_detail(START_NS + i * 10_000_000, 10_000_000) for i in range(1, 100)]
    end_ns = START_NS + SECOND - late_ns
    details += [ghz_detail(end_ns, 2_000_000, "Unavailable", CLOSED)] * count
    if late_ns:
        details.append(ghz_detail(START_NS + SECOND, 10_000_000))
    options = {"concurrency": 4, "duration": SECOND}
    return ghz_report(details, **({"endReason": "timeout", "options": options} | changes))


def test_cut_off_requests_are_no_failures(write: Write) -> None:
    report = read_report(write(in_flight_at_the_end(4)))
    (summary,) = summarize_report(report)
    assert (summary.ok, summary.failed, summary.cut_off) == (99, 0, 4)
    assert "Unavailable" not in summary.status_counts
    assert summary.errors == {}


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(in_flight_at_the_end(4, endReason="normal"), id="the run ended by itself"),
        pytest.param(in_flight_at_the_end(4, late_ns=300_000_000), id="long before the end"),
        pytest.param(in_flight_at_the_end(5), id="more than workers"),
    ],
)
def test_each_sign_of_a_cut_off_is_needed(write: Write, report: dict[str, Any]) -> None:
    (summary,) = summarize_report(read_report(write(report)))
    assert summary.cut_off == 0
    assert summary.failed == sum(d["status"] != "OK" for d in report["details"])


@pytest.mark.parametrize("text", ["error reading from server: EOF", "connect: connection refused"])
def test_a_server_that_died_is_never_a_cut_off(write: Write, text: str) -> None:
    encoded = json.dumps(in_flight_at_the_end(3)).replace(CLOSED, text)
    (summary,) = summarize_report(read_report(write(encoded.encode())))
    assert (summary.failed, summary.cut_off) == (3, 0)


def test_an_open_loop_may_cut_off_more_than_its_workers(write: Write) -> None:
    changes = {"options": {"concurrency": 4, "duration": SECOND, "async": True}}
    (summary,) = summarize_report(read_report(write(in_flight_at_the_end(60, **changes))))
    assert (summary.failed, summary.cut_off) == (0, 60)


def test_the_whole_recorded_report_agrees_with_ghz_itself(shared: Path) -> None:
    for file in sorted((shared / "fixtures").glob("ghz-*.json")):
        assert "differs-from-tool" not in codes(read_report(file)), file.name


def test_a_figure_that_the_details_contradict_is_told_with_both_numbers(write: Write) -> None:
    report = ghz_report([ghz_detail(START_NS + 9_000_000, 8_000_000)], average=9_000_000)
    (check,) = [c for c in read_report(write(report)).checks if c.code == "differs-from-tool"]
    assert check.numbers == {"tool": 9_000_000.0, "rows": 8_000_000.0}
    assert check.consequence == "WARNING"


@pytest.mark.parametrize(("average", "differs"), [(8_000_000, False), (8_000_001, False), (8_000_002, True)])
def test_rounding_is_no_difference(write: Write, average: int, differs: bool) -> None:
    report = ghz_report([ghz_detail(START_NS + 9_000_000, 8_000_000)], average=average)
    assert ("differs-from-tool" in codes(read_report(write(report)))) == differs


def test_missing_details_make_the_run_invalid(write: Write) -> None:
    details = [ghz_detail(START_NS + 9_000_000, 8_000_000)]
    report = ghz_report(details, count=3, statusCodeDistribution={"OK": 3})
    (check,) = [c for c in read_report(write(report)).checks if c.code == "incomplete"]
    assert check.consequence == "INVALID"
    assert check.numbers == {"counted": 3.0, "rows": 1.0}


def test_ghz_keeps_only_the_first_million_details(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ghz, "MOST_DETAILS", 2)
    details = [ghz_detail(START_NS + 9_000_000 + i, 8_000_000) for i in range(2)]
    report = ghz_report(details, count=3, statusCodeDistribution={"OK": 3})
    (check,) = [c for c in read_report(write(report)).checks if c.code == "details-capped"]
    assert check.consequence == "WARNING"


def test_skipped_requests_do_not_lower_the_rate(shared: Path) -> None:
    path = shared / "fixtures/ghz-0.120.0-skipfirst-100.json"
    (summary,) = summarize_report(read_report(path))
    told = json.loads(path.read_bytes())["rps"]
    assert summary.achieved_rps > 2 * told


def test_seldons_report_without_details_has_a_cut_off_instead_of_an_error() -> None:
    path = Path(__file__).parent / "fixtures/ghz-0.55-seldon-with-hop.json"
    (summary,) = summarize_report(read_report(path))
    assert (summary.ok, summary.failed, summary.cut_off) == (22_977, 0, 1)
    assert summary.latency_ns.mean == 78_227_435
    assert summary.latency_ns.p99 == 128_647_238
    assert "cut-off-assumed" in [w.code for w in summary.warnings]


def test_rps_was_once_spelled_qps(write: Write) -> None:
    report = ghz_report([])
    del report["details"], report["rps"]
    report |= {"count": 7, "statusCodeDistribution": {"OK": 7}, "average": 5, "qps": 3.5}
    (summary,) = summarize_report(read_report(write(report)))
    assert (summary.ok, summary.latency_ns.mean) == (7, 5)


def test_a_mean_with_failures_in_it_is_left_out(write: Write) -> None:
    points = [{"percentage": 50, "latency": 7}]
    statuses = {"OK": 60, "Internal": 40}
    report = ghz_report([], count=100, average=5, statusCodeDistribution=statuses, latencyDistribution=points)
    del report["details"]
    (summary,) = summarize_report(read_report(write(report)))
    assert summary.latency_ns.mean is None
    assert summary.latency_ns.p50 == 7
    (warning,) = [w for w in summary.warnings if w.code == "latency-includes-failures"]
    assert "40 failed" in warning.detail


def test_percentiles_with_failures_in_them_are_left_out(write: Write) -> None:
    points = [{"percentage": 50, "latency": 7}]
    report = ghz_report(
        [],
        count=100,
        statusCodeDistribution={"OK": 60, "Internal": 40},
        latencyDistribution=points,
        options={"count-errors": True},
    )
    del report["details"]
    (summary,) = summarize_report(read_report(write(report)))
    assert summary.latency_ns.p50 is None


def test_nothing_recorded_is_no_success(shared: Path) -> None:
    (summary,) = summarize_report(read_report(shared / "fixtures/ghz-0.120.0-zero-ignore.json"))
    assert (summary.requests, summary.latency_ns.mean) == (0, None)
    assert summary.warnings[0].code == "no-requests"


def test_pretty_printed_and_reordered_reports_read_alike(write: Write) -> None:
    details = [ghz_detail(START_NS + i * 1_000_000, 8_000_000 + i) for i in range(9)]
    report = ghz_report(details)
    plain = read_report(write(report))
    pretty = read_report(write(json.dumps(report, indent=2).encode()))
    backwards = {key: report[key] for key in reversed(report)}
    assert plain.rows.equals(pretty.rows)
    assert plain.rows.equals(read_report(write(backwards)).rows)


def test_long_reports_are_read_in_pieces_without_loss(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ghz, "_CHUNK_BYTES", 300)
    tricky = 'a},{"timestamp":"x","latency":1'
    details = [ghz_detail(START_NS + i * 1_000_000, 1_000 + i, "Internal", tricky) for i in range(200)]
    assert latencies_of(read_report(write(ghz_report(details))).rows) == [1_000 + i for i in range(200)]


def test_csv_is_read_with_its_loss_stated(shared: Path) -> None:
    (summary,) = summarize_report(read_report(shared / "fixtures/ghz-0.120.0-clean-csv.csv"))
    assert (summary.ok, summary.latency_ns.max) == (200, 131_650_000)
    assert summary.achieved_rps is summary.started_at_ns is None
    assert "no-times" in [w.code for w in summary.warnings]


def test_csv_errors_may_hold_commas_and_quotes(write: Write) -> None:
    text = b'duration (ms),status,error\n0.25,Unavailable,desc = "a, b": connection refused\n'
    (summary,) = summarize_report(read_report(write(text)))
    assert summary.failed == 1
    assert list(summary.errors) == ['desc = "a, b": connection refused']


def test_csv_cut_within_a_line_is_invalid(write: Write) -> None:
    report = read_report(write(b"duration (ms),status,error\n0.25,OK,\n0.3"))
    assert report.rows.num_rows == 1
    assert "truncated" in codes(report)


@pytest.mark.parametrize(
    ("change", "position"),
    [
        ({"latency": -1}, "details[1].latency"),
        ({"latency": 2**63}, "details[1].latency"),
        ({"latency": 1.5}, "details[1].latency"),
        ({"latency": "5"}, "details[1].latency"),
        ({"latency": True}, "details[1].latency"),
        ({"latency": 10**17}, "details[1].latency"),
        ({"timestamp": "yesterday"}, "details[1].timestamp"),
        ({"timestamp": "0001-01-01T00:00:00Z"}, "details[1].timestamp"),
        ({"timestamp": "2026-11-21T11:16:15"}, "details[1].timestamp"),
        ({"timestamp": "1970-01-01T00:00:00.001Z"}, "details[1].timestamp"),
        ({"status": None}, "details[1].status"),
        ({"status": "x" * 100}, "details[0...]"),
    ],
)
def test_a_damaged_detail_is_named(write: Write, change: dict[str, Any], position: str) -> None:
    good = ghz_detail(START_NS + 9_000_000, 8_000_000)
    with pytest.raises(ResultsError) as caught:
        read_report(write(ghz_report([good, good]) | {"details": [good, good | change]}))
    assert caught.value.position == position


def test_offsets_from_utc_are_heeded(write: Write) -> None:
    detail = ghz_detail(START_NS, 5)
    local = detail | {"timestamp": "2026-11-21T12:06:39.25+01:00"}
    rows = read_report(write(ghz_report([local]))).rows
    assert columns.numbers(rows["sent_at_ns"], np.int64).tolist() == [START_NS + 250_000_000 - 5]
