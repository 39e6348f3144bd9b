"""Alignment: as-of joins, rates over resets and gaps, quantiles of histograms, frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_load_test.components.resources.align import (
    aligned,
    as_of,
    block_cells,
    even_cells,
    gauge_in,
    histogram_quantile,
    increase_in,
    load_rows,
    normalised,
    of_model,
    tidy_frame,
    wide_frame,
    without_resets,
)
from model_load_test.components.resources.series import Series, Window

SECOND = 10**9
Make = Callable[..., Any]


def test_a_cell_goes_from_a_blocks_first_request_to_the_next_ones(table_of: Make) -> None:
    table = table_of(blocks=3, rate_rps=10, gap=0.5)
    cells = block_cells(table)
    assert cells.blocks.tolist() == [0, 1, 2]
    assert np.diff(cells.starts_ns).tolist() == [1.5 * SECOND, 1.5 * SECOND]
    assert cells.ends_ns[:-1].tolist() == cells.starts_ns[1:].tolist()
    assert cells.ends_ns[-1] == max(table["sent_at_ns"].to_pylist()) + 1


def test_a_fall_of_a_counter_is_a_new_beginning_at_zero() -> None:
    assert without_resets(np.array([100.0, 110.0, 3.0, 5.0])).tolist() == [0, 10, 13, 15]


@given(
    st.lists(st.floats(0, 1e3), min_size=1, max_size=30),
    st.sets(st.integers(1, 29), max_size=4),
)
def test_restarts_never_change_what_a_counter_rose_by(steps: list[float], restarts: set[int]) -> None:
    """A process that is started anew counts from zero what it does from then on."""
    value, values, true = 0.0, [0.0], [0.0]
    for place, wished in enumerate(steps):
        step = wished
        if place in restarts and value > 0:
            value = 0.0
            step = min(wished, values[-1] / 2)  # else the fall cannot be seen, by anyone
        value += step
        values.append(value)
        true.append(true[-1] + step)
    found = without_resets(np.array(values))
    assert np.allclose(found, true)


def test_as_of_is_the_last_sample_at_or_before() -> None:
    at_ns = np.array([10, 20, 30])
    assert as_of(at_ns, np.array([9, 10, 19, 20, 99])).tolist() == [-1, 0, 0, 1, 2]


def test_a_rate_is_over_the_time_between_its_two_samples(table_of: Make, series_of: Make) -> None:
    """Sampled every 0.7 s, blocks of 1 s: no grid fits, and the rate is exact all the same."""
    cells = block_cells(table_of())
    risen, seconds = increase_in(series_of(every=0.7, value=lambda at: 0.4 * at + 7), cells)
    assert np.allclose(risen / seconds, 0.4)
    assert set(np.round(seconds, 1)) == {0.7, 1.4}


def test_a_source_slower_than_the_blocks_has_values_where_it_spoke(table_of: Make, series_of: Make) -> None:
    cells = block_cells(table_of())
    risen, seconds = increase_in(series_of(every=5.0, since=-10, value=lambda at: 2 * at), cells)
    told = np.isfinite(risen)
    assert told.sum() == 2
    assert np.allclose(risen[told] / seconds[told], 2)
    assert np.allclose(seconds[told], 5)


def test_over_a_gap_nothing_is_made_up(table_of: Make, series_of: Make) -> None:
    cells = block_cells(table_of(blocks=12))
    series = series_of(value=lambda at: 3 * at)
    kept = (series.at_ns < cells.starts_ns[3]) | (series.at_ns >= cells.starts_ns[8])
    holed = Series(
        *(series.metric, series.kind, series.arm, series.replica, series.source),
        series.at_ns[kept],
        series.values[kept],
    )
    risen, seconds = increase_in(holed, cells)
    assert np.isnan(risen[4:8]).all()
    assert np.allclose((risen / seconds)[[0, 1, 8, 9]], 3)
    gauge = Series(*("memory_bytes", "gauge", "candidate", "r1", "page"), holed.at_ns, holed.values)
    assert np.isnan(gauge_in(gauge, cells)[4:7]).all()
    assert np.isfinite(gauge_in(gauge, cells)[[0, 1, 2, 9]]).all()


@pytest.mark.parametrize(
    ("cumulative", "q", "expected"),
    [
        ([10, 10, 10, 10], 0.5, 0.5),  # the first bucket begins at zero
        ([0, 10, 10, 10], 0.5, 1.5),
        ([0, 10, 20, 20], 0.75, 3.0),
        ([0, 10, 10, 20], 0.95, 4.0),  # above the highest finite limit
        ([0, 10, 20, 20], 0.0, 1.0),
    ],
)
def test_quantiles_are_prometheus_own(cumulative: list[float], q: float, expected: float) -> None:
    assert histogram_quantile([1, 2, 4, math.inf], cumulative, q) == pytest.approx(expected)


def test_an_empty_histogram_has_no_quantile() -> None:
    assert math.isnan(histogram_quantile([1, math.inf], [0, 0], 0.5))
    assert math.isnan(histogram_quantile([], [], 0.5))


@given(st.lists(st.floats(0.001, 0.9), min_size=50, max_size=300), st.sampled_from([0.5, 0.9, 0.95]))
def test_a_histograms_quantile_is_within_its_bucket(values: list[float], q: float) -> None:
    limits = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, math.inf]
    cumulative = [sum(value <= limit for value in values) for limit in limits]
    exact = sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
    found = histogram_quantile(limits, cumulative, q)
    place = next(index for index, limit in enumerate(limits) if exact <= limit)
    lower = limits[place - 1] if place else 0.0
    assert lower - 1e-12 <= found <= limits[place] + 1e-12


def histogram(series_of: Make, replica: str, milliseconds: float) -> list[Series]:
    """100 requests a second that all take so long."""
    limits = (0.001, 0.01, 0.1, math.inf)
    return [
        series_of(
            *("server_latency_seconds",),
            kind="buckets",
            replica=replica,
            limit=limit,
            value=lambda at, limit=limit: 100 * (at + 3) if milliseconds / 1e3 <= limit else 0.0,
        )
        for limit in limits
    ]


def test_a_quantile_says_that_it_comes_from_a_histogram(table_of: Make, series_of: Make) -> None:
    cells = block_cells(table_of())
    rows = aligned(histogram(series_of, "r1", 5), cells)
    p95 = [row for row in rows if row.metric == "server_latency_seconds_p95"]
    assert len(p95) == 12
    assert {row.method for row in p95} == {"histogram quantile"}
    assert p95[0].value == pytest.approx(0.001 + 0.95 * 0.009)


def test_an_arms_quantile_is_over_the_requests_of_all_its_replicas(table_of: Make, series_of: Make) -> None:
    """Not the mean of the replicas' quantiles: half the requests take 5 ms, half 50 ms."""
    cells = block_cells(table_of())
    series = histogram(series_of, "fast", 5) + histogram(series_of, "slow", 50)
    rows = [row for row in aligned(series, cells, by_replica=False) if row.metric.endswith("_p50")]
    assert {row.replica for row in rows} == {""}
    assert rows[0].value == pytest.approx(0.01)


