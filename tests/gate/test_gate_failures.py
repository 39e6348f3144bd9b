import numpy as np
import pytest

from model_load_test.components.gate.failures import Share, design_effect, difference, p_beyond, share_of


def test_newcombes_own_example() -> None:
    # Newcombe 1998, table II, method 10: 56/70 against 48/80 at 95 %.
    found = difference(Share(56 / 70, 70), Share(48 / 80, 80), 0.025)
    assert found.lower == pytest.approx(0.0524, abs=1e-4)
    assert found.upper == pytest.approx(0.3339, abs=1e-4)


def test_no_failure_seen_is_not_no_failure() -> None:
    assert difference(Share(0.0, 3000), Share(0.0, 3000), 0.0125).upper > 0.001
    assert difference(Share(0.0, 6000), Share(0.0, 6000), 0.0125).upper < 0.001


def test_a_burst_is_worth_one_event() -> None:
    counts = np.zeros(15, np.int64)
    counts[3] = 200
    requests = np.full(15, 200)
    assert design_effect(counts, requests) == pytest.approx(214.3, rel=0.01)
    assert share_of(counts, requests).effective < 20


def test_independent_failures_keep_their_number() -> None:
    rng = np.random.default_rng(0)
    requests = np.full(60, 200)
    effects = [design_effect(rng.binomial(200, 0.01, 60), requests) for _ in range(200)]
    assert np.mean(effects) < 1.15


def test_p_is_where_the_bound_meets_the_margin() -> None:
    candidate, baseline = Share(0.004, 12000), Share(0.001, 12000)
    p = p_beyond(candidate, baseline, 0.001)
    assert 0 < p < 0.5
    assert difference(candidate, baseline, p).lower == pytest.approx(0.001, abs=1e-7)
    assert p_beyond(baseline, candidate, 0.001) == 1.0
    assert p_beyond(Share(1.0, 12000), Share(0.0, 12000), 0.001) <= 1e-12
