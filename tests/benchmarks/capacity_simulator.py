"""A server of four workers with a slow and a fast second, to try searches on without any load."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from model_load_test.components.load.capacity.boundary import Probe

PROBES_OF_TRUTH = 120


@dataclass(frozen=True)
class QueueingServer:
    """M/G/4: Poisson arrivals, lognormal service, one queue; speed varies by probe and by second."""

    workers: int = 4
    mean_service_seconds: float = 6e-3
    service_spread: float = 0.5
    speed_sd: float = 0.05
    limit_seconds: float = 30e-3

    def probe(self, rate_rps: float, seconds: float, rng: np.random.Generator) -> Probe:
        """Loads the server and counts the requests over the limit."""
        count = max(1, int(rng.poisson(rate_rps * seconds)))
        arrivals = np.sort(rng.uniform(0, seconds, count))
        spread = self.service_spread
        service = rng.lognormal(np.log(self.mean_service_seconds) - spread**2 / 2, spread, count)
        of_second = rng.normal(0, self.speed_sd, int(seconds) + 1)[arrivals.astype(int)]
        service *= np.exp(rng.normal(0, self.speed_sd) + of_second)
        return Probe(rate_rps, count, (self._over(arrivals, service),))

    def _over(self, arrivals: np.ndarray, service: np.ndarray) -> int:
        free = [0.0] * self.workers
        over = 0
        for arrival, duration in zip(arrivals.tolist(), service.tolist(), strict=True):
            done = max(arrival, free[0]) + duration
            heapq.heapreplace(free, done)
            over += done - arrival > self.limit_seconds
        return over

    def true_capacity(self, allowed: float, seconds: float, rng: np.random.Generator) -> float:
        """The rate at which every other probe has more than the allowed share over the limit."""
        low, high = 50.0, self.workers / self.mean_service_seconds
        for _ in range(12):
            middle = (low * high) ** 0.5
            tried = [self.probe(middle, seconds, rng) for _ in range(PROBES_OF_TRUTH)]
            broken = sum(probe.over[0] > allowed * probe.requests for probe in tried)
            low, high = (middle, high) if 2 * broken <= PROBES_OF_TRUTH else (low, middle)
        return (low * high) ** 0.5
