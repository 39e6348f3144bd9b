"""The counters of TF Serving and Triton, read from pages as these servers write them."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.load.counters import (
    CountersUnreadable,
    parse_counters,
    parse_metrics_page,
    read_counters,
    times_between,
    usual_page,
)
from model_load_test.components.protocols.endpoint import parse_endpoint
from model_load_test.components.serving.embedded.metrics import Metrics

TF_SERVING = """\
# TYPE :tensorflow:cc:saved_model:load_attempt_count counter
:tensorflow:cc:saved_model:load_attempt_count{{model_path="/models/m/1",status="success"}} 1
# TYPE :tensorflow:serving:request_count counter
:tensorflow:serving:request_count{{model_name="m",status="OK"}} {ok}
# TYPE :tensorflow:serving:request_latency histogram
:tensorflow:serving:request_latency_bucket{{model_name="m",API="Predict",entrypoint="GRPC",le="10"}} 0
:tensorflow:serving:request_latency_bucket{{model_name="m",API="Predict",entrypoint="GRPC",le="3400"}} {fast}
:tensorflow:serving:request_latency_bucket{{model_name="m",API="Predict",entrypoint="GRPC",le="6120"}} {ok}
:tensorflow:serving:request_latency_bucket{{model_name="m",API="Predict",entrypoint="GRPC",le="+Inf"}} {ok}
:tensorflow:serving:request_latency_sum{{model_name="m",API="Predict",entrypoint="GRPC"}} {request_us}
:tensorflow:serving:request_latency_count{{model_name="m",API="Predict",entrypoint="GRPC"}} {ok}
:tensorflow:serving:request_latency_sum{{model_name="m",API="",entrypoint="REST"}} 999999
:tensorflow:serving:request_latency_count{{model_name="m",API="",entrypoint="REST"}} 77
:tensorflow:serving:request_latency_sum{{model_name="other",API="Predict",entrypoint="GRPC"}} 5e9
:tensorflow:serving:request_latency_count{{model_name="other",API="Predict",entrypoint="GRPC"}} 5000
# TYPE :tensorflow:serving:runtime_latency histogram
:tensorflow:serving:runtime_latency_bucket{{model_name="m",API="Predict",runtime="TF1",le="+Inf"}} {ok}
:tensorflow:serving:runtime_latency_sum{{model_name="m",API="Predict",runtime="TF1"}} {runtime_us}
:tensorflow:serving:runtime_latency_count{{model_name="m",API="Predict",runtime="TF1"}} {ok}
"""

QUEUE = """\
# TYPE :tensorflow:serving:batching_session:queuing_latency histogram
:tensorflow:serving:batching_session:queuing_latency_bucket{{thread_pool_name="p",le="+Inf"}} {ok}
:tensorflow:serving:batching_session:queuing_latency_sum{{thread_pool_name="p"}} {queue_us}
:tensorflow:serving:batching_session:queuing_latency_count{{thread_pool_name="p"}} {ok}
"""

TRITON = """\
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{{model="m",version="1"}} {ok}
nv_inference_request_success{{model="m",version="2"}} 0
nv_inference_request_success{{model="other",version="1"}} 9000
# HELP nv_inference_request_failure Number of failed inference requests, all batch sizes
# TYPE nv_inference_request_failure counter
nv_inference_request_failure{{model="m",reason="OTHER",version="1"}} 3
# HELP nv_inference_request_duration_us Cumulative inference request duration in microseconds
# TYPE nv_inference_request_duration_us counter
nv_inference_request_duration_us{{model="m",version="1"}} {request_us}
nv_inference_request_duration_us{{model="other",version="1"}} 1e12
# HELP nv_inference_queue_duration_us Cumulative inference queuing duration in microseconds
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{{model="m",version="1"}} {queue_us}
# HELP nv_inference_compute_infer_duration_us Cumulative compute inference duration in microseconds
# TYPE nv_inference_compute_infer_duration_us counter
nv_inference_compute_infer_duration_us{{model="m",version="1"}} {request_us}
# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{{gpu_uuid="GPU-1"}} 0.5
"""


def test_tf_serving_without_batching_waits_where_its_runtime_does_not_run() -> None:
    before = parse_counters(TF_SERVING.format(ok=100, fast=90, request_us=500_000, runtime_us=400_000), "m")
    after = parse_counters(TF_SERVING.format(ok=300, fast=280, request_us=1_300_000, runtime_us=800_000), "m")
    assert before is not None
    assert after is not None
    times = times_between(before, after)
    assert times is not None
    assert (times.server, times.requests) == ("tf-serving", 200)
    assert times.mean_seconds == pytest.approx(0.004)
    assert times.queue_seconds == pytest.approx(0.002)
    assert not times.queue_is_told
    assert times.compute_seconds == pytest.approx(0.002)
    assert times.p95_at_most_seconds == pytest.approx(0.0034)


def test_tf_serving_with_batching_tells_its_queue_which_is_inside_the_runtime() -> None:
    page = TF_SERVING + QUEUE
    before = parse_counters(page.format(ok=0, fast=0, request_us=0, runtime_us=0, queue_us=0), "m")
    after = parse_counters(
        page.format(ok=10, fast=0, request_us=50_000, runtime_us=48_000, queue_us=40_000), "m"
    )
    assert before is not None
    assert after is not None
    times = times_between(before, after)
    assert times is not None
    assert times.queue_is_told
    assert times.queue_seconds == pytest.approx(0.004)
    assert times.compute_seconds == pytest.approx(0.001)


def test_newer_tf_serving_labels_latencies_by_status_and_failures_are_left_out() -> None:
    page = TF_SERVING.replace('entrypoint="GRPC"', 'entrypoint="GRPC",status="OK"')
    page += ':tensorflow:serving:request_latency_count{{model_name="m",API="Predict",status="INTERNAL"}} 50\n'
    found = parse_counters(page.format(ok=10, fast=0, request_us=50_000, runtime_us=50_000), "m")
    assert found is not None
    assert found.requests == 10


def test_triton_is_summed_over_the_versions_of_the_model() -> None:
    before = parse_counters(TRITON.format(ok=5, request_us=10_000, queue_us=100), "m")
    after = parse_counters(TRITON.format(ok=105, request_us=310_000, queue_us=200_100), "m")
    assert before is not None
    assert after is not None
    times = times_between(before, after)
    assert times is not None
    assert (times.server, times.requests, times.queue_is_told) == ("triton", 100, True)
    assert times.mean_seconds == pytest.approx(0.003)
    assert times.queue_seconds == pytest.approx(0.002)
    assert times.p95_at_most_seconds is None


def test_a_server_that_was_started_anew_tells_no_times() -> None:
    before = parse_counters(TRITON.format(ok=500, request_us=10_000, queue_us=100), "m")
    after = parse_counters(TRITON.format(ok=20, request_us=400, queue_us=4), "m")
    assert before is not None
    assert after is not None
    assert times_between(before, after) is None


def test_a_page_of_something_else_is_no_server_known_here() -> None:
    assert parse_counters("# TYPE go_goroutines gauge\ngo_goroutines 8\n", "m") is None


def test_a_page_that_is_no_metrics_is_refused_with_its_reason() -> None:
    with pytest.raises(CountersUnreadable, match="cannot be read"):
        parse_counters("<html><body>{not metrics</body></html>", "m")


@pytest.mark.parametrize(
    ("endpoint", "page"),
    [
        ("grpc://tfs:8500", "http://tfs:8501/monitoring/prometheus/metrics"),
        ("http://tfs:8501", "http://tfs:8501/monitoring/prometheus/metrics"),
        ("http://triton:8000", "http://triton:8002/metrics"),
        ("grpc://triton:8001", "http://triton:8002/metrics"),
        ("http://tfs:31000", "http://tfs:31000/monitoring/prometheus/metrics"),
        ("grpc://tfs:31000", None),
    ],
)
def test_metrics_are_looked_for_where_they_usually_are(endpoint: str, page: str | None) -> None:
    found = usual_page(parse_endpoint(endpoint))
    assert (None if found is None else str(found)) == page


def test_an_address_without_a_path_means_tf_servings() -> None:
    assert str(parse_metrics_page("http://h:1")) == "http://h:1/monitoring/prometheus/metrics"
    assert str(parse_metrics_page("https://h/metrics?all=1")) == "https://h:443/metrics?all=1"


@pytest.mark.parametrize("text", ["h:1/metrics", "grpc://h:1", "http://:1", "http://h:x", "http://u:p@h:1"])
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_metrics_page(text, "metrics.candidate")
    assert caught.value.field == "metrics.candidate"
    assert "u:p" not in str(caught.value)


@contextmanager
def serving(status: int, page: bytes) -> Iterator[str]:
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(str(self.headers.get("x-key")))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_counters_are_read_over_http() -> None:
    with serving(200, TRITON.format(ok=5, request_us=10, queue_us=1).encode()) as address:
        assert read_counters(parse_metrics_page(address), "m", headers={"x-key": "k"}).requests == 5


@pytest.mark.parametrize(
    ("status", "page", "reason"),
    [(404, b"", "answers 404"), (200, b"up 1\n", "no request latencies")],
)
def test_a_page_that_does_not_help_says_why(status: int, page: bytes, reason: str) -> None:
    with serving(status, page) as address, pytest.raises(CountersUnreadable, match=reason):
        read_counters(parse_metrics_page(address), "m")


def test_no_answer_says_so() -> None:
    with pytest.raises(CountersUnreadable, match="does not answer"):
        read_counters(parse_metrics_page("http://127.0.0.1:9/metrics"), "m")


def test_the_embedded_servers_page_is_read_as_tf_servings() -> None:
    metrics = Metrics()
    before = parse_counters(metrics.page(), "m")
    for _ in range(4):
        metrics.count_request("m", "OK")
        metrics.queued("pool", 30_000_000)
        metrics.runtime_took("m", "Predict", "TF1", 35_000_000)
        metrics.request_took("m", "Predict", "GRPC", 40_000_000)
    after = parse_counters(metrics.page(), "m")
    assert before is not None
    assert before.requests == 0, "it shows nothing before the first request"
    assert after is not None
    assert (after.requests, after.queue_is_told) == (4, True)
    assert after.request_seconds == pytest.approx(0.160)
    assert after.queue_seconds == pytest.approx(0.120)
