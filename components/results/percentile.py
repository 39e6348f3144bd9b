"""One definition of a percentile for the whole project: the nearest rank."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

TAIL_ROWS: Final = 20
"""Requests that must lie beyond a percentile for it to be told: 2 000 for p99, 400 for p95."""


def percentile(latency_ns: npt.NDArray[np.int64], q: float) -> int:
    """The nearest-rank percentile: the smallest value with at least q % of all at or below it.

    The same as `numpy.percentile(..., method="inverted_cdf")`, and what ghz computes.

    Args:
        latency_ns: Latencies in any order, at least one.
        q: From 0 to 100.

    Raises:
        ValueError: There is no value, or q is out of range.
    """
    return percentiles(latency_ns, (q,))[0]


def percentiles(latency_ns: npt.NDArray[np.int64], qs: tuple[float, ...]) -> list[int]:
    """Several nearest-rank percentiles in one partition of the values."""
    if not len(latency_ns):
        raise ValueError("no percentile of no values")
    ranks = [nearest_rank(len(latency_ns), q) - 1 for q in qs]
    parted = np.partition(latency_ns, sorted(set(ranks)))
    return [int(parted[rank]) for rank in ranks]


def nearest_rank(count: int, q: float) -> int:
    """The rank from 1 to `count` of the q-th percentile."""
    if not 0 <= q <= 100:
        raise ValueError(f"a percentile lies from 0 to 100, not {q}")
    # the product first, and rounded: 0.999 * 1000 must be 999, not 999.0000000000001
    return min(count, max(1, math.ceil(round(q * count / 100, 9))))


def enough_rows(count: int, q: float) -> bool:
    """Whether a percentile rests on enough requests beyond it to be told."""
    return count * (100 - q) / 100 >= TAIL_ROWS - 1e-9