def test_counters_that_belong_together_make_means_and_shares(table_of: Make, series_of: Make) -> None:
    cells = block_cells(table_of())
    rows = aligned(
        [
            series_of("queue_wait_seconds_sum", kind="counter", value=lambda at: 0.02 * 100 * at),
            series_of("queue_wait_seconds_count", kind="counter", value=lambda at: 100 * at),
            series_of("server_latency_seconds_sum", kind="counter", value=lambda at: 0.3 * at),
            series_of("served_requests", kind="counter", value=lambda at: 100 * at),
            series_of("batch_size_sum", kind="counter", value=lambda at: 100 * at),
            series_of("batch_size_count", kind="counter", value=lambda at: 25 * at),
            series_of("cpu_periods", kind="counter", value=lambda at: 10 * at),
            series_of("cpu_throttled_periods", kind="counter", value=lambda at: 4 * at),
        ],
        cells,
    )
    levels = {row.metric: row for row in rows}
    assert levels["queue_wait_seconds_mean"].value == pytest.approx(0.02)
    assert levels["server_latency_seconds_mean"].value == pytest.approx(0.003), (
        "Triton has no count of its own"
    )
    assert levels["batch_size_mean"].value == pytest.approx(4)
    assert levels["cpu_throttled_share"].value == pytest.approx(0.4)
    assert levels["cpu_throttled_share"].method == "ratio"
    assert levels["served_rps"].value == pytest.approx(100)


