"""Which load to try next: a doubling ramp, a bisection of what is believed, a confirmation."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, Literal

from model_load_test.components.load.capacity.boundary import (
    Boundary,
    Probe,
    holds,
    locate,
    worst_objective,
)

Ending = Literal["found", "unconfirmed", "never", "beyond", "stopped"]

ROOM_BELOW: Final = 0.9
ROOM_ABOVE: Final = 1.05
"""The boundary is looked for a little outside of the last load that held and the first that did not."""
STEP_DOWN: Final = 0.95
LOWER_QUANTILE: Final = 0.10
UPPER_QUANTILE: Final = 0.92
"""What holds the capacity four times in five where machines have slow moments: one spoils a probe and no
quick one mends it, so that the belief lies a little low (tests/benchmarks/capacity_search.py)."""
CONFIRMED_FROM: Final = 0.1
"""Confirmation starts at this quantile: at the median it would fail every other time."""


@dataclass(frozen=True)
class SearchPlan:
    """What to look for, and where."""

    allowed: tuple[float, ...]
    """The share of requests that each objective allows over its limit."""
    start: float
    lowest: float
    highest: float
    half_width: float = 0.05
    """The bisection ends when 80 % of the belief lie within this share of the median."""
    most_bisections: int = 6
    """Or when so many loads were tried; a machine with slow minutes allows no narrower answer."""
    most_probes: int = 20
    confidence: float = 0.95
    """Of the claim that the objectives hold at the confirmed load."""
    whole_levels: bool = True
    """Loads are whole numbers: ghz's rates, and connections."""
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """Where the search ended."""

    ending: Ending
    estimate: float | None = None
    """The median of the belief."""
    lower: float | None = None
    upper: float | None = None
    """The 80 % interval of the capacity."""
    confirmed: float | None = None
    """The highest load at which the objectives were shown to hold, at the plan's confidence."""
    limiting: int | None = None
    """The objective that breaks first."""
    probes: tuple[Probe, ...] = ()
    belief: Boundary | None = None
    """All of what is believed of the capacity, where it was bracketed."""


def search(plan: SearchPlan) -> Generator[float, Probe, Found]:
    """Yields the loads to try and is sent what came of each; returns what was found.

    The ramp doubles the load until the objectives do not hold any more, or halves it until they
    do. The bisection then tries the median of the posterior, half of the time moved to a quartile
    so that drift shows as disagreement. The confirmation tests the found load by the binomial rule
    of MLPerf (loadgen/early_stopping.cc) and steps down by 5 % while it fails.
    """
    probes: list[Probe] = []
    held, broke = yield from _ramp(plan, probes)
    if held is None:
        return Found("never", limiting=_limiting(plan, probes), probes=tuple(probes))
    if broke is None:
        confirmed = held if confirms(probes[-1], plan) else None
        return Found("beyond", estimate=held, confirmed=confirmed, probes=tuple(probes))
    low, high = ROOM_BELOW * held, ROOM_ABOVE * broke
    chance = random.Random(plan.seed)
    belief = locate(probes, plan.allowed, low, high)
    bisected_up_to = min(len(probes) + plan.most_bisections, plan.most_probes)
    while belief.half_width > plan.half_width and len(probes) < bisected_up_to:
        yield from _try(plan, belief.quantile(chance.choice((0.4, 0.5, 0.6))), probes)
        belief = locate(probes, plan.allowed, low, high)
    return (yield from _confirm(plan, belief, probes, low, high))


def _ramp(
    plan: SearchPlan, probes: list[Probe]
) -> Generator[float, Probe, tuple[float | None, float | None]]:
    """The last load that held and the first that did not; None for one that there is not."""
    held: float | None = None
    broke: float | None = None
    level = min(max(plan.start, plan.lowest), plan.highest)
    while held is None or broke is None:
        probe = yield from _try(plan, level, probes)
        if holds(probe, plan.allowed):
            held = probe.level
            if broke is None and held >= plan.highest:
                break
            level = min(2 * held, plan.highest)
        else:
            broke = probe.level
            if held is None and broke <= plan.lowest:
                break
            level = max(broke / 2, plan.lowest)
    return held, broke


def _confirm(
    plan: SearchPlan, belief: Boundary, probes: list[Probe], low: float, high: float
) -> Generator[float, Probe, Found]:
    level = belief.quantile(CONFIRMED_FROM)
    confirmed: float | None = None
    while confirmed is None and len(probes) < plan.most_probes and level >= plan.lowest:
        probe = yield from _try(plan, level, probes)
        if confirms(probe, plan):
            confirmed = probe.level
        level = probe.level * STEP_DOWN
    belief = locate(probes, plan.allowed, low, high)
    return Found(
        "found" if confirmed is not None else "unconfirmed",
        estimate=belief.quantile(0.5),
        lower=belief.quantile(LOWER_QUANTILE),
        upper=belief.quantile(UPPER_QUANTILE),
        confirmed=confirmed,
        limiting=_limiting(plan, probes),
        probes=tuple(probes),
        belief=belief,
    )


def _try(plan: SearchPlan, level: float, probes: list[Probe]) -> Generator[float, Probe, Probe]:
    probe = yield float(max(1, round(level))) if plan.whole_levels else level
    probes.append(probe)
    return probe


def confirms(probe: Probe, plan: SearchPlan) -> bool:
    """Whether the probe shows every objective to hold: so few requests over it are no luck."""
    from scipy.special import bdtr

    if probe.broken or not probe.requests:
        return False
    doubt = 1 - plan.confidence
    return all(
        float(bdtr(over, probe.requests, allowed)) <= doubt
        for over, allowed in zip(probe.over, plan.allowed, strict=True)
    )


def least_requests(allowed: tuple[float, ...], confidence: float = 0.95) -> int:
    """The requests a probe needs so that it can confirm every objective with one request over it."""
    from scipy.special import bdtr

    share = min(allowed)
    requests = 1
    while float(bdtr(1, requests, share)) > 1 - confidence:
        requests *= 2
    low = requests // 2
    while requests - low > 1:
        middle = (low + requests) // 2
        low, requests = (
            (middle, requests) if float(bdtr(1, middle, share)) > 1 - confidence else (low, middle)
        )
    return requests


def _limiting(plan: SearchPlan, probes: list[Probe]) -> int | None:
    """The objective that the least loaded of the failing probes exceeds most."""
    failing = [probe for probe in probes if probe.requests and not holds(probe, plan.allowed)]
    if not failing:
        return None
    return worst_objective(min(failing, key=lambda probe: probe.level), plan.allowed)
