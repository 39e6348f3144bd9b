"""Exact inference on the centre of paired differences: Wilcoxon's test and Hodges-Lehmann's interval.

Both need only that a difference is as likely above its centre as below, which random order within
a pair guarantees for equal servers whatever the noise does. Formulas: Hollander, Wolfe, Chicken,
Nonparametric Statistical Methods, 3rd edition, sections 3.1-3.3; ties and zeros by the exact
conditional distribution of the mid-ranks (Pratt 1959 keeps the zeros in the ranking).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, erfc, inf, sqrt
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MOST_EXACT: Final = 200
"""Above so many differences the null distribution is taken as normal (error below 1e-4)."""
MOST_DIFFERENCES: Final = 1000
"""Above so many, neighbours are averaged: the Walsh averages grow with the square."""


@dataclass(frozen=True)
class Interval:
    """A Hodges-Lehmann estimate between two one-sided bounds, each of which fails with `alpha`."""

    estimate: float
    lower: float
    """Minus infinity when there are too few differences for a bound."""
    upper: float


def hodges_lehmann(differences: Floats, alpha: float) -> Interval:
    """Median of the Walsh averages, with bounds from the exact signed-rank distribution.

    Args:
        differences: At least one finite number.
        alpha: One-sided error of each bound.
    """
    averaged = _averaged_neighbours(differences)
    rows, columns = _pairs_of(averaged.size)
    walsh = (averaged[rows] + averaged[columns]) / 2
    walsh.sort()
    estimate = float((walsh[(walsh.size - 1) // 2] + walsh[walsh.size // 2]) / 2)
    place = _bound_place(averaged.size, alpha)
    if place == 0:
        return Interval(estimate, -inf, inf)
    return Interval(estimate, float(walsh[place - 1]), float(walsh[-place]))


def p_greater(differences: Floats) -> float:
    """One-sided p of Wilcoxon's signed-rank test against "the centre is at most zero"."""
    averaged = _averaged_neighbours(differences)
    size = averaged.size
    doubled = doubled_midranks(np.abs(averaged))
    doubled[averaged == 0] = 0
    statistic = int(doubled[averaged > 0].sum())
    if not doubled.any():
        return 1.0
    if size > MOST_EXACT:
        mean = doubled.sum() / 2
        deviation = sqrt(float((doubled.astype(np.float64) ** 2).sum()) / 4)
        return _normal_tail((statistic - mean - 1) / deviation)
    return float(min(1.0, _sign_sum_distribution(doubled)[statistic:].sum()))


def doubled_midranks(values: Floats) -> npt.NDArray[np.int64]:
    """Twice the mid-rank of each value, which is whole also among ties."""
    ordered = np.sort(values)
    below = np.searchsorted(ordered, values, side="left")
    upto = np.searchsorted(ordered, values, side="right")
    return (below + upto + 1).astype(np.int64)


def _sign_sum_distribution(weights: npt.NDArray[np.int64]) -> Floats:
    """Probabilities of the sum of `weights` when each is taken or left with probability 1/2."""
    probabilities = np.zeros(int(weights.sum()) + 1)
    probabilities[0] = 1.0
    reach = 0
    for weight in weights[weights > 0].tolist():
        shifted = probabilities[: reach + 1] / 2
        probabilities[: reach + 1] = shifted
        probabilities[weight : weight + reach + 1] += shifted
        reach += weight
    return probabilities


@lru_cache(maxsize=4096)
def _bound_place(size: int, alpha: float) -> int:
    """The largest k with P(T+ <= k - 1) <= alpha: the k-th Walsh average from an end is the bound."""
    if size > MOST_EXACT:
        deviation = sqrt(size * (size + 1) * (2 * size + 1) / 24)
        return max(0, ceil(size * (size + 1) / 4 + NormalDist().inv_cdf(alpha) * deviation - 0.5))
    cumulative = np.cumsum(_sign_sum_distribution(np.arange(1, size + 1)))
    return int(np.searchsorted(cumulative, alpha, side="right"))


@lru_cache(maxsize=8)
def _pairs_of(size: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    rows, columns = np.triu_indices(size)
    return rows, columns


def _averaged_neighbours(differences: Floats) -> Floats:
    size = differences.size
    if size <= MOST_DIFFERENCES:
        return differences
    together = ceil(size / MOST_DIFFERENCES)
    starts = np.arange(0, size - together + 1, together)
    sums: Floats = np.add.reduceat(differences[: starts.size * together], starts)
    return sums / together


def _normal_tail(z: float) -> float:
    return erfc(z / sqrt(2)) / 2
