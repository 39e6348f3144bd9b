"""The load's own numbers for a Prometheus, while it runs: opt-in, on a port of its own.

They are brought up to date as each block ends, for a generator hands out its rows no earlier. Latencies are
a histogram here, as Prometheus wants it; the exact percentiles of the newest block stand beside it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import pyarrow as pa

from model_load_test.components.errors import InputError
from model_load_test.components.load.schedule import WARMUP_BLOCK, Arm, Segment
from model_load_test.components.load.spec import LoadSpec
from model_load_test.components.results import columns
from model_load_test.components.results.percentile import percentile

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PREFIX: Final = "model_load_test"

BUCKETS_SECONDS: Final = (
    *(0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0),
)
_QUANTILES: Final = (50.0, 95.0, 99.0)
_LEAST_BEYOND: Final = 5
"""Requests beyond a percentile for it to be shown: to look at, not to judge by."""


class Observer(Protocol):
    """Follows a run, segment by segment."""

    def begin(self, segment: Segment) -> None:
        """Something is about to be loaded."""

    def add(self, rows: pa.Table, segment: Segment) -> None:
        """It was, and these are its rows."""


class NoObserver:
    """Follows nothing."""

    def begin(self, segment: Segment) -> None:
        """Takes no note."""

    def add(self, rows: pa.Table, segment: Segment) -> None:
        """Takes no note."""


NO_OBSERVER: Final[Observer] = NoObserver()


class LoadExporter:
    """An observer that is a collector of prometheus_client."""

    def __init__(self, spec: LoadSpec) -> None:
        """Prepares an exporter for a run of `spec`."""
        self._spec = spec
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._buckets: dict[str, np.ndarray[Any, np.dtype[np.int64]]] = {}
        self._seconds: dict[str, float] = {}
        self._offered: dict[str, float] = {}
        self._sent: dict[str, float] = {}
        self._quantiles: dict[tuple[str, float], float] = {}
        self._block = WARMUP_BLOCK

    def begin(self, segment: Segment) -> None:
        """Notes what is offered from now on; an arm that is not loaded is offered nothing."""
        arms: tuple[Arm, ...] = ("candidate",) if self._spec.mode == "single" else ("candidate", "baseline")
        with self._lock:
            self._block = segment.block
            for arm in arms:
                offered = segment.rate_rps(self._spec, arm) if arm in segment.arms else 0.0
                self._offered[arm] = offered

    def add(self, rows: pa.Table, segment: Segment) -> None:  # noqa: ARG002 - an observer's
        """Counts the rows of a segment that is over."""
        of_row, arms = columns.texts(rows["arm"])
        of_status, statuses = columns.texts(rows["status"])
        ok = columns.truths(rows["ok"])
        latency_ns = columns.numbers(rows["latency_ns"], np.int64)
        measured = columns.numbers(rows["block"], np.int32) != WARMUP_BLOCK
        with self._lock:
            for code, arm in enumerate(arms):
                own = of_row == code
                for status, text in enumerate(statuses):
                    for good in (True, False):
                        count = int(np.count_nonzero(own & (of_status == status) & (ok == good)))
                        if count:
                            self._requests[arm, "ok" if good else "failed", text] += count
                self._observe(arm, latency_ns[own & ok])
                self._newest_block(arm, own & measured, latency_ns[own & measured & ok])

    def _observe(self, arm: str, latency_ns: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        counts = self._buckets.setdefault(arm, np.zeros(len(BUCKETS_SECONDS) + 1, dtype=np.int64))
        places = np.searchsorted(np.array(BUCKETS_SECONDS), latency_ns / 1e9, side="left")
        counts += np.bincount(places, minlength=counts.size)
        self._seconds[arm] = self._seconds.get(arm, 0.0) + float(latency_ns.sum()) / 1e9

    def _newest_block(
        self,
        arm: str,
        rows: np.ndarray[Any, np.dtype[np.bool_]],
        latency_ns: np.ndarray[Any, np.dtype[np.int64]],
    ) -> None:
        count = int(np.count_nonzero(rows))
        if not count:
            return
        self._sent[arm] = count / self._spec.block_seconds
        for q in _QUANTILES:
            self._quantiles.pop((arm, q), None)
            if latency_ns.size * (100 - q) >= 100 * _LEAST_BEYOND:
                self._quantiles[arm, q] = percentile(latency_ns, q) / 1e9

    def collect(self) -> Iterator[Metric]:
        """What a scrape gets."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        with self._lock:
            requests = CounterMetricFamily(
                f"{PREFIX}_requests", "Requests answered or failed.", labels=("arm", "outcome", "status")
            )
            for labels, count in self._requests.items():
                requests.add_metric(labels, count)
            latency = HistogramMetricFamily(
                f"{PREFIX}_latency_seconds",
                "Latency of OK requests, from the scheduled send time where it is known.",
                labels=("arm",),
            )
            for arm, counts in self._buckets.items():
                limits = [*map(str, BUCKETS_SECONDS), "+Inf"]
                cumulative = np.cumsum(counts).tolist()
                latency.add_metric(
                    (arm,), list(zip(limits, cumulative, strict=True)), sum_value=self._seconds[arm]
                )
            offered = GaugeMetricFamily(
                f"{PREFIX}_offered_rps", "Requests per second the schedule wants sent now.", labels=("arm",)
            )
            sent = GaugeMetricFamily(
                f"{PREFIX}_sent_rps", "Requests per second sent in the newest block.", labels=("arm",)
            )
            for family, values in ((offered, self._offered), (sent, self._sent)):
                for arm, value in values.items():
                    family.add_metric((arm,), value)
            newest = GaugeMetricFamily(
                f"{PREFIX}_block_latency_seconds",
                "Exact percentiles of the newest block's OK requests.",
                labels=("arm", "quantile"),
            )
            for (arm, q), seconds in self._quantiles.items():
                newest.add_metric((arm, f"{q / 100:g}"), seconds)
            block = GaugeMetricFamily(
                f"{PREFIX}_block", "The block that is loaded now; -1 while warming up.", value=self._block
            )
        planned = GaugeMetricFamily(
            f"{PREFIX}_blocks_planned", "The most blocks this run may have.", value=self._spec.max_pairs
        )
        facts = InfoMetricFamily(
            f"{PREFIX}_run",
            "What is run.",
            value={"mode": self._spec.mode, "protocol": self._spec.protocol, "tool": self._spec.tool},
        )
        yield from (requests, latency, offered, sent, newest, block, planned, facts)


@contextmanager
def load_exporter(port: int, spec: LoadSpec) -> Iterator[Observer]:
    """Serves the load's numbers at `port` while the block runs; with port 0 nothing is served.

    Raises:
        InputError: The port cannot be had.
    """
    if port == 0:
        yield NO_OBSERVER
        return
    from prometheus_client import CollectorRegistry, start_http_server

    if not 0 < port < 1 << 16:
        raise InputError("metrics_port", port, "give a port from 1 to 65535, or 0 for none")
    exporter = LoadExporter(spec)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)
    try:
        server, thread = start_http_server(port, registry=registry)
    except OSError as error:
        raise InputError("metrics_port", port, f"it cannot be listened at ({error.strerror})") from None
    try:
        yield exporter
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
