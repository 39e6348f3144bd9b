"""CPU time per request by stretches, changes of replicas, and levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from model_load_test.components.resources.align import aligned, block_cells
from model_load_test.components.resources.usage import (
    cpu_use,
    levels,
    one_source_each,
    replica_changes,
    run_resources,
)
from model_load_test.components.results.resource_use import cpu_seconds_per_request

Make = Callable[..., Any]


def both(series_of: Make, candidate: float = 0.236, baseline: float = 0.2, **fields: Any) -> list[Any]:
    return [
        series_of(arm="candidate", replica="c", value=lambda at: candidate * (at + 3), **fields),
        series_of(arm="baseline", replica="b", value=lambda at: baseline * (at + 3), **fields),
    ]


def test_each_block_is_a_stretch_where_the_counters_are_looked_at_often(
    table_of: Make, series_of: Make
) -> None:
    uses = cpu_use(both(series_of, every=0.2), table_of(rate_rps=100))
    mine = [use for use in uses if use.arm == "candidate"]
    assert [use.block for use in mine] == list(range(12))
    assert {use.blocks for use in mine} == {1}
    per_request = {
        arm: cpu_seconds_per_request(use for use in uses if use.arm == arm)
        for arm in ("candidate", "baseline")
    }
    assert per_request["candidate"] == pytest.approx(2.36e-3, rel=0.02)
    assert per_request["candidate"] / per_request["baseline"] == pytest.approx(1.18, rel=1e-3)


def test_blocks_go_together_where_a_prometheus_scrapes_every_five_seconds(
    table_of: Make, series_of: Make
) -> None:
    """And each stretch is exact, since CPU time and requests are counted between the same two samples."""
    series = both(series_of, every=5.0, since=-11.3, until=80)
    uses = cpu_use(series, table_of(blocks=60, rate_rps=100))
    mine = [use for use in uses if use.arm == "candidate"]
    assert len(mine) >= 8
    assert mine[0].blocks > 1
    later = [use for use in uses if use.block > 0]  # before the warm-up the servers were idle
    ratios = [use.cpu_seconds / use.requests for use in later if use.arm == "candidate"]
    assert np.allclose(ratios, 2.36e-3, rtol=5e-3)


def test_a_coarse_counter_gets_longer_stretches(table_of: Make, series_of: Make) -> None:
    """The 10 ms of /proc: 0.02 s a block would be two steps."""
    series = [
        series_of(arm=arm, replica=arm, every=0.2, value=lambda at: round(0.02 * (at + 3), 2))
        for arm in ("candidate", "baseline")
    ]
    uses = cpu_use(series, table_of(blocks=40))
    assert uses[0].blocks >= 10


def test_an_arm_that_no_one_watches_leaves_nothing_to_compare(table_of: Make, series_of: Make) -> None:
    assert cpu_use(both(series_of)[:1], table_of()) == ()
    assert len(cpu_use(both(series_of, every=0.2)[:1], table_of(arms=("candidate",)))) == 12


def test_replicas_add_up_also_while_one_more_comes(table_of: Make, series_of: Make) -> None:
    first = series_of(replica="c1", every=0.2, value=lambda at: 0.1 * (at + 3))
    second = series_of(replica="c2", every=0.2, since=6.05, value=lambda at: 0.1 * (at - 6))
    baseline = series_of(arm="baseline", every=0.2, value=lambda at: 0.1 * (at + 3))
    uses = [use for use in cpu_use([first, second, baseline], table_of()) if use.arm == "candidate"]
    per_block = [use.cpu_seconds / use.blocks for use in uses]
    assert per_block[0] == pytest.approx(0.1, rel=0.05)
    assert per_block[-1] == pytest.approx(0.2, rel=0.1)
    assert uses[0].blocks > 1, "two counters that are looked at apart want longer stretches"


def test_a_replica_that_goes_leaves_the_others_to_be_counted(table_of: Make, series_of: Make) -> None:
    gone = series_of(replica="c1", every=0.2, until=5.1, value=lambda at: 0.1 * (at + 3))
    stays = series_of(replica="c2", every=0.2, value=lambda at: 0.1 * (at + 3))
    baseline = series_of(arm="baseline", every=0.2, value=lambda at: 0.1 * (at + 3))
    uses = [use for use in cpu_use([gone, stays, baseline], table_of()) if use.arm == "candidate"]
    assert uses[-1].block + uses[-1].blocks == 12
    assert uses[0].cpu_seconds / uses[0].requests == pytest.approx(2e-3, rel=0.05)
    assert uses[-1].cpu_seconds / uses[-1].requests == pytest.approx(1e-3, rel=0.05)


def test_the_source_nearest_to_the_kernel_counts_and_nothing_counts_twice(
    table_of: Make, series_of: Make
) -> None:
    near = both(series_of, every=0.2, source="cgroup")
    far = both(series_of, candidate=9.0, baseline=9.0, every=0.2)
    assert one_source_each([*far, *near]) == tuple(near)
    uses = cpu_use([*far, *near], table_of())
    assert cpu_seconds_per_request(uses) == pytest.approx(2.18e-3, rel=0.05)


def test_changes_of_replicas_are_told_with_their_time(table_of: Make, series_of: Make) -> None:
    cells = block_cells(table_of())
    told = series_of("replicas", replica="", value=lambda at: 1.0 if at < 5 else 3.0)
    (change,) = replica_changes([told], cells)
    assert (change.arm, change.before, change.after) == ("candidate", 1, 3)
    assert change.at_ns == cells.starts_ns[5]


def test_replicas_that_come_and_go_are_changes_too(table_of: Make, series_of: Make) -> None:
    cells = block_cells(table_of())
    series = [series_of(), series_of(replica="r2", since=3.2, until=8.1)]
    changes = replica_changes(series, cells)
    assert [(change.before, change.after) for change in changes] == [(1, 2), (2, 1)]
    assert replica_changes([series_of(), series_of(replica="r2", since=-2.9)], cells) == ()


def test_levels_are_means_and_peaks_with_their_unit_and_method(table_of: Make, series_of: Make) -> None:
    cells = block_cells(table_of())
    rising = series_of("memory_bytes", value=lambda at: 1e6 * at)
    found = levels(aligned([rising, *both(series_of)], cells, by_replica=False))["candidate"]
    assert found["memory_bytes"].peak == pytest.approx(11.5e6)
    assert found["memory_bytes"].mean == pytest.approx(6.5e6, rel=0.1)
    assert (found["memory_bytes"].unit, found["memory_bytes"].method) == ("bytes", "sampled")
    assert found["cpu_cores"].mean == pytest.approx(0.236)


def test_a_table_of_nothing_but_warm_up_says_nothing(table_of: Make, series_of: Make) -> None:
    table = table_of()
    warm = table.filter(np.array(table["block"].to_pylist()) < 0)
    assert run_resources(both(series_of), warm).levels == {}
