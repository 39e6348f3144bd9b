"""What Cloud Monitoring knows of Vertex AI endpoints: replicas, CPU, GPU, memory, network, latencies.

Metrics and units are those of the list of Google Cloud metrics (aiplatform, `prediction/online/...`). They
are taken once a minute and become visible some minutes later, so a short load test has one or two samples
of each: enough to see what a server was busy with, too few to judge it by.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final

from model_load_test.components.google_cloud.credentials import CredentialsMissing
from model_load_test.components.google_cloud.rest import GoogleApiError, RestApi
from model_load_test.components.resources.catalogue import Known
from model_load_test.components.resources.series import Kind, Reading, Series, Window, series_of
from model_load_test.components.results.checks import Check

ADDRESS: Final = "https://monitoring.googleapis.com"
SAMPLED_SECONDS: Final = 60.0
LATE_SECONDS: Final = 240.0
"""After so long a sample is certainly visible."""
_PREFIX: Final = "aiplatform.googleapis.com/prediction/online/"
_RESOURCE: Final = "aiplatform.googleapis.com/Endpoint"
_POLL_SECONDS: Final = 10.0
_SECONDS: Final[Mapping[str, float]] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

METRICS: Final[Mapping[str, Known]] = {
    # a share of one CPU: above 1 where a replica's machine has several
    "cpu/utilization": Known("cpu_cores", "gauge"),
    "memory/bytes_used": Known("memory_bytes", "gauge"),
    "accelerator/duty_cycle": Known("gpu_busy_share", "gauge"),
    "accelerator/memory/bytes_used": Known("gpu_memory_bytes", "gauge"),
    "network/received_bytes_count": Known("network_received_bytes", "counter"),
    "network/sent_bytes_count": Known("network_sent_bytes", "counter"),
    "replicas": Known("replicas", "gauge"),
    "target_replicas": Known("wanted_replicas", "gauge"),
    "prediction_count": Known("served_requests", "counter"),
    "error_count": Known("failed_requests", "counter"),
    "prediction_latencies": Known("server_latency_seconds", "buckets", apart=("latency_type",)),
}


@dataclass(frozen=True)
class VertexArm:
    """Which series belong to an arm."""

    endpoint_id: str
    deployed_model_id: str = ""
    """Where both arms are models of one endpoint."""
    location: str = ""


@dataclass(frozen=True)
class CloudMonitoring:
    """A `ResourceSource`: a project, and which endpoint or deployed model is which arm."""

    project: str
    arms: Mapping[str, VertexArm]
    metrics: tuple[str, ...] = tuple(METRICS)
    """Those of `METRICS` to ask for."""
    address: str = ADDRESS
    api: Callable[[str], RestApi] = field(default=RestApi, repr=False)
    """Opens the service at an address; by default with the task's own account."""

    def __call__(self, window: Window) -> Reading:
        """Reads the window; where it is to be complete, waits until its last samples are visible."""
        try:
            api = self.api(self.address)
            while True:
                reading = self._read(api, window)
                late = time.time_ns() - window.end_ns > LATE_SECONDS * 1e9
                if not window.complete or late or _reaches(reading, window):
                    return reading
                time.sleep(_POLL_SECONDS)
        except (GoogleApiError, CredentialsMissing) as error:
            detail = (
                f"Cloud Monitoring told nothing of the servers' resources: {error}. The account needs "
                "roles/monitoring.viewer in the project."
            )
            return Reading((), (Check("resources-unavailable", detail, "WARNING"),))

    def _read(self, api: RestApi, window: Window) -> Reading:
        found: list[Series] = []
        findings: list[Check] = []
        around = window.widened(2 * SAMPLED_SECONDS)
        for arm, what in self.arms.items():
            read = [
                one
                for metric in self.metrics
                for answered in self._time_series(api, metric, what, around)
                for one in _series(arm, METRICS[metric], answered)
            ]
            if not read:
                findings.append(_nothing(arm, what))
            found += read
        if found and not _reaches(Reading(tuple(found)), window):
            findings.append(_late_finding(found, window))
        return Reading(tuple(found), tuple(findings))

    def _time_series(
        self, api: RestApi, metric: str, what: VertexArm, window: Window
    ) -> Iterator[dict[str, Any]]:
        query = {
            "filter": series_filter(metric, what),
            "interval.startTime": _timestamp(window.start_ns),
            "interval.endTime": _timestamp(min(window.end_ns, time.time_ns())),
            "view": "FULL",
        }
        return api.pages(f"/v3/projects/{self.project}/timeSeries", "timeSeries", query)


def series_filter(metric: str, what: VertexArm) -> str:
    """The Monitoring filter of one metric of an endpoint, or of one model of it."""
    parts = [
        f'metric.type = "{_PREFIX}{metric}"',
        f'resource.type = "{_RESOURCE}"',
        f'resource.labels.endpoint_id = "{what.endpoint_id}"',
    ]
    if what.location:
        parts.append(f'resource.labels.location = "{what.location}"')
    if what.deployed_model_id:
        parts.append(f'metric.labels.deployed_model_id = "{what.deployed_model_id}"')
    return " AND ".join(parts)


