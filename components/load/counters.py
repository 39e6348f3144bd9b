"""What a model server counts about its own requests: the Prometheus pages of TF Serving and Triton."""

from __future__ import annotations

import http.client
import math
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.protocols.vertex import speaks_vertex

TF_SERVING_PATH: Final = "/monitoring/prometheus/metrics"
"""Where TF Serving shows its metrics if its monitoring config file says so, on the REST port."""
TRITON_PATH: Final = "/metrics"

_USUAL_PLACES: Final[Mapping[int, tuple[int, str]]] = {
    8500: (8501, TF_SERVING_PATH),
    8000: (8002, TRITON_PATH),
    8001: (8002, TRITON_PATH),
}
"""By the port that is loaded, the port and path where that server's metrics usually are."""

_INFERENCE_APIS: Final = frozenset({"predict", "classify", "regress", "multiinference"})
_REQUEST_LATENCY: Final = ":tensorflow:serving:request_latency"
_RUNTIME_LATENCY: Final = ":tensorflow:serving:runtime_latency"
_QUEUING_LATENCY: Final = ":tensorflow:serving:batching_session:queuing_latency"
_TRITON: Final = "nv_inference_"
_SECONDS_PER_US: Final = 1e-6
_MOST_BYTES: Final = 1 << 24
_TIMEOUT_SECONDS: Final = 2.0


class CountersUnreadable(Exception):
    """There is no page of metrics, or not one of a server known here."""


@dataclass(frozen=True)
class MetricsPage:
    """Where a server shows its metrics."""

    endpoint: Endpoint
    path: str

    def __str__(self) -> str:
        return f"{self.endpoint}{self.path}"


@dataclass(frozen=True)
class ServerCounters:
    """Totals of one model's successful inference requests since its server was started."""

    server: Literal["tf-serving", "triton"]
    requests: float
    request_seconds: float
    """From arrival to answer, of all requests together."""
    queue_seconds: float
    """Part of it that requests waited in the server for their turn."""
    queue_is_told: bool
    """Whether the server says how long they waited; else it is what is left beside the model's run."""
    buckets: Mapping[float, float]
    """Requests that took at most so many seconds; empty where the server keeps no histogram."""


@dataclass(frozen=True)
class ServerTimes:
    """What the requests between two looks at the counters took on the server, on average."""

    server: str
    requests: float
    mean_seconds: float
    queue_seconds: float
    queue_is_told: bool
    p95_at_most_seconds: float | None
    """Upper limit of the histogram's bucket that holds the 95th percentile."""

    @property
    def compute_seconds(self) -> float:
        """What is not waiting: the model's run, and reading and writing its messages."""
        return self.mean_seconds - self.queue_seconds


def parse_metrics_page(text: str, field: str = "metrics") -> MetricsPage:
    """Parses the address of a page of metrics.

    Args:
        text: As `http://HOST:PORT/PATH`; without a path TF Serving's.
        field: Name of the parameter, for the error.

    Raises:
        InputError: It is no such address.
    """
    parts = urlsplit(text)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        port = None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port:
        raise InputError(field, text, f"write it as http://HOST:8501{TF_SERVING_PATH}")
    if parts.username or parts.password:
        raise InputError(field, f"{parts.scheme}://...", "credentials do not belong in an address")
    path = (parts.path.rstrip("/") or TF_SERVING_PATH) + (f"?{parts.query}" if parts.query else "")
    return MetricsPage(Endpoint(parts.scheme, parts.hostname, port), path)


def usual_page(endpoint: Endpoint) -> MetricsPage | None:
    """Where the server that is loaded at `endpoint` usually shows its metrics; None if no one can tell.

    TF Serving shows them on its REST port, Triton on a port of their own; with ports of the user's
    own choice a gRPC endpoint does not tell where. Vertex AI shows none: Cloud Monitoring has them.
    """
    if endpoint.port in _USUAL_PLACES:
        port, path = _USUAL_PLACES[endpoint.port]
        return MetricsPage(Endpoint("http", endpoint.host, port), path)
    if endpoint.protocol == "http" and not speaks_vertex(endpoint):
        return MetricsPage(Endpoint(endpoint.scheme, endpoint.host, endpoint.port), TF_SERVING_PATH)
    return None


