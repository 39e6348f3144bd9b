"""What a sweep found: the table, the Pareto front, the best configuration, for people and programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from model_load_test.components.sweep.cost import cost_per_hour, cost_per_million
from model_load_test.components.sweep.measurement import METRICS, Measurement
from model_load_test.components.sweep.parameters import configuration_id, configure, in_words
from model_load_test.components.sweep.spec import SweepSpec

SCHEMA_VERSION: Final = 1
LUCK: Final = 0.01
"""Two starts of one server differ by about so much (gate statistics, real runs)."""
REFERENCE: Final = "reference"
_NOT_SHOWN: Final = "-"


class Point(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One configuration at one rate, as it is compared with the others.

    Latencies are the ratio to the reference measured beside it, times the reference's own level over
    the whole sweep: a slow minute of the machine meets both and is gone.
    """

    configuration: str
    rate_rps: float
    latency_ms: Mapping[str, float]
    """By metric."""
    cost_per_million: float | None = None
    holds: bool
    """Whether every objective was shown to hold."""
    on_front: bool = False
    """Whether no other configuration is better in one respect and as good in the other."""


class Configuration(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One configuration and all that was measured of it."""

    name: str
    """Of the sweep: `reference`, or a short digest of the parameters."""
    words: str
    parameters: Mapping[str, Any]
    cost_per_hour: float | None = None
    refused: str = ""
    """Why it cannot be served."""
    measurements: tuple[Measurement, ...] = ()
    """By rate."""


class SweepReport(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Everything a sweep found."""

    schema_version: int = SCHEMA_VERSION
    model_name: str
    kind: str
    """Of the servers."""
    goal: str
    objectives: tuple[str, ...] = ()
    rates_rps: tuple[float, ...]
    configurations: tuple[Configuration, ...]
    """The reference first, then as they were measured."""
    points: tuple[Point, ...] = ()
    axes: tuple[str, str]
    """What the Pareto front trades: `cost_per_million` or a metric, against a metric."""
    judged_rate_rps: float | None = None
    """The highest rate at which a configuration holds its objectives; the best one is chosen there."""
    best: str = ""
    """The best configuration; empty where none holds its objectives."""
    best_text: str
    """The answer in a sentence."""
    as_good: tuple[str, ...] = ()
    """Configurations that this sweep cannot tell from the best one."""
    complete: bool = True
    """Whether everything that was planned was measured."""
    unfinished: str = ""
    """Why not."""

    def configuration(self, name: str) -> Configuration:
        """A configuration by its name."""
        return next(one for one in self.configurations if one.name == name)

    def points_at(self, rate_rps: float | None) -> tuple[Point, ...]:
        """The points of one rate."""
        return tuple(point for point in self.points if point.rate_rps == rate_rps)


def build_report(
    spec: SweepSpec,
    measurements: Sequence[Measurement],
    refused: Sequence[tuple[Mapping[str, Any], str]] = (),
    *,
    complete: bool = True,
    unfinished: str = "",
) -> SweepReport:
    """Puts measurements together.

    Args:
        spec: The sweep.
        measurements: As the journal keeps them.
        refused: Configurations that cannot be served, with the reason.
        complete: Whether everything that was planned is among them.
        unfinished: Why not.
    """
    configurations = _configurations(spec, measurements, refused)
    axes = ("cost_per_million" if spec.prices else "p50", _tail(spec, measurements))
    points = _points(configurations)
    rate_rps = _judged_rate(points)
    points = tuple(_marked(points, axes))
    at_rate = [point for point in points if point.rate_rps == rate_rps and point.holds]
    best, as_good = _best(spec, at_rate, configurations)
    return SweepReport(
        model_name=spec.model_name,
        kind=spec.kind,
        goal=spec.goal,
        objectives=spec.objectives,
        rates_rps=tuple(sorted(spec.rates_rps)),
        configurations=configurations,
        points=points,
        axes=axes,
        judged_rate_rps=rate_rps,
        best=best.configuration if best else "",
        best_text=_sentence(spec, best, configurations, measurements),
        as_good=as_good,
        complete=complete,
        unfinished=unfinished,
    )


def write_sweep(path: Path, report: SweepReport) -> None:
    """Writes the report as JSON, indented for people."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))


def read_sweep(path: Path) -> SweepReport:
    """Reads what `write_sweep` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=SweepReport)


