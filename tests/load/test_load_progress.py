from __future__ import annotations

import io
import os
import re
from typing import Any

import pyarrow as pa
import pytest

from model_load_test.components.load.progress import (
    ProgressUpdate,
    Standing,
    fitted,
    format_minutes,
    print_progress,
)
from model_load_test.components.load.schedule import segments_of_block, warmup_segment
from model_load_test.components.load.spec import parse_load_spec
from model_load_test.components.results.table import SCHEMA


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def rows(block: int, arm: str, count: int, latency_ms: float, failed: int = 0) -> pa.Table:
    values = {
        "arm": [arm] * count,
        "block": [block] * count,
        "worker": [0] * count,
        "sent_at_ns": list(range(count)),
        "scheduled_at_ns": [None] * count,
        "latency_ns": [round(latency_ms * 1e6)] * count,
        "ok": [index >= failed for index in range(count)],
        "status": ["OK"] * count,
        "error": [""] * count,
        "request_bytes": [None] * count,
        "response_bytes": [None] * count,
    }
    return pa.table(values, schema=SCHEMA)


def standing_after(pairs: int, failed: int = 0, **values: Any) -> tuple[Standing, list[ProgressUpdate]]:
    spec = parse_load_spec({"looks": (10, 60), **values})
    now = [100.0]
    standing = Standing(spec, clock=lambda: now[0])
    updates = []
    for block in range(pairs):
        (segment,) = segments_of_block(spec, block)
        standing.begin(segment, look=0)
        now[0] += 2.0
        for arm, latency_ms in (("candidate", 10.3), ("baseline", 10.0)):
            if arm in segment.arms:
                standing.add(rows(block, arm, 199, latency_ms, failed if arm == "candidate" else 0))
        updates.append(standing.update(pair_done=True))
    return standing, updates


def test_the_line_tells_where_how_long_how_fast_how_different_and_what_failed() -> None:
    standing, _ = standing_after(4, failed=3)
    assert standing.line() == (
        "look 1 of 2, pair 4 of 10 (at most 60); 0:12 left, at most 1:52; offered 200/s, candidate 199/s, "
        "baseline 199/s; p50 +3.0 %, p95 +3.0 %; failed: candidate 12"
    )


def test_one_arm_shows_its_levels() -> None:
    standing, _ = standing_after(2, mode="single")
    assert "block 2 of 10" in standing.line()
    assert "p50 10.30 ms, p95 10.30 ms; none failed" in standing.line()


def test_a_closed_loop_says_how_many_wait() -> None:
    standing, _ = standing_after(1, concurrency=8)
    assert "8 at once, candidate 199/s" in standing.line()


def test_a_varying_rate_shows_the_present_one() -> None:
    ramp = {"shape": "ramp", "from_rps": 100, "to_rps": 200, "seconds": 10}
    standing, _ = standing_after(3, rate_profile=ramp, block_seconds=1.0)
    assert "offered 125/s" in standing.line()


def test_a_block_without_an_answer_is_no_trouble() -> None:
    standing, _ = standing_after(2, failed=199)
    assert "failed: candidate 398" in standing.line()
    assert "p50" not in standing.line()


def test_before_the_first_block_there_is_the_warm_up() -> None:
    spec = parse_load_spec({})
    standing = Standing(spec)
    standing.begin(warmup_segment(spec), look=0)
    assert standing.line() == "warm-up, 2 s"


def test_a_log_gets_every_fifth_pair_the_looks_and_one_line_in_half_a_minute() -> None:
    _, updates = standing_after(12, block_seconds=1.0)
    assert [number for number, update in enumerate(updates, start=1) if update.logged] == [5, 10]
    spec = parse_load_spec({"looks": (60,)})
    now = [0.0]
    standing = Standing(spec, clock=lambda: now[0])
    standing.begin(segments_of_block(spec, 0)[0], look=0)
    logged = []
    for _ in range(200):  # one long block, looked at twice a second
        now[0] += 0.5
        logged.append(standing.update().logged)
    assert sum(logged) == 3


def test_a_log_is_plain_lines_with_the_time() -> None:
    stream = io.StringIO()
    print_progress(ProgressUpdate("look 1", live=True, logged=False), stream)
    print_progress(ProgressUpdate("look 1, pair 5", live=True, logged=True), stream)
    print_progress(ProgressUpdate("after 10 pairs: go on"), stream)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d [a-z0-9 ,:]+", line) for line in lines)


def test_a_terminal_has_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    print_progress(ProgressUpdate("x" * 100, live=True, logged=False), stream)
    assert stream.getvalue() == "\r\x1b[K" + "x" * 28 + "…"
    print_progress(ProgressUpdate("done"), stream)
    assert stream.getvalue().endswith("\r\x1b[Kdone\n")


@pytest.mark.parametrize("width", [1, 2, 10, 11, 12, 80])
def test_a_live_line_never_wraps(width: int) -> None:
    assert len(fitted("0123456789", width)) <= max(1, width - 1) or width > 10


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (59.6, "1:00"), (3599, "59:59"), (7440, "2 h 04")]
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert format_minutes(seconds) == text


def test_a_real_terminal_is_recognised() -> None:
    controller, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream:
        print_progress(ProgressUpdate("pair 1", live=True, logged=False), stream)
        print_progress(ProgressUpdate("pair 2", live=True, logged=False), stream)
        wanted = "\r\x1b[Kpair 1\r\x1b[Kpair 2"
        shown = ""
        while len(shown) < len(wanted):  # a terminal hands over what it has so far
            shown += os.read(controller, 200).decode()
    os.close(controller)
    assert shown == wanted
