"""Reading by layout gives what reading one by one gives, on sound and on damaged text."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from model_load_test.components.results import ghz, vegeta_results
from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.places import (
    Text,
    constant_at,
    constant_everywhere,
    digits_at,
    numbers_at,
    timestamps_at,
)
from model_load_test.components.results.readers import read_report
from model_load_test.components.results.timestamps import NoTimestamp, unix_ns

ENDS = [b"", b",", b"}", b":", b"/", b"\xff", b"\x80", b"\x00", b"\xb0", b" 7"]


def texts_and_places(parts: list[bytes]) -> tuple[Text, np.ndarray]:
    lengths = np.array([len(part) for part in parts])
    return Text(b"".join(parts)), np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)


@given(st.lists(st.tuples(st.text("0123456789", max_size=17), st.sampled_from(ENDS[1:])), min_size=1))
@example([("99999999", b","), ("100000000", b"}"), ("", b":"), ("0", b",")])
def test_digits_are_what_int_reads(found: list[tuple[str, bytes]]) -> None:
    text, places = texts_and_places([digits.encode() + end for digits, end in found])
    read = digits_at(text, places)
    for (digits, _), value, length, sound in zip(found, read.values, read.lengths, read.sound, strict=True):
        assert sound == (1 <= len(digits) <= 15)
        if sound:
            assert (value, length) == (int(digits), len(digits))


@given(st.binary(max_size=300) | st.text("\n.", max_size=300).map(str.encode))
def test_a_character_is_found_wherever_it_stands(text: bytes) -> None:
    expected = [place for place, character in enumerate(text) if character == ord("\n")]
    assert Text(text).places_of(b"\n").tolist() == expected


def test_a_text_longer_than_what_is_looked_at_at_once_is_found_whole() -> None:
    lines = 50_000
    text = Text(b"abc\n" * lines)
    assert text.places_of(b"\n").tolist() == list(range(3, 4 * lines, 4))
    starts = np.arange(0, 4 * lines, 4)
    assert constant_everywhere(text, starts, b"abc\n")
    starts[-1] += 1
    assert not constant_everywhere(text, starts, b"abc\n")


def test_a_leading_zero_is_no_number_of_json() -> None:
    text, places = texts_and_places([b"0,", b"07,", b"70,", b"00,"])
    assert numbers_at(text, places).sound.tolist() == [True, False, True, False]


TIMES = st.builds(
    lambda date, clock, fraction, zone: f"{date}T{clock}{fraction}{zone}",
    st.sampled_from(["2026-11-21", "2026-11-22", "1970-01-01", "2026-02-30", "2026-1-021", "2300-01-01"]),
    st.sampled_from(["11:16:15", "00:00:00", "23:59:59", "24:00:00", "11:60:15", "1:16:150", "11.16.15"]),
    st.sampled_from(["", ".", ".1", ".120", ".12345678", ".123456789", ".000000001", ".1234567890"]),
    st.sampled_from(["Z", "z", "+01:00", "", "ZZ"]),
)


@given(st.lists(TIMES, min_size=1, max_size=6))
def test_sound_timestamps_are_what_the_slow_reader_reads(found: list[str]) -> None:
    text, places = texts_and_places([f'{time}"'.encode() for time in found])
    read = timestamps_at(text, places)
    for time, value, length, sound in zip(found, read.values, read.lengths, read.sound, strict=True):
        if sound:
            assert unix_ns([time[:length]])[0] == value
            assert time[length - 1] == "Z"
        elif time.endswith("Z") and len({other[:10] for other in found}) == 1:
            with pytest.raises(NoTimestamp):
                unix_ns([time])


@given(st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=40))
def test_a_constant_is_found_where_it_stands(constant: bytes, other: bytes) -> None:
    text, places = texts_and_places([constant, other, constant])
    joined = constant + other + constant
    expected = [joined.startswith(constant, place) for place in places]
    assert constant_at(text, places, constant).tolist() == expected
    assert constant_everywhere(text, places, constant) == all(expected)


def requests_of(count: int) -> list[dict[str, Any]]:
    return [
        {
            "timestamp": f"2026-11-21T11:06:39.{(index * 37_000_001) % 10**9:09d}".rstrip("0").rstrip(".")
            + "Z",
            "latency": 10**index % 10**11 + index,
        }
        for index in range(count)
    ]


def ghz_text() -> bytes:
    details = [{**request, "error": "", "status": "OK"} for request in requests_of(12)]
    report = {
        "count": len(details),
        "total": 10**9,
        "average": 1,
        "rps": 12.0,
        "endReason": "normal",
        "statusCodeDistribution": {"OK": len(details)},
        "details": details,
    }
    return json.dumps(report, separators=(",", ":")).encode()


def vegeta_text() -> bytes:
    lines = []
    for sequence, request in enumerate(requests_of(12)):
        headers = {
            "Content-Type": ["application/json"],
            "Date": [f"Sat, 21 Nov 2026 11:06:3{sequence // 6} GMT"],
        }
        record = {"attack": "a", "seq": sequence, "code": 200, **request, "bytes_out": 37, "bytes_in": 245}
        rest = {"error": "", "body": None, "method": "POST", "url": "http://127.0.0.1", "headers": headers}
        lines.append(json.dumps({**record, **rest}, separators=(",", ":")).encode() + b"\n")
    return b"".join(lines)


def outcome(path: Path) -> tuple[Any, ...]:
    """What reading gives, or the refusal; the place of a fault is the slow reader's in both cases."""
    try:
        report = read_report(path)
    except ResultsError as error:
        return ("refused", error.code, str(error))
    return ("read", report.rows.to_pylist(), report.checks, report.stated)