def read_counters(
    page: MetricsPage,
    model_name: str,
    *,
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> ServerCounters:
    """Reads a server's counters.

    Args:
        page: Where they are shown.
        model_name: The model that is loaded.
        headers: Sent along.
        context: How to trust the server, for https.

    Raises:
        CountersUnreadable: Nothing there answers with counters of that model; the text says why.
    """
    counters = parse_counters(_fetch(page, headers or {}, context), model_name)
    if counters is None:
        raise CountersUnreadable(f"{page} shows no request latencies of TF Serving or Triton")
    return counters


def parse_counters(page: str, model_name: str) -> ServerCounters | None:
    """The counters on a page of metrics; None where it is not one of a server known here.

    A server that has not served the model yet shows nothing of it, or nothing at all: that is a
    count of 0.

    Raises:
        CountersUnreadable: The page is not in Prometheus' text format.
    """
    from prometheus_client.parser import text_string_to_metric_families

    try:
        samples = [
            (sample.name, sample.labels, float(sample.value))
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        ]
    except (ValueError, KeyError, IndexError) as error:
        raise CountersUnreadable(f"the page of metrics cannot be read ({error})") from None
    names = {name for name, _, _ in samples}
    if any(name.startswith(_TRITON) for name in names):
        return _triton_counters(samples, model_name)
    if not names or any(name.startswith(":tensorflow:") for name in names):
        return _tf_serving_counters(samples, model_name)
    return None


_Samples = list[tuple[str, dict[str, str], float]]


def _tf_serving_counters(samples: _Samples, model_name: str) -> ServerCounters:
    requests = request_us = runtime_us = queuing_us = 0.0
    queue_is_told = False
    buckets: dict[float, float] = {}
    for name, labels, value in samples:
        if name.startswith(_QUEUING_LATENCY):  # by thread pool, whatever the model
            queue_is_told = True
            queuing_us += value if name.endswith("_sum") else 0.0
        if labels.get("model_name") != model_name or not _is_inference(labels):
            continue
        if name == f"{_REQUEST_LATENCY}_count":
            requests += value
        elif name == f"{_REQUEST_LATENCY}_sum":
            request_us += value
        elif name == f"{_REQUEST_LATENCY}_bucket":
            limit = float(labels["le"]) * _SECONDS_PER_US
            buckets[limit] = buckets.get(limit, 0.0) + value
        elif name == f"{_RUNTIME_LATENCY}_sum":
            runtime_us += value
    # A batching session waits inside what the runtime is measured to take; without one, what is not
    # the runtime is waiting, and reading and writing messages.
    queue_us = queuing_us if queue_is_told else max(0.0, request_us - runtime_us)
    return ServerCounters(
        server="tf-serving",
        requests=requests,
        request_seconds=request_us * _SECONDS_PER_US,
        queue_seconds=queue_us * _SECONDS_PER_US,
        queue_is_told=queue_is_told,
        buckets=buckets,
    )


def _is_inference(labels: Mapping[str, str]) -> bool:
    return labels.get("API", "").lower() in _INFERENCE_APIS and labels.get("status", "OK") == "OK"


def _triton_counters(samples: _Samples, model_name: str) -> ServerCounters:
    def total(metric: str) -> float:
        names = (f"{_TRITON}{metric}", f"{_TRITON}{metric}_total")
        return sum(
            value for name, labels, value in samples if name in names and labels.get("model") == model_name
        )

    return ServerCounters(
        server="triton",
        requests=total("request_success"),
        request_seconds=total("request_duration_us") * _SECONDS_PER_US,
        queue_seconds=total("queue_duration_us") * _SECONDS_PER_US,
        queue_is_told=True,
        buckets={},
    )


def times_between(before: ServerCounters, after: ServerCounters) -> ServerTimes | None:
    """What the requests from `before` to `after` took; None when there were none, or a new server."""
    requests = after.requests - before.requests
    request_seconds = after.request_seconds - before.request_seconds
    if requests <= 0 or request_seconds < 0:
        return None
    mean_seconds = request_seconds / requests
    queue_seconds = max(0.0, after.queue_seconds - before.queue_seconds) / requests
    grown = {limit: count - before.buckets.get(limit, 0.0) for limit, count in after.buckets.items()}
    return ServerTimes(
        server=after.server,
        requests=requests,
        mean_seconds=mean_seconds,
        queue_seconds=min(queue_seconds, mean_seconds),
        queue_is_told=after.queue_is_told,
        p95_at_most_seconds=_bucket_of(grown, 0.95 * requests),
    )


def _bucket_of(buckets: Mapping[float, float], rank: float) -> float | None:
    limits: Iterable[float] = sorted(buckets)
    found = next((limit for limit in limits if buckets[limit] >= rank), math.inf)
    return found if math.isfinite(found) else None


def _fetch(page: MetricsPage, headers: Mapping[str, str], context: ssl.SSLContext | None) -> str:
    endpoint = page.endpoint
    connection: http.client.HTTPConnection
    if endpoint.secure:
        connection = http.client.HTTPSConnection(
            endpoint.host, endpoint.port, timeout=_TIMEOUT_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", page.path, headers={"Accept": "text/plain", **headers})
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise CountersUnreadable(f"{page} does not answer ({error or type(error).__name__})") from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise CountersUnreadable(f"{page} answers {answer.status}")
    return body.decode(errors="replace")
