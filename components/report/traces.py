"""A results table condensed to what a page can draw: latency over time and its distribution.

The condensed values are part of `report.json`, so that any page can be drawn again without the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model_load_test.components.results.percentile import percentiles

MAX_POINTS: Final = 120
"""Points an arm may have in a series; longer runs put neighbouring blocks together."""
_BINS: Final = 90
_NANOSECONDS: Final = 1e9
# Dense where tails are: each next share halves what is left above it.
_SHARES: Final = (
    *(step / 50 for step in range(45)),
    *(
        0.9,
        0.92,
        0.94,
        0.95,
        0.96,
        0.97,
        0.98,
        0.985,
        0.99,
        0.9925,
        0.995,
        0.9975,
        0.999,
        0.9995,
        0.9999,
        1.0,
    ),
)

Numbers = npt.NDArray[Any]


class SeriesPoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one arm answered in one stretch of time: a block, or neighbouring blocks."""

    arm: str
    start_seconds: float
    """Since the first request of the run."""
    end_seconds: float
    requests: int
    failed: int
    p50_seconds: float | None = None
    """Over the requests that succeeded; absent when none did."""
    p95_seconds: float | None = None
    block: int | None = None
    """The first block of the stretch; absent while warming up or where the rows know no blocks."""
    blocks: int = 1
    """How many neighbouring blocks the stretch puts together."""
    warmup: bool = False


class Histogram(msgspec.Struct, frozen=True):
    """Latencies of the requests that succeeded, in bins of equal width on a log axis."""

    edges_seconds: tuple[float, ...]
    shares: dict[str, tuple[float, ...]]
    """Per arm the share of its requests in each bin; one fewer than there are edges."""


class QuantileCurve(msgspec.Struct, frozen=True):
    """Latency of the requests that succeeded at each share, by nearest rank."""

    shares: tuple[float, ...]
    seconds: dict[str, tuple[float, ...]]


class _Rows(msgspec.Struct, frozen=True):
    """The columns the condensing needs, as arrays."""

    candidate: Numbers
    block: Numbers
    sent_at_seconds: Numbers
    latency_ns: Numbers
    ok: Numbers


