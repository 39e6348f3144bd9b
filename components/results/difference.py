"""The difference between two separate runs, with its uncertainty where the requests are known.

The interval is by sectioning: each run is cut into 20 sections in the order of time, the figure is
computed in each, and their spread tells the standard error of the figure over the whole run
(M. K. Nakayama, Confidence intervals for quantiles using sectioning, ACM TOMACS 24(4), 2014).
Requests near in time resemble each other; single requests as the unit would promise too much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from model_load_test.components.results import columns
from model_load_test.components.results.columns import Int64s
from model_load_test.components.results.percentile import percentile
from model_load_test.components.results.summary import Latencies, begin_ns

SECTIONS: Final = 20
_T_95: Final = 2.093
"""Student's t for 97.5 % and 19 degrees of freedom, the fewest two runs of 20 sections can have."""
_LEAST_ROWS: Final = 400
"""Sections of 20 requests: fewer have no usable median."""
_LEAST_BEYOND: Final = 1.0
"""Requests that a section must have beyond a percentile."""


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure of two runs, in nanoseconds. What is unknown is absent."""

    figure: str
    """`mean`, `p50`, `p90`, `p95`, `p99`, `p999` or `max`."""
    a: float
    b: float
    difference: float
    """b - a."""
    ratio: float | None = None
    """b / a."""
    lower: float | None = None
    """95 % interval of the difference."""
    upper: float | None = None


def differences(
    a: Latencies, b: Latencies, rows_a: pa.Table | None = None, rows_b: pa.Table | None = None
) -> Iterator[Difference]:
    """Yields the difference of every figure that both runs tell.

    Args:
        a: Latencies of the first run.
        b: Those of the second.
        rows_a: Its requests, where known; with `rows_b` they give the interval.
        rows_b: Those of the second.
    """
    in_order_a, in_order_b = _ok_in_order(rows_a), _ok_in_order(rows_b)
    for figure in Latencies.__struct_fields__:
        value_a, value_b = getattr(a, figure), getattr(b, figure)
        if value_a is None or value_b is None:
            continue
        margin = _margin(figure, in_order_a, in_order_b)
        difference = value_b - value_a
        yield Difference(
            figure=figure,
            a=value_a,
            b=value_b,
            difference=difference,
            ratio=value_b / value_a if value_a else None,
            lower=None if margin is None else difference - margin,
            upper=None if margin is None else difference + margin,
        )


def _ok_in_order(rows: pa.Table | None) -> Int64s | None:
    if rows is None:
        return None
    ok = columns.truths(rows["ok"])
    latency_ns = columns.numbers(rows["latency_ns"], np.int64)[ok]
    return latency_ns[np.argsort(begin_ns(rows)[ok], kind="stable")]


def _margin(figure: str, a: Int64s | None, b: Int64s | None) -> float | None:
    of_section = _FIGURES.get(figure)
    if of_section is None or a is None or b is None:
        return None
    q, compute = of_section
    if min(len(a), len(b)) < _LEAST_ROWS or min(len(a), len(b)) / SECTIONS * (100 - q) / 100 < _LEAST_BEYOND:
        return None
    return _T_95 * math.sqrt(_squared_error(a, compute) + _squared_error(b, compute))


def _squared_error(latency_ns: Int64s, compute: Callable[[Int64s], float]) -> float:
    whole = compute(latency_ns)
    sections = np.array([compute(section) for section in np.array_split(latency_ns, SECTIONS)])
    return float(((sections - whole) ** 2).sum() / (SECTIONS * (SECTIONS - 1)))


def _percentile(q: float) -> tuple[float, Callable[[Int64s], float]]:
    return q, lambda latency_ns: percentile(latency_ns, q)


_FIGURES: Final[dict[str, tuple[float, Callable[[Int64s], float]]]] = {
    "mean": (0.0, lambda latency_ns: float(latency_ns.mean())),
    "p50": _percentile(50.0),
    "p90": _percentile(90.0),
    "p95": _percentile(95.0),
    "p99": _percentile(99.0),
    "p999": _percentile(99.9),
}