def _series(arm: str, known: Known, told: Mapping[str, Any]) -> Iterator[Series]:
    labels = {**told.get("resource", {}).get("labels", {}), **told["metric"].get("labels", {})}
    points = sorted(told.get("points", ()), key=lambda point: _nanoseconds(point["interval"]["endTime"]))

    def series(
        metric: str, kind: Kind, samples: list[tuple[int, float]], limit: float | None = None
    ) -> Series:
        at_ns, values = series_of(samples)
        return Series(
            *(metric, kind, arm, labels.get("replica_id", labels.get("endpoint_id", ""))),
            *("cloud-monitoring", at_ns, values),
            signature=labels.get("deployed_model_id", ""),
            labels={label: labels[label] for label in known.apart if label in labels},
            limit=limit,
        )

    if not points:
        return
    if known.kind == "buckets":
        yield from _distribution(known, points, _SECONDS.get(told.get("unit", ""), _SECONDS["us"]), series)
    elif told.get("metricKind") == "DELTA":
        yield series(known.metric, "counter", _totals(points, _value))
    else:
        ends = [_nanoseconds(point["interval"]["endTime"]) for point in points]
        yield series(
            known.metric, known.kind, [(at, _value(point)) for at, point in zip(ends, points, strict=True)]
        )


def _distribution(
    known: Known, points: list[dict[str, Any]], scale: float, series: Callable[..., Series]
) -> Iterator[Series]:
    """A histogram's points as a counter per bucket, with their sum and number."""
    limits = sorted({limit for point in points for limit, _ in _buckets(point)})
    for limit in limits:

        def below(point: Mapping[str, Any], limit: float = limit) -> float:
            return sum(count for upper, count in _buckets(point) if upper <= limit)

        yield series(known.metric, "buckets", _totals(points, below), limit * scale)
    yield series(
        f"{known.metric}_sum",
        "counter",
        _totals(points, lambda point: scale * _spread(point).get("mean", 0.0) * _count(point)),
    )
    yield series(f"{known.metric}_count", "counter", _totals(points, _count))


def _totals(
    points: list[dict[str, Any]], value: Callable[[Mapping[str, Any]], float]
) -> list[tuple[int, float]]:
    """Increases over intervals as a counter that begins with 0 where the first of them does."""
    first_ns = _nanoseconds(points[0]["interval"].get("startTime", points[0]["interval"]["endTime"]))
    totals = itertools.accumulate(value(point) for point in points)
    ends = [_nanoseconds(point["interval"]["endTime"]) for point in points]
    return [(first_ns, 0.0), *zip(ends, totals, strict=True)]


def _value(point: Mapping[str, Any]) -> float:
    value = point["value"]
    return float(value.get("doubleValue", value.get("int64Value", 0)))


def _spread(point: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = point["value"].get("distributionValue", {})
    return found


def _count(point: Mapping[str, Any]) -> float:
    return float(_spread(point).get("count", 0))


def _buckets(point: Mapping[str, Any]) -> list[tuple[float, float]]:
    """The upper limit and the count of each bucket of a distribution, the overflow's limit infinite."""
    spread = _spread(point)
    options, counts = spread.get("bucketOptions", {}), spread.get("bucketCounts", ())
    if "exponentialBuckets" in options:
        told = options["exponentialBuckets"]
        scale, growth = float(told["scale"]), float(told["growthFactor"])
        limits = [scale * growth**power for power in range(int(told["numFiniteBuckets"]) + 1)]
    elif "linearBuckets" in options:
        told = options["linearBuckets"]
        offset, width = float(told.get("offset", 0)), float(told["width"])
        limits = [offset + width * step for step in range(int(told["numFiniteBuckets"]) + 1)]
    else:
        limits = [float(bound) for bound in options.get("explicitBuckets", {}).get("bounds", ())]
    padded = [float(count) for count in counts] + [0.0] * (len(limits) + 1 - len(counts))
    return list(zip([*limits, math.inf], padded, strict=False))


def _reaches(reading: Reading, window: Window) -> bool:
    """Whether of each arm something was sampled at or after the window's end."""
    newest: dict[str, int] = {}
    for one in reading.series:
        newest[one.arm] = max(newest.get(one.arm, 0), int(one.at_ns[-1]) if one.at_ns.size else 0)
    return bool(newest) and min(newest.values()) >= window.end_ns


def _nothing(arm: str, what: VertexArm) -> Check:
    detail = (
        f"Cloud Monitoring has no samples of the {arm} (endpoint {what.endpoint_id}) in this time. They "
        "become visible some minutes after the load; ask again later, or check the endpoint's number."
    )
    return Check("resources-unmatched", detail, "WARNING")


def _late_finding(series: list[Series], window: Window) -> Check:
    newest_ns = max(int(one.at_ns[-1]) for one in series if one.at_ns.size)
    missing_seconds = max(0.0, (window.end_ns - newest_ns) / 1e9)
    detail = (
        f"Cloud Monitoring shows the servers up to {missing_seconds:.0f} s before the end of the load: newer "
        "samples become visible later."
    )
    return Check("resources-late", detail, "INFO", {"missing_seconds": round(missing_seconds, 1)})


def _timestamp(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / 1e9, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _nanoseconds(text: str) -> int:
    """An RFC 3339 time; its fraction may have nine digits, which `fromisoformat` does not take."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = datetime.fromisoformat(f"{whole}+00:00").timestamp()
    return round(seconds) * 1_000_000_000 + int((fraction + "0" * 9)[:9])
