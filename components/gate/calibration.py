"""What two identical servers tell about a machine: its noise floor, and what a gate could see there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite, sqrt
from typing import Final

import msgspec
import pyarrow as pa

from model_load_test.components.gate import paired
from model_load_test.components.gate.blocks import ARMS, Pairs, ResultsTableError, pair, read_arms
from model_load_test.components.gate.paired import Finding
from model_load_test.components.gate.signed_rank import Interval
from model_load_test.components.gate.spec import GateSpec
from model_load_test.components.results.percentile import enough_rows

LEAST_PAIRS: Final = 15
"""Pairs needed to measure a noise floor."""
_ALPHA_OF_BOUND: Final = 0.158_655
"""One standard deviation on either side of the estimate."""


class VisibleEffects(msgspec.Struct, frozen=True):
    """What a run of so many pairs would see on this machine."""

    pairs: int
    fails: dict[str, float]
    """Per metric the smallest excess that FAILs in 4 of 5 runs; relative, a share for `errors`."""
    passes: dict[str, bool]
    """Per metric whether an identical candidate PASSes in 4 of 5 runs."""


def noise_floor(table: pa.Table, spec: GateSpec) -> dict[str, float]:
    """The standard deviation of ln(candidate/baseline) of a whole run of identical servers.

    The scatter of the pairs, from the width of the interval, or the estimate itself where that is
    larger: then the two deployments differ by luck. One run shows that luck only once, so
    calibrate a few times with fresh deployments and keep the largest value of each metric.

    Args:
        table: A results table whose two arms were identical servers.
        spec: The metrics wanted.

    Returns:
        Per metric the standard deviation of ln(ratio), or of the difference of shares for
        `errors`; without the metrics that could not be measured.

    Raises:
        ResultsTableError: The table has not two arms or fewer than 15 complete pairs.
    """
    floors = {}
    for finding in paired.find(_pairs_of(table, spec), spec, _ALPHA_OF_BOUND):
        bounds = finding.interval
        if finding.metric == "errors" and not finding.candidate and not finding.baseline:
            # No failure is no noise: the width only says how few requests were sent.
            floors[finding.metric] = 0.0
        elif not finding.guards and isfinite(bounds.upper - bounds.lower):
            floors[finding.metric] = max((bounds.upper - bounds.lower) / 2, abs(bounds.estimate))
    return floors


def visible_effects(table: pa.Table, spec: GateSpec, budgets: Sequence[int]) -> tuple[VisibleEffects, ...]:
    """Which effects this machine shows, by the number of pairs spent.

    A run of so many pairs has been looked at before, at the looks of the spec: what one of them
    would have decided counts too.

    Args:
        table: As for `noise_floor`.
        spec: Margins, alpha and noise floor of the gate that is planned.
        budgets: Numbers of pairs.

    Raises:
        ResultsTableError: As for `noise_floor`.
    """
    pairs = _pairs_of(table, spec)
    at_look = {look: _visible(pairs, spec, look) for look in {*spec.looks, *budgets}}
    return tuple(
        _together(budget, [seen for look, seen in at_look.items() if look <= budget]) for budget in budgets
    )


def _together(budget: int, looks: Sequence[VisibleEffects]) -> VisibleEffects:
    metrics = list(dict.fromkeys(metric for seen in looks for metric in seen.passes))
    fails = {
        metric: min(seen.fails[metric] for seen in looks if metric in seen.fails)
        for metric in metrics
        if any(metric in seen.fails for seen in looks)
    }
    passes = {metric: any(seen.passes.get(metric, False) for seen in looks) for metric in metrics}
    return VisibleEffects(pairs=budget, fails=fails, passes=passes)


def _visible(pairs: Pairs, spec: GateSpec, look: int) -> VisibleEffects:
    alpha = spec.alpha_at(look)
    arms = (pairs.candidate, pairs.baseline)
    requests = int(min(arm.latencies.size for arm in arms) * look / pairs.count)
    findings = [
        _scaled(finding, pairs.count / look)
        for finding in paired.find(pairs, spec, alpha)
        if finding.metric not in paired.QUANTILES
        or enough_rows(requests, 100 * paired.QUANTILES[finding.metric])
    ]
    reported = [finding for finding in findings if not finding.guards and not finding.refused]
    return VisibleEffects(
        pairs=look,
        fails=paired.detectable_effect(findings, alpha),
        passes={
            finding.metric: paired.reach_of_bound(finding, alpha) < finding.limit for finding in reported
        },
    )


def _scaled(finding: Finding, fewer: float) -> Finding:
    """The finding of an identical candidate from `fewer` times fewer pairs: centred, wider."""
    bounds = finding.interval
    # Bounds on no failure at all shrink with the number of requests, others with its root.
    wider = fewer if finding.metric == "errors" and not bounds.estimate else sqrt(fewer)
    below, above = bounds.estimate - bounds.lower, bounds.upper - bounds.estimate
    return replace(finding, interval=Interval(0.0, -below * wider, above * wider))


def _pairs_of(table: pa.Table, spec: GateSpec) -> Pairs:
    arms = read_arms(table)
    if set(arms) != set(ARMS):
        raise ResultsTableError("arm", sorted(arms), "load two identical servers, one as each arm")
    pairs = pair(arms["candidate"], arms["baseline"], spec.requests_per_block, spec.requests_of_blocks)
    if pairs.count < LEAST_PAIRS:
        raise ResultsTableError(
            "block", pairs.count, f"measure at least {LEAST_PAIRS} complete pairs of blocks"
        )
    return pairs
