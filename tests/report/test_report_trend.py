"""The trend of a key's runs: noise band, promotions, failures, and the page of its own."""

import math
import re
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from scipy import stats

from model_load_test.components.errors import InputError
from model_load_test.components.report.html import render_page, render_trend
from model_load_test.components.report.markdown import render_summary
from model_load_test.components.report.model import HistoryPoint
from model_load_test.components.report.trend import history_figure, noise_band, trend_figure

START = datetime(2026, 3, 1, 9, 30, tzinfo=timezone.utc)


def points(*p95_ms, **changes):
    return [
        HistoryPoint(
            START + timedelta(days=day),
            {"candidate_p50_ms": value / 2, "candidate_p95_ms": value},
            f"run-{day}",
            f"v{day}",
            "PASS",
            **changes,
        )
        for day, value in enumerate(p95_ms)
    ]


def changed(point, **changes):
    return HistoryPoint(**{name: getattr(point, name) for name in point.__struct_fields__} | changes)


def test_the_band_is_the_prediction_interval_of_the_logarithms():
    seconds = [0.010, 0.011, 0.0105, 0.0098, 0.0102, 0.0107]
    logs = np.log(seconds)
    half = stats.t.ppf(0.95, 5) * logs.std(ddof=1) * math.sqrt(1 + 1 / 6)
    low, high = noise_band(seconds, None)
    assert low == pytest.approx(math.exp(logs.mean() - half))
    assert high == pytest.approx(math.exp(logs.mean() + half))


def test_one_more_run_falls_into_the_band_nine_times_in_ten():
    random = np.random.default_rng(7)
    runs = np.exp(random.normal(math.log(0.01), 0.05, size=(4000, 13)))
    inside = 0
    for run in runs:
        low, high = noise_band(run[:12].tolist(), None)
        inside += low <= run[12] <= high
    assert 0.88 < inside / len(runs) < 0.92


def test_few_runs_have_the_calibrated_noise_floor_or_no_band():
    low, high = noise_band([0.010, 0.012, 0.011], 0.03)
    assert (low, high) == pytest.approx((0.011 * math.exp(-0.06), 0.011 * math.exp(0.06)))
    assert noise_band([0.010, 0.012, 0.011], None) is None
    assert noise_band([], 0.03) is None


def test_equal_runs_have_a_band_without_width():
    assert noise_band([0.01] * 6, None) == pytest.approx((0.01, 0.01))


def rects(picture, style):
    return re.findall(rf'<rect class="band {style}"[^>]*>', picture)


def test_the_trend_shows_band_promotions_and_failed_runs():
    runs = points(10.0, 10.4, 9.9, 10.1, 10.2, 14.0, 10.3)
    runs[1] = changed(runs[1], promoted_at=START)
    runs[4] = changed(runs[4], promoted_at=START, reference=True)
    runs[5] = changed(runs[5], verdict="FAIL")
    figure = trend_figure(runs)
    assert [panel.title for panel in figure.panels] == ["p95 latency", "Median latency"]
    picture = str(figure.panels[0].picture)
    assert len(rects(picture, "noise")) == 1
    assert picture.count('class="dot failed"') == 1
    assert picture.count('class="mark promotion"') == 2
    assert picture.count(">reference</text>") == 1
    assert "6 passing" in figure.panels[0].caption
    assert [row[-2:] for row in figure.rows[4:6]] == [("pass", "reference"), ("no pass", "\u2013")]
    assert [row[-1] for row in figure.rows].count("promoted") == 1


def test_a_failed_run_does_not_widen_the_band():
    calm, burst = points(10.0, 10.4, 9.9, 10.1, 10.2), points(10.0, 10.4, 9.9, 10.1, 10.2, 99.0)
    burst[5] = changed(burst[5], verdict="FAIL")
    captions = {trend_figure(runs).panels[0].picture.split("Noise from ")[1][:30] for runs in (calm, burst)}
    assert len(captions) == 1


def test_a_report_ends_with_this_run(report_of):
    report = report_of("PASS")
    figure = history_figure(report)
    assert figure.rows[-1][0] == "This run"
    assert str(figure.panels[0].picture).count('class="dot candidate"') == 1
    assert "No earlier runs" not in render_page(report)


def test_runs_that_do_not_tell_p95_are_no_trend(report_of):
    assert trend_figure([]) is None
    assert trend_figure([HistoryPoint(START, {"error_rate": 0.0})]) is None
    with pytest.raises(InputError, match="candidate_p95_ms"):
        render_trend("resnet", "", [])


def test_what_was_measured_otherwise_stands_in_page_and_summary(report_of):
    report = report_of("PASS")
    fields = {name: getattr(report, name) for name in report.__struct_fields__}
    told = type(report)(
        **fields
        | {"history_note": "3 passing runs under x", "history_differences": ("node type n2 against <e2>",)}
    )
    assert "measured otherwise: node type n2 against &lt;e2&gt;" in render_page(told)
    summary = render_summary(told)
    assert "- 3 passing runs under x" in summary
    assert "node type n2 against &lt;e2&gt;" in summary
    assert "Earlier runs" not in render_summary(report)


def test_the_page_of_a_trend_needs_nothing_but_itself():
    page = render_trend("<resnet>", "7 runs", points(10.0, 10.4, 9.9, 10.1, 10.2))
    assert "<title>&lt;resnet&gt;</title>" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.count("<svg") == 4
    assert "http" not in re.sub(r"https?://www\.w3\.org\S*", "", page)