def latency_series(table: pa.Table, block_seconds: float | None = None) -> tuple[SeriesPoint, ...]:
    """Median and p95 per block and arm, at most `MAX_POINTS` an arm, in the order of time.

    Rows that know no blocks (all in one) are cut into stretches of equal time instead. The load that
    leads into a block after the first is neither warm-up nor measured, and left out.

    Args:
        table: A results table.
        block_seconds: Length of a block, by which the warm-up is cut; by default one second.
    """
    if not table.num_rows:
        return ()
    rows = _without_leads(_rows(table))
    measured = rows.block >= 0
    stretch = np.zeros(measured.size, dtype=np.int64)
    blocks = np.unique(rows.block[measured])
    knows_blocks = blocks.size > 1
    merged = 1
    if knows_blocks:
        merged = -(-int(blocks[-1] + 1) // MAX_POINTS)
        stretch[measured] = rows.block[measured] // merged
    elif measured.any():
        seconds = rows.sent_at_seconds[measured]
        width = max(float(seconds.max() - seconds.min()) / 60, 1e-9)
        stretch[measured] = np.minimum((seconds - seconds.min()) // width, 59).astype(np.int64)
    warmup = rows.sent_at_seconds[~measured]
    if warmup.size:
        stretch[~measured] = _warmup_stretches(warmup, block_seconds or 1.0)
    points = [
        _point(rows, chosen, int(stretch[chosen[0]]) * merged if knows_blocks else None, merged)
        for chosen in _groups(rows.candidate, measured, stretch)
    ]
    return tuple(sorted(points, key=lambda point: (point.start_seconds, point.arm)))


def _without_leads(rows: _Rows) -> _Rows:
    measured = rows.block >= 0
    if not measured.any():
        return rows
    kept = measured | (rows.sent_at_seconds < rows.sent_at_seconds[measured].min())
    return _Rows(*(getattr(rows, name)[kept] for name in _Rows.__struct_fields__))


def latency_histogram(table: pa.Table) -> Histogram | None:
    """The latency distribution of each arm on shared bins; nothing when no request succeeded."""
    latencies = _measured_latencies(table)
    if not latencies:
        return None
    everything = np.concatenate(list(latencies.values()))
    # The last permille at either end would squeeze what matters; it is clipped into the outer bins.
    low, high = (value / _NANOSECONDS for value in percentiles(everything, (0.05, 99.95)))
    low, high = max(low * 0.9, 1e-9), high * 1.1
    edges = np.geomspace(low, max(high, low * 1.5), _BINS + 1)
    shares = {
        arm: np.histogram(np.clip(values / _NANOSECONDS, edges[0], edges[-1]), edges)[0] / values.size
        for arm, values in latencies.items()
    }
    return Histogram(_rounded(edges), {arm: _rounded(share) for arm, share in shares.items()})


def latency_quantiles(table: pa.Table) -> QuantileCurve | None:
    """The quantile curve of each arm; nothing when no request succeeded."""
    latencies = _measured_latencies(table)
    if not latencies:
        return None
    qs = tuple(100 * share for share in _SHARES)
    return QuantileCurve(
        _SHARES,
        {
            arm: _rounded(value / _NANOSECONDS for value in percentiles(values, qs))
            for arm, values in latencies.items()
        },
    )


def _rows(table: pa.Table) -> _Rows:
    sent_at_ns = table.column("sent_at_ns").to_numpy()
    return _Rows(
        candidate=_is_candidate(table),
        block=table.column("block").to_numpy(),
        sent_at_seconds=(sent_at_ns - sent_at_ns.min()) / _NANOSECONDS,
        latency_ns=table.column("latency_ns").to_numpy(),
        ok=table.column("ok").to_numpy(),
    )


def _is_candidate(table: pa.Table) -> Numbers:
    arms = table.column("arm").cast(pa.string()).to_numpy()
    return np.asarray(arms == "candidate")


def _measured_latencies(table: pa.Table) -> dict[str, Numbers]:
    if not table.num_rows:
        return {}
    rows = _rows(table)
    counted = rows.ok & (rows.block >= 0)
    per_arm = {
        "candidate": rows.latency_ns[counted & rows.candidate],
        "baseline": rows.latency_ns[counted & ~rows.candidate],
    }
    return {arm: values for arm, values in per_arm.items() if values.size}


def _warmup_stretches(sent_at_seconds: Numbers, block_seconds: float) -> Numbers:
    since = sent_at_seconds - sent_at_seconds.min()
    width = max(block_seconds, float(since.max()) / 20, 1e-9)
    return np.asarray((since // width).astype(np.int64))


def _groups(candidate: Numbers, measured: Numbers, stretch: Numbers) -> Iterator[Numbers]:
    """Row indices of each combination of arm, phase and stretch."""
    order = np.lexsort((stretch, measured, candidate))
    keys = np.stack((candidate[order], measured[order], stretch[order]))
    starts = np.flatnonzero((keys[:, 1:] != keys[:, :-1]).any(axis=0)) + 1
    yield from np.split(order, starts)


def _point(rows: _Rows, chosen: Numbers, block: int | None, blocks: int) -> SeriesPoint:
    warmup = bool(rows.block[chosen[0]] < 0)
    ok = rows.ok[chosen]
    latencies = rows.latency_ns[chosen][ok]
    sent_at = rows.sent_at_seconds[chosen]
    p50, p95 = percentiles(latencies, (50, 95)) if latencies.size else (None, None)
    return SeriesPoint(
        arm="candidate" if rows.candidate[chosen[0]] else "baseline",
        start_seconds=round(float(sent_at.min()), 3),
        end_seconds=round(float(sent_at.max()), 3),
        requests=int(chosen.size),
        failed=int(chosen.size - ok.sum()),
        p50_seconds=None if p50 is None else p50 / _NANOSECONDS,
        p95_seconds=None if p95 is None else p95 / _NANOSECONDS,
        block=None if warmup else block,
        blocks=1 if warmup else blocks,
        warmup=warmup,
    )


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values)
