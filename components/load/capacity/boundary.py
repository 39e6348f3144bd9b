"""What probes say about the boundary: a posterior over ln(capacity).

The share of requests over an objective's limit is taken to rise with the load as
logit(share) = logit(allowed share) + slope * ln(load / capacity) above a floor of requests that are
slow at any load. Counts scatter around it as a beta-binomial with a correlation, since requests of
one moment fare alike, and the capacity of each probe's moment scatters around the one looked for.
Slope, floor, correlation and that scatter are unknown and averaged over. A probe far from the
boundary obeys no such line, so that one probe is believed no more than a factor of e^6 (gate
statistics, section 5; probabilistic bisection: Waeber, Frazier, Henderson 2013).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SLOPES: Final = (6.0, 12.0, 24.0, 48.0)
FLOORS: Final = (0.0, 0.03, 0.1, 0.3)
"""As shares of what the objective allows."""
CORRELATIONS: Final = (0.003, 0.02)
SCATTERS: Final = (0.02, 0.06, 0.18)
"""Standard deviations of ln(capacity) between probes: machines have slow minutes."""
MOST_EVIDENCE: Final = 6.0
POINTS: Final = 301
_LEAST_SHARE: Final = 1e-9
_LEAST_LIKELIHOOD: Final = 1e-30


@dataclass(frozen=True)
class Probe:
    """One load that was tried."""

    level: float
    """Requests per second, or simultaneous connections."""
    requests: int
    over: tuple[int, ...]
    """Requests over the limit, per objective; a failed request is over every one."""
    broken: str = ""
    """Why the load was stopped, if it was: nothing above this level was reached."""


@dataclass(frozen=True)
class Boundary:
    """Where the capacity probably is."""

    levels: Floats
    probability: Floats
    """Of each level; adds up to 1."""

    def quantile(self, share: float) -> float:
        """The level below which the capacity lies with probability `share`."""
        return exp(float(np.interp(share, np.cumsum(self.probability), np.log(self.levels))))

    @property
    def half_width(self) -> float:
        """Half of the 80 % interval of ln(capacity)."""
        return log(self.quantile(0.9) / self.quantile(0.1)) / 2


def worst_objective(probe: Probe, allowed: Sequence[float]) -> int:
    """The objective that is exceeded most, or kept by least, relative to what it allows."""
    return int(np.argmax([over / share for over, share in zip(probe.over, allowed, strict=True)]))


def holds(probe: Probe, allowed: Sequence[float]) -> bool:
    """Whether every objective is kept as observed, without regard to chance."""
    kept = (over <= share * probe.requests for over, share in zip(probe.over, allowed, strict=True))
    return not probe.broken and probe.requests > 0 and all(kept)


def locate(probes: Sequence[Probe], allowed: Sequence[float], low: float, high: float) -> Boundary:
    """The posterior over a capacity between `low` and `high`, flat in ln(capacity) before any probe.

    Args:
        probes: All that was measured.
        allowed: The share of requests that each objective allows over its limit.
        low: No capacity below is considered.
        high: Nor above.
    """
    capacity = np.linspace(log(low), log(high), POINTS)
    curves = len(SLOPES) * len(FLOORS) * len(CORRELATIONS) * len(SCATTERS)
    evidence = np.zeros((curves, POINTS))
    for probe in probes:
        if probe.requests:
            evidence += _evidence(probe, allowed, capacity)
    weights = np.exp(evidence - evidence.max()).sum(axis=0)
    return Boundary(np.exp(capacity), weights / weights.sum())


def _evidence(probe: Probe, allowed: Sequence[float], capacity: Floats) -> Floats:
    """The logarithm of the likelihood of a probe, a row for each set of what is unknown."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.special import betaln, expit, logit

    worst = worst_objective(probe, allowed)
    over, kept = probe.over[worst], probe.requests - probe.over[worst]
    slope, floor, correlation = (
        axis.reshape(-1, 1) for axis in np.meshgrid(SLOPES, FLOORS, CORRELATIONS, indexing="ij")
    )
    rising = expit(logit(allowed[worst]) + slope * (log(probe.level) - capacity))
    share = np.clip(rising + floor * allowed[worst], _LEAST_SHARE, 1 - _LEAST_SHARE)
    strength = (1 - correlation) / correlation
    exact: Floats = betaln(over + share * strength, kept + (1 - share) * strength) - betaln(
        share * strength, (1 - share) * strength
    )
    # A scatter of the probe's own capacity blurs its likelihood along ln(capacity).
    step = float(capacity[1] - capacity[0])
    likelihood = np.exp(exact - exact.max())
    blurred = [gaussian_filter1d(likelihood, scatter / step, mode="nearest") for scatter in SCATTERS]
    found: Floats = np.log(np.maximum(np.concatenate(blurred), _LEAST_LIKELIHOOD))
    capped: Floats = np.maximum(found, found.max() - MOST_EVIDENCE)
    return capped
