"""Values as KFP hands them over: its lists travel as protobuf structs, where every number is a double."""

from __future__ import annotations

from collections.abc import Sequence

from model_load_test.components.errors import InputError


def whole_numbers(field: str, values: Sequence[float]) -> tuple[int, ...]:
    """`values` as integers; 15.0 is 15.

    Raises:
        InputError: One of them is no whole number.
    """
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not float(value).is_integer():
            raise InputError(field, value, "give whole numbers")
    return tuple(int(value) for value in values)
