"""Objectives as counts: how many requests may be over a limit, and how many were."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from model_load_test.components.errors import InputError
from model_load_test.components.results import columns
from model_load_test.components.results.objective import Objective, parse_objective

_NS_PER_SECOND = 1e9


def parse_objectives(texts: Sequence[str]) -> tuple[Objective, ...]:
    """Objectives that a capacity can be searched for: percentiles and error rates.

    Raises:
        InputError: There is none, or one is a mean or a goodput, which no count of requests shows.
    """
    if not texts:
        raise InputError("objectives", list(texts), "give one at least, such as p99_ms<=50")
    objectives = tuple(parse_objective(text) for text in texts)
    for objective in objectives:
        if objective.quantity not in ("percentile", "error_rate"):
            raise InputError(
                "objectives", objective.text, "a capacity is searched for percentiles and error_rate only"
            )
    return objectives


def allowed_share(objective: Objective) -> float:
    """The share of requests that may be over the objective's limit."""
    return objective.limit if objective.quantity == "error_rate" else 1 - objective.q


def requests_over(rows: pa.Table, objectives: Sequence[Objective]) -> tuple[int, ...]:
    """Requests over each objective's limit; a failed request is over every one."""
    failed = ~columns.truths(rows["ok"])
    seconds = columns.numbers(rows["latency_ns"], np.int64) / _NS_PER_SECOND
    return tuple(
        int(np.count_nonzero(failed if one.quantity == "error_rate" else failed | (seconds > one.limit)))
        for one in objectives
    )
