"""What this project takes for granted about Triton, asked of a real one."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from model_load_test.components.load.counters import parse_counters, times_between
from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.trial import try_payload
from model_load_test.components.protocols.client import ModelNotReady, model_status, wait_until_ready
from model_load_test.components.resources.catalogue import SERVER_PAGE
from model_load_test.components.resources.http_get import parse_address
from model_load_test.components.resources.server_page import page_look

# The first test of a server also makes its environment.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as response:
        return str(response.read().decode())


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_its_counters_count_our_requests(triton: Any, transport: str, tmp_path: Path) -> None:
    endpoint = getattr(triton, transport)
    make_payload(endpoint, model_name="slow", out_dir=tmp_path, requests=8, batch_sizes=[1])
    before = parse_counters(fetched(triton.metrics), "slow")
    assert try_payload(tmp_path, endpoint) == 8
    after = parse_counters(fetched(triton.metrics), "slow")
    assert before is not None
    assert after is not None
    times = times_between(before, after)
    assert times is not None
    assert after.requests - before.requests == 8
    # four at a time on one instance that takes 50 ms: most of the time they wait for their turn
    mean_seconds = (after.request_seconds - before.request_seconds) / 8
    mean_queue_seconds = (after.queue_seconds - before.queue_seconds) / 8
    assert mean_seconds - mean_queue_seconds == pytest.approx(0.05, rel=0.5)
    assert mean_queue_seconds > 0.05


def test_its_page_has_the_series_of_the_catalogue(triton: Any, tmp_path: Path) -> None:
    make_payload(triton.rest, model_name="digits", out_dir=tmp_path, requests=10, batch_sizes=[4])
    page = parse_address(triton.metrics, "pages")
    look = page_look("candidate", page, SERVER_PAGE)

    def counted() -> dict[str, float]:
        """The counters of the model, failures of every reason together."""
        found: dict[str, float] = {}
        for one in look():
            if one.kind == "counter" and ("model", "digits") in one.labels:
                found[one.metric] = found.get(one.metric, 0.0) + one.value
        return found

    before = counted()
    assert try_payload(tmp_path, triton.rest) == 10
    risen = {metric: value - before[metric] for metric, value in counted().items()}
    assert risen["served_requests"] == 10
    assert risen["failed_requests"] == 0
    assert risen["batch_size_sum"] / risen["batch_size_count"] == 4
    assert risen["queue_wait_seconds_sum"] > 0


def test_a_configuration_of_ours_is_taken_by_it(triton: Any) -> None:
    configuration = json.loads(fetched(f"{triton.rest}/v2/models/tuned/config"))
    assert configuration["max_batch_size"] == 16
    assert configuration["dynamic_batching"]["preferred_batch_size"] == [4, 8]
    assert configuration["dynamic_batching"]["max_queue_delay_microseconds"] == 500
    assert [(one["count"], one["kind"]) for one in configuration["instance_group"]] == [(2, "KIND_CPU")]
    assert configuration["backend"] == "python", "what was there before stays"


@pytest.mark.parametrize(("transport", "body_format"), [("grpc", "raw"), ("rest", "binary")])
def test_halves_travel_as_bytes(triton: Any, transport: str, body_format: str, tmp_path: Path) -> None:
    endpoint = getattr(triton, transport)
    manifest = make_payload(endpoint, model_name="half", out_dir=tmp_path, requests=10)
    assert manifest.body_format == body_format
    assert try_payload(tmp_path, endpoint) == 10


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_a_model_that_cannot_be_loaded_is_not_available(triton: Any, transport: str) -> None:
    (status,) = model_status(getattr(triton, transport), "broken", api="oip")
    assert status.state == "UNAVAILABLE"
    assert status.error_message == "has no available versions"
    with pytest.raises(ModelNotReady, match="has it not available: UNAVAILABLE"):
        wait_until_ready(getattr(triton, transport), "broken", 0.5, api="oip")
