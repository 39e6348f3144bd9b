"""Runs to judge, with known truth: windows of the recorded traces and a simulator.

A trial is what a load test would have measured: per pair of blocks the latencies of both arms in
seconds, and which requests failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

TRACES = Path(__file__).resolve().parents[3] / "shared" / "gate-traces"
PAIRS = 60
EARLIER_RUNS = 20
SERVERS = ("a1", "a2", "b0", "b2", "b5", "b10", "b20", "bt")


@dataclass(frozen=True)
class Trial:
    """One run of up to 60 pairs of blocks."""

    candidate: list[np.ndarray]
    """Latencies in seconds, one array a block."""
    baseline: list[np.ndarray]
    stored: list[np.ndarray] = field(default_factory=list)
    """The baseline measured at an earlier time, for rules that compare with a stored run."""
    after: list[np.ndarray] = field(default_factory=list)
    """The candidate measured after the baseline, for rules that measure one after the other."""
    history: tuple[dict[str, float], ...] = ()
    """What 20 earlier runs of the baseline measured."""
    failed: tuple[np.ndarray, np.ndarray] | None = None
    """Failure marks of all rows of candidate and baseline, in the order of their blocks."""
    cluster: int = 0
    """Trials of one cluster share data: they are resampled together."""

    def table(self, pairs: int, arms_measured: int = 2) -> pa.Table:
        """The first `pairs` pairs as a results table; of one arm, only the candidate's."""
        arms, blocks, latencies, ok, sent = [], [], [], [], []
        for code, measured in enumerate((self.candidate, self.baseline)[:arms_measured]):
            counts = np.array([block.size for block in measured[:pairs]])
            rows = int(counts.sum())
            arms.append(np.full(rows, code, np.int8))
            blocks.append(np.repeat(np.arange(pairs), counts))
            latencies.append(np.concatenate(measured[:pairs]))
            ok.append(np.ones(rows, bool) if self.failed is None else ~self.failed[code][:rows])
            within = np.concatenate([np.arange(count) / count for count in counts])
            sent.append(((blocks[-1] + within) * 1e9).astype(np.int64))
        return pa.table(
            {
                "arm": pa.DictionaryArray.from_arrays(np.concatenate(arms), ["candidate", "baseline"]),
                "block": np.concatenate(blocks).astype(np.int32),
                "latency_ns": (np.concatenate(latencies) * 1e9).astype(np.int64),
                "ok": np.concatenate(ok),
                "sent_at_ns": np.concatenate(sent),
            }
        )


