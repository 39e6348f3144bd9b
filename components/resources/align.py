"""Brings series of any source onto the load's blocks: pure functions from samples to data frames.

Nothing is rounded to a grid and nothing is interpolated. A gauge is taken as of the end of a block, a
counter is differenced between its samples as of the block's ends and divided by the time between those two
samples, whatever they are; a sample too old for its series' usual distance counts as missing. Only a
histogram's quantile is an estimate, linear within its bucket as Prometheus has it (promql/quantile.go), and
called so.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model_load_test.components.resources.catalogue import unit_of
from model_load_test.components.resources.series import Floats, Int64s, Series, Window
from model_load_test.components.results import columns
from model_load_test.components.results.percentile import percentiles

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["sampled", "rate", "ratio", "histogram quantile", "counted", "measured"]

QUANTILES: Final = (50, 95, 99)
TOLERANCE: Final = 2.5
"""A sample older than so many times its series' usual distance is missing, not old."""
TIDY_COLUMNS: Final = (
    *("arm", "metric", "replica", "signature", "block", "start_ns", "end_ns", "seconds"),
    *("value", "unit", "method", "source"),
)

_RATES: Final[Mapping[str, str]] = {
    "cpu_seconds": "cpu_cores",
    "cpu_throttled_seconds": "cpu_throttled_cores",
    "network_received_bytes": "network_received_bytes_per_second",
    "network_sent_bytes": "network_sent_bytes_per_second",
    "served_requests": "served_rps",
    "failed_requests": "failed_rps",
    "gpu_energy_joules": "gpu_mean_power_watts",
}
_INFERENCE_APIS: Final = frozenset(("", "predict", "classify", "regress", "multiinference"))
_MODEL_LABELS: Final = ("model_name", "model")


class Cells(NamedTuple):
    """Neighbouring stretches of the load's clock, each a block of the load."""

    starts_ns: Int64s
    ends_ns: Int64s
    blocks: Int64s

    @property
    def window(self) -> Window:
        """From the first start to the last end."""
        return Window(int(self.starts_ns[0]), int(self.ends_ns[-1]))


class Row(NamedTuple):
    """One aligned value."""

    arm: str
    metric: str
    replica: str
    signature: str
    cell: int
    value: float
    method: Method
    source: str


def block_cells(table: pa.Table) -> Cells:
    """A cell per block, from its first request to that of the next; the last one to its own last request.

    The time between two blocks, in which the generators start anew, belongs to the earlier one: a server's
    counters do not stand still there either.

    Args:
        table: A results table with at least one measured row.
    """
    blocks = columns.numbers(table["block"], np.int32).astype(np.int64)
    sent_ns = columns.numbers(table["sent_at_ns"], np.int64)
    measured = blocks >= 0
    numbers, places = np.unique(blocks[measured], return_inverse=True)
    starts = np.full(numbers.size, np.iinfo(np.int64).max)
    np.minimum.at(starts, places, sent_ns[measured])
    order = np.argsort(starts, kind="stable")
    starts = starts[order]
    ends = np.append(starts[1:], sent_ns[measured].max() + 1)
    return Cells(starts, ends, numbers[order])


def even_cells(window: Window, seconds: float) -> Cells:
    """Cells of equal length, for a load whose rows know no blocks."""
    count = max(1, round(window.seconds / seconds))
    edges = np.linspace(window.start_ns, window.end_ns, count + 1).astype(np.int64)
    return Cells(edges[:-1], edges[1:], np.arange(count, dtype=np.int64))


def usual_distance_ns(at_ns: Int64s) -> float:
    """The median time from one sample to the next; infinite where there is but one."""
    return float(np.median(np.diff(at_ns))) if at_ns.size > 1 else float("inf")


def without_resets(values: Floats) -> Floats:
    """A counter as if its owner had never been started anew: a fall is a new beginning at zero."""
    steps = np.diff(values)
    steps = np.where(steps < 0, values[1:], steps)
    return np.concatenate(([0.0], np.cumsum(steps)))


