"""What the load cost the servers, as a reader wants it: named, in handy units, the most telling first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from model_load_test.components.report.model import RunReport, Scaling
from model_load_test.components.report.wording import (
    ABSENT,
    format_count,
    format_seconds,
    format_share,
    format_size,
    format_value,
)
from model_load_test.components.results.resource_use import Level

TITLES: Final[Mapping[str, str]] = {
    "cpu_cores": "CPU",
    "cpu_throttled_share": "CPU throttled, of its periods",
    "cpu_throttled_cores": "CPU withheld by throttling",
    "memory_bytes": "Memory",
    "gpu_busy_share": "GPU busy",
    "gpu_memory_bytes": "GPU memory",
    "gpu_power_watts": "GPU power",
    "replicas": "Replicas",
    "queue_length": "Requests in the queue",
    "queue_wait_seconds_mean": "Wait in the queue, mean",
    "queue_wait_seconds_p95": "Wait in the queue, p95",
    "batch_size_mean": "Batch size, mean",
    "server_latency_seconds_mean": "Latency on the server, mean",
    "server_latency_seconds_p95": "Latency on the server, p95",
    "model_latency_seconds_mean": "The model's run, mean",
    "served_rps": "Requests the server counted",
    "network_received_bytes_per_second": "Network in",
    "network_sent_bytes_per_second": "Network out",
    "threads": "Threads",
}
"""The quantities a report shows, in this order; a results file may hold more."""

_ESTIMATED: Final = "histogram quantile"


def resource_rows(report: RunReport) -> list[tuple[str, tuple[str, ...]]]:
    """Each quantity's title and its value per arm, in the order of `report.arms`; none without a source."""
    arms = list(report.arms)
    rows: list[tuple[str, tuple[str, ...]]] = []
    per_request = [report.resources.cpu_seconds_per_request(arm) for arm in arms]
    if any(seconds is not None for seconds in per_request):
        rows.append(("CPU per request", tuple(map(format_seconds, per_request))))
    for metric, title in TITLES.items():
        levels = [report.resources.levels.get(arm, {}).get(metric) for arm in arms]
        if any(levels):
            estimated = any(level is not None and level.method == _ESTIMATED for level in levels)
            told = f"{title} (from a histogram)" if estimated else title
            rows.append((told, tuple(_level_text(level) for level in levels)))
    return rows


def cpu_sentence(report: RunReport) -> str:
    """The arms' CPU time per request in one sentence; empty where it is not known."""
    told = [
        f"{arm} {format_seconds(seconds)}"
        for arm in report.arms
        if (seconds := report.resources.cpu_seconds_per_request(arm)) is not None
    ]
    return f"CPU time per request: {', '.join(told)}." if told else ""


def scaling_text(change: Scaling) -> str:
    """A change of the number of replicas, short enough for a label."""
    return f"{change.arm} {change.before} \N{RIGHTWARDS ARROW} {change.after}"


def scaling_sentences(changes: Sequence[Scaling]) -> list[str]:
    """The same for a list under the pictures."""
    return [
        f"{change.arm.capitalize()}: from {format_count(change.before)} to {format_count(change.after)} "
        f"replicas after {format_seconds(change.at_seconds, trimmed=True)}"
        for change in changes
    ]


def _level_text(level: Level | None) -> str:
    if level is None:
        return ABSENT
    mean, peak = quantity_text(level.mean, level.unit), quantity_text(level.peak, level.unit)
    return mean if mean == peak else f"{mean}, peak {peak}"


def quantity_text(value: float | None, unit: str) -> str:
    """A quantity in the unit that `resources.align` gives it."""
    if value is None:
        return ABSENT
    if unit == "s":
        return format_seconds(value)
    if unit == "share":
        return format_share(value)
    if unit in ("bytes", "bytes/s"):
        return format_size(value) + unit.removeprefix("bytes")
    return format_value(value, "" if unit in ("count", "replicas") else unit)
