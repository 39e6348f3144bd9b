from __future__ import annotations

from typing import Any

import pytest

from model_load_test.components.load.safety import (
    Budget,
    CircuitBreaker,
    Limits,
    UnsafeLoad,
    parse_limits,
    planned_requests,
    refuse_load,
    refuse_target,
)
from model_load_test.components.load.schedule import segments_of_block
from model_load_test.components.load.spec import parse_load_spec
from model_load_test.components.protocols.endpoint import Endpoint


def is_allowed(host: str, *allowed_hosts: str) -> bool:
    limits = parse_limits({"allowed_hosts": allowed_hosts})
    try:
        refuse_target(Endpoint("grpc", host, 8500), limits, "candidate_endpoint")
    except UnsafeLoad as error:
        assert error.field == "candidate_endpoint"
        assert "allowed_hosts" in error.remedy
        return False
    return True


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.9.1",
        "::1",
        "::ffff:127.0.0.1",
        "localhost",
        "tf-serving",
        "model.team-a.svc",
        "model.team-a.svc.cluster.local",
        "Model.Team-A.SVC",
        "model.team-a.svc.",
    ],
)
def test_the_cluster_and_this_machine_may_be_loaded(host: str) -> None:
    assert is_allowed(host)


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "8.8.8.8",
        "10.0.0.7",
        "192.168.1.1",
        "0.0.0.0",
        "2001:db8::1",
        "::ffff:8.8.8.8",
        "svc.example.com",
        "model.svc.example.com",
        "model.team-a",
        "134744072",
        "0x08080808",
        "010.8.8.8",
    ],
)
def test_nothing_else_may_be_loaded_unless_it_is_named(host: str) -> None:
    # the numbers are addresses in other clothes
    assert not is_allowed(host)
    assert is_allowed(host, host)


def test_names_suffixes_addresses_and_networks_can_be_named() -> None:
    assert is_allowed("models.example.com", "models.example.com")
    assert is_allowed("Models.Example.com", " models.example.COM ")
    assert is_allowed("a.models.example.com", "*.models.example.com")
    assert not is_allowed("models.example.com.evil.org", "*.models.example.com", "models.example.com")
    assert is_allowed("10.3.4.5", "10.0.0.0/8")
    assert not is_allowed("11.3.4.5", "10.0.0.0/8")
    assert not is_allowed("ten.example.com", "10.0.0.0/8")


@pytest.mark.parametrize(
    ("values", "field", "remedy"),
    [
        ({"max_requests": 0}, "max_requests", "above 0"),
        ({"max_seconds": 0}, "max_seconds", "above 0"),
        ({"max_rate_rps": -1}, "max_rate_rps", "above 0"),
        ({"max_seconds": float("inf")}, "max_seconds", "above 0"),
        ({"max_error_share": 0}, "max_error_share", "above 0"),
        ({"max_error_share": 1.5}, "max_error_share", "share"),
        ({"allowed_hosts": "example.com"}, "allowed_hosts", "a list"),
        ({"allowed_hosts": ["*"]}, "allowed_hosts", "*.SUFFIX"),
        ({"allowed_hosts": ["http://example.com"]}, "allowed_hosts", "*.SUFFIX"),
        ({"allowed_host": ["example.com"]}, "allowed_host", "did you mean 'allowed_hosts'"),
    ],
)
def test_limits_without_sense_are_refused(values: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(UnsafeLoad) as caught:
        parse_limits(values)
    assert caught.value.field == field
    assert remedy in str(caught.value)


def test_a_rate_above_the_ceiling_is_refused_until_it_is_raised() -> None:
    spec = parse_load_spec({"rate_rps": 6000, "looks": (2,)})
    with pytest.raises(UnsafeLoad, match="raise max_rate_rps"):
        refuse_load(spec, Limits())
    refuse_load(spec, Limits(max_rate_rps=6000))


def test_the_highest_moment_of_a_profile_counts() -> None:
    ramp = {"shape": "ramp", "from_rps": 10, "to_rps": 6000, "seconds": 4}
    spec = parse_load_spec({"rate_profile": ramp, "looks": (2,), "block_seconds": 1.0})
    with pytest.raises(UnsafeLoad, match="ceiling is 5000"):
        refuse_load(spec, Limits())


@pytest.mark.parametrize(
    ("limits", "field"),
    [(Limits(max_requests=3000), "max_requests"), (Limits(max_seconds=10), "max_seconds")],
)
def test_a_budget_that_does_not_reach_to_the_first_look_is_refused(limits: Limits, field: str) -> None:
    # 10 pairs of 1.35 s at 200/s and 2.35 s of warm-up, two arms: 6 400 requests in 19 s
    with pytest.raises(UnsafeLoad, match="first look, after 10 pairs") as caught:
        refuse_load(parse_load_spec({}), limits)
    assert caught.value.field == field
    refuse_load(parse_load_spec({}), Limits(max_requests=6600, max_seconds=21))


def test_the_budget_lets_a_segment_run_only_if_it_is_enough_for_all_of_it() -> None:
    spec = parse_load_spec({"mode": "single"})
    (segment,) = segments_of_block(spec, 0)
    assert planned_requests(spec, segment) == 270
    now = [0.0]
    budget = Budget(Limits(max_requests=1000, max_seconds=60), clock=lambda: now[0])
    budget.sent = 730
    assert budget.lacks(spec, segment) == ""
    budget.sent = 731
    assert "max_requests, 1000" in budget.lacks(spec, segment)
    budget.sent, now[0] = 0, 58.5
    assert "max_seconds, 60" in budget.lacks(spec, segment)


def test_the_breaker_waits_until_a_server_has_failed_for_five_seconds() -> None:
    breaker = CircuitBreaker(Limits())
    assert [bool(breaker.add("candidate", 1.35, 270, 270)) for _ in range(4)] == [False, False, False, True]


def test_the_breaker_forgets_what_is_long_ago() -> None:
    breaker = CircuitBreaker(Limits())
    assert not any(breaker.add("candidate", 1.0, 200, 200) for _ in range(2))
    assert not any(breaker.add("candidate", 1.0, 200, 20) for _ in range(50))
    tripped = [breaker.add("candidate", 1.0, 200, 200) for _ in range(3)]
    assert not tripped[1]
    assert "640 of the candidate's newest 1000" in tripped[2]


def test_the_breaker_keeps_the_arms_apart_and_leaves_small_shares_to_the_gate() -> None:
    breaker = CircuitBreaker(Limits())
    for _ in range(20):
        assert not breaker.add("candidate", 1.35, 270, 130)
        assert not breaker.add("baseline", 1.35, 270, 0)


def test_few_requests_do_not_break_a_run() -> None:
    breaker = CircuitBreaker(Limits())
    assert not breaker.add("candidate", 10.0, 19, 19)


def test_a_breaker_of_one_never_breaks() -> None:
    breaker = CircuitBreaker(Limits(max_error_share=1.0))
    assert not any(breaker.add("candidate", 1.35, 270, 270) for _ in range(20))
