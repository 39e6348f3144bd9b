"""The page of a capacity search: latency and throughput by load, and where the objectives end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from model_load_test.components.load.capacity.curve import CurvePoint
from model_load_test.components.load.capacity.result import ArmCapacity, CapacityReport
from model_load_test.components.report.charts import Chart, Curve, Hit, Mark, chart
from model_load_test.components.report.figures import Figure, Panel
from model_load_test.components.report.html import page_template
from model_load_test.components.report.scales import Scale, latency_scale, nice_ticks
from model_load_test.components.report.wording import ABSENT, format_count, format_seconds
from model_load_test.components.results.objective import parse_objective
from model_load_test.components.version import __version__

_UNITS: Final = {"rate": "requests/s", "connections": "simultaneous requests"}
_MILLISECONDS: Final = 1e-3
_LAW_POINTS: Final = 60
_LEAST_TICKS: Final = 3


def render_capacity(report: CapacityReport) -> str:
    """One self-contained HTML document with a section for each server that was searched."""
    unit = _UNITS[report.load_kind]
    sections = [
        {
            "name": name,
            "detail": arm.detail,
            "facts": _facts(report, arm),
            "figure": capacity_figure(arm, report.objectives, unit),
        }
        for name, arm in report.arms.items()
    ]
    return page_template("capacity.html.jinja").render(
        title=f"Capacity of {report.model_name}",
        subtitle=_subtitle(report),
        sections=sections,
        version=__version__,
    )


def capacity_figure(arm: ArmCapacity, objectives: Sequence[str], unit: str) -> Figure | None:
    """Latency over load, and throughput over requests in flight; None without an answered probe."""
    points = [point for point in arm.curve if point.p50_ms is not None]
    if not points:
        return None
    panels = [_latency_panel(arm, points, objectives, unit)]
    throughput = _throughput_panel(arm, points)
    if throughput is not None:
        panels.append(throughput)
    rows = tuple(
        (
            f"{point.level:g}",
            format_count(point.requests),
            f"{point.achieved_rps:.4g}",
            *(format_seconds(_seconds(value)) for value in (point.p50_ms, point.p95_ms, point.p99_ms)),
            f"{100 * point.error_rate:.2g} %",
            point.broken or ("yes" if point.holds else "no"),
        )
        for point in arm.curve
    )
    titles = (unit.capitalize(), "Requests", "Answered/s", "p50", "p95", "p99", "Failed", "Objectives hold")
    return Figure(tuple(panels), titles, rows)


def _latency_panel(
    arm: ArmCapacity, points: Sequence[CurvePoint], objectives: Sequence[str], unit: str
) -> Panel:
    limits = [(text, limit) for text in objectives if (limit := _latency_limit(text)) is not None]
    tail = "p99_ms" if any(point.p99_ms is not None for point in points) else "p95_ms"
    series = {"baseline": "p50_ms", "candidate": tail}
    values = [
        seconds
        for name in series.values()
        for point in points
        if (seconds := _seconds(getattr(point, name))) is not None
    ]
    marks = [
        Mark(level, label, style, row)
        for row, (level, label, style) in enumerate(
            [
                (arm.confirmed, "confirmed", "promotion"),
                (arm.estimate, "capacity", "candidate"),
                (arm.knee, "knee", ""),
            ]
        )
        if level is not None
    ]
    picture = chart(
        Chart(
            name=f"Latency by load, {points[0].level:g} to {points[-1].level:g} {unit}. {arm.detail}",
            x=_load_scale([point.level for point in points]),
            y=latency_scale([*values, *(limit for _, limit in limits)]),
            height=240,
            curves=tuple(
                Curve(style, tuple((point.level, _seconds(getattr(point, name))) for point in points))
                for style, name in series.items()
            ),
            dots=tuple(
                (style if point.holds else "failed", point.level, seconds)
                for style, name in series.items()
                for point in points
                if (seconds := _seconds(getattr(point, name))) is not None
            ),
            hits=tuple(Hit(point.level, _tip(point, unit)) for point in points),
            vertical_marks=tuple(marks),
            horizontal_marks=tuple(Mark(limit, text, "limit") for text, limit in limits),
            bands=(("noise", arm.lower, arm.upper),) if arm.lower and arm.upper else (),
            group="capacity",
        )
    )
    return Panel(
        f"Latency by load ({unit})",
        picture,
        f"Solid: {tail.removesuffix('_ms')}, dashed: p50. Rings: loads at which an objective did not hold. "
        "Tinted: where the capacity lies, 80 %.",
    )


def _throughput_panel(arm: ArmCapacity, points: Sequence[CurvePoint]) -> Panel | None:
    known = sorted((point.in_flight, point.achieved_rps) for point in points if point.in_flight)
    if arm.scalability is None or len(known) < 2:
        return None
    law = arm.scalability
    in_flight = np.geomspace(known[0][0], known[-1][0], _LAW_POINTS)
    fitted = tuple((float(n), law.throughput(float(n))) for n in in_flight)
    top = 1.1 * max(value for _, value in (*known, *fitted))
    best = law.best_in_flight
    peak = f" It peaks at {best:.0f} in flight." if best and best < 10 * known[-1][0] else ""
    picture = chart(
        Chart(
            name=f"Answered requests/s by requests in flight, with the Universal Scalability Law.{peak}",
            x=_load_scale([place for place, _ in known]),
            y=Scale(0.0, top, tuple((tick, format_count(round(tick))) for tick in nice_ticks(0.0, top))),
            height=200,
            curves=(Curve("baseline", fitted),),
            dots=tuple(("candidate", place, value) for place, value in known),
            hits=tuple(
                Hit(place, f"{place:.3g} in flight\nanswered\t{value:.4g} requests/s")
                for place, value in known
            ),
            group="throughput",
        )
    )
    caption = (
        f"Dashed: the Universal Scalability Law, contention {law.contention:.2g}, "
        f"coherency {law.coherency:.2g}.{peak}"
    )
    return Panel("Answered requests/s by requests in flight", picture, caption)


def _facts(report: CapacityReport, arm: ArmCapacity) -> list[tuple[str, str]]:
    facts = [
        ("Limiting objective", arm.limiting_objective or ABSENT),
        ("Bottleneck", str(arm.bottleneck.get("detail", "")) or ABSENT),
    ]
    if arm.replicas_wanted is not None:
        facts.append(
            (
                f"Replicas for {report.target_rps:g} requests/s with {100 * report.headroom:.0f} % headroom",
                str(arm.replicas_wanted),
            )
        )
    return facts


def _subtitle(report: CapacityReport) -> str:
    asked = f"The highest load at which {' and '.join(report.objectives)} hold."
    if report.ratio is None or report.ratio_lower is None or report.ratio_upper is None:
        return asked
    return (
        f"{asked} The candidate carries {report.ratio:.2f} times the baseline's load "
        f"[{report.ratio_lower:.2f} to {report.ratio_upper:.2f}, 80 %]."
    )


def _load_scale(loads: Sequence[float]) -> Scale:
    low, high = min(loads) / 1.1, max(loads) * 1.1
    ticks: list[float] = []
    for mantissas in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        marks = [mantissa * 10.0**decade for decade in range(-3, 8) for mantissa in mantissas]
        ticks = [mark for mark in marks if low <= mark <= high]
        if len(ticks) >= _LEAST_TICKS:
            break
    return Scale(low, high, tuple((tick, f"{tick:g}") for tick in ticks), True)


def _latency_limit(text: str) -> float | None:
    objective = parse_objective(text)
    return objective.limit if objective.quantity == "percentile" else None


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds * _MILLISECONDS


def _tip(point: CurvePoint, unit: str) -> str:
    lines = [f"{point.level:g} {unit}"]
    for name, value in (("p50", point.p50_ms), ("p95", point.p95_ms), ("p99", point.p99_ms)):
        if value is not None:
            lines.append(f"{name}\t{format_seconds(_seconds(value))}")
    lines.append(f"failed\t{100 * point.error_rate:.2g} %")
    return "\n".join(lines)