def damaged(text: bytes, place: int, inserted: bytes, removed: int) -> bytes:
    place %= len(text)
    return text[:place] + inserted + text[place + removed :]


BYTES = st.sampled_from(
    [b"", b"0", b"9", b"-", b'"', b"\\", b",", b"}", b"{", b"\n", b" ", b".", b"e5", b"\xff"]
)


@pytest.mark.parametrize("tool", ["ghz", "vegeta"])
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), inserted=BYTES, removed=st.integers(0, 2))
def test_damage_is_read_alike_by_layout_and_one_by_one(
    tool: str,
    place: int,
    inserted: bytes,
    removed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(damaged(ghz_text() if tool == "ghz" else vegeta_text(), place, inserted, removed))
    by_layout = outcome(path)
    with monkeypatch.context() as patch:
        patch.setattr(ghz, "_all_ok", lambda text: None)
        patch.setattr(vegeta_results, "columns_of", lambda lines, newlines: None)
        assert outcome(path) == by_layout


@pytest.mark.parametrize(
    ("tool", "written", "instead"),
    [
        ("vegeta", b'"code":200', b'"code":9200'),
        ("vegeta", b'"seq":3,', b'"seq":03,'),
        ("vegeta", b'"method"', b'"url":"","method"'),
        ("vegeta", b'"attack":"a"', b'"url":"","attack":"a"'),
        ("vegeta", b'"error":""', b'"error":"no targets to attack"'),
        ("ghz", b'"OK"}]', b'"OK"}x]'),
        ("ghz", b'"OK"}]', b'"OK"},]'),
        ("ghz", b'"OK"},{', b'"OK"}{'),
        ("ghz", b'"OK"},{', b'"OK"} ,{'),
        ("ghz", b'"latency":1,', b'"latency":01,'),
        ("ghz", b'"error":""', b'"error":"","error":""'),
    ],
)
def test_this_damage_is_read_alike(
    tool: str, written: bytes, instead: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ghz_text() if tool == "ghz" else vegeta_text()
    assert written in text
    path = tmp_path / "report.json"
    path.write_bytes(text.replace(written, instead))
    by_layout = outcome(path)
    monkeypatch.setattr(ghz, "_all_ok", lambda text: None)
    monkeypatch.setattr(vegeta_results, "columns_of", lambda lines, newlines: None)
    assert outcome(path) == by_layout


def test_sound_reports_are_read_by_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unneeded(*_: object) -> None:
        raise AssertionError("they were read one by one")

    monkeypatch.setattr(ghz, "_decode_chunk", unneeded)
    monkeypatch.setattr(vegeta_results, "_has_no_key_twice", unneeded)
    for name, text in (("ghz.json", ghz_text()), ("vegeta.json", vegeta_text())):
        (tmp_path / name).write_bytes(text)
        assert read_report(tmp_path / name).rows.num_rows == 12


def test_many_different_answers_are_read_one_by_one(tmp_path: Path) -> None:
    lines = vegeta_text().splitlines(keepends=True) * 4
    varied = [line.replace(b" 11:06:", b" %02d:06:" % index) for index, line in enumerate(lines)]
    numbered = [
        line.replace(b'"seq":%d,' % (index % 12), b'"seq":%d,' % index) for index, line in enumerate(varied)
    ]
    (tmp_path / "stream.json").write_bytes(b"".join(numbered))
    report = read_report(tmp_path / "stream.json")
    assert report.rows.num_rows == 48
    assert report.checks == ()
