from __future__ import annotations

from typing import Any

import msgspec
import pytest

from model_load_test.components.load.spec import LoadSpecError, block_seconds_for, parse_load_spec

RAMP = {"shape": "ramp", "from_rps": 100, "to_rps": 400, "seconds": 12}


def test_a_profile_gives_each_pair_its_rate_and_ends_looks_with_whole_passes() -> None:
    spec = parse_load_spec({"protocol": "http", "rate_profile": RAMP, "rate_rps": 999.0})
    assert spec.rate_profile == "ramp from 100 to 400 requests/s in 12 s"
    assert len(spec.block_rates_rps) == 12
    assert spec.rate_rps == pytest.approx(250)
    assert spec.block_seconds == 1.0
    assert spec.looks == (12, 24, 36, 60)
    assert spec.rate_of_block(0) == spec.rate_of_block(12) == pytest.approx(112.5)
    assert spec.rate_of_block(-1) == spec.rate_of_block(0)


def test_a_slow_profile_gets_blocks_of_two_hundred_requests_on_average() -> None:
    slow = {"shape": "ramp", "from_rps": 0, "to_rps": 40, "seconds": 100}
    assert parse_load_spec({"rate_profile": slow}).block_seconds == 10.0


def test_a_long_profile_is_followed_to_its_end() -> None:
    spec = parse_load_spec({"rate_profile": {**RAMP, "seconds": 90}})
    assert spec.looks == (90,)


def test_ghz_is_given_whole_rates_with_the_profiles_number_of_requests() -> None:
    spec = parse_load_spec({"rate_profile": {**RAMP, "to_rps": 111}, "block_seconds": 1.0})
    assert all(rate == int(rate) for rate in spec.block_rates_rps)
    assert sum(spec.block_rates_rps) == pytest.approx(12 * 105.5, abs=1)


def test_a_stored_spec_can_be_read_again() -> None:
    for values in ({"rate_profile": RAMP}, {"concurrency": 4}, {"rate_rps": 50.0}, {"protocol": "http"}):
        spec = parse_load_spec(values)
        assert parse_load_spec(msgspec.to_builtins(spec)) == spec


def test_a_closed_loop_has_no_rate() -> None:
    spec = parse_load_spec({"concurrency": 4, "rate_rps": 200.0, "connections": 4})
    assert (spec.rate_rps, spec.requests_per_block, spec.block_seconds) == (0, 0, 1.0)


def test_an_empty_profile_is_none() -> None:
    assert parse_load_spec({"rate_profile": {}, "concurrency": 0}) == parse_load_spec({})


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
        ({"colour": "red"}, "colour", "choose among protocol"),
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
        ({"rate_rps": 0.001}, "rate_rps", "0.01 at least"),
        ({"rate_profile": "ramp"}, "rate_profile", "give a mapping"),
        ({"rate_profile": RAMP, "concurrency": 3}, "concurrency", "leave rate_profile out"),
        ({"rate_profile": {**RAMP, "to_rps": 2e6}}, "rate_profile", "stay at or below"),
        ({"rate_profile": RAMP, "looks": (15, 15)}, "looks", "rising"),
        ({"rate_profile": RAMP, "block_seconds": "long"}, "block_seconds", "a number"),
        ({"block_rates_rps": (3.0,)}, "block_rates_rps", "follow from rate_profile"),
        ({"concurrency": -1}, "concurrency", "from 0"),
        ({"concurrency": 2, "connections": 3}, "connections", "give fewer"),
        ({"http_version": "3"}, "http_version", "choose one of 1.1, 2"),
        ({"http_version": "2"}, "http_version", "gRPC keeps its HTTP/2"),
        ({"keep_alive": False}, "keep_alive", "leave it at True"),
        ({"max_connections": 3}, "max_connections", "leave it at 0"),
        ({"protocol": "http", "http_version": "2", "keep_alive": False}, "keep_alive", "one connection"),
        (
            {"protocol": "http", "http_version": "2", "max_connections": 2},
            "max_connections",
            "one connection",
        ),
    ],
)
def test_bad_values_name_field_value_and_remedy(values: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(LoadSpecError) as caught:
        parse_load_spec(values)
    assert caught.value.field == field
    assert remedy in str(caught.value)
