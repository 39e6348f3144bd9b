"""What the server counts, under TF Serving's names and in its text (util/prometheus_exporter.cc)."""

from __future__ import annotations

import bisect
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

_BUCKET_LIMITS_US: Final = tuple(10 * 1.8**power for power in range(33))
"""Scale 10, growth 1.8, 33 buckets; what lies above them has one more."""

_QUEUING_LIMITS_US: Final = tuple(100 * 1.2**power for power in range(52))
"""As batching_session.cc has them: scale 100, growth 1.2, 52 buckets."""

_REQUEST_COUNT: Final = ":tensorflow:serving:request_count"
_REQUEST_LATENCY: Final = ":tensorflow:serving:request_latency"
_RUNTIME_LATENCY: Final = ":tensorflow:serving:runtime_latency"
_QUEUING_LATENCY: Final = ":tensorflow:serving:batching_session:queuing_latency"
_BATCH_SIZE: Final = ":tensorflow:serving:batching_session:processed_batch_size"
_PADDING_SIZE: Final = ":tensorflow:serving:batching_session:padding_size"
_SIZE_LIMITS: Final = tuple(float(1 << power) for power in range(14))
_LOAD_ATTEMPTS: Final = ":tensorflow:cc:saved_model:load_attempt_count"

Labels = tuple[tuple[str, str], ...]


@dataclass
class _Histogram:
    limits_us: tuple[float, ...] = _BUCKET_LIMITS_US
    counts: list[int] = field(default_factory=list)
    total_us: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.limits_us) + 1)

    def add(self, value_us: float) -> None:
        self.counts[bisect.bisect_right(self.limits_us, value_us)] += 1
        self.total_us += value_us


@dataclass
class Metrics:
    """Counters and latency distributions of one server."""

    _counters: dict[tuple[str, Labels], int] = field(default_factory=lambda: defaultdict(int))
    _histograms: dict[tuple[str, Labels], _Histogram] = field(default_factory=lambda: defaultdict(_Histogram))

    def count_request(self, model_name: str, status: str) -> None:
        """Counts a request and how it ended."""
        self._counters[_REQUEST_COUNT, (("model_name", model_name), ("status", status))] += 1

    def count_load(self, model_path: str, status: str) -> None:
        """Counts an attempt to load a version; `status` is success or fail."""
        self._counters[_LOAD_ATTEMPTS, (("model_path", model_path), ("status", status))] += 1

    def request_took(self, model_name: str, api: str, entrypoint: str, latency_ns: int) -> None:
        """Records a successful request from its arrival to its answer."""
        labels = (("model_name", model_name), ("API", api), ("entrypoint", entrypoint))
        self._histograms[_REQUEST_LATENCY, labels].add(latency_ns / 1000)

    def runtime_took(self, model_name: str, api: str, runtime: str, latency_ns: int) -> None:
        """Records the model's own computing time."""
        labels = (("model_name", model_name), ("API", api), ("runtime", runtime))
        self._histograms[_RUNTIME_LATENCY, labels].add(latency_ns / 1000)

    def queued(self, thread_pool_name: str, latency_ns: int) -> None:
        """Records how long a request waited for a thread."""
        key = (_QUEUING_LATENCY, (("thread_pool_name", thread_pool_name),))
        if key not in self._histograms:
            self._histograms[key] = _Histogram(_QUEUING_LIMITS_US)
        self._histograms[key].add(latency_ns / 1000)

    def batch_processed(self, size: int, padding: int) -> None:
        """Records the size of a batch that is computed, and how many of its rows are filling."""
        for name, labels, value in (
            (_BATCH_SIZE, (), size),
            (_PADDING_SIZE, (("execution_batch_size", str(size)),), padding),
        ):
            if (name, labels) not in self._histograms:
                self._histograms[name, labels] = _Histogram(_SIZE_LIMITS)
            self._histograms[name, labels].add(value)

    def page(self) -> str:
        """The page Prometheus reads."""
        lines: list[str] = []
        typed: set[str] = set()
        for (name, labels), value in sorted(self._counters.items()):
            if name not in typed:
                typed.add(name)
                lines.append(f"# TYPE {name} counter")
            lines.append(f"{name}{{{_text(labels)}}} {value}")
        for (name, labels), histogram in sorted(self._histograms.items(), key=lambda item: item[0]):
            if name not in typed:
                typed.add(name)
                lines.append(f"# TYPE {name} histogram")
            lines.extend(_histogram_lines(name, _text(labels), histogram))
        return "\n".join(lines) + "\n"


def _histogram_lines(name: str, labels: str, histogram: _Histogram) -> list[str]:
    lines = []
    running = 0
    separator = "," if labels else ""
    limits = [f"{limit:g}" for limit in histogram.limits_us] + ["+Inf"]
    for limit, count in zip(limits, histogram.counts, strict=True):
        running += count
        lines.append(f'{name}_bucket{{{labels}{separator}le="{limit}"}} {running}')
    lines.append(f"{name}_sum{{{labels}}} {histogram.total_us:g}")
    lines.append(f"{name}_count{{{labels}}} {running}")
    return lines


def _text(labels: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
