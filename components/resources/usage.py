"""What a run cost its servers, condensed to what the gate judges and the report shows.

CPU time per request is compared like a latency: arm against arm, stretch by stretch. A stretch is a block
where the counters are looked at often enough, else as many neighbouring blocks as lie between two looks;
its CPU time and its requests are counted between the same two moments, so that nothing is interpolated and
no two stretches share a sample.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from model_load_test.components.resources.align import (
    TOLERANCE,
    Cells,
    Row,
    aligned,
    as_of,
    block_cells,
    gauge_in,
    usual_distance_ns,
    without_resets,
)
from model_load_test.components.resources.catalogue import unit_of
from model_load_test.components.resources.series import ARMS, Floats, Int64s, Series
from model_load_test.components.results import columns
from model_load_test.components.results.resource_use import CpuUse, Level, ReplicaChange, RunResources

SOURCES: Final = ("cgroup", "process", "page", "prometheus", "kubernetes", "cloud-monitoring")
"""Where several tell the same of an arm, the first of these counts: the nearer to the kernel, the better."""

STEPS_IN_A_STRETCH: Final = 20
"""A counter that makes steps (10 ms in /proc) must make so many in a stretch, or its ratio is coarse."""
SPREADS_IN_A_STRETCH: Final = 20
"""Replicas looked at one after the other need stretches so many times longer than that takes."""
_TICK_SECONDS: Final = 0.01


def one_source_each(series: Iterable[Series]) -> tuple[Series, ...]:
    """Of each arm's metric only the series of the best source that tells it."""
    listed = list(series)
    best: dict[tuple[str, str], int] = {}
    for one in listed:
        key = one.arm, one.metric
        best[key] = min(best.get(key, len(SOURCES)), _rank(one.source))
    return tuple(one for one in listed if _rank(one.source) == best[one.arm, one.metric])


def run_resources(series: Iterable[Series], table: pa.Table) -> RunResources:
    """What `RunMetadata.resources` keeps of a run.

    Args:
        series: What the sources read, on the load's clock.
        table: The results table.
    """
    if not (columns.numbers(table["block"], np.int32) >= 0).any():
        return RunResources()
    chosen = one_source_each(series)
    cells = block_cells(table)
    return RunResources(
        cpu=cpu_use(chosen, table),
        changes=replica_changes(chosen, cells),
        levels=levels(aligned(chosen, cells, by_replica=False)),
    )


def cpu_use(series: Iterable[Series], table: pa.Table) -> tuple[CpuUse, ...]:
    """CPU time and requests of each arm over stretches of blocks, the same stretches for all arms.

    Returns:
        Nothing where an arm's CPU time is not told for at least one stretch.
    """
    counters = defaultdict(list)
    for one in one_source_each(series):
        if one.metric == "cpu_seconds" and one.at_ns.size > 1:
            counters[one.arm].append(one)
    of_row, names = columns.texts(table["arm"])
    measured = columns.numbers(table["block"], np.int32) >= 0
    loaded = [arm for arm in ARMS if arm in names and (measured & (of_row == names.index(arm))).any()]
    if not loaded or any(arm not in counters for arm in loaded):
        return ()
    cells = block_cells(table)
    sent_ns = columns.numbers(table["sent_at_ns"], np.int64)
    sends = {arm: np.sort(sent_ns[of_row == names.index(arm)]) for arm in loaded}
    edges_ns = np.append(cells.starts_ns, cells.ends_ns[-1])
    looks = {arm: [_Looks(one, edges_ns) for one in counters[arm]] for arm in loaded}
    for together in _sizes(cells.blocks.size):
        uses = [list(_stretches(arm, looks[arm], sends[arm], cells, together)) for arm in loaded]
        if all(_fine_enough(looks[arm], use, together) for arm, use in zip(loaded, uses, strict=True)):
            return tuple(sorted((use for found in uses for use in found), key=lambda use: use.block))
    return ()


class _Looks:
    """A counter as of each edge between cells."""

    def __init__(self, series: Series, edges_ns: Int64s) -> None:
        places = as_of(series.at_ns, edges_ns)
        self.known = places >= 0
        places = np.maximum(places, 0)
        self.at_ns = np.where(self.known, series.at_ns[places], edges_ns)
        # a replica that is not there yet has used nothing
        self.totals: Floats = np.where(self.known, without_resets(series.values)[places], 0.0)
        patience_ns = min(TOLERANCE * usual_distance_ns(series.at_ns), 1e18)
        self.gone = edges_ns > series.at_ns[-1] + patience_ns
        ticks = series.values / _TICK_SECONDS
        self.step_seconds = _TICK_SECONDS if np.allclose(ticks, np.round(ticks), atol=1e-4) else 0.0


