"""Numbers in words."""

from __future__ import annotations

import math

import pytest

from model_load_test.components.report.wording import (
    ABSENT,
    format_change,
    format_count,
    format_level,
    format_margin,
    format_p,
    format_points,
    format_seconds,
    format_share,
)


def _plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 ms"),
        (8.5e-8, "85.0 ns"),
        (0.00085, "850 µs"),
        (0.0009999, "1.00 ms"),
        (0.0123456, "12.3 ms"),
        (0.012, "12.0 ms"),
        (1.234, "1.23 s"),
        (84.0, "84.0 s"),
        (840.0, "14.0 min"),
    ],
)
def test_seconds(seconds: float, said: str) -> None:
    assert _plain(format_seconds(seconds)) == said


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (1.1234, "+12.3 %"),
        (0.979, "\N{MINUS SIGN}2.1 %"),
        (1.0, "0 %"),
        (1.00001, "0 %"),
        (3.4, "\N{MULTIPLICATION SIGN}3.40"),
    ],
)
def test_change(ratio: float, said: str) -> None:
    assert _plain(format_change(ratio)) == said


def test_shares_points_and_counts() -> None:
    assert _plain(format_share(0.00117)) == "0.12 %"
    assert _plain(format_share(0.123456)) == "12.3 %"
    assert _plain(format_share(0)) == "0 %"
    assert _plain(format_share(1)) == "100 %"
    assert _plain(format_points(-0.0012)) == "\N{MINUS SIGN}0.12 pp"
    assert _plain(format_count(24_000)) == "24 000"
    assert [_plain(format_p(p)) for p in (6e-9, 0.0123, 1.0, None)] == ["< 0.001", "0.012", "1", ABSENT]


def test_each_metric_has_its_own_unit() -> None:
    assert _plain(format_level("p95", 0.0123)) == "12.3 ms"
    assert _plain(format_level("errors", 0.0123)) == "1.2 %"
    assert _plain(format_level("goodput", 199.5)) == "200 req/s"
    assert _plain(format_margin("p95", 0.1)) == "+10 %"
    assert _plain(format_margin("errors", 0.001)) == "+0.10 pp"
    # a margin of 5 % allows goodput to fall to 1/1.05 of the baseline's
    assert _plain(format_margin("goodput", 0.05)) == "\N{MINUS SIGN}4.8 %"


@pytest.mark.parametrize("absent", [None, math.nan, math.inf])
@pytest.mark.parametrize("said", [format_seconds, format_change, format_share, format_points, format_count])
def test_what_is_not_a_number_is_a_dash(said, absent: float | None) -> None:
    assert said(absent) == ABSENT