def metrics_of(report: SweepReport) -> dict[str, float]:
    """Flat numbers with stable names, finite; what is unknown is absent."""
    values: dict[str, float | None] = {
        "configurations": float(len([one for one in report.configurations if one.measurements])),
        "refused": float(len([one for one in report.configurations if one.refused])),
        "judged_rate_rps": report.judged_rate_rps,
        "complete": float(report.complete),
    }
    best = next(
        (one for one in report.points_at(report.judged_rate_rps) if one.configuration == report.best), None
    )
    if best is not None:
        values |= {f"best_{name}_ms": value for name, value in best.latency_ms.items()}
        values["best_cost_per_million"] = best.cost_per_million
        measured = _at(report.configuration(report.best), best.rate_rps)
        values |= {f"best_ratio_{name}": one.ratio for name, one in measured.ratios.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


def table(report: SweepReport) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The table: titles, and a line for each configuration and rate."""
    priced = any(point.cost_per_million is not None for point in report.points)
    titles = (
        "configuration",
        "rate/s",
        *(f"{name} ms" for name in METRICS[1:]),
        "p95 to reference",
        "failed",
    )
    rows = []
    costs = {(point.configuration, point.rate_rps): point.cost_per_million for point in report.points}
    for configuration in report.configurations:
        words = configuration.words
        for one in configuration.measurements:
            figures = [getattr(one.configuration, f"{name}_ms") for name in METRICS[1:]]
            ratio = one.ratios.get("p95")
            told = f"x{ratio.ratio:.2f} [{ratio.lower:.2f}, {ratio.upper:.2f}]" if ratio else _NOT_SHOWN
            row = [
                words,
                f"{one.rate_rps:g}",
                *(_NOT_SHOWN if value is None else f"{value:.2f}" for value in figures),
                told,
                f"{100 * one.configuration.error_rate:.2g} %",
            ]
            if priced:
                cost = costs.get((configuration.name, one.rate_rps))
                row.append(_NOT_SHOWN if cost is None else f"{cost:.4g}")
            rows.append((*row, _state(report, configuration, one)))
        if configuration.refused:
            empty = [_NOT_SHOWN] * (len(titles) - 1 + priced)
            rows.append((words, *empty, f"refused: {configuration.refused}"))
    return (*titles, *(("cost/million",) if priced else ()), "state"), rows


def _state(report: SweepReport, configuration: Configuration, one: Measurement) -> str:
    if one.outcome != "measured":
        return f"{one.outcome}: {one.reason}"
    marks = []
    if one.rate_rps == report.judged_rate_rps and configuration.name == report.best:
        marks.append("best")
    if any(
        point.on_front
        for point in report.points_at(one.rate_rps)
        if point.configuration == configuration.name
    ):
        marks.append("front")
    missed = [text for text, verdict in one.objectives.items() if verdict != "PASS"]
    if missed:
        marks.append(f"not shown: {', '.join(missed)}")
    return ", ".join(marks)


def _configurations(
    spec: SweepSpec,
    measurements: Sequence[Measurement],
    refused: Sequence[tuple[Mapping[str, Any], str]],
) -> tuple[Configuration, ...]:
    of: dict[str, list[Measurement]] = {}
    for one in measurements:
        of.setdefault(_name(one.parameters), []).append(one)
    found = []
    for name, mine in sorted(of.items(), key=lambda item: item[0] != REFERENCE):
        parameters = {**spec.reference, **mine[0].parameters}
        serving = configure(spec.serving, spec.model_name, parameters)
        found.append(
            Configuration(
                name=name,
                words=REFERENCE if name == REFERENCE else in_words(mine[0].parameters),
                parameters=mine[0].parameters,
                cost_per_hour=cost_per_hour(serving, spec.prices),
                measurements=tuple(sorted(mine, key=lambda one: one.rate_rps)),
            )
        )
    for left_out, reason in refused:
        found.append(
            Configuration(name=_name(left_out), words=in_words(left_out), parameters=left_out, refused=reason)
        )
    return tuple(found)


def _name(parameters: Mapping[str, Any]) -> str:
    return configuration_id(parameters) if parameters else REFERENCE


def _tail(spec: SweepSpec, measurements: Sequence[Measurement]) -> str:
    """The metric that the front is drawn over: the goal, or the farthest tail that was told."""
    if spec.goal not in ("cost", "p50"):
        return spec.goal
    told = {
        name
        for one in measurements
        for name in one.ratios
        if getattr(one.reference, f"{name}_ms") is not None
    }
    return next((name for name in ("p99", "p95") if name in told), "mean")


def _points(configurations: Sequence[Configuration]) -> tuple[Point, ...]:
    levels = _reference_levels(configurations)
    return tuple(
        Point(
            configuration=configuration.name,
            rate_rps=one.rate_rps,
            latency_ms={
                name: ratio.ratio * level
                for name, ratio in one.ratios.items()
                if (level := levels.get((name, one.rate_rps))) is not None
            },
            cost_per_million=cost_per_million(configuration.cost_per_hour, one.configuration.achieved_rps),
            holds=one.holds,
        )
        for configuration in configurations
        for one in configuration.measurements
        if one.outcome == "measured"
    )


def _reference_levels(configurations: Sequence[Configuration]) -> dict[tuple[str, float], float]:
    """The reference's median over the sweep, in milliseconds, by metric and rate."""
    values: dict[tuple[str, float], list[float]] = {}
    for one in (one for each in configurations for one in each.measurements if one.outcome == "measured"):
        for name in METRICS:
            level = getattr(one.reference, f"{name}_ms")
            if level is not None:
                values.setdefault((name, one.rate_rps), []).append(level)
    return {key: float(np.median(levels)) for key, levels in values.items()}


def _judged_rate(points: Sequence[Point]) -> float | None:
    return max((point.rate_rps for point in points if point.holds), default=None)


def _axis(point: Point, axis: str) -> float | None:
    return point.cost_per_million if axis == "cost_per_million" else point.latency_ms.get(axis)


def place_of(point: Point, axes: tuple[str, str]) -> tuple[float, float] | None:
    """Where a point stands on both axes; None where one of them is unknown."""
    x, y = (_axis(point, axis) for axis in axes)
    return None if x is None or y is None else (x, y)


def _marked(points: Sequence[Point], axes: tuple[str, str]) -> list[Point]:
    """The points, those on the Pareto front of their rate marked."""
    marked = []
    for point in points:
        own = place_of(point, axes)
        others = [
            place
            for other in points
            if other is not point
            and other.rate_rps == point.rate_rps
            and other.holds
            and (place := place_of(other, axes)) is not None
        ]
        beaten = own is not None and any(x <= own[0] and y <= own[1] and (x, y) != own for x, y in others)
        marked.append(msgspec.structs.replace(point, on_front=own is not None and point.holds and not beaten))
    return marked


def _best(
    spec: SweepSpec, points: Sequence[Point], configurations: Sequence[Configuration]
) -> tuple[Point | None, tuple[str, ...]]:
    """The point with the least of the goal, and the configurations that cannot be told from it.

    The reference stays the best one unless another is better by more than chance and a fresh start
    explain.
    """
    valued = [(value, point) for point in points if (value := _goal(spec, point)) is not None]
    if not valued:
        return None, ()
    least, best = min(valued, key=lambda item: item[0])
    if spec.goal == "cost":
        alike = [point for value, point in valued if point is not best and value <= least * (1 + 1e-9)]
        return best, tuple(point.configuration for point in alike)
    reference = next((point for _, point in valued if point.configuration == REFERENCE), None)
    upper = _bounds(spec, best, configurations)[1]
    if reference is not None and best is not reference and upper >= 1 - LUCK:
        best, upper = reference, 1.0
    alike = [
        point for _, point in valued if point is not best and _bounds(spec, point, configurations)[0] <= upper
    ]
    return best, tuple(point.configuration for point in alike)


def _goal(spec: SweepSpec, point: Point) -> float | None:
    return point.cost_per_million if spec.goal == "cost" else point.latency_ms.get(spec.goal)


def _bounds(spec: SweepSpec, point: Point, configurations: Sequence[Configuration]) -> tuple[float, float]:
    configuration = next(one for one in configurations if one.name == point.configuration)
    ratio = _at(configuration, point.rate_rps).ratios[spec.goal]
    return ratio.lower, ratio.upper


def _at(configuration: Configuration, rate_rps: float) -> Measurement:
    return next(one for one in configuration.measurements if one.rate_rps == rate_rps)


def _sentence(
    spec: SweepSpec,
    best: Point | None,
    configurations: Sequence[Configuration],
    measurements: Sequence[Measurement],
) -> str:
    if best is None:
        if not measurements:
            return "Nothing was measured."
        if not spec.objectives:
            return "No configuration could be measured at any rate."
        return f"No configuration was shown to hold {' and '.join(spec.objectives)} at any of the rates."
    configuration = next(one for one in configurations if one.name == best.configuration)
    at_rate = f"at {best.rate_rps:g} requests/s"
    if spec.goal == "cost":
        held = f" and holds {' and '.join(spec.objectives)}" if spec.objectives else ""
        cost = f"{best.cost_per_million:.4g} a million requests"
        return f"{configuration.words} costs least {at_rate}{held}: {cost}."
    if configuration.name == REFERENCE:
        return f"No configuration has a lower {spec.goal} than the reference {at_rate}, beyond chance."
    ratio = _at(configuration, best.rate_rps).ratios[spec.goal]
    return (
        f"{configuration.words} has the lowest {spec.goal} {at_rate}: {best.latency_ms[spec.goal]:.3g} ms, "
        f"x{ratio.ratio:.2f} of the reference's [{ratio.lower:.2f}, {ratio.upper:.2f}]."
    )
