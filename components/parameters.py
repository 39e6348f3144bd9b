"""Values as KFP hands them over: its lists travel as protobuf structs, where every number is a double."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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


def refuse_unknown(
    of: str,
    values: Mapping[str, Any],
    known: Iterable[str],
    error: type[InputError] = InputError,
    *,
    prefix: str = "",
) -> None:
    """Refuses names that mean nothing: a misspelt option would else be an option silently not taken.

    Args:
        of: What the names belong to, for the error: `load spec`.
        values: What was given.
        known: The names there are.
        error: The room's own kind of error.
        prefix: Put before the name, for values that stand inside of others: `margins.`.

    Raises:
        InputError: Of the kind `error`; it names the nearest known name, or all of them.
    """
    names = list(known)
    for field, value in values.items():
        if field not in names:
            near = difflib.get_close_matches(str(field), names, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"choose among {', '.join(names)}"
            raise error(f"{prefix}{field}", value, f"no such name in the {of}; {remedy}")