def as_of(at_ns: Int64s, times_ns: Int64s) -> npt.NDArray[np.intp]:
    """The place of the last sample at or before each time; -1 where there is none yet."""
    return np.searchsorted(at_ns, times_ns, side="right") - 1


def gauge_in(series: Series, cells: Cells) -> Floats:
    """A gauge as of the end of each cell; NaN where its last sample is too old."""
    places = as_of(series.at_ns, cells.ends_ns)
    found = places >= 0
    values = np.where(found, series.values[places], np.nan)
    age_ns = cells.ends_ns - series.at_ns[places]
    longest_ns = TOLERANCE * min(usual_distance_ns(series.at_ns), 1e18)
    if series.at_ns.size == 1:  # nothing tells how often it is looked at
        longest_ns = float(cells.ends_ns[-1] - cells.starts_ns[0])
    return np.where(found & (age_ns <= longest_ns), values, np.nan)


def increase_in(series: Series, cells: Cells) -> tuple[Floats, Floats]:
    """What a counter rose by in each cell, and the seconds between the two samples that say so.

    NaN where no new sample came. Over a gap the counter says what happened, not when: the cell in which
    it speaks again begins with its own first sample.
    """
    totals = without_resets(series.values)
    begin, end = as_of(series.at_ns, cells.starts_ns), as_of(series.at_ns, cells.ends_ns)
    too_old = cells.starts_ns - series.at_ns[np.maximum(begin, 0)] > TOLERANCE * usual_distance_ns(
        series.at_ns
    )
    begin = np.where((begin < 0) | too_old, np.minimum(begin + 1, series.at_ns.size - 1), begin)
    told = end > begin
    seconds = (series.at_ns[end] - series.at_ns[begin]) / 1e9
    return np.where(told, totals[end] - totals[begin], np.nan), np.where(told, seconds, np.nan)


def histogram_quantile(limits: Sequence[float], cumulative: Sequence[float], q: float) -> float:
    """The quantile of a histogram, linear within its bucket.

    Args:
        limits: Rising upper limits; the last one is infinite.
        cumulative: How many lie at or below each.
        q: A share from 0 to 1.

    Returns:
        NaN for an empty histogram; the highest finite limit where the quantile lies above it.
    """
    counts = np.maximum.accumulate(np.asarray(cumulative, dtype=np.float64))
    if not counts.size or not counts[-1] > 0:
        return float("nan")
    place = int(np.searchsorted(counts, q * counts[-1], side="left"))
    finite = [limit for limit in limits if np.isfinite(limit)]
    if place >= len(finite):
        return finite[-1] if finite else float("nan")
    below, lower = (counts[place - 1], limits[place - 1]) if place else (0.0, 0.0)
    if place == 0 and limits[0] <= 0:
        return float(limits[0])
    inside = counts[place] - below
    share = (q * counts[-1] - below) / inside if inside > 0 else 1.0
    return float(lower + (limits[place] - lower) * share)


def of_model(series: Iterable[Series], model_name: str) -> tuple[Series, ...]:
    """Those series that are of the model, or of no model in particular, and of its inference."""
    return tuple(
        one
        for one in series
        if all(one.labels.get(label, model_name) == model_name for label in _MODEL_LABELS)
        and one.labels.get("API", "").lower() in _INFERENCE_APIS
    )


def aligned(series: Iterable[Series], cells: Cells, *, by_replica: bool = True) -> list[Row]:
    """The series on the cells: gauges, rates, ratios of counters, quantiles of histograms.

    Args:
        series: What a source read. Series that differ in their labels alone are added up, shares averaged.
        cells: The load's blocks.
        by_replica: Whether replicas and signatures stay apart; else an arm's are taken together, which
            is the only right way to a quantile over all of them.
    """
    groups: dict[tuple[str, str, str], dict[str, list[Series]]] = defaultdict(lambda: defaultdict(list))
    for one in series:
        if one.at_ns.size:
            key = (one.arm, one.replica, one.signature) if by_replica else (one.arm, "", "")
            groups[key][one.metric].append(one)
    rows = [row for key, metrics in groups.items() for row in _rows_of_group(key, metrics, cells)]
    return [*rows, *_counted_replicas(rows, groups, cells)]


