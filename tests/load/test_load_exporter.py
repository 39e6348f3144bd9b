"""What a Prometheus can follow of a load while it runs."""

from __future__ import annotations

import socket
import urllib.request

import numpy as np
import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families

from model_load_test.components.errors import InputError
from model_load_test.components.load.exporter import BUCKETS_SECONDS, NO_OBSERVER, load_exporter
from model_load_test.components.load.schedule import Segment, segments_of_block, warmup_segment
from model_load_test.components.load.spec import parse_load_spec
from model_load_test.components.results.table import SCHEMA

SPEC = parse_load_spec({"rate_rps": 400.0, "mode": "duet", "looks": [10, 20]})


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def rows(arm: str, latency_ms: list[float], block: int = 0, failed: int = 0) -> pa.Table:
    count = len(latency_ms)
    ok = np.arange(count) >= failed
    return pa.table(
        {
            "arm": pa.array([arm] * count),
            "block": np.full(count, block, np.int32),
            "worker": np.zeros(count, np.int16),
            "sent_at_ns": np.arange(count) + 1,
            "scheduled_at_ns": np.arange(count) + 1,
            "latency_ns": (np.array(latency_ms) * 1e6).astype(np.int64),
            "ok": ok,
            "status": np.where(ok, "OK", "Unavailable"),
            "error": np.where(ok, "", "x"),
            "request_bytes": np.full(count, 1),
            "response_bytes": np.full(count, 1),
        }
    ).cast(SCHEMA)


def scraped(port: int) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {
        (sample.name.removeprefix("model_load_test_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_blocks_are_counted_as_they_end() -> None:
    port = free_port()
    with load_exporter(port, SPEC) as observer:
        observer.begin(warmup_segment(SPEC))
        assert scraped(port)["block",] == -1
        (segment,) = segments_of_block(SPEC, 0)
        observer.begin(segment)
        observer.add(
            pa.concat_tables([rows("candidate", [4.0] * 400, failed=3), rows("baseline", [40.0] * 380)]),
            segment,
        )
        seen = scraped(port)
    assert seen["block",] == 0
    assert seen["blocks_planned",] == 20
    assert seen["requests_total", "candidate", "ok", "OK"] == 397
    assert seen["requests_total", "candidate", "failed", "Unavailable"] == 3
    assert seen["offered_rps", "candidate"] + seen["offered_rps", "baseline"] == 801, "one arm is detuned"
    assert seen["sent_rps", "baseline"] == 380
    assert seen["block_latency_seconds", "candidate", "0.95"] == 0.004
    assert ("block_latency_seconds", "candidate", "0.99") not in seen, "397 requests do not tell a p99"
    assert seen["latency_seconds_count", "candidate"] == 397
    assert seen["latency_seconds_sum", "baseline"] == pytest.approx(380 * 0.04)
    assert seen["latency_seconds_bucket", "candidate", "0.003"] == 0
    assert seen["latency_seconds_bucket", "candidate", "0.005"] == 397
    assert seen["latency_seconds_bucket", "candidate", "+Inf"] == 397
    assert seen["run_info", "duet", "grpc", "ghz"] == 1


def test_totals_go_on_and_the_newest_block_takes_the_last_ones_place() -> None:
    port = free_port()
    with load_exporter(port, SPEC) as observer:
        for block, latency_ms in ((0, 4.0), (1, 9.0)):
            (segment,) = segments_of_block(SPEC, block)
            observer.begin(segment)
            observer.add(rows("candidate", [latency_ms] * 400, block), segment)
        seen = scraped(port)
    assert seen["requests_total", "candidate", "ok", "OK"] == 800
    assert seen["block_latency_seconds", "candidate", "0.5"] == 0.009


def test_an_arm_whose_turn_it_is_not_is_offered_nothing() -> None:
    port = free_port()
    with load_exporter(port, SPEC) as observer:
        observer.begin(Segment(("baseline",), 0, 1.0))
        seen = scraped(port)
    assert seen["offered_rps", "candidate"] == 0
    assert seen["offered_rps", "baseline"] == 400


def test_a_latency_on_a_limit_belongs_to_its_bucket() -> None:
    port = free_port()
    with load_exporter(port, SPEC) as observer:
        observer.add(rows("candidate", [limit * 1e3 for limit in BUCKETS_SECONDS]), warmup_segment(SPEC))
        seen = scraped(port)
    counts = [seen["latency_seconds_bucket", "candidate", str(limit)] for limit in BUCKETS_SECONDS]
    assert counts == list(range(1, len(BUCKETS_SECONDS) + 1))


def test_without_a_port_nothing_listens() -> None:
    with load_exporter(0, SPEC) as observer:
        assert observer is NO_OBSERVER


def test_the_port_is_free_again_and_a_taken_one_is_refused() -> None:
    port = free_port()
    for _ in range(2):
        with load_exporter(port, SPEC):
            scraped(port)
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        with pytest.raises(InputError, match="metrics_port"), load_exporter(taken.getsockname()[1], SPEC):
            pass
    with pytest.raises(InputError, match="metrics_port"), load_exporter(70_000, SPEC):
        pass
