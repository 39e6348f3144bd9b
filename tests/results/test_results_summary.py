from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from made_reports import START_NS, make_rows

from model_load_test.components.results.difference import differences
from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.histogram import (
    BUCKETS,
    RELATIVE_ERROR,
    Histogram,
    bucket_bounds,
    histogram,
    parse_histogram,
)
from model_load_test.components.results.percentile import enough_rows, nearest_rank, percentile, percentiles
from model_load_test.components.results.summary import Latencies, latencies, summarize
from model_load_test.components.results.timestamps import NoTimestamp, unix_ns

LATENCIES = st.lists(st.integers(0, 2**62), min_size=1, max_size=300)
Q = st.one_of(st.sampled_from([0.0, 50.0, 90.0, 95.0, 99.0, 99.9, 100.0]), st.integers(0, 100).map(float))
SECOND = 1_000_000_000


@given(values=LATENCIES, q=Q)
def test_a_percentile_is_the_nearest_rank(values: list[int], q: float) -> None:
    array = np.array(values, dtype=np.int64)
    found = percentile(array, q)
    assert found in values
    at_or_below = sum(value <= found for value in values)
    below = sum(value < found for value in values)
    assert at_or_below * 100 >= q * len(values) - 1e-6
    assert below == 0 or below * 100 < q * len(values) + 1e-6


@given(count=st.integers(1, 5000), q=st.sampled_from([50.0, 90.0, 95.0, 99.0, 99.9]))
def test_it_is_numpys_inverted_cdf(count: int, q: float) -> None:
    values = np.arange(count, dtype=np.int64)[::-1]
    # the exact fraction: numpy's own float product is off by one for some counts
    exact = -(-count * round(q * 10) // 1000)
    assert percentile(values, q) == exact - 1
    assert abs(percentile(values, q) - np.percentile(values, q, method="inverted_cdf")) <= 1


def test_ranks_at_the_edges() -> None:
    assert [nearest_rank(1000, q) for q in (0, 0.1, 50, 99.9, 100)] == [1, 1, 500, 999, 1000]
    assert percentiles(np.array([5, 1, 3], dtype=np.int64), (100.0, 0.0, 50.0)) == [5, 1, 3]
    for bad in (-1.0, 100.1, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 100"):
            nearest_rank(3, bad)
    with pytest.raises(ValueError, match="no values"):
        percentile(np.array([], dtype=np.int64), 50)


def test_a_percentile_needs_twenty_requests_beyond_it() -> None:
    told = {q: min(n for n in range(40_000) if enough_rows(n, q)) for q in (50.0, 90.0, 95.0, 99.0, 99.9)}
    assert told == {50.0: 40, 90.0: 200, 95.0: 400, 99.0: 2000, 99.9: 20_000}
    short = latencies(np.arange(1999, dtype=np.int64))
    assert short.p99 is None
    assert short.p95 is not None
    assert latencies(np.arange(2000, dtype=np.int64)).p99 == 1979


def test_rates_are_over_the_window_and_sending_over_its_intervals() -> None:
    rows = make_rows(
        [START_NS + i * SECOND // 10 for i in range(11)], [SECOND] * 11, ok=[True] * 8 + [False] * 3
    )
    summary = summarize(rows)
    assert summary.duration_seconds == 2.0
    assert summary.offered_rps == pytest.approx(10.0)
    assert summary.achieved_rps == pytest.approx(5.5)
    assert summary.goodput_rps == pytest.approx(4.0)
    assert summarize(rows, asked_rps=30.0).offered_rps == 30.0


def test_the_schedule_counts_where_it_is_known() -> None:
    rows = make_rows([START_NS + SECOND], [SECOND])
    scheduled = pa.array([START_NS], pa.int64())
    rows = rows.set_column(rows.schema.get_field_index("scheduled_at_ns"), "scheduled_at_ns", scheduled)
    assert summarize(rows).started_at_ns == START_NS


def test_nothing_gives_no_numbers() -> None:
    summary = summarize(make_rows([], []))
    assert (summary.requests, summary.ok, summary.failed) == (0, 0, 0)
    assert summary.achieved_rps is summary.started_at_ns is summary.latency_ns.mean is None


@given(table_parts=st.lists(st.lists(st.booleans(), max_size=20), max_size=4))
def test_chunked_tables_count_as_whole_ones(table_parts: list[list[bool]]) -> None:
    tables = [make_rows([START_NS] * len(part), [7] * len(part), ok=part) for part in table_parts]
    flags = [flag for part in table_parts for flag in part]
    pooled = pa.concat_tables([make_rows([], []), *tables])
    summary = summarize(pooled.slice(1) if flags else pooled)
    assert (summary.requests, summary.ok) == (max(0, len(flags) - 1), sum(flags[1:]))


@given(values=LATENCIES, q=Q)
def test_the_histogram_is_within_its_stated_error(values: list[int], q: float) -> None:
    array = np.array(values, dtype=np.int64)
    found, exact = histogram(array).percentile(q), percentile(array, q)
    assert abs(found - exact) <= RELATIVE_ERROR * exact
    assert RELATIVE_ERROR <= 0.008
    assert histogram(array).mean() == pytest.approx(sum(values) / len(values))


@given(a=LATENCIES, b=LATENCIES)
def test_added_histograms_are_that_of_the_pool(a: list[int], b: list[int]) -> None:
    apart = histogram(np.array(a, dtype=np.int64)) + histogram(np.array(b, dtype=np.int64))
    assert apart == histogram(np.array(a + b, dtype=np.int64))
    assert apart + Histogram({}, 0, 0, 0) == apart


@given(value=st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 62).map(lambda bits: (1 << bits) - 1)))
@example(value=2**63 - 1)
def test_every_latency_has_its_bucket(value: int) -> None:
    (bucket,) = histogram(np.array([value], dtype=np.int64)).counts
    low, width = bucket_bounds(bucket)
    assert low <= value < low + width
    assert width <= max(1, low * RELATIVE_ERROR)
    assert 0 <= bucket < BUCKETS


def test_histograms_from_elsewhere_are_checked() -> None:
    good = histogram(np.array([1, 5_000_000], dtype=np.int64))
    values = {"counts": {str(k): v for k, v in good.counts.items()}}
    values |= {"total_ns": good.total_ns, "min_ns": good.min_ns, "max_ns": good.max_ns}
    assert parse_histogram(values) == good
    damages = (
        {"counts": {"-1": 1}},
        {"counts": {"1": 0}},
        {"total_ns": -1},
        {"sub_bits": 5},
        {"min_ns": 2**62},
    )
    for damage in damages:
        with pytest.raises(ResultsError):
            parse_histogram(values | damage)
    with pytest.raises(ResultsError):
        histogram(np.array([-1], dtype=np.int64))
    with pytest.raises(ValueError, match="no values"):
        Histogram({}, 0, 0, 0).percentile(50)


@given(st.lists(st.integers(0, 2**63 - 2**31), min_size=1, max_size=40))
def test_timestamps_keep_every_nanosecond(numbers: list[int]) -> None:
    texts = [str(np.datetime64(number, "ns")) + "Z" for number in numbers]
    trimmed = [text[:-1].rstrip("0").rstrip(".") + "Z" for text in texts]
    for form in (texts, trimmed):
        in_range = [(text, n) for text, n in zip(form, numbers, strict=True) if int(text[:4]) <= 2261]
        assert unix_ns([text for text, _ in in_range]).tolist() == [n for _, n in in_range]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00.5+01:00", 500_000_000),
        ("1969-12-31T23:00:00-01:30", 1_800_000_000_000),
        ("2024-02-29T12:34:56.000000001Z", 1_709_210_096_000_000_001),
    ],
)
def test_timestamps_with_zones(text: str, expected: int) -> None:
    assert unix_ns(["2026-01-01T00:00:00Z", text])[1] == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "Z", "2026-11-21", "2026-11-21T11:16:15", "2026-11-21 11:16:15Z", "2026-11-21T11:16:15.Z"),
        *("2026-13-21T11:16:15Z", "2026-02-29T11:16:15Z", "2026-11-21T24:00:00Z", "2026-11-21T11:60:00Z"),
        *("2026-11-21T11:16:60Z", "2026-11-21T11:16:15.1234567890Z", "2026-11-21T11:16:15.12x4Z"),
        *(
            "0001-01-01T00:00:00Z",
            "2262-01-01T00:00:00Z",
            "\u0662026-11-21T11:16:15Z",
            "2026-11-21T11:16:1\u0665Z",
        ),
        *("2026/11/21T11:16:15Z", "20261121AT11:16:15Z", "2026-W47-6T11:16:15Z", "2026-11-21T11:16:15Z\n"),
    ],
)
def test_what_is_no_timestamp_is_named(text: str) -> None:
    with pytest.raises(NoTimestamp) as caught:
        unix_ns(["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.25Z", text])
    assert caught.value.index == 2


