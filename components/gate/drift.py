"""A drift alarm over the history of passing runs: many small steps that no single gate sees.

One change point, found where the means of the two sides differ most and judged by permuting the
runs, so that the search for the place is paid for (Otava and E-divisive share the idea; a
permutation test needs no assumption on the noise). False alarm rate: `alpha` over all metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, isfinite
from typing import Final

import numpy as np

from model_load_test.components.gate.blocks import Floats
from model_load_test.components.results.checks import Check

LEAST_RUNS: Final = 10
"""Fewer runs cannot show a change against their own noise."""
MOST_RUNS: Final = 200
"""Older runs are left out."""
_LEAST_SIDE: Final = 3
_PERMUTATIONS: Final = 1999
_METRICS: Final = ("mean", "p50", "p95", "p99")


def drift_alarms(history: Sequence[Mapping[str, float]], alpha: float = 0.01) -> tuple[Check, ...]:
    """Looks for one lasting slow-down in the history of each latency metric.

    Args:
        history: Values per run, oldest first, keyed as `MetricVerdict.candidate` has them.
        alpha: Chance of any false alarm over all metrics.

    Returns:
        A WARNING for each metric that has become slower; none below ten runs.
    """
    alarms = []
    for metric in _METRICS:
        past = [run[metric] for run in history if metric in run]
        values = np.array([value for value in past if isfinite(value) and value > 0][-MOST_RUNS:])
        if values.size < LEAST_RUNS:
            continue
        place, p = change_point(np.log(values))
        if p > alpha / len(_METRICS):
            continue
        logs = np.log(values)
        ratio = exp(float(np.median(logs[place:]) - np.median(logs[:place])))
        if ratio > 1:
            alarms.append(_alarm(metric, ratio, values.size - place, p))
    return tuple(alarms)


def change_point(values: Floats) -> tuple[int, float]:
    """The most likely place of one change of the mean, and its permutation p.

    Args:
        values: At least six numbers in the order of time.

    Returns:
        The index of the first value after the change, and the share of orders of the same values
        that show as large a change anywhere.
    """
    rng = np.random.default_rng(values.size)
    centred = values - values.mean()
    orders = rng.permuted(np.tile(centred, (_PERMUTATIONS, 1)), axis=1)
    observed = _contrasts(centred[None, :])[0]
    highest = _contrasts(orders).max(axis=1)
    place = int(observed.argmax())
    at_least = int((highest >= observed[place] * (1 - 1e-12)).sum())
    return place + _LEAST_SIDE, (at_least + 1) / (_PERMUTATIONS + 1)


def _contrasts(centred: Floats) -> Floats:
    """Standardised difference of the means left and right of every inner place; one row an order."""
    size = centred.shape[1]
    left = np.arange(_LEAST_SIDE, size - _LEAST_SIDE + 1)
    sums = np.cumsum(centred, axis=1)[:, left - 1]
    contrasts: Floats = np.abs(sums) / np.sqrt(left * (size - left) / size)
    return contrasts


def _alarm(metric: str, ratio: float, runs: int, p: float) -> Check:
    return Check(
        code=f"drift-{metric}",
        detail=(
            f"{metric} has been {(ratio - 1) * 100:.3g} % slower over the last {runs} runs than before, "
            "though each of them passed; compare the candidate with an older model too."
        ),
        consequence="WARNING",
        numbers={"ratio": ratio, "runs": float(runs), "p": p},
    )