def test_containers_and_cards_of_a_pod_add_up_and_shares_average(table_of: Make, series_of: Make) -> None:
    cells = block_cells(table_of())
    rows = aligned(
        [
            series_of(value=lambda at: 0.5 * at, labels={"container": "server"}),
            series_of(value=lambda at: 0.1 * at, labels={"container": "proxy"}),
            series_of("gpu_busy_share", value=lambda _: 0.9, labels={"UUID": "a"}),
            series_of("gpu_busy_share", value=lambda _: 0.1, labels={"UUID": "b"}),
            series_of("gpu_memory_bytes", value=lambda _: 1e9, labels={"UUID": "a"}),
            series_of("gpu_memory_bytes", value=lambda _: 2e9, labels={"UUID": "b"}),
        ],
        cells,
    )
    levels = {row.metric: row.value for row in rows}
    assert levels["cpu_cores"] == pytest.approx(0.6)
    assert levels["gpu_busy_share"] == pytest.approx(0.5)
    assert levels["gpu_memory_bytes"] == pytest.approx(3e9)


def test_replicas_are_counted_where_no_one_says_how_many(table_of: Make, series_of: Make) -> None:
    cells = block_cells(table_of())
    series = [series_of(), series_of(replica="r2", since=5.2)]
    counts = {row.cell: row.value for row in aligned(series, cells) if row.metric == "replicas"}
    assert [counts[cell] for cell in (0, 4, 5, 11)] == [1, 1, 2, 2]
    told = [*series, series_of("replicas", replica="", value=lambda _: 7.0)]
    rows = [row for row in aligned(told, cells) if row.metric == "replicas"]
    assert {(row.value, row.method) for row in rows} == {(7.0, "sampled")}


def test_what_a_server_tells_of_other_models_and_apis_is_left_out(series_of: Make) -> None:
    mine = series_of(labels={"model_name": "digits", "API": "Predict"})
    kept = of_model(
        [
            mine,
            series_of(labels={"model_name": "other", "API": "Predict"}),
            series_of(labels={"model": "other"}),
            series_of(labels={"model_name": "digits", "API": "GetModelStatus"}),
            series_of(labels={"container": "server"}),
        ],
        "digits",
    )
    assert [one.labels for one in kept] == [mine.labels, {"container": "server"}]


def test_the_load_stands_on_the_same_blocks(table_of: Make) -> None:
    table: pa.Table = table_of(rate_rps=100)
    cells = block_cells(table)
    rows = {(row.arm, row.metric, row.cell): row.value for row in load_rows(table, cells)}
    assert rows["candidate", "sent_rps", 3] == pytest.approx(100, rel=0.02)
    assert rows["baseline", "failed_share", 3] == pytest.approx(0.02)
    assert rows["candidate", "latency_seconds_p50", 0] == pytest.approx(0.005, rel=1e-3)


def test_one_frame_is_tidy_and_one_is_wide(table_of: Make, series_of: Make) -> None:
    table = table_of()
    cells = block_cells(table)
    series = [
        series_of(arm=arm, replica=f"{arm}-1", signature="serving_default", value=lambda at, f=f: f * at)
        for arm, f in (("candidate", 0.6), ("baseline", 0.5))
    ]
    tidy = tidy_frame([*load_rows(table, cells), *aligned(series, cells)], cells)
    assert not tidy["value"].isna().any()
    assert not tidy.duplicated(["arm", "metric", "replica", "signature", "block"]).any()
    one = tidy[(tidy["arm"] == "candidate") & (tidy["metric"] == "cpu_cores")]
    assert one["unit"].unique().tolist() == ["cores"]
    assert one["method"].unique().tolist() == ["rate"]
    wide = wide_frame(tidy)
    assert wide.columns.names == ["arm", "metric", "replica", "signature"]
    assert wide.index.names == ["seconds", "block"]
    assert len(wide) == 12
    column = wide["candidate", "cpu_cores", "candidate-1", "serving_default"]
    assert np.allclose(column, 0.6)
    assert np.allclose(wide["baseline"]["cpu_cores"].to_numpy(), 0.5)


def test_normalised_columns_go_from_nought_to_one_and_flat_ones_stay_nought(
    table_of: Make, series_of: Make
) -> None:
    cells = block_cells(table_of())
    series = [
        series_of("memory_bytes", value=lambda at: 1e9 + 1e6 * at),
        series_of("threads", value=lambda _: 8.0),
    ]
    wide = normalised(wide_frame(tidy_frame(aligned(series, cells), cells)))
    memory = wide["candidate", "memory_bytes", "r1", ""]
    assert (memory.min(), memory.max()) == (0, 1)
    assert (wide["candidate", "threads", "r1", ""] == 0).all()


def test_a_load_without_blocks_is_cut_evenly() -> None:
    cells = even_cells(Window(0, 20 * SECOND), 5.0)
    assert cells.starts_ns.tolist() == [0, 5 * SECOND, 10 * SECOND, 15 * SECOND]
    assert cells.window == Window(0, 20 * SECOND)