def _rows_of_group(
    key: tuple[str, str, str], metrics: Mapping[str, list[Series]], cells: Cells
) -> Iterator[Row]:
    arm, replica, signature = key
    increases = {
        name: _added([increase_in(one, cells)[0] for one in found])
        for name, found in metrics.items()
        if found[0].kind == "counter"
    }

    def rows(metric: str, values: Floats, method: Method, source: str) -> Iterator[Row]:
        for cell in np.flatnonzero(np.isfinite(values)):
            yield Row(arm, metric, replica, signature, int(cell), float(values[cell]), method, source)

    for name, found in metrics.items():
        source = found[0].source
        if found[0].kind == "gauge":
            values = [gauge_in(one, cells) for one in found]
            together = _averaged(values) if name.endswith("_share") else _added(values)
            yield from rows(name, together, "sampled", source)
        elif found[0].kind == "buckets":
            yield from _quantile_rows(name, found, cells, rows)
        elif name in _RATES:
            rates = []
            for one in found:
                risen, seconds = increase_in(one, cells)
                rates.append(risen / seconds)
            yield from rows(_RATES[name], _added(rates), "rate", source)
    for metric, above, below in _ratios(increases):
        source = metrics[above][0].source
        yield from rows(metric, _ratio(increases[above], increases[below]), "ratio", source)


