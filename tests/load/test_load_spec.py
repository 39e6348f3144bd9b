from __future__ import annotations

from typing import Any

import pytest

from model_load_test.components.load.spec import LoadSpecError, block_seconds_for, parse_load_spec


def test_defaults_follow_from_protocol_and_rate() -> None:
    spec = parse_load_spec({"protocol": "http", "rate_rps": 50})
    assert spec.tool == "vegeta"
    assert spec.block_seconds == 4.0, "a block holds at least 200 requests"
    assert spec.max_pairs == 60
    assert parse_load_spec({}).tool == "ghz"


@pytest.mark.parametrize(("rate_rps", "seconds"), [(1000.0, 1.0), (200.0, 1.0), (100.0, 2.0), (20.0, 10.0)])
def test_a_block_is_a_second_or_two_hundred_requests(rate_rps: float, seconds: float) -> None:
    assert block_seconds_for(rate_rps) == seconds


@pytest.mark.parametrize(
    ("values", "field", "remedy"),
    [
        ({"rate_rp": 3}, "rate_rp", "did you mean 'rate_rps'"),
        ({"colour": "red"}, "colour", "the fields are protocol"),
        ({"protocol": "smtp"}, "protocol", "choose one of grpc, http"),
        ({"mode": "dual"}, "mode", "duet, interleaved, single"),
        ({"protocol": "http", "tool": "ghz"}, "tool", "driven by vegeta"),
        ({"rate_rps": 0}, "rate_rps", "above 0"),
        ({"rate_rps": -5}, "rate_rps", "above 0"),
        ({"rate_rps": float("nan")}, "rate_rps", "above 0"),
        ({"rate_rps": "fast"}, "rate_rps", "above 0"),
        ({"rate_rps": True}, "rate_rps", "above 0"),
        ({"rate_rps": 10.5}, "rate_rps", "whole number"),
        ({"looks": ()}, "looks", "rising"),
        ({"looks": (15, 15)}, "looks", "rising"),
        ({"looks": (0, 15)}, "looks", "rising"),
        ({"looks": (30, 15)}, "looks", "rising"),
        ({"timeout_seconds": 0.0}, "timeout_seconds", "from 0.01"),
        ({"warmup_seconds": -1.0}, "warmup_seconds", "from 0.0"),
        ({"protocol": "http", "connections": 4}, "connections", "requests in flight"),
        ({"connections": 0}, "connections", "from 1"),
        ({"rate_rps": 100_000, "looks": (1000,)}, "looks", "fewer pairs"),
        ({"connections": "many"}, "load spec", "connections"),
    ],
)
def test_bad_values_name_field_value_and_remedy(values: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(LoadSpecError) as caught:
        parse_load_spec(values)
    assert caught.value.field == field
    assert remedy in str(caught.value)
