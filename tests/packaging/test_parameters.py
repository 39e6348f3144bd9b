from __future__ import annotations

from typing import Any

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.parameters import refuse_unknown, whole_numbers


def test_kfp_hands_whole_numbers_over_as_doubles() -> None:
    assert whole_numbers("looks", [15.0, 30]) == (15, 30)


@pytest.mark.parametrize("values", [[1.5], [float("nan")], [float("inf")], ["2"], [True]])
def test_what_is_no_whole_number_is_refused_by_name(values: list[Any]) -> None:
    with pytest.raises(InputError, match=r"looks: .*whole numbers"):
        whole_numbers("looks", values)


class Misspelt(InputError):
    """A room's own kind of error."""


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("rate_rp", "did you mean 'rate_rps'?"),
        ("colour", "choose among rate_rps, looks"),
        ("", "choose among"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name: str, remedy: str) -> None:
    with pytest.raises(Misspelt) as caught:
        refuse_unknown("load spec", {"looks": 1, name: 2}, ("rate_rps", "looks"), Misspelt, prefix="spec.")
    assert caught.value.field == f"spec.{name}"
    assert caught.value.value == 2
    assert "no such name in the load spec" in caught.value.remedy
    assert remedy in caught.value.remedy


def test_known_names_pass() -> None:
    refuse_unknown("load spec", {"looks": 1}, ("rate_rps", "looks"))
    refuse_unknown("load spec", {}, ())