def _stretches(
    arm: str, looks: Sequence[_Looks], sends: Int64s, cells: Cells, together: int
) -> Iterator[CpuUse]:
    """Each `together` neighbouring cells as one, where every counter was looked at anew in them."""
    for first in range(0, cells.blocks.size - together + 1, together):
        last = first + together
        present = [one for one in looks if one.known[last] and not one.gone[first]]
        anew = [one for one in present if one.at_ns[last] > one.at_ns[first] or not one.known[first]]
        if not present or len(anew) < len(present):
            continue
        begun = [one.at_ns[first] for one in anew if one.known[first]]
        if not begun:
            continue
        start_ns, end_ns = np.mean(begun), np.mean([one.at_ns[last] for one in anew])
        requests = int(np.searchsorted(sends, end_ns) - np.searchsorted(sends, start_ns))
        cpu_seconds = float(sum(one.totals[last] - one.totals[first] for one in anew))
        if requests:
            yield CpuUse(arm, int(cells.blocks[first]), together, round(cpu_seconds, 9), requests)


def _fine_enough(looks: Sequence[_Looks], uses: Sequence[CpuUse], together: int) -> bool:
    """Whether most stretches have samples of their own, and enough in them."""
    if not uses:
        return False
    step_seconds = max(one.step_seconds for one in looks)
    if float(np.median([use.cpu_seconds for use in uses])) < STEPS_IN_A_STRETCH * step_seconds:
        return False
    edges = looks[0].at_ns.size - 1
    if len(uses) < 0.8 * (edges // together):
        return False
    if len(looks) == 1:
        return True
    latest = np.max([np.where(one.known & ~one.gone, one.at_ns, 0) for one in looks], axis=0)
    earliest = np.min([np.where(one.known & ~one.gone, one.at_ns, latest) for one in looks], axis=0)
    spreads = latest - earliest
    length_ns = float(looks[0].at_ns[-1] - looks[0].at_ns[0]) / max(edges, 1) * together
    return float(np.median(spreads)) * SPREADS_IN_A_STRETCH <= length_ns


def _sizes(blocks: int) -> Iterator[int]:
    """How many blocks to put together, from one to all of them."""
    size = 1
    while size < blocks:
        yield size
        size += max(1, size // 4)
    yield blocks


def replica_changes(series: Iterable[Series], cells: Cells) -> tuple[ReplicaChange, ...]:
    """When the number of an arm's replicas changed while the load ran."""
    found: list[ReplicaChange] = []
    window = cells.window
    for arm, (all_ns, all_counts) in _replica_counts(series).items():
        inside = all_ns <= window.end_ns
        at_ns, counts = all_ns[inside], all_counts[inside]
        for place in np.flatnonzero(np.diff(counts)) + 1:
            if at_ns[place] >= window.start_ns:
                change = ReplicaChange(arm, int(at_ns[place]), int(counts[place - 1]), int(counts[place]))
                found.append(change)
    return tuple(sorted(found, key=lambda change: change.at_ns))


def _replica_counts(series: Iterable[Series]) -> dict[str, tuple[Int64s, Floats]]:
    """By arm the number of its replicas over time: told as such, or counted by their CPU time."""
    listed = list(series)
    counts: dict[str, tuple[Int64s, Floats]] = {}
    for arm in ARMS:
        told = [one for one in listed if one.arm == arm and one.metric == "replicas" and one.at_ns.size]
        used = [one for one in listed if one.arm == arm and one.metric == "cpu_seconds" and one.at_ns.size]
        if told:
            counts[arm] = _summed(told)
        elif used:
            times = np.unique(np.concatenate([one.at_ns for one in used]))
            moments = Cells(times, times, np.arange(times.size))
            alive: dict[str, Floats] = {}
            for one in used:
                here = np.isfinite(gauge_in(one, moments)).astype(np.float64)
                alive[one.replica] = np.maximum(alive.get(one.replica, np.zeros_like(here)), here)
            # the first samples of replicas that were all there already come one after the other
            settled = times >= max(int(one.at_ns[0]) for one in used if one.at_ns[0] <= _begun_ns(used))
            counts[arm] = times[settled], np.sum(list(alive.values()), axis=0)[settled]
    return counts


def _begun_ns(used: Sequence[Series]) -> float:
    """Until when a first sample means that its replica was there from the start."""
    return min(int(one.at_ns[0]) for one in used) + 1.5 * max(
        (distance for one in used if np.isfinite(distance := usual_distance_ns(one.at_ns))), default=0.0
    )


def _summed(told: Sequence[Series]) -> tuple[Int64s, Floats]:
    times = np.unique(np.concatenate([one.at_ns for one in told]))
    total = np.zeros(times.size)
    for one in told:
        places = as_of(one.at_ns, times)
        total += np.where(places >= 0, one.values[np.maximum(places, 0)], 0.0)
    return times, total


def levels(rows: Iterable[Row]) -> dict[str, dict[str, Level]]:
    """Mean and peak of every metric over the blocks, by arm; rows of an arm's replicas taken together."""
    values: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        values[row.arm][row.metric].append(row)
    return {
        arm: {metric: _level(metric, found) for metric, found in sorted(metrics.items())}
        for arm, metrics in values.items()
    }


def _level(metric: str, rows: Sequence[Row]) -> Level:
    values = [row.value for row in rows]
    return Level(
        mean=float(f"{np.mean(values):.6g}"),
        peak=float(f"{max(values):.6g}"),
        unit=unit_of(metric),
        method=rows[0].method,
    )


def _rank(source: str) -> int:
    return SOURCES.index(source) if source in SOURCES else len(SOURCES)
