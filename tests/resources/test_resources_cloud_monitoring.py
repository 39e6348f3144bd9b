"""Cloud Monitoring, by a stand-in that takes and gives what timeSeries.list of its API (v3) does."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest
import requests

from model_load_test.components.google_cloud.rest import RestApi
from model_load_test.components.resources.align import aligned, even_cells
from model_load_test.components.resources.cloud_monitoring import (
    METRICS,
    CloudMonitoring,
    VertexArm,
    series_filter,
)
from model_load_test.components.resources.series import Reading, Window

SECOND = 10**9
Serve = Callable[..., str]
PREFIX = "aiplatform.googleapis.com/prediction/online/"
FILTER = re.compile(
    r'metric\.type = "(?P<metric>[^"]+)" AND resource\.type = "aiplatform\.googleapis\.com/Endpoint" '
    r'AND resource\.labels\.endpoint_id = "(?P<endpoint>\d+)"'
    r'( AND resource\.labels\.location = "(?P<location>[a-z0-9-]+)")?'
    r'( AND metric\.labels\.deployed_model_id = "(?P<model>\d+)")?'
)
KNOWN_PARAMETERS = {
    *("filter", "interval.startTime", "interval.endTime", "view", "pageSize", "pageToken"),
}


def when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Monitoring:
    """Serves minutes of an endpoint that answers 600 requests a minute, half in 5 ms and half in 50 ms."""

    def __init__(self, minutes: int = 6, page_size: int = 1, status: int = 200) -> None:
        self.end = time.time() // 60 * 60
        self.minutes = minutes
        self.page_size = page_size
        self.status = status
        self.requests: list[Mapping[str, list[str]]] = []
        self.authorizations: set[str | None] = set()

    def __call__(
        self, path: str, query: Mapping[str, list[str]], headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        self.requests.append(query)
        self.authorizations.add({name.lower(): value for name, value in headers.items()}.get("authorization"))
        if self.status != 200:
            return self.status, {"error": {"code": self.status, "message": "Permission monitoring denied"}}
        assert path == "/v3/projects/my-project/timeSeries"
        assert set(query) <= KNOWN_PARAMETERS
        for name in ("interval.startTime", "interval.endTime"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", query[name][0])
        asked = FILTER.fullmatch(query["filter"][0])
        assert asked, query["filter"]
        series = self.series(asked["metric"].removeprefix(PREFIX), asked["endpoint"])
        first = int(query.get("pageToken", ["0"])[0])
        page: dict[str, Any] = {"timeSeries": series[first : first + self.page_size]}
        if first + self.page_size < len(series):
            page["nextPageToken"] = str(first + self.page_size)
        return 200, page

    def series(self, metric: str, endpoint: str) -> list[dict[str, Any]]:
        if endpoint != "111":
            return []
        if metric == "prediction_latencies":
            return [self.one(metric, "DELTA", self.latencies, latency_type="total", unit="us")]
        if metric.endswith("_count"):
            return [self.one(metric, "DELTA", lambda _: {"int64Value": "600"})]
        if metric == "replicas":
            scaled = self.end - 120
            return [
                self.one(metric, "GAUGE", lambda at: {"int64Value": "1" if at <= scaled else "3"}, replica="")
            ]
        values = {"cpu/utilization": 1.5, "accelerator/duty_cycle": 0.8}
        return [
            self.one(metric, "GAUGE", lambda _: {"doubleValue": values.get(metric, 7.0)}, replica=replica)
            for replica in ("replica-a", "replica-b")
        ]

    def one(
        self,
        metric: str,
        kind: str,
        value: Callable[[float], dict[str, Any]],
        replica: str = "",
        unit: str = "",
        **labels: str,
    ) -> dict[str, Any]:
        ends = [self.end - 60 * minute for minute in range(self.minutes)]  # the newest first
        told = {"deployed_model_id": "9", **labels, **({"replica_id": replica} if replica else {})}
        return {
            "metric": {"type": PREFIX + metric, "labels": told},
            "resource": {
                "type": "aiplatform.googleapis.com/Endpoint",
                "labels": {"endpoint_id": "111", "location": "us-central1"},
            },
            "metricKind": kind,
            "unit": unit,
            "points": [
                {
                    "interval": {
                        "startTime": when(end - 60) if kind == "DELTA" else when(end),
                        "endTime": when(end),
                    },
                    "value": value(end),
                }
                for end in ends
            ],
        }

    def latencies(self, _: float) -> dict[str, Any]:
        # limits 1 ms, 4 ms, 16 ms, 64 ms: half in (4, 16], half in (16, 64]
        options = {"exponentialBuckets": {"numFiniteBuckets": 3, "growthFactor": 4, "scale": 1000}}
        return {
            "distributionValue": {
                "count": "600",
                "mean": 27500.0,
                "bucketOptions": options,
                "bucketCounts": ["0", "0", "300", "300"],
            }
        }

    def window(self) -> Window:
        return Window(round((self.end - 240) * 1e9), round((self.end - 1) * 1e9))


def nobody(address: str) -> RestApi:
    return RestApi(address, session=requests.Session())


def read(serve: Serve, service: Monitoring, window: Window | None = None, **arm: str) -> Reading:
    source = CloudMonitoring(
        "my-project",
        {"candidate": VertexArm(**{"endpoint_id": "111", **arm})},
        address=serve(service),
        api=nobody,
    )
    return source(window or service.window())


def test_the_stand_ins_distributions_are_those_of_the_published_definition() -> None:
    from google.api import distribution_pb2
    from google.protobuf import json_format

    message = json_format.ParseDict(
        Monitoring().latencies(0)["distributionValue"], distribution_pb2.Distribution()
    )
    assert sum(message.bucket_counts) == message.count == 600


def test_an_endpoints_series_become_ours(serve: Serve) -> None:
    reading = read(serve, Monitoring())
    assert not reading.findings
    by_metric: dict[str, list[Any]] = {}
    for one in reading.series:
        by_metric.setdefault(one.metric, []).append(one)
    assert {one.replica for one in by_metric["cpu_cores"]} == {"replica-a", "replica-b"}
    (served,) = by_metric["served_requests"]
    assert served.kind == "counter"
    assert np.diff(served.values).tolist() == [600] * 6
    assert np.diff(served.at_ns).tolist() == [60 * SECOND] * 6
    assert {one.source for one in reading.series} == {"cloud-monitoring"}
    assert {one.signature for one in reading.series} == {"9"}
    assert set(by_metric) == {known.metric for known in METRICS.values()} | {
        "server_latency_seconds_sum",
        "server_latency_seconds_count",
    }


def test_on_the_blocks_of_a_load_they_are_rates_levels_and_quantiles(serve: Serve) -> None:
    service = Monitoring()
    rows = aligned(read(serve, service).series, even_cells(service.window().widened(1), 60), by_replica=False)
    levels = {row.metric: row for row in rows}
    assert levels["served_rps"].value == pytest.approx(10)
    assert levels["cpu_cores"].value == pytest.approx(3.0), "of both replicas together"
    assert levels["gpu_busy_share"].value == pytest.approx(0.8), "a share is averaged"
    assert levels["server_latency_seconds_mean"].value == pytest.approx(0.0275)
    assert levels["server_latency_seconds_p50"].value == pytest.approx(0.016)
    assert levels["server_latency_seconds_p50"].method == "histogram quantile"


def test_buckets_are_cumulative_and_in_seconds(serve: Serve) -> None:
    buckets = [one for one in read(serve, Monitoring()).series if one.kind == "buckets"]
    assert [one.limit for one in buckets] == [
        *(pytest.approx(limit) for limit in (0.001, 0.004, 0.016, 0.064)),
        math.inf,
    ]
    assert [one.values[1] for one in buckets] == [0, 0, 300, 600, 600]


def test_pages_are_followed(serve: Serve) -> None:
    service = Monitoring(page_size=1)
    read(serve, service)
    assert any("pageToken" in query for query in service.requests)


def test_one_model_of_an_endpoint_can_be_asked_for(serve: Serve) -> None:
    service = Monitoring()
    read(serve, service, deployed_model_id="9", location="us-central1")
    assert all('deployed_model_id = "9"' in query["filter"][0] for query in service.requests)
    assert FILTER.fullmatch(series_filter("replicas", VertexArm("1")))


def test_samples_that_are_not_visible_yet_are_told(serve: Serve) -> None:
    service = Monitoring()
    end_ns = round((service.end + 45) * 1e9)
    reading = read(serve, service, Window(end_ns - 60 * SECOND, end_ns))
    (finding,) = reading.findings
    assert finding.code == "resources-late"
    assert finding.numbers == {"missing_seconds": 45.0}


def test_an_endpoint_that_no_one_knows_is_told(serve: Serve) -> None:
    (finding,) = read(serve, Monitoring(), endpoint_id="222").findings
    assert finding.code == "resources-unmatched"
    assert "222" in finding.detail


def test_a_refusal_names_the_role(serve: Serve) -> None:
    (finding,) = read(serve, Monitoring(status=403)).findings
    assert finding.code == "resources-unavailable"
    assert "roles/monitoring.viewer" in finding.detail


def test_no_answer_and_no_credentials_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    away = CloudMonitoring("p", {"candidate": VertexArm("1")}, address="http://127.0.0.1:9", api=nobody)
    (finding,) = away(Window(0, SECOND)).findings
    assert "does not answer" in finding.detail
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    unknown = CloudMonitoring("p", {"candidate": VertexArm("1")})
    (finding,) = unknown(Window(0, SECOND)).findings
    assert finding.code == "resources-unavailable"
    assert "GOOGLE_APPLICATION_CREDENTIALS" in finding.detail


def test_a_token_is_renewed_by_the_session(serve: Serve) -> None:
    """Google's own session does it; what is ours is to send every request through one."""
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession

    class Tokens(Credentials):  # type: ignore[misc]  # google-auth has no types
        number = 0

        def refresh(self, request: Any) -> None:
            Tokens.number += 1
            self.token = f"token-{Tokens.number}"
            self.expiry = None

        @property
        def valid(self) -> bool:
            return False

    service = Monitoring()
    source = CloudMonitoring(
        "my-project",
        {"candidate": VertexArm("111")},
        metrics=("replicas", "cpu/utilization"),
        address=serve(service),
        api=lambda address: RestApi(address, session=AuthorizedSession(Tokens())),
    )
    source(service.window())
    assert len(service.authorizations) >= 2
    assert all(str(one).startswith("Bearer token-") for one in service.authorizations)
