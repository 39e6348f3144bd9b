"""The search alone, against servers that are functions of the load."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_load_test.components.load.capacity.boundary import Probe, holds, locate
from model_load_test.components.load.capacity.search import (
    Found,
    SearchPlan,
    confirms,
    least_requests,
    search,
)

Server = Callable[[float], Probe]


def plan_of(**values: object) -> SearchPlan:
    return SearchPlan(**{"allowed": (0.01,), "start": 100.0, "lowest": 1.0, "highest": 10_000.0, **values})


def found_by(plan: SearchPlan, server: Server) -> Found:
    steps = search(plan)
    level = next(steps)
    while True:
        try:
            level = steps.send(server(level))
        except StopIteration as end:
            return end.value


def server_of(capacity: float, slope: float = 20.0, seed: int = 0) -> Server:
    rng = np.random.default_rng(seed)

    def load(level: float) -> Probe:
        share = 1 / (1 + math.exp(-(math.log(0.01 / 0.99) + slope * math.log(level / capacity))))
        requests = max(int(5 * level), least_requests((0.01,)))
        return Probe(level, requests, (int(rng.binomial(requests, share)),))

    return load


@pytest.mark.parametrize("capacity", [37.0, 160.0, 518.0, 4_000.0])
def test_the_boundary_is_found_within_its_interval_or_nearly(capacity: float) -> None:
    found = found_by(plan_of(), server_of(capacity))
    assert found.ending == "found"
    assert found.estimate == pytest.approx(capacity, rel=0.08)
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < found.estimate < found.upper
    assert found.confirmed is not None
    assert found.confirmed <= capacity * 1.02
    assert found.limiting == 0
    assert len(found.probes) <= 15


@settings(max_examples=25, deadline=None)
@given(capacity=st.floats(20, 8_000), slope=st.floats(6, 60), seed=st.integers(0, 1_000))
def test_every_search_ends_in_bounded_probes_with_numbers(capacity: float, slope: float, seed: int) -> None:
    found = found_by(plan_of(), server_of(capacity, slope, seed))
    assert found.ending in ("found", "unconfirmed")
    assert len(found.probes) <= plan_of().most_probes
    assert all(math.isfinite(value) for value in (found.estimate, found.lower, found.upper) if value)
    assert all(1 <= probe.level <= 10_000 for probe in found.probes)


def test_an_objective_that_never_holds_is_told_from_a_low_capacity() -> None:
    found = found_by(plan_of(), lambda level: Probe(level, 500, (400,)))
    assert found.ending == "never"
    assert found.estimate is None
    assert found.probes[-1].level == 1


def test_a_server_faster_than_the_highest_load_is_beyond_and_confirmed() -> None:
    found = found_by(plan_of(highest=1_000.0), lambda level: Probe(level, int(5 * level), (0,)))
    assert found.ending == "beyond"
    assert found.confirmed == 1_000.0
    assert found.estimate == 1_000.0


def test_the_objective_that_breaks_first_is_named() -> None:
    errors = server_of(300.0)
    latency = server_of(900.0, seed=2)

    def both(level: float) -> Probe:
        first, second = latency(level), errors(level)
        return Probe(level, first.requests, (first.over[0], second.over[0] // 10))

    found = found_by(plan_of(allowed=(0.01, 0.001)), both)
    assert found.limiting == 1
    assert found.estimate == pytest.approx(300, rel=0.15)


def test_a_load_that_was_broken_off_does_not_hold_whatever_it_counted() -> None:
    assert not holds(Probe(100.0, 500, (0,), broken="collapse"), (0.01,))
    assert holds(Probe(100.0, 500, (5,)), (0.01,))
    assert not holds(Probe(100.0, 500, (6,)), (0.01,))


def test_confirming_needs_the_requests_that_mlperf_asks_for() -> None:
    plan = plan_of()
    # its table for p99 at 95 %: 473 requests with 1 over, 1 693 with 10
    assert confirms(Probe(100.0, 473, (1,)), plan)
    assert not confirms(Probe(100.0, 470, (1,)), plan)
    assert confirms(Probe(100.0, 1_693, (10,)), plan)
    assert not confirms(Probe(100.0, 1_690, (10,)), plan)


def test_a_probe_holds_enough_requests_to_be_confirmed_with_one_over() -> None:
    assert least_requests((0.01,)) == 473
    assert least_requests((0.01, 0.001)) == 4_742


def test_a_floor_of_slow_requests_does_not_pull_the_belief_to_the_probe() -> None:
    belief = locate([Probe(400.0, 2_000, (2,)), Probe(800.0, 4_000, (3_900,))], (0.01,), 360.0, 840.0)
    assert belief.quantile(0.5) > 450
    assert belief.probability.sum() == pytest.approx(1.0)
