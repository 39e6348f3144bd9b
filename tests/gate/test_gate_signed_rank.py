from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from model_load_test.components.gate.signed_rank import (
    MOST_DIFFERENCES,
    MOST_EXACT,
    doubled_midranks,
    hodges_lehmann,
    p_greater,
)


def enumerated_p(differences: np.ndarray) -> float:
    ranks = stats.rankdata(np.abs(differences))
    ranks[differences == 0] = 0
    observed = ranks[differences > 0].sum()
    patterns = np.array(list(product((0, 1), repeat=differences.size)))
    return float((patterns @ ranks >= observed - 1e-9).mean())


@pytest.mark.parametrize("size", [5, 12, 25, 60])
def test_without_ties_it_is_scipys_exact_test(size: int) -> None:
    differences = np.random.default_rng(size).normal(0.2, 1, size)
    expected = stats.wilcoxon(differences, alternative="greater", method="exact").pvalue
    assert p_greater(differences) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=10))
@settings(max_examples=150, deadline=None)
def test_ties_and_zeros_by_enumeration_of_all_signs(values: list[int]) -> None:
    differences = np.array(values, float)
    assert p_greater(differences) == pytest.approx(enumerated_p(differences), rel=1e-9)


def test_all_zero_says_nothing() -> None:
    assert p_greater(np.zeros(30)) == 1.0
    found = hodges_lehmann(np.zeros(30), 0.05)
    assert (found.estimate, found.lower, found.upper) == (0.0, 0.0, 0.0)


def test_the_bounds_invert_the_test() -> None:
    rng = np.random.default_rng(4)
    for size in (6, 15, 30):
        differences = rng.normal(0.1, 1, size)
        found = hodges_lehmann(differences, 0.05)
        just = 1e-9
        assert p_greater(differences - found.lower + just) <= 0.05
        assert p_greater(differences - found.lower - just) > 0.05
        assert p_greater(found.upper - differences + just) <= 0.05
        assert p_greater(found.upper - differences - just) > 0.05


def test_the_estimate_is_the_median_of_the_walsh_averages() -> None:
    differences = np.array([1.0, 4.0, 9.0, -2.0])
    walsh = [(a + b) / 2 for i, a in enumerate(differences) for b in differences[i:]]
    assert hodges_lehmann(differences, 0.1).estimate == np.median(walsh)


def test_too_few_differences_have_no_bound() -> None:
    found = hodges_lehmann(np.array([1.0, 2.0, 3.0]), 0.05)
    assert np.isinf(found.lower)
    assert np.isinf(found.upper)


def test_the_normal_approximation_joins_the_exact_distribution() -> None:
    differences = np.random.default_rng(1).normal(0.08, 1, MOST_EXACT + 1)
    expected = stats.wilcoxon(differences, alternative="greater", method="approx", correction=True).pvalue
    assert p_greater(differences) == pytest.approx(expected, rel=0.01)
    exact = hodges_lehmann(differences[:-1], 0.025)
    approximate = hodges_lehmann(differences, 0.025)
    assert approximate.upper - approximate.lower == pytest.approx(exact.upper - exact.lower, rel=0.05)


def test_very_many_differences_are_averaged_not_squared() -> None:
    differences = np.random.default_rng(2).normal(0.5, 1, 20 * MOST_DIFFERENCES)
    found = hodges_lehmann(differences, 0.05)
    assert found.lower < 0.5 < found.upper
    assert found.upper - found.lower == pytest.approx(2 * 1.645 / np.sqrt(differences.size), rel=0.1)


@given(st.lists(st.floats(-5, 5).map(lambda x: round(x, 1)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_midranks_are_scipys(values: list[float]) -> None:
    assert (doubled_midranks(np.array(values)) == 2 * stats.rankdata(values)).all()
