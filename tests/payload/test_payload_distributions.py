"""Named distributions: what they draw, how they read, and which of them have nothing to draw."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_load_test.components.errors import InputError
from model_load_test.components.payload.distributions import (
    draw_whole,
    parse_distribution,
    parse_sizes,
)
from model_load_test.components.payload.values import RandomValues, parse_variation

MANY = 20_000
BOUNDED: list[tuple[dict[str, Any], float, float]] = [
    ({"distribution": "constant", "value": 7}, 7, 7),
    ({"distribution": "uniform", "low": 2, "high": 5}, 2, 5),
    ({"distribution": "normal", "mean": 64, "stddev": 40, "low": 1, "high": 128}, 1, 128),
    ({"distribution": "lognormal", "median": 40, "sigma": 1.5, "low": 1, "high": 512}, 1, 512),
    ({"distribution": "zipf", "exponent": 1.2, "low": 3, "high": 900}, 3, 900),
    ({"distribution": "choice", "values": [1, 8, 9], "weights": [9, 1, 0]}, 1, 8),
    ({"distribution": "empirical", "values": [9, 3, 5, 5]}, 3, 9),
]


def draws(value: Any, seed: int = 0) -> np.ndarray:
    return draw_whole(parse_sizes(value, "d"), RandomValues(seed).fractions(MANY))


@pytest.mark.parametrize(("value", "low", "high"), BOUNDED)
@given(fractions=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_nothing_is_drawn_outside_the_bounds(
    value: dict[str, Any], low: float, high: float, fractions: list[float]
) -> None:
    drawn = draw_whole(parse_sizes(value, "d"), np.array(fractions))
    assert low <= drawn.min() <= drawn.max() <= high


@pytest.mark.parametrize(("value", "low", "high"), BOUNDED)
def test_the_quantile_rises_with_the_fraction(value: dict[str, Any], low: float, high: float) -> None:
    quantiles = parse_distribution(value, "d").quantile(np.linspace(0, 1, 500, endpoint=False))
    assert value["distribution"] == "choice" or (np.diff(quantiles) >= 0).all()
    assert low <= quantiles.min() <= quantiles.max() <= high


def test_a_number_and_a_list_are_distributions_too() -> None:
    assert set(draws(3)) == {3}
    counts = Counter(draws([1, 2, 4]).tolist())
    assert set(counts) == {1, 2, 4}
    assert max(counts.values()) / min(counts.values()) < 1.1


def test_both_ends_of_a_uniform_size_are_as_likely_as_its_middle() -> None:
    counts = Counter(draws({"distribution": "uniform", "low": 1, "high": 4}).tolist())
    assert set(counts) == {1, 2, 3, 4}
    assert max(counts.values()) / min(counts.values()) < 1.15


def test_the_shapes_are_what_they_are_called() -> None:
    normal = draws({"distribution": "normal", "mean": 1000, "stddev": 100})
    assert abs(normal.mean() - 1000) < 5
    assert abs(normal.std() - 100) < 5
    lognormal = draws({"distribution": "lognormal", "median": 100, "sigma": 0.8})
    assert abs(np.median(lognormal) - 100) < 3
    assert abs(np.log(lognormal).std() - 0.8) < 0.03
    zipf = Counter(draws({"distribution": "zipf", "exponent": 1.0, "low": 1, "high": 50}).tolist())
    assert abs(zipf[1] / zipf[2] - 2) < 0.2
    assert abs(zipf[1] / zipf[4] - 4) < 0.6
    weighted = Counter(draws({"distribution": "choice", "values": [1, 8], "weights": [9, 1]}).tolist())
    assert abs(weighted[1] / MANY - 0.9) < 0.01


def test_observed_values_come_from_a_list_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "lengths").write_text("5\n5\n7\n9\n")
    for value in ({"values": [9, 5, 7, 5]}, {"file": str(tmp_path / "lengths")}):
        counts = Counter(draws({"distribution": "empirical", **value}).tolist())
        assert set(counts) == {5, 7, 9}
        assert abs(counts[5] / MANY - 0.5) < 0.02


def test_they_say_what_they_are() -> None:
    assert [str(parse_distribution(value, "d")) for value, _, _ in BOUNDED] == [
        "7",
        "uniform from 2 to 5",
        "normal, mean 64, standard deviation 40, from 1 to 128",
        "lognormal, median 40, sigma 1.5, from 1 to 512",
        "zipf from 3 to 900, exponent 1.2",
        "one of 1 (90%), 8 (10%), 9 (0%)",
        "as 4 observed values from 3 to 9",
    ]
    assert str(parse_distribution([1, 2], "d")) == "one of 1, 2"
    assert str(parse_distribution({"distribution": "normal", "mean": 1, "stddev": 2}, "d")).endswith(
        "deviation 2"
    )


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("many", "d"),
        (None, "d"),
        ({}, "d"),
        ({"distribution": "gaussian"}, "d.distribution"),
        ([], "d.values"),
        (0, "d.value"),
        (2.5, "d"),
        ([1, 2.5], "d"),
        ({"distribution": "constant"}, "d.value"),
        ({"distribution": "constant", "value": True}, "d.value"),
        ({"distribution": "constant", "value": float("inf")}, "d.value"),
        ({"distribution": "uniform", "low": 5, "high": 2}, "d.high"),
        ({"distribution": "uniform", "low": 0, "high": 2}, "d.low"),
        ({"distribution": "uniform", "low": 1.2, "high": 1.8}, "d"),
        ({"distribution": "uniform", "low": 1, "high": 2, "mean": 3}, "d.mean"),
        ({"distribution": "normal", "mean": 5, "stddev": 0}, "d.stddev"),
        ({"distribution": "normal", "mean": -500, "stddev": 1}, "d.mean"),
        ({"distribution": "normal", "mean": 5, "stddev": 1, "low": 50, "high": 60}, "d.mean"),
        ({"distribution": "lognormal", "median": 0, "sigma": 1}, "d.median"),
        ({"distribution": "lognormal", "median": 5, "sigma": -1}, "d.sigma"),
        ({"distribution": "lognormal", "median": 5, "sigma": 0.1, "low": 500, "high": 600}, "d.median"),
        ({"distribution": "zipf", "low": 1}, "d.high"),
        ({"distribution": "zipf", "low": 5, "high": 1}, "d.high"),
        ({"distribution": "zipf", "low": 1, "high": 9.5}, "d.high"),
        ({"distribution": "zipf", "low": 1, "high": 1e12}, "d.high"),
        ({"distribution": "zipf", "exponent": 0, "low": 1, "high": 9}, "d.exponent"),
        ({"distribution": "choice", "values": []}, "d.values"),
        ({"distribution": "choice", "values": [1, "2"]}, "d.values"),
        ({"distribution": "choice", "values": [0, 1]}, "d.values"),
        ({"distribution": "choice", "values": [1, 2], "weights": [1]}, "d.weights"),
        ({"distribution": "choice", "values": [1, 2], "weights": [0, 0]}, "d.weights"),
        ({"distribution": "choice", "values": [1, 2], "weights": [2, -1]}, "d.weights"),
        ({"distribution": "empirical", "values": []}, "d.values"),
        ({"distribution": "empirical"}, "d.values"),
        ({"distribution": "empirical", "file": "/nowhere"}, "d.file"),
        ({"distribution": "empirical", "values": [1], "file": "x"}, "d.values"),
    ],
)
def test_what_has_nothing_to_draw_names_field_value_and_remedy(value: Any, field: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_sizes(value, "d")
    assert raised.value.field == field
    assert raised.value.remedy


def test_only_what_can_vary_varies() -> None:
    with pytest.raises(InputError, match="what can vary is batch_size"):
        parse_variation({"batchsize": 3})
    with pytest.raises(InputError) as raised:
        parse_variation({"sequence_length": {"distribution": "uniform", "low": 9, "high": 3}})
    assert raised.value.field == "distributions.sequence_length.high"
    assert parse_variation({"string_length": 0}).string_length.quantile(np.zeros(1)) == 0
