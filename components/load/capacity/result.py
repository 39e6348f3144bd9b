"""What a capacity search found, for people and for the next program: `capacity.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, exp
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from model_load_test.components.load.capacity.boundary import Boundary
from model_load_test.components.load.capacity.curve import CurvePoint, Scalability, knee, scalability
from model_load_test.components.load.capacity.probing import LoadKind
from model_load_test.components.load.capacity.search import Ending, Found

SCHEMA_VERSION: Final = 1
_UNITS: Final = {"rate": "requests/s", "connections": "simultaneous requests"}


class ArmCapacity(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The capacity of one server."""

    ending: Ending
    detail: str
    """The answer in a sentence."""
    estimate: float | None = None
    lower: float | None = None
    upper: float | None = None
    """The 80 % interval."""
    confirmed: float | None = None
    """The highest load at which the objectives were shown to hold."""
    limiting_objective: str = ""
    bottleneck: Mapping[str, Any] = {}
    """Of the least load that did not hold: `verdict`, `detail`, `numbers`."""
    knee: float | None = None
    scalability: Scalability | None = None
    curve: tuple[CurvePoint, ...] = ()
    replicas_wanted: int | None = None
    """For the target rate, with its headroom; from the lower end of the interval."""


class CapacityReport(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Everything a search found."""

    schema_version: int = SCHEMA_VERSION
    model_name: str
    load_kind: LoadKind
    objectives: tuple[str, ...]
    arms: Mapping[str, ArmCapacity]
    ratio: float | None = None
    """The candidate's capacity over the baseline's."""
    ratio_lower: float | None = None
    ratio_upper: float | None = None
    """The 80 % interval of the ratio."""
    target_rps: float | None = None
    headroom: float = 0.0
    interrupted: bool = False


def arm_capacity(
    found: Found,
    objectives: Sequence[str],
    points: Sequence[CurvePoint],
    bottlenecks: Mapping[float, Mapping[str, Any]],
    kind: LoadKind,
    target_rps: float | None,
    headroom: float,
) -> ArmCapacity:
    """Puts what a search found into words and numbers."""
    limiting = "" if found.limiting is None else objectives[found.limiting]
    failing = sorted(point.level for point in points if not point.holds)
    sure = found.lower if found.lower is not None else found.confirmed
    return ArmCapacity(
        ending=found.ending,
        detail=_sentence(found, limiting, points, kind),
        estimate=found.estimate,
        lower=found.lower,
        upper=found.upper,
        confirmed=found.confirmed,
        limiting_objective=limiting,
        bottleneck=bottlenecks.get(failing[0], {}) if failing else {},
        knee=knee(points),
        scalability=scalability(points),
        curve=tuple(sorted(points, key=lambda point: point.level)),
        replicas_wanted=(
            replicas(target_rps, headroom, sure) if target_rps and sure and kind == "rate" else None
        ),
    )


def replicas(target_rps: float, headroom: float, capacity_rps: float) -> int:
    """Servers wanted so that each is loaded to at most 1 - `headroom` of its capacity."""
    return ceil(target_rps / (capacity_rps * (1 - headroom)) - 1e-9)


def ratio_of(candidate: Boundary, baseline: Boundary) -> tuple[float, float, float]:
    """Median and 80 % interval of the candidate's capacity over the baseline's, believed apart."""
    shares = (np.arange(400) + 0.5) / 400
    ours, theirs = (
        np.log([belief.quantile(float(share)) for share in shares]) for belief in (candidate, baseline)
    )
    low, middle, high = np.quantile(ours[:, None] - theirs[None, :], (0.1, 0.5, 0.9))
    return exp(middle), exp(low), exp(high)


def write_capacity(path: Path, report: CapacityReport) -> None:
    """Writes the report as JSON, indented for people."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))


def read_capacity(path: Path) -> CapacityReport:
    """Reads what `write_capacity` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=CapacityReport)


def metrics_of(report: CapacityReport) -> dict[str, float]:
    """Flat numbers with stable names, finite; what is unknown is absent."""
    values: dict[str, float | None] = {"capacity_ratio": report.ratio}
    for name, arm in report.arms.items():
        values[f"{name}_capacity"] = arm.estimate
        values[f"{name}_capacity_lower"] = arm.lower
        values[f"{name}_capacity_upper"] = arm.upper
        values[f"{name}_capacity_confirmed"] = arm.confirmed
        values[f"{name}_probes"] = float(len(arm.curve))
        values[f"{name}_replicas_wanted"] = arm.replicas_wanted
    return {name: float(value) for name, value in values.items() if value is not None}


def _sentence(found: Found, limiting: str, points: Sequence[CurvePoint], kind: LoadKind) -> str:
    unit = _UNITS[kind]
    broken = next((point.broken for point in reversed(points) if point.broken), "")
    if found.ending == "never":
        least = min(point.level for point in points)
        return f"{limiting or 'The objectives'} did not hold even at {least:g} {unit}. {broken}".strip()
    if found.ending == "beyond":
        shown = "was confirmed" if found.confirmed else "held, but is not confirmed"
        return (
            f"The highest load that was allowed, {found.estimate:g} {unit}, {shown}: the capacity is above."
        )
    if found.ending == "stopped":
        return f"The search was stopped after {len(points)} probes; it keeps what they measured."
    interval = f"{found.estimate:.0f} {unit} [{found.lower:.0f} to {found.upper:.0f}, 80 %]"
    confirmed = (
        f"confirmed at {found.confirmed:.0f}"
        if found.confirmed
        else "not confirmed at any load that was tried"
    )
    return f"{interval}, {confirmed}; beyond it {limiting or 'the load'} breaks first."
