"""The difference of two failure shares, when failures come in bursts.

Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10) on effective sample
sizes: the requests of an arm divided by its design effect, the factor by which failures scatter
more over the blocks than independent ones would. Zero failures still leave an upper bound above
zero, so "no failure seen" passes only with enough requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from model_load_test.components.gate.signed_rank import Interval

_BISECTIONS = 40


@dataclass(frozen=True)
class Share:
    """A share of failures and the number of independent requests it is worth."""

    value: float
    effective: float


def share_of(failures: npt.NDArray[np.int64], requests: npt.NDArray[np.int64]) -> Share:
    """The failure share over all blocks, with the effective number of requests.

    Args:
        failures: Failed requests per block.
        requests: Requests per block, each at least one.
    """
    total = int(requests.sum())
    value = float(failures.sum() / total)
    return Share(value, total / design_effect(failures, requests))


def design_effect(counts: npt.NDArray[np.int64], requests: npt.NDArray[np.int64]) -> float:
    """Variance of the counts over the blocks relative to independent requests; at least 1."""
    share = counts.sum() / requests.sum()
    if counts.size < 2 or share in (0.0, 1.0):
        return 1.0
    scatter = float(((counts - share * requests) ** 2).sum()) * counts.size / (counts.size - 1)
    return max(1.0, scatter / float(requests.sum() * share * (1 - share)))


def difference(candidate: Share, baseline: Share, alpha: float) -> Interval:
    """Candidate minus baseline with one-sided bounds at `alpha`."""
    candidate_low, candidate_high = _wilson(candidate, alpha)
    baseline_low, baseline_high = _wilson(baseline, alpha)
    estimate = candidate.value - baseline.value
    below = sqrt((candidate.value - candidate_low) ** 2 + (baseline_high - baseline.value) ** 2)
    above = sqrt((candidate_high - candidate.value) ** 2 + (baseline.value - baseline_low) ** 2)
    return Interval(estimate, estimate - below, estimate + above)


def p_beyond(candidate: Share, baseline: Share, margin: float) -> float:
    """One-sided p against "the difference is at most `margin`": the alpha whose lower bound meets it."""
    rejected, accepted = 1e-12, 0.5
    if difference(candidate, baseline, accepted).lower <= margin:
        return 1.0
    if difference(candidate, baseline, rejected).lower > margin:
        return rejected
    for _ in range(_BISECTIONS):
        middle = sqrt(rejected * accepted)
        if difference(candidate, baseline, middle).lower > margin:
            accepted = middle
        else:
            rejected = middle
    return accepted


def _wilson(share: Share, alpha: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf(1 - alpha)
    n, p = share.effective, share.value
    centre = p + z * z / (2 * n)
    spread = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
