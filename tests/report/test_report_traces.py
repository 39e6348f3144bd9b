"""A results table condensed: points over time, distributions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from model_load_test.components.report.traces import (
    MAX_POINTS,
    latency_histogram,
    latency_quantiles,
    latency_series,
)
from model_load_test.components.results.table import SCHEMA


def _latencies_ms(table: pa.Table, arm: str, block: int) -> np.ndarray:
    chosen = pc.and_(pc.equal(table["arm"].cast(pa.string()), arm), pc.equal(table["block"], block))
    rows = table.filter(pc.and_(chosen, table["ok"]))
    return np.sort(rows["latency_ns"].to_numpy()) / 1e6


def test_a_point_per_block_and_arm_with_its_own_percentiles(results_table) -> None:
    table = results_table(pairs=4, slowdown=1.3, error_share=0.05)
    points = [p for p in latency_series(table, 1.0) if not p.warmup]
    assert [(p.arm, p.block) for p in points] == [
        (arm, block) for block in range(4) for arm in ("baseline", "candidate")
    ]
    for point in points:
        expected = _latencies_ms(table, point.arm, point.block)
        assert point.requests == 200
        assert point.failed == 200 - expected.size
        # nearest rank: the smallest value with at least that share of the values at or below it
        assert point.p50_seconds * 1e3 == pytest.approx(expected[int(np.ceil(0.5 * expected.size)) - 1])
        assert point.p95_seconds * 1e3 == pytest.approx(expected[int(np.ceil(0.95 * expected.size)) - 1])
    assert sum(p.failed for p in points) > 0


def test_the_warmup_is_apart_and_counts_nowhere_else(results_table) -> None:
    table = results_table(pairs=3, warmup_seconds=2)
    points = latency_series(table, 1.0)
    warm = [p for p in points if p.warmup]
    assert len(warm) == 4
    assert all(p.block is None and p.end_seconds < 2.0 for p in warm)
    assert sum(p.requests for p in points) == table.num_rows
    without = table.filter(pc.greater_equal(table["block"], 0))
    assert latency_quantiles(table) == latency_quantiles(without)


def test_a_long_run_puts_neighbouring_blocks_together(results_table) -> None:
    table = results_table(pairs=MAX_POINTS + 30, rate_rps=20, warmup_seconds=0)
    points = [p for p in latency_series(table, 1.0) if p.arm == "candidate"]
    assert len(points) == (MAX_POINTS + 30) / 2
    assert [(p.block, p.blocks) for p in points[:3]] == [(0, 2), (2, 2), (4, 2)]
    assert all(p.requests == 40 for p in points)


def test_rows_without_blocks_are_cut_by_time(results_table) -> None:
    table = results_table(pairs=20, warmup_seconds=0)
    blind = table.set_column(1, "block", pa.array(np.zeros(table.num_rows, np.int32))).cast(SCHEMA)
    points = latency_series(blind)
    assert len(points) == 120
    assert all(p.block is None and not p.warmup for p in points)
    assert sum(p.requests for p in points) == table.num_rows


def test_shares_of_the_histogram_add_up_to_one(results_table) -> None:
    histogram = latency_histogram(results_table(pairs=5))
    assert histogram is not None
    assert set(histogram.shares) == {"candidate", "baseline"}
    for shares in histogram.shares.values():
        assert len(shares) == len(histogram.edges_seconds) - 1
        assert sum(shares) == pytest.approx(1, abs=1e-3)


def test_quantiles_rise_from_the_fastest_to_the_slowest(results_table) -> None:
    table = results_table(pairs=5, arms=("candidate",), warmup_seconds=0)
    curve = latency_quantiles(table)
    assert curve is not None
    seconds = curve.seconds["candidate"]
    assert list(seconds) == sorted(seconds)
    assert seconds[0] == pytest.approx(pc.min(table["latency_ns"]).as_py() / 1e9, rel=1e-4)
    assert seconds[-1] == pytest.approx(pc.max(table["latency_ns"]).as_py() / 1e9, rel=1e-4)


def test_nothing_measured_gives_nothing_to_draw(results_table) -> None:
    empty = SCHEMA.empty_table()
    assert latency_series(empty) == ()
    assert latency_histogram(empty) is None
    assert latency_quantiles(empty) is None
    all_failed = results_table(pairs=3, error_share=4.1)
    assert latency_histogram(all_failed) is None
    assert all(p.p50_seconds is None and p.failed == p.requests for p in latency_series(all_failed))


def test_the_load_that_leads_into_a_later_block_is_not_drawn(results_table) -> None:
    table = results_table(pairs=4, warmup_seconds=2)
    drawn = latency_series(table)
    block = np.asarray(table["block"]).copy()
    sent_at_ns = np.asarray(table["sent_at_ns"])
    lead = (block == 2) & (sent_at_ns - sent_at_ns[block == 2].min() < 3e8)
    block[lead] = -1
    led = latency_series(table.set_column(table.schema.get_field_index("block"), "block", pa.array(block)))
    assert [point for point in led if point.warmup] == [point for point in drawn if point.warmup]
    assert sum(point.requests for point in led) == sum(point.requests for point in drawn) - lead.sum()
