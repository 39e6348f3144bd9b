from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_reports import START_NS, latencies_of, vegeta_lines, vegeta_record

from model_load_test.components.results import columns, source
from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.readers import read_report
from model_load_test.components.results.report_summary import summarize_report

Write = Callable[..., Path]
FIVE = [vegeta_record(seq) for seq in range(5)]


def codes(report: Any) -> list[str]:
    return [check.code for check in report.checks]


def as_csv(records: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for record in records:
        sent_at_ns = np.datetime64(record["timestamp"].rstrip("Z"), "ns").astype(np.int64)
        cells = [sent_at_ns, *(record[key] for key in ("code", "latency", "bytes_out", "bytes_in", "error"))]
        writer.writerow(
            [*cells, record["body"], record["attack"], record["seq"], "POST", record["url"], "e30="]
        )
    return text.getvalue().encode()


def test_every_column_is_right(write: Write) -> None:
    report = read_report(write(vegeta_lines([vegeta_record(0, code=503, error="503 Service Unavailable")])))
    (row,) = report.rows.to_pylist()
    assert row == {
        "worker": 0,
        "sent_at_ns": START_NS + 1,
        "scheduled_at_ns": None,
        "latency_ns": 5_000_000,
        "ok": False,
        "status": "503",
        "error": "503 Service Unavailable",
        "request_bytes": 37,
        "response_bytes": 245,
    }


@pytest.mark.parametrize("encode", [vegeta_lines, as_csv])
def test_the_last_record_counts_without_its_newline(write: Write, encode: Any) -> None:
    report = read_report(write(encode(FIVE)[:-1]))
    assert report.rows.num_rows == 5
    assert codes(report) == []


@pytest.mark.parametrize("encode", [vegeta_lines, as_csv])
def test_a_blank_line_ends_nothing(write: Write, encode: Any) -> None:
    report = read_report(write(encode(FIVE[:2]) + b"\n\n" + encode(FIVE[2:])))
    assert report.rows.num_rows == 5


@pytest.mark.parametrize("encode", [vegeta_lines, as_csv])
def test_a_stream_cut_anywhere_is_invalid_or_refused_never_whole(write: Write, encode: Any) -> None:
    text = encode(FIVE)
    line = text.index(b"\n") + 1
    lost_within_last_column = encode is as_csv
    for cut in range(line + 1, len(text) - 1):
        report = read_report(write(text[:cut]))
        lines = text[:cut].count(b"\n")
        if text[cut : cut + 1] == b"\n":
            lines += 1
        kept = report.rows.num_rows
        if lost_within_last_column and kept == lines + 1:
            assert latencies_of(report.rows) == [5_000_000 + seq for seq in range(kept)]
            continue
        assert kept == lines, cut
        ends_in_a_line = text[cut - 1 : cut] != b"\n" and text[cut : cut + 1] != b"\n"
        assert ("truncated" in codes(report)) == ends_in_a_line, cut


def test_the_first_record_cut_is_refused_or_invalid(write: Write) -> None:
    line = vegeta_lines(FIVE[:1])
    for cut in range(1, len(line) - 1):
        try:
            report = read_report(write(line[:cut]))
        except ResultsError:
            continue
        assert report.rows.num_rows == 0
        assert "truncated" in codes(report)


@pytest.mark.parametrize("encode", [vegeta_lines, as_csv])
def test_gaps_in_the_sequence_are_missing_requests(write: Write, encode: Any) -> None:
    (check,) = read_report(write(encode([FIVE[0], FIVE[4], FIVE[2]]))).checks
    assert (check.code, check.consequence) == ("incomplete", "INVALID")
    assert check.numbers == {"missing": 2.0, "requests": 3.0}


@pytest.mark.parametrize("encode", [vegeta_lines, as_csv])
def test_a_worker_given_twice_is_found(write: Write, encode: Any) -> None:
    (check,) = read_report(write(encode(FIVE + FIVE))).checks
    assert (check.code, check.numbers) == ("duplicate-worker", {"repeated": 5.0})


def test_named_workers_in_one_stream_are_complete_each(write: Write) -> None:
    other = [record | {"attack": "b", "latency": 1} for record in FIVE]
    report = read_report(write(vegeta_lines(FIVE + other)))
    assert report.rows.num_rows == 10
    assert report.checks == ()


def test_phantom_records_are_no_requests(write: Write) -> None:
    phantom = vegeta_record(
        5, code=0, error="no targets to attack", method="", url="", body=None, headers=None
    )
    report = read_report(write(vegeta_lines([*FIVE, phantom])))
    assert report.rows.num_rows == 5
    assert codes(report) == ["phantom-records"]


@pytest.mark.parametrize(
    ("code", "error", "ok"),
    [
        (200, "", True),
        (204, "", True),
        (302, "", True),
        (399, "", True),
        (400, "400 Bad Request", False),
        (400, "", False),
        (199, "", False),
        (0, "unexpected EOF", False),
        (200, "net/http: request body too large", False),
    ],
)
def test_ok_is_an_answer_from_200_to_399_without_error(write: Write, code: int, error: str, ok: bool) -> None:
    report = read_report(write(vegeta_lines([vegeta_record(0, code=code, error=error)])))
    assert columns.truths(report.rows["ok"]).tolist() == [ok]


def test_key_order_white_space_and_old_versions_read_alike(write: Write) -> None:
    expected = read_report(write(vegeta_lines(FIVE))).rows
    backwards = [{key: record[key] for key in reversed(record)} for record in FIVE]
    spaced = b"".join(json.dumps(record).encode() + b"\r\n" for record in FIVE)
    old = [{k: v for k, v in record.items() if k not in ("method", "url", "headers")} for record in FIVE]
    assert read_report(write(vegeta_lines(backwards))).rows.equals(expected)
    assert read_report(write(spaced)).rows.equals(expected)
    assert read_report(write(vegeta_lines(old))).rows.equals(expected)


@pytest.mark.parametrize(
    "twice",
    [
        b'"latency":5000000,"latency":1',
        b'"latency":5000000,"l\\u0061tency":1',
        b'"latency":5000000,"error":"","code":500',
    ],
)
def test_a_key_given_twice_is_refused(write: Write, twice: bytes) -> None:
    line = vegeta_lines(FIVE[:1]).replace(b'"latency":5000000', twice)
    with pytest.raises(ResultsError) as caught:
        read_report(write(line))
    assert caught.value.code == "duplicate-key"


def test_a_key_given_twice_cannot_hide_behind_one_left_out(write: Write) -> None:
    line = (
        vegeta_lines(FIVE[:1])
        .replace(b'"attack":"a",', b"")
        .replace(b'"code":200', b'"code":200,"code":500,"code":1')
    )
    with pytest.raises(ResultsError):
        read_report(write(line))


@pytest.mark.parametrize(
    ("change", "position"),
    [
        ({"latency": -1}, "line 3, latency"),
        ({"latency": 2**70}, "line 3, latency"),
        ({"latency": 10**17}, "line 3, latency"),
        ({"code": 1000}, "line 3, code"),
        ({"code": "200"}, "line 3, code"),
        ({"seq": -1}, "line 3, seq"),
        ({"timestamp": "x"}, "line 3, timestamp"),
        ({"timestamp": "0001-01-01T00:00:00Z"}, "line 3, timestamp"),
        ({"bytes_in": 1.5}, "line 3, bytes_in"),
        ({"error": 7}, "line 3, error"),
    ],
)
def test_a_damaged_record_is_named(write: Write, change: dict[str, Any], position: str) -> None:
    with pytest.raises(ResultsError) as caught:
        read_report(write(vegeta_lines([FIVE[0], FIVE[1], FIVE[2] | change, FIVE[3]])))
    assert caught.value.position == position


def test_garbage_between_lines_is_named(write: Write) -> None:
    with pytest.raises(ResultsError) as caught:
        read_report(write(vegeta_lines(FIVE[:2]) + b"#!garbage\n" + vegeta_lines(FIVE[2:])))
    assert caught.value.position.startswith("line 3")


@pytest.mark.parametrize(
    ("old", "new", "position"),
    [
        (b",200,", b",2x0,", "line 1, code"),
        (b",200,", b",-20,", "line 1, code"),
        (b",5000000,", b",99999999999999999999,", "line 1, latency"),
        (b",5000000,", b",,", "line 1, latency"),
        (b",POST,", b",", "line 1"),
    ],
)
def test_a_damaged_csv_line_is_named(write: Write, old: bytes, new: bytes, position: str) -> None:
    with pytest.raises(ResultsError) as caught:
        read_report(write(as_csv(FIVE).replace(old, new, 1)))
    assert caught.value.position == position


def test_blocks_may_end_anywhere(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [vegeta_record(seq) for seq in range(300)]
    expected = read_report(write(vegeta_lines(records))).rows
    for size in (1, 7, 331, 4096):
        monkeypatch.setattr(source, "HEAD_BYTES", 200)
        monkeypatch.setattr(source, "BLOCK_BYTES", size)
        assert read_report(write(vegeta_lines(records))).rows.equals(expected)


def test_a_report_beside_its_streams_is_checked_against_them(shared: Path) -> None:
    folder = shared / "fixtures"
    merged = read_report([folder / "vegeta-clean.results.json", folder / "vegeta-clean.report.json"])
    assert merged.rows.num_rows == 600
    assert "differs-from-tool" not in codes(merged)
    killed = read_report(
        [folder / "vegeta-killed-halfway.results.json", folder / "vegeta-killed-halfway.report.json"]
    )
    (check, *_) = [c for c in killed.checks if c.code == "differs-from-tool"]
    assert "p50" in check.detail
    assert check.numbers["tool"] > 1.6 * check.numbers["rows"]


def test_a_report_with_failures_tells_no_latencies(shared: Path) -> None:
    (summary,) = summarize_report(read_report(shared / "fixtures/vegeta-http500.report.json"))
    assert (summary.ok, summary.failed) == (557, 43)
    assert summary.latency_ns.p50 is summary.latency_ns.mean is None
    assert summary.warnings[0].code == "latency-includes-failures"


def test_an_overflowed_mean_is_left_out(write: Write, shared: Path) -> None:
    told = json.loads((shared / "fixtures/vegeta-clean.report.json").read_bytes())
    told["latencies"] |= {"total": -5, "mean": -1}
    (summary,) = summarize_report(read_report(write(told)))
    assert summary.latency_ns.mean is None
    assert "mean-overflow" in [w.code for w in summary.warnings]


def test_one_request_has_no_sending_rate(shared: Path) -> None:
    for name in ("vegeta-single.results.json", "vegeta-single.report.json"):
        (summary,) = summarize_report(read_report(shared / "fixtures" / name))
        assert summary.offered_rps is None
        assert summary.achieved_rps == pytest.approx(1 / 0.013327882)


def test_hdrplot_tells_percentiles_over_all_requests_only(shared: Path) -> None:
    (summary,) = summarize_report(read_report(shared / "fixtures/vegeta-clean.report.hdrplot"))
    assert (summary.requests, summary.ok, summary.latency_ns.p50) == (600, None, None)
    assert "p50 7.996 ms" in summary.warnings[0].detail


def test_gob_without_vegeta_says_what_to_do(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ResultsError) as caught:
        read_report(shared / "fixtures/vegeta-clean.results.gob")
    assert caught.value.code == "gob-needs-vegeta"
    assert "encode -to json" in caught.value.remedy


def test_a_cut_gob_keeps_what_it_has_and_is_invalid(shared: Path, write: Write) -> None:
    if shutil.which("vegeta") is None:
        pytest.skip("vegeta, which decodes its gob encoding, is not on the PATH")
    whole = (shared / "fixtures/vegeta-clean.results.gob").read_bytes()
    report = read_report(write(whole[: len(whole) // 2]))
    assert 250 < report.rows.num_rows < 350
    assert codes(report)[0] == "truncated"
    with pytest.raises(ResultsError):
        read_report(write(whole[:150]))
    with pytest.raises(ResultsError):
        read_report(write(whole + whole))
