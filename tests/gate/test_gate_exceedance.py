from collections.abc import Callable
from math import log

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from model_load_test.components.gate import exceedance
from model_load_test.components.gate.blocks import Pairs, pair, read_arms


def pairs_of(table: pa.Table) -> Pairs:
    arms = read_arms(table)
    return pair(arms["candidate"], arms["baseline"], 0)


def test_sign_flips_agree_with_scipys_permutation_test() -> None:
    differences = np.random.default_rng(5).normal(0.4, 1, 11)
    expected = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", alternative="greater", n_resamples=np.inf
    ).pvalue
    assert exceedance.p_positive_sum(differences) == pytest.approx(expected)


def test_drawn_sign_flips_are_near_the_exact_ones() -> None:
    differences = np.random.default_rng(6).normal(0.25, 1, 40)
    z = differences.sum() / np.sqrt((differences**2).sum())
    assert exceedance.p_positive_sum(differences) == pytest.approx(stats.norm.sf(z), abs=0.02)


def test_the_estimate_is_the_ratio_of_the_pooled_percentiles(make_table: Callable[..., pa.Table]) -> None:
    pairs = pairs_of(make_table(ratio=1.3))
    tails = exceedance.prepare(pairs, 0.99)
    pooled = [
        np.quantile(arm.latencies, 0.99, method="inverted_cdf") for arm in (pairs.candidate, pairs.baseline)
    ]
    assert tails.log_ratio == pytest.approx(log(pooled[0] / pooled[1]))


def test_the_interval_holds_what_is_not_rejected(make_table: Callable[..., pa.Table]) -> None:
    tails = exceedance.prepare(pairs_of(make_table(pairs=30, ratio=1.2)), 0.99)
    found = exceedance.interval(tails, 0.05)
    assert found.lower < log(1.2) < found.upper
    assert exceedance.p_above(tails, found.lower - 0.005) <= 0.05
    assert exceedance.p_above(tails, found.lower + 0.005) > 0.05


def test_a_slower_candidate_moves_the_interval_by_its_ratio(make_table: Callable[..., pa.Table]) -> None:
    one = exceedance.interval(exceedance.prepare(pairs_of(make_table()), 0.99), 0.05)
    two = exceedance.interval(exceedance.prepare(pairs_of(make_table(ratio=2.0)), 0.99), 0.05)
    assert two.estimate - one.estimate == pytest.approx(log(2), abs=1e-4)
    assert two.lower - one.lower == pytest.approx(log(2), abs=2e-3)
    assert two.upper - one.upper == pytest.approx(log(2), abs=2e-3)


def test_constant_latencies_are_equal(make_table: Callable[..., pa.Table]) -> None:
    table = make_table(latency=lambda rng, arm, block, requests: np.full(requests, 0.005))
    tails = exceedance.prepare(pairs_of(table), 0.99)
    assert exceedance.p_above(tails, 0.0) == 1.0
    assert exceedance.interval(tails, 0.05).estimate == 0.0


def test_few_pairs_have_no_bound(make_table: Callable[..., pa.Table]) -> None:
    found = exceedance.interval(exceedance.prepare(pairs_of(make_table(pairs=4, requests=600)), 0.99), 0.01)
    assert np.isinf(found.lower)
    assert np.isinf(found.upper)