class Trace:
    """A recorded trace, cut into seconds."""

    def __init__(self, name: str) -> None:
        with np.load(TRACES / f"{name}.npz") as recorded:
            self.seconds = {
                server: _by_second(recorded[f"{server}_t"], recorded[f"{server}_l"] * 1e-3)
                for server in SERVERS
            }
        self.length = min(len(seconds) for seconds in self.seconds.values()) - 1
        self._values: dict[tuple[str, int], dict[str, float]] = {}

    def trials(
        self, candidate: str, baseline: str, mode: str, step: int, factor: float = 1.0
    ) -> Iterator[Trial]:
        """Every window of the trace, its start moved by `step` seconds.

        Args:
            candidate: Name of the candidate's server.
            baseline: Name of the baseline's server.
            mode: "duet" (the same seconds) or "interleaved" (alternating seconds).
            step: Seconds between the starts of two windows.
            factor: By which all latencies of the candidate are multiplied.
        """
        rng = np.random.default_rng(7)
        span = PAIRS if mode == "duet" else 2 * PAIRS
        slow, fast = self.seconds[candidate], self.seconds[baseline]
        for start in range(1, self.length - span, step):
            if mode == "duet":
                first = second = np.arange(start, start + PAIRS)
            else:
                order = rng.integers(0, 2, PAIRS)
                first = start + 2 * np.arange(PAIRS) + order
                second = start + 2 * np.arange(PAIRS) + 1 - order
            earlier = int(rng.integers(1, self.length - PAIRS))
            later = start + PAIRS if start + 2 * PAIRS < self.length else start - PAIRS
            yield Trial(
                candidate=[slow[i] * factor for i in first],
                baseline=[fast[i] for i in second],
                stored=[fast[i] for i in range(earlier, earlier + PAIRS)],
                after=[slow[i] * factor for i in range(max(1, later), max(1, later) + PAIRS)],
                history=tuple(
                    self._run_values(baseline, int(past))
                    for past in rng.integers(1, self.length - PAIRS, EARLIER_RUNS)
                ),
                cluster=start // 60,
            )

    def _run_values(self, server: str, start: int) -> dict[str, float]:
        known = self._values.get((server, start))
        if known is None:
            latencies = np.concatenate(self.seconds[server][start : start + PAIRS])
            p50, p95, p99 = np.quantile(latencies, (0.5, 0.95, 0.99), method="inverted_cdf")
            known = {"mean": float(latencies.mean()), "p50": float(p50), "p95": float(p95), "p99": float(p99)}
            self._values[server, start] = known
        return known

    def independent(self, mode: str) -> int:
        """Windows that do not overlap: what the trace is worth for a bound on a rate of zero."""
        return max(1, self.length // (PAIRS if mode == "duet" else 2 * PAIRS))


@dataclass(frozen=True)
class World:
    """A simulated machine with two servers."""

    effect: float = 0.0
    """Relative slow-down of every request of the candidate."""
    tail: float = 1.0
    """Factor on the candidate's slow mode (2 % of the requests, three times the median)."""
    pause_share: float = 0.0
    """Share of seconds in which the candidate stalls a tenth of its requests for 60 ms."""
    lottery: float = 0.01
    """Standard deviation of the luck of a deployment, per arm."""
    burst_every: float = 15.0
    """Seconds between bursts of foreign load; they slow both arms 1.2 to 3 times."""
    drift: float = 0.01
    """Standard deviation of the step that the machine's speed drifts in a second."""
    own_noise: float = 0.03
    """Standard deviation of the noise of each arm alone, from second to second."""
    autocorrelation: float = 0.15
    """Of that noise, from one second to the next; 0.00 to 0.15 was measured on the traces."""
    heavy: float = 0.0
    """Share of requests with a Pareto tail of index 1.5."""
    clock_seconds: float = 1e-9
    """Resolution of the clock."""
    error_rate: float = 0.0
    requests: int = 200
    mode: str = "duet"

    def trial(self, rng: np.random.Generator) -> Trial:
        """One run in this world."""
        seconds = PAIRS if self.mode == "duet" else 2 * PAIRS
        shared = self._shared_noise(rng, seconds)
        candidate_at, baseline_at = self._schedule(rng)
        candidate = self._arm(rng, shared[candidate_at], self.effect, self.tail, self.pause_share)
        baseline = self._arm(rng, shared[baseline_at], 0.0, 1.0, 0.0)
        failed = tuple(rng.random(PAIRS * self.requests) < self.error_rate for _ in range(2))
        return Trial(list(candidate), list(baseline), failed=failed if self.error_rate else None)

    def _schedule(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if self.mode == "duet":
            return np.arange(PAIRS), np.arange(PAIRS)
        order = rng.integers(0, 2, PAIRS)
        return 2 * np.arange(PAIRS) + order, 2 * np.arange(PAIRS) + 1 - order

    def _shared_noise(self, rng: np.random.Generator, seconds: int) -> np.ndarray:
        fine = 20
        speed = np.repeat(np.cumsum(rng.normal(0, self.drift, seconds)), fine)
        time = 0.0
        while True:
            time += rng.exponential(self.burst_every)
            if time >= seconds:
                return speed.reshape(seconds, fine)
            stop = time + rng.exponential(1.5)
            speed[int(time * fine) : int(stop * fine) + 1] += np.log(rng.uniform(1.2, 3.0))

    def _arm(
        self, rng: np.random.Generator, shared: np.ndarray, effect: float, tail: float, pause_share: float
    ) -> np.ndarray:
        own = np.empty(PAIRS)
        own[0] = rng.normal(0, self.own_noise)
        keeps = self.autocorrelation
        kicks = rng.normal(0, self.own_noise * np.sqrt(1 - keeps**2), PAIRS)
        for i in range(1, PAIRS):
            own[i] = keeps * own[i - 1] + kicks[i]
        level = np.repeat(shared, self.requests // shared.shape[1], axis=1)
        logs = level + own[:, None] + rng.normal(0, 0.25, level.shape) + np.log(0.006 * (1 + effect))
        logs += rng.normal(0, self.lottery)
        slow = rng.random(level.shape) < 0.02
        logs[slow] += np.log(3.0 * tail)
        latencies = np.exp(logs)
        if self.heavy:
            chosen = rng.random(level.shape) < self.heavy
            latencies[chosen] *= 1 + rng.pareto(1.5, int(chosen.sum()))
        if pause_share:
            stalled = (rng.random(PAIRS) < pause_share)[:, None] & (rng.random(level.shape) < 0.1)
            latencies[stalled] += 0.06
        return np.maximum(np.round(latencies / self.clock_seconds), 1) * self.clock_seconds


def _by_second(sent: np.ndarray, latencies: np.ndarray) -> list[np.ndarray]:
    second = sent.astype(int)
    return np.split(latencies, np.searchsorted(second, np.arange(1, second.max() + 1)))
