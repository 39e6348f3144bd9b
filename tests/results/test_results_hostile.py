"""Damage of every kind ends in a ResultsError that names the place, or in numbers that add up."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_reports import CORPUS, START_NS, ghz_detail, ghz_report, vegeta_lines, vegeta_record

from model_load_test.components.results import source
from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.readers import read_report
from model_load_test.components.results.report_summary import summarize_report
from model_load_test.components.results.summary import to_json_values

Write = Callable[..., Path]
SMALL = sorted(path for path in CORPUS.iterdir() if path.suffix != ".parquet")
GHZ = json.dumps(ghz_report([ghz_detail(START_NS + 9_000_000, 8_000_000)])).encode()


def read_or_refuse(path: Path) -> str:
    """The code of the refusal, or empty after the summary was checked."""
    try:
        report = read_report(path)
        summaries = summarize_report(report)
    except ResultsError as error:
        assert error.remedy
        assert error.code
        assert error.file
        return error.code
    for summary in summaries:
        json.dumps(to_json_values(summary), allow_nan=False)
        assert summary.ok is None or summary.requests == summary.ok + (summary.failed or 0)
        assert not report.has_rows or sum(summary.status_counts.values()) == summary.requests
    return ""


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.name)
def test_cut_anywhere(path: Path, write: Write) -> None:
    whole = path.read_bytes()
    codes = {read_or_refuse(write(whole[:cut])) for cut in range(0, len(whole), max(1, len(whole) // 150))}
    assert codes - {""}


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.name)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bytes_changed_anywhere(path: Path, write: Write, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    read_or_refuse(write(bytes(content)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=9),
        st.lists(st.integers(), max_size=3),
    ),
    key=st.sampled_from(sorted(json.loads(GHZ))),
)
def test_any_value_in_any_place_of_a_ghz_report(write: Write, key: str, value: object) -> None:
    read_or_refuse(write(json.dumps(json.loads(GHZ) | {key: value}).encode()))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    key=st.sampled_from(sorted(vegeta_record(0))),
)
def test_any_value_in_any_place_of_a_vegeta_record(write: Write, key: str, value: object) -> None:
    read_or_refuse(write(vegeta_lines([vegeta_record(0), vegeta_record(1) | {key: value}])))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"", "empty-file", id="empty"),
        pytest.param(b" \n\t\n", "empty-file", id="blank"),
        pytest.param(b"\xef\xbb\xbf" + GHZ, "malformed", id="byte order mark"),
        pytest.param(GHZ.decode().encode("utf-16"), "malformed", id="utf-16"),
        pytest.param(GHZ.replace(b'"OK"', b'"O\xff"'), "malformed", id="bad utf-8"),
        pytest.param(GHZ.replace(b"8000000,", b"NaN,"), "malformed", id="NaN"),
        pytest.param(GHZ.replace(b"8000000,", b"1e400,"), "wrong-type", id="infinity"),
        pytest.param(GHZ + GHZ, "malformed", id="two documents"),
        pytest.param(GHZ + b"}", "malformed", id="a brace too many"),
        pytest.param(b"[" * 100_000, "not-recognised", id="deep list"),
        pytest.param(b'{"count":' * 100_000, "not-recognised", id="deep object"),
        pytest.param(GHZ[:-1] + b',"x":' + b"[" * 100_000, "malformed", id="deep end"),
        pytest.param(GHZ[:-1] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}", "malformed", id="deep"),
        pytest.param(b"[" + GHZ + b"]", "not-recognised", id="a list, not an object"),
        pytest.param(GHZ.replace(b'"details": [', b'"details": {"a":[').replace(b"}]", b"}]}"),
                     "wrong-type", id="an object where a list belongs"),
        pytest.param(GHZ.replace(b'"count": 1', b'"count": 1, "count": 2'), "duplicate-key", id="key twice"),
        pytest.param(GHZ.replace(b'"latency": 8000000', b'"latency": 1, "latency": 8000000'),
                     "duplicate-key", id="key twice in a detail"),
        pytest.param(GHZ.replace(b'"concurrency": 4', b'"concurrency": 4, "concurrency": 5'),
                     "duplicate-key", id="key twice in the options"),
        pytest.param(GHZ.replace(b'"count": 1', b'"count": -1'), "wrong-type", id="negative count"),
        pytest.param(b'{"metrics": {"http_req_duration": {"avg": 1}}}', "not-recognised", id="k6"),
        pytest.param(b"PAR1 but no parquet", "malformed", id="parquet in name"),
        pytest.param(b"\x1f\x8b but no gzip", "malformed", id="gzip in name"),
        pytest.param(gzip.compress(GHZ)[:-12], "truncated", id="cut gzip"),
        pytest.param(gzip.compress(gzip.compress(GHZ)), "not-recognised", id="gzip in gzip"),
        pytest.param(bytes(range(256)) * 9, "not-recognised", id="noise"),
    ],
)  # fmt: skip
def test_damage_has_a_name(write: Write, content: bytes, code: str) -> None:
    assert read_or_refuse(write(content)) == code


def test_a_huge_text_is_no_error_text(write: Write) -> None:
    report = ghz_report([ghz_detail(START_NS, 5, "Internal", "x y" * 500_000)])
    (summary,) = summarize_report(read_report(write(report)))
    assert max(map(len, summary.errors)) <= 200


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        assert read_or_refuse(path) == "unreadable"


def test_bombs_stop_at_the_stated_limits(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_DECOMPRESSED_BYTES", 1 << 20)
    monkeypatch.setattr(source, "MAX_LINE_BYTES", 1 << 20)
    many_lines = gzip.compress(vegeta_lines([vegeta_record(seq) for seq in range(9000)]))
    assert read_or_refuse(write(many_lines)) == "too-large"
    one_line = vegeta_lines([vegeta_record(0)]) + b'{"attack":"' + b"x" * (3 << 20)
    assert read_or_refuse(write(one_line)) == "too-large"


def test_a_document_bomb_stops_at_its_limit(write: Write) -> None:
    """600 MB of spaces inside a report are refused, and never stand in memory as more than the limit."""
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    content = bomb.compress(GHZ[:-1])
    for _ in range(600):
        content += bomb.compress(b" " * (1 << 20))
    assert read_or_refuse(write(content + bomb.flush())) == "too-large"


def test_a_report_may_come_through_a_pipe_or_gzip() -> None:
    path = CORPUS / "vegeta-killed-halfway.results.json"
    program = (
        "from model_load_test.components.results.readers import read_report; "
        "r = read_report('-'); print(r.rows.num_rows, r.files)"
    )
    for content in (path.read_bytes(), gzip.compress(path.read_bytes())):
        done = subprocess.run([sys.executable, "-c", program], input=content, capture_output=True, check=True)
        assert done.stdout == b"4 ('<stdin>',)\n"


def test_memory_does_not_grow_with_the_bodies_of_a_stream(tmp_path: Path) -> None:
    """80 MB of stream are read with less than 40 MB above what the imports take."""
    path = tmp_path / "stream.json"
    record = vegeta_lines([vegeta_record(0, body="A" * 40_000)])
    with path.open("wb") as stream:
        for seq in range(2000):
            stream.write(record.replace(b'"seq":0', b'"seq":%d' % seq))
    program = (
        "import resource, sys; from model_load_test.components.results.readers import read_report; "
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; before = peak(); "
        "rows = read_report(sys.argv[1]).rows.num_rows; print(rows, peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, check=True, text=True
    )
    rows, grown_kib = map(int, done.stdout.split())
    assert rows == 2000
    assert grown_kib < 40_000
