from __future__ import annotations

from typing import Any

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.parameters import whole_numbers


def test_kfp_hands_whole_numbers_over_as_doubles() -> None:
    assert whole_numbers("looks", [15.0, 30]) == (15, 30)


@pytest.mark.parametrize("values", [[1.5], [float("nan")], [float("inf")], ["2"], [True]])
def test_what_is_no_whole_number_is_refused_by_name(values: list[Any]) -> None:
    with pytest.raises(InputError, match=r"looks: .*whole numbers"):
        whole_numbers("looks", values)
