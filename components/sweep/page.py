"""The page of a sweep: the front between cost and latency, latency by rate, and the whole table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from model_load_test.components.report.charts import Chart, Curve, Hit, Mark, chart
from model_load_test.components.report.figures import Figure, Panel
from model_load_test.components.report.html import page_template
from model_load_test.components.report.scales import Scale, latency_scale, nice_ticks
from model_load_test.components.report.wording import format_count
from model_load_test.components.sweep.measurement import METRICS
from model_load_test.components.sweep.result import (
    REFERENCE,
    Configuration,
    Point,
    SweepReport,
    place_of,
    table,
)
from model_load_test.components.version import __version__

_SECONDS_PER_MS: Final = 1e-3


def render_sweep(report: SweepReport) -> str:
    """One self-contained HTML document."""
    titles, rows = table(report)
    panels = [*_front_panels(report), *_rate_panels(report)]
    return page_template("sweep.html.jinja").render(
        title=f"Serving sweep of {report.model_name}",
        subtitle=report.best_text,
        facts=_facts(report),
        figure_drawn=Figure(tuple(panels), (), ()) if panels else None,
        titles=titles,
        rows=rows,
        version=__version__,
    )


def _facts(report: SweepReport) -> list[tuple[str, str]]:
    measured = [one for one in report.configurations if one.measurements]
    refused = [one for one in report.configurations if one.refused]
    facts = [
        ("Configurations measured", str(len(measured))),
        ("Rates", ", ".join(f"{rate:g}/s" for rate in report.rates_rps)),
        (
            "Looked for",
            f"least {report.goal}" + (f", {', '.join(report.objectives)}" if report.objectives else ""),
        ),
    ]
    if refused:
        facts.append(("Refused", str(len(refused))))
    if report.best:
        best = report.configuration(report.best)
        facts.append(("Best", best.words))
        if report.as_good:
            alike = ", ".join(report.configuration(name).words for name in report.as_good)
            facts.append(("Cannot be told from it", alike))
    if not report.complete:
        facts.append(("Unfinished", report.unfinished))
    return facts


def _front_panels(report: SweepReport) -> list[Panel]:
    return [
        panel
        for rate_rps in sorted(report.rates_rps, reverse=True)
        if (panel := _front_panel(report, report.points_at(rate_rps), rate_rps)) is not None
    ]


def _front_panel(report: SweepReport, points: Sequence[Point], rate_rps: float) -> Panel | None:
    placed = [(point, place) for point in points if (place := place_of(point, report.axes)) is not None]
    if len(placed) < 2:
        return None
    priced = report.axes[0] == "cost_per_million"
    across = 1.0 if priced else _SECONDS_PER_MS
    places = [(point, (x * across, y * _SECONDS_PER_MS)) for point, (x, y) in placed]
    xs = [x for _, (x, _) in places]
    titles = ["cost of a million requests" if priced else report.axes[0], report.axes[1]]
    front = sorted(place for point, place in places if point.on_front)
    picture = chart(
        Chart(
            name=f"{titles[1]} over {titles[0]} at {rate_rps:g} requests/s. {report.best_text}",
            x=_cost_scale(xs) if priced else latency_scale(xs),
            y=latency_scale([y for _, (_, y) in places]),
            height=260,
            curves=(Curve("candidate", tuple(front)),) if len(front) > 1 else (),
            dots=tuple((_style(point), x, y) for point, (x, y) in places),
            hits=tuple(
                Hit(x, _tip(report, point)) for point, (x, _) in sorted(places, key=lambda one: one[1])
            ),
            vertical_marks=_marks(report, places, rate_rps),
            group=f"front-{rate_rps:g}",
        )
    )
    return Panel(
        f"{titles[1]} over {titles[0]}, {rate_rps:g} requests/s",
        picture,
        "A dot a configuration: filled and joined where no other is better in both respects, "
        "ringed red where an objective was not shown to hold.",
    )


def _style(point: Point) -> str:
    return "failed" if not point.holds else "candidate" if point.on_front else "baseline"


def _marks(
    report: SweepReport, places: Sequence[tuple[Point, tuple[float, float]]], rate_rps: float
) -> tuple[Mark, ...]:
    names = {REFERENCE: ("reference", "")}
    if rate_rps == report.judged_rate_rps and report.best:
        label = "best" if report.best != REFERENCE else "reference, best"
        names[report.best] = (label, "promotion")
    return tuple(
        Mark(x, *names[point.configuration], row)
        for row, (point, (x, _)) in enumerate(
            sorted((one for one in places if one[0].configuration in names), key=lambda one: one[1])
        )
    )


def _rate_panels(report: SweepReport) -> list[Panel]:
    if len(report.rates_rps) < 2:
        return []
    return [panel for metric in ("p50", report.axes[1]) if (panel := _rate_panel(report, metric)) is not None]


def _rate_panel(report: SweepReport, metric: str) -> Panel | None:
    """Latency by rate: the reference dashed, the best one solid, the others as dots."""
    series = {one.name: _by_rate(report, one, metric) for one in report.configurations if one.measurements}
    values = [seconds for points in series.values() for _, seconds in points]
    if not values:
        return None
    rates = report.rates_rps
    drawn = {REFERENCE: "baseline", **({report.best: "candidate"} if report.best != REFERENCE else {})}
    picture = chart(
        Chart(
            name=f"{metric} by rate",
            x=Scale(min(rates) * 0.9, max(rates) * 1.1, tuple((rate, f"{rate:g}") for rate in rates), True),
            y=latency_scale(values),
            height=200,
            curves=tuple(Curve(style, tuple(series.get(name, ()))) for name, style in drawn.items() if name),
            dots=tuple(
                ("candidate" if name == report.best else "baseline", rate, seconds)
                for name, points in series.items()
                for rate, seconds in points
            ),
            group="rates",
        )
    )
    return Panel(f"{metric} by rate", picture, "Dashed: the reference. Solid: the best configuration.")


def _by_rate(report: SweepReport, configuration: Configuration, metric: str) -> list[tuple[float, float]]:
    return sorted(
        (point.rate_rps, point.latency_ms[metric] * _SECONDS_PER_MS)
        for point in report.points
        if point.configuration == configuration.name and metric in point.latency_ms
    )


def _cost_scale(costs: Sequence[float]) -> Scale:
    low, high = min(costs), max(costs)
    room = max(0.08 * (high - low), 0.02 * high, 1e-9)
    low, high = max(0.0, low - room), high + room
    return Scale(low, high, tuple((tick, f"{tick:.4g}") for tick in nice_ticks(low, high)))


def _tip(report: SweepReport, point: Point) -> str:
    configuration = report.configuration(point.configuration)
    lines = [configuration.words]
    lines += [f"{name}\t{point.latency_ms[name]:.3g} ms" for name in METRICS if name in point.latency_ms]
    if point.cost_per_million is not None:
        lines.append(f"a million\t{point.cost_per_million:.4g}")
    measured = next(one for one in configuration.measurements if one.rate_rps == point.rate_rps)
    lines.append(f"requests\t{format_count(measured.configuration.requests)}")
    return "\n".join(lines)