def _ratios(names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Which counters make a mean or a share together: its name, numerator, denominator."""
    present = set(names)
    if {"cpu_throttled_periods", "cpu_periods"} <= present:
        yield "cpu_throttled_share", "cpu_throttled_periods", "cpu_periods"
    for name in sorted(present):
        if name.endswith("_sum"):
            base = name.removesuffix("_sum")
            count = f"{base}_count" if f"{base}_count" in present else "served_requests"
            if count in present:
                yield f"{base}_mean", name, count


def _quantile_rows(
    name: str, found: Sequence[Series], cells: Cells, rows: Callable[..., Iterator[Row]]
) -> Iterator[Row]:
    by_limit: dict[float, list[Floats]] = defaultdict(list)
    for one in found:
        if one.limit is not None:
            by_limit[one.limit].append(increase_in(one, cells)[0])
    limits = sorted(by_limit)
    counts = np.array([_added(by_limit[limit]) for limit in limits])
    told = np.isfinite(counts).all(axis=0) & (counts[-1] > 0)
    for q in QUANTILES:
        values = np.full(cells.blocks.size, np.nan)
        for cell in np.flatnonzero(told):
            values[cell] = histogram_quantile(limits, counts[:, cell].tolist(), q / 100)
        yield from rows(f"{name}_p{q}", values, "histogram quantile", found[0].source)


def _counted_replicas(
    rows: Sequence[Row],
    groups: Mapping[tuple[str, str, str], Mapping[str, list[Series]]],
    cells: Cells,
) -> Iterator[Row]:
    """The number of replicas whose CPU time was told of late, where no one says how many there are."""
    told = {row.arm for row in rows if row.metric == "replicas"}
    for arm in {arm for arm, _, _ in groups} - told:
        alive: dict[str, npt.NDArray[np.bool_]] = {}
        source = ""
        for (of, _, _), metrics in groups.items():
            for one in metrics.get("cpu_seconds", ()) if of == arm else ():
                here = np.isfinite(gauge_in(one, cells))
                alive[one.replica] = alive.get(one.replica, np.zeros_like(here)) | here
                source = one.source
        if alive:
            counts = np.sum(list(alive.values()), axis=0)
            for cell in np.flatnonzero(counts):
                yield Row(arm, "replicas", "", "", int(cell), float(counts[cell]), "counted", source)


def load_rows(table: pa.Table, cells: Cells) -> list[Row]:
    """The load itself on the same cells: latencies of OK requests, rate, failures, by arm."""
    of_row, arms = columns.texts(table["arm"])
    sent_ns = columns.numbers(table["sent_at_ns"], np.int64)
    measured = columns.numbers(table["block"], np.int32) >= 0
    latency_ns = columns.numbers(table["latency_ns"], np.int64)
    ok = columns.truths(table["ok"])
    found = []
    for code, arm in enumerate(arms):
        own = np.flatnonzero(measured & (of_row == code))
        own = own[np.argsort(sent_ns[own], kind="stable")]
        edges = np.searchsorted(sent_ns[own], np.append(cells.starts_ns, cells.ends_ns[-1]))
        for cell, (first, last) in enumerate(itertools.pairwise(edges)):
            inside = own[first:last]
            found += [
                Row(arm, name, "", "", cell, value, "measured", "load")
                for name, value in _load_values(sent_ns[inside], latency_ns[inside][ok[inside]]).items()
            ]
    return found


def _load_values(sent_ns: Int64s, latency_ns: Int64s) -> dict[str, float]:
    """Of the requests of a cell: when all of them were sent, rising, and how long the OK ones took."""
    count = sent_ns.size
    if not count:
        return {}
    values = {"failed_share": 1 - latency_ns.size / count}
    if count > 1 and sent_ns[-1] > sent_ns[0]:
        values["sent_rps"] = (count - 1) / ((sent_ns[-1] - sent_ns[0]) / 1e9)
    if latency_ns.size:
        levels = percentiles(latency_ns, QUANTILES)
        values |= {f"latency_seconds_p{q}": level / 1e9 for q, level in zip(QUANTILES, levels, strict=True)}
    return values


def tidy_frame(rows: Iterable[Row], cells: Cells) -> pd.DataFrame:
    """One row a value: `TIDY_COLUMNS`; `seconds` is the end of the block since the first one began."""
    import pandas as pd

    listed = list(rows)
    places = np.array([row.cell for row in listed], dtype=np.int64)
    frame = pd.DataFrame(
        {
            name: [getattr(row, name) for row in listed]
            for name in ("arm", "metric", "replica", "signature", "value", "method", "source")
        }
    )
    frame["block"] = cells.blocks[places]
    frame["start_ns"] = cells.starts_ns[places]
    frame["end_ns"] = cells.ends_ns[places]
    frame["seconds"] = (cells.ends_ns[places] - cells.starts_ns[0]) / 1e9
    frame["unit"] = [unit_of(row.metric) for row in listed]
    ordered = frame[list(TIDY_COLUMNS)]
    return ordered.sort_values(["arm", "metric", "replica", "signature", "end_ns"], ignore_index=True)


def wide_frame(tidy: pd.DataFrame) -> pd.DataFrame:
    """One row a block, one column an (arm, metric, replica, signature)."""
    return tidy.pivot(
        index=["seconds", "block"], columns=["arm", "metric", "replica", "signature"], values="value"
    ).sort_index(axis=1)


def normalised(wide: pd.DataFrame) -> pd.DataFrame:
    """Each column from 0, its smallest value, to 1, its largest, to see what moves with what.

    A column that never changes is 0 throughout.
    """
    low, high = wide.min(), wide.max()
    span = (high - low).where(high > low, 1.0)
    return (wide - low) / span


def _added(values: Sequence[Floats]) -> Floats:
    """The sum of what is known; NaN where nothing is."""
    stacked = np.array(values)
    total: Floats = np.where(np.isnan(stacked).all(axis=0), np.nan, np.nansum(stacked, axis=0))
    return total


def _averaged(values: Sequence[Floats]) -> Floats:
    stacked = np.array(values)
    known = np.sum(~np.isnan(stacked), axis=0)
    mean: Floats = np.where(known > 0, np.nansum(stacked, axis=0) / np.maximum(known, 1), np.nan)
    return mean


def _ratio(above: Floats, below: Floats) -> Floats:
    usable = np.isfinite(above) & np.isfinite(below) & (below > 0)
    found: Floats = np.where(usable, above / np.where(usable, below, 1.0), np.nan)
    return found
