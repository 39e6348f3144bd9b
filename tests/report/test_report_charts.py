"""Scales, ticks and the shapes drawn from them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_load_test.components.report.charts import Chart, Curve, Hit, Interval, chart, element, forest_row
from model_load_test.components.report.scales import (
    Scale,
    difference_scale,
    latency_scale,
    ratio_scale,
    tail_scale,
    tail_value,
    time_scale,
)

_LATENCIES = st.lists(st.floats(1e-7, 3e3), min_size=1, max_size=20)


@given(_LATENCIES)
def test_a_latency_axis_holds_its_values_and_has_ticks(values: list[float]) -> None:
    scale = latency_scale(values)
    assert all(scale.contains(value) for value in values)
    _has_readable_ticks(scale, least=2)


@given(st.lists(st.floats(0.06, 19), min_size=1, max_size=20))
def test_a_ratio_axis_holds_its_values_and_one(values: list[float]) -> None:
    scale = ratio_scale(values)
    assert all(scale.contains(value) for value in [1.0, *values])
    _has_readable_ticks(scale, least=1)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_a_difference_axis_holds_its_values_and_zero(values: list[float]) -> None:
    scale = difference_scale(values)
    assert all(scale.contains(value) for value in [0.0, *values])
    assert (0.0, "0") in [(round(value, 12), label) for value, label in scale.ticks]
    _has_readable_ticks(scale, least=2)


@given(st.floats(0.01, 1e6))
def test_a_time_axis_has_ticks(seconds: float) -> None:
    _has_readable_ticks(time_scale(0, seconds), least=2)


def _has_readable_ticks(scale: Scale, least: int) -> None:
    places = [scale.percent(value) for value, _ in scale.ticks]
    assert least <= len(places) <= 30
    assert places == sorted(places)
    labels = [label for _, label in scale.ticks]
    assert len(set(labels)) == len(labels)


def test_places_on_a_log_axis() -> None:
    scale = Scale(1, 100, logarithmic=True)
    assert [scale.percent(value) for value in (0.1, 1, 10, 100, 1000)] == [0, 0, 50, 100, 100]


def test_the_tail_axis_gives_every_decade_the_same_room() -> None:
    scale = tail_scale(0.999)
    places = [scale.percent(tail_value(share)) for share in (0.0, 0.9, 0.99, 0.999)]
    assert places == pytest.approx([0, 33.33, 66.67, 100], abs=0.02)
    assert [label for _, label in scale.ticks] == ["0", "p50", "p90", "p99", "p99.9"]


def test_text_and_attributes_are_escaped() -> None:
    made = str(element("text", "<b>&", class_='a"b', data_tip="<script>", absent=None))
    assert made == '<text class="a&#34;b" data-tip="&lt;script&gt;">&lt;b&gt;&amp;</text>'


def test_a_gap_parts_a_curve_and_strips_cover_the_chart() -> None:
    x, y = Scale(0, 4), Scale(0, 10)
    drawn = Chart(
        name="Five points",
        x=x,
        y=y,
        height=100,
        curves=(Curve("candidate", ((0, 1.0), (1, 2.0), (2, None), (3, 3.0), (4, 4.0))),),
        hits=tuple(Hit(at, f"at {at}") for at in range(5)),
    )
    picture = ET.fromstring(str(chart(drawn)))
    assert picture.get("aria-label") == "Five points"
    assert len([p for p in picture.iter("path") if "curve" in p.get("class", "")]) == 2
    strips = [r for r in picture.iter("rect") if r.get("class") == "hit"]
    assert sum(float(r.get("width", "").rstrip("%")) for r in strips) == pytest.approx(100, abs=0.1)


def test_an_interval_lies_where_its_scale_says() -> None:
    scale = Scale(0.5, 2.0, logarithmic=True)
    row = Interval("p95", "fail", margin=1.1, estimate=1.0, lower=0.5**0.5, upper=2**0.5)
    picture = ET.fromstring(str(forest_row(row, scale)))
    whisker = next(line for line in picture.iter("line") if line.get("class") == "whisker")
    assert (whisker.get("x1"), whisker.get("x2")) == ("25.0%", "75.0%")
    assert next(s for s in picture.iter("svg") if s.get("overflow")).get("x") == "50.0%"


def test_an_interval_beyond_the_axis_is_an_arrow() -> None:
    row = Interval("p95", "inconclusive", margin=1.1, estimate=3.0, lower=0.9, upper=400.0)
    picture = ET.fromstring(str(forest_row(row, ratio_scale([0.9, 3.0, 400.0]))))
    assert [text.text for text in picture.iter("text")] == ["▸"]
