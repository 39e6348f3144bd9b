"""Absolute service-level objectives, such as `p99_ms<=50`: parsed once, in SI units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import Final, Literal

from model_load_test.components.errors import InputError

Quantity = Literal["percentile", "mean", "error_rate", "goodput"]

_OBJECTIVE = re.compile(r"\s*([a-z_0-9.]+?)\s*(<=|>=|==|<|>|=)\s*([^<>=\s]+)\s*")
_LATENCY = re.compile(r"(?:p(?P<percent>\d{1,2}(?:\.\d+)?)|(?P<mean>mean))_(?P<unit>s|ms|us)")
_SECONDS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_EXAMPLES: Final = "write it as p99_ms<=50, mean_ms<=20, error_rate<=0.001 or goodput_rps>=500"


@dataclass(frozen=True)
class Objective:
    """One limit in SI units."""

    text: str
    """As the user wrote it."""
    quantity: Quantity
    limit: float
    """Seconds, a share, or requests per second."""
    q: float = 0.0
    """The percentile as a share, for `percentile`."""
    unit: float = 1.0
    """What the user's unit is in SI, to show the observed value in the user's."""


def parse_objective(text: str) -> Objective:
    """Parses one objective.

    Raises:
        InputError: The name, the direction or the limit is not one that can be judged.
    """
    parts = _OBJECTIVE.fullmatch(text)
    if not parts:
        raise InputError("objectives", text, _EXAMPLES)
    name, relation, number = parts.groups()
    wanted = ">=" if name == "goodput_rps" else "<="
    latency = _LATENCY.fullmatch(name)
    if not latency and name not in ("error_rate", "goodput_rps"):
        raise InputError("objectives", text, f"unknown quantity {name!r}; {_EXAMPLES}")
    if relation != wanted:
        raise InputError("objectives", text, f"{name} is limited with {wanted}, not {relation}")
    try:
        limit = float(number)
    except ValueError:
        raise InputError("objectives", text, f"the limit {number!r} is not a number; {_EXAMPLES}") from None
    if not (isfinite(limit) and limit > 0):
        raise InputError("objectives", text, "give a finite limit above 0")
    if name == "goodput_rps":
        return Objective(text, "goodput", limit)
    if latency is None:
        if limit >= 1:
            raise InputError("objectives", text, "an error rate is a share below 1, such as 0.001")
        return Objective(text, "error_rate", limit)
    unit = _SECONDS[latency["unit"]]
    if latency["mean"]:
        return Objective(text, "mean", limit * unit, unit=unit)
    q = float(latency["percent"]) / 100
    if not q > 0:
        raise InputError("objectives", text, "give a percentile above 0 and below 100")
    return Objective(text, "percentile", limit * unit, q, unit)