def runs(seed: int, shift: float) -> tuple[pa.Table, pa.Table]:
    """Two runs of 2 000 requests whose latencies drift slowly, as those of real servers do."""
    generator = np.random.default_rng(seed)
    tables = []
    for scale in (1.0, shift):
        drift = np.repeat(1 + 0.1 * generator.standard_normal(100), 20)
        latency_ns = (1e7 * scale * drift * (1 + 0.2 * generator.exponential(size=2000))).astype(np.int64)
        tables.append(make_rows([START_NS + i * 5_000_000 for i in range(2000)], latency_ns.tolist()))
    return tables[0], tables[1]


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        a, b = runs(seed, 1.0)
        found = {d.figure: d for d in differences(summarize(a).latency_ns, summarize(b).latency_ns, a, b)}
        covered += found["mean"].lower <= 0 <= found["mean"].upper
    assert 178 <= covered <= 199


def test_a_real_difference_is_outside_the_interval() -> None:
    a, b = runs(1, 1.2)
    found = {d.figure: d for d in differences(summarize(a).latency_ns, summarize(b).latency_ns, a, b)}
    assert found["mean"].lower > 0
    assert found["p50"].lower > 0
    assert found["mean"].ratio == pytest.approx(1.2, rel=0.05)
    assert found["max"].lower is None


def test_without_rows_there_is_no_interval() -> None:
    (difference,) = differences(Latencies(mean=10.0), Latencies(mean=12.0, p50=3))
    assert (difference.difference, difference.lower) == (2.0, None)
