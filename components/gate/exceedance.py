"""The paired exceedance test: a tail percentile when a block has too few requests for its own.

For a supposed ratio, the candidate's latencies are divided by it; then both arms should exceed the
percentile of the pooled latencies equally often. Exchanging the arms of a pair changes the sign of
the difference of the two shares, so the sign-flip distribution of their sum is exact for equal
servers. The interval holds the ratios that are not rejected; its estimate is the ratio of the
pooled percentiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Final

import numpy as np
import numpy.typing as npt

from model_load_test.components.gate.blocks import ArmBlocks, Floats, Pairs
from model_load_test.components.gate.signed_rank import Interval
from model_load_test.components.results.percentile import nearest_rank

FLIPS_BITS: Final = 12
FLIPS: Final = 1 << FLIPS_BITS
"""All sign patterns up to 12 pairs; above, the identity and 4 095 drawn once and for all."""
_WIDEST_LOG_RATIO: Final = 3.0
_BISECTIONS: Final = 13


@dataclass(frozen=True)
class Tail:
    """The largest latencies of one arm: as many as the pooled tail could take from it."""

    log_latencies: Floats
    """Rising."""
    pair: npt.NDArray[np.int64]
    """The pair each of them belongs to."""
    requests: npt.NDArray[np.int64]
    """Successful requests per pair."""

    def shares_above(self, threshold: float, log_ratio: float) -> Floats:
        """Per pair, the share of requests whose ln(latency), less `log_ratio`, is above `threshold`."""
        first = np.searchsorted(self.log_latencies - log_ratio, threshold, side="right")
        shares: Floats = np.bincount(self.pair[first:], minlength=self.requests.size) / self.requests
        return shares

    def log_percentile(self, q: float) -> float:
        """Natural logarithm of the arm's own nearest-rank percentile."""
        return float(self.log_latencies[-1 - _above(int(self.requests.sum()), q)])


@dataclass(frozen=True)
class Exceedance:
    """Both arms, prepared to be compared at many supposed ratios of one percentile."""

    q: float
    candidate: Tail
    baseline: Tail

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return int(self.candidate.requests.size)

    @property
    def log_ratio(self) -> float:
        """The estimate: ln of the ratio of the arms' pooled percentiles."""
        return self.candidate.log_percentile(self.q) - self.baseline.log_percentile(self.q)

    def differences(self, log_ratio: float) -> Floats:
        """Per pair, the candidate's share above the pooled percentile minus the baseline's."""
        above = _above(int(self.candidate.requests.sum() + self.baseline.requests.sum()), self.q)
        both = np.concatenate((self.candidate.log_latencies - log_ratio, self.baseline.log_latencies))
        both.sort()
        threshold = both[-1 - above]
        return self.candidate.shares_above(threshold, log_ratio) - self.baseline.shares_above(threshold, 0.0)


def prepare(pairs: Pairs, q: float) -> Exceedance:
    """Gathers the tails of all pairs in which both arms had a successful request.

    There must be at least one such pair.
    """
    usable = (pairs.candidate.succeeded > 0) & (pairs.baseline.succeeded > 0)
    arms = [arm.keep(usable) for arm in (pairs.candidate, pairs.baseline)]
    wanted = _above(sum(arm.latencies.size for arm in arms), q) + 1
    return Exceedance(q, *(_tail(arm, wanted) for arm in arms))


def p_above(exceedance: Exceedance, log_ratio: float) -> float:
    """One-sided p against "the ratio of the percentiles is at most exp(log_ratio)"."""
    return p_positive_sum(exceedance.differences(log_ratio))


def interval(exceedance: Exceedance, alpha: float) -> Interval:
    """The log ratios that the test does not reject on either side at `alpha`, and the estimate."""
    estimate = exceedance.log_ratio

    def lower_holds(distance: float) -> bool:
        return p_positive_sum(exceedance.differences(estimate - distance)) > alpha

    def upper_holds(distance: float) -> bool:
        return p_positive_sum(-exceedance.differences(estimate + distance)) > alpha

    return Interval(estimate, estimate - _reach(lower_holds), estimate + _reach(upper_holds))


def p_positive_sum(differences: Floats) -> float:
    """One-sided p of the sign-flip test: how many sign patterns give as large a sum."""
    if not differences.any():
        return 1.0
    sums = _sign_patterns(differences.size) @ differences
    observed = differences.sum()
    return float(np.mean(sums >= observed - 1e-9 * np.abs(differences).sum()))


def _tail(arm: ArmBlocks, wanted: int) -> Tail:
    counts = arm.succeeded
    largest = np.argpartition(arm.latencies, -wanted)[-wanted:] if wanted < arm.latencies.size else None
    places = np.arange(arm.latencies.size) if largest is None else largest
    places = places[np.argsort(arm.latencies[places])]
    pair = np.searchsorted(arm.offsets, places, side="right") - 1
    return Tail(np.log(arm.latencies[places]), pair, counts)


def _above(requests: int, q: float) -> int:
    """How many of so many requests lie above their nearest-rank percentile."""
    return requests - nearest_rank(requests, 100 * q)


def _reach(holds: Callable[[float], bool]) -> float:
    """The largest distance that holds, by bisection; infinite when the widest still does."""
    inside, outside = 0.0, _WIDEST_LOG_RATIO
    if holds(outside):
        return inf
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        if holds(middle):
            inside = middle
        else:
            outside = middle
    return outside


@lru_cache(maxsize=8)
def _sign_patterns(pairs: int) -> Floats:
    if pairs <= FLIPS_BITS:
        bits = (np.arange(1 << pairs)[:, None] >> np.arange(pairs)) & 1
        return 1.0 - 2.0 * bits.astype(np.float64)
    drawn = np.random.default_rng(20_260_101).integers(0, 2, size=(FLIPS, pairs))
    drawn[0] = 0
    return 1.0 - 2.0 * drawn.astype(np.float64)
