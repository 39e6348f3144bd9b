"""Latency and throughput by load: the curve, its knee, and the Universal Scalability Law."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

_LEAST_POINTS: Final = 4


class CurvePoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one load gave."""

    level: float
    requests: int
    achieved_rps: float
    """Answered requests, failed ones too, over the time of sending."""
    error_rate: float
    holds: bool
    """Whether every objective was kept as observed."""
    mean_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    broken: str = ""
    """Why this load was stopped or is not believed."""

    @property
    def in_flight(self) -> float | None:
        """Requests waiting at once on average, by Little's law."""
        return None if self.mean_ms is None else self.achieved_rps * self.mean_ms / 1e3


class Scalability(msgspec.Struct, frozen=True):
    """The Universal Scalability Law (Gunther), X(N) = rate N / (1 + contention (N-1) + coherency N (N-1))."""

    rate_of_one_rps: float
    contention: float
    coherency: float

    def throughput(self, in_flight: float) -> float:
        """Requests per second with so many in flight."""
        waiting = self.contention * (in_flight - 1) + self.coherency * in_flight * (in_flight - 1)
        return self.rate_of_one_rps * in_flight / (1 + waiting)

    @property
    def best_in_flight(self) -> float | None:
        """Where the throughput is highest; None if it rises for ever."""
        return sqrt((1 - self.contention) / self.coherency) if self.coherency > 0 else None


def knee(points: Sequence[CurvePoint]) -> float | None:
    """The load from which on the latency rises faster than the load.

    The point farthest below the chord of median latency over load (Satopaa et al. 2011, "Finding a
    Kneedle in a haystack"), over the loads tried; None where the curve does not bend upwards.
    """
    known = sorted((p.level, p.p50_ms) for p in points if p.p50_ms is not None and not p.broken)
    if len(known) < _LEAST_POINTS:
        return None
    load, latency = (_scaled(np.array(axis)) for axis in zip(*known, strict=True))
    if load is None or latency is None:
        return None
    below = load - latency
    place = int(below.argmax())
    return float(known[place][0]) if 0 < place < len(known) - 1 and below[place] > 0 else None


def scalability(points: Sequence[CurvePoint]) -> Scalability | None:
    """Fits the law to the loads that were answered without failures; None with too few of them."""
    from scipy.optimize import nnls

    sound = [(p.in_flight, p.achieved_rps) for p in points if p.in_flight and not p.error_rate]
    if len(sound) < _LEAST_POINTS:
        return None
    in_flight, throughput = (np.array(axis) for axis in zip(*sound, strict=True))
    # N / X = (1 + contention (N-1) + coherency N (N-1)) / rate: linear in three non-negative unknowns,
    # each equation weighted so that its error is one relative to the throughput
    design = np.stack([np.ones_like(in_flight), in_flight - 1, in_flight * (in_flight - 1)], axis=1)
    weight = (throughput / in_flight)[:, None]
    inverse_rate, contended, coherent = nnls(design * weight, np.ones(len(in_flight)))[0]
    if inverse_rate <= 0:
        return None
    return Scalability(
        float(1 / inverse_rate), float(contended / inverse_rate), float(coherent / inverse_rate)
    )


def _scaled(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    extent = float(np.ptp(values))
    return (values - values.min()) / extent if extent else None
