"""The page of a run's resources: latency above, what the servers were busy with below, one axis of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from model_load_test.components.report.arms import ARMS
from model_load_test.components.report.charts import Chart, Curve, Hit, Mark, chart
from model_load_test.components.report.figures import Figure, Panel
from model_load_test.components.report.html import page_template
from model_load_test.components.report.model import Scaling
from model_load_test.components.report.resources import TITLES, quantity_text, scaling_sentences, scaling_text
from model_load_test.components.report.scales import Scale, latency_scale, nice_ticks, time_scale
from model_load_test.components.report.wording import format_seconds
from model_load_test.components.results.checks import Check
from model_load_test.components.results.resource_use import ReplicaChange
from model_load_test.components.version import __version__

if TYPE_CHECKING:
    import pandas as pd

LOAD_TITLES: Final = {"latency_seconds_p95": "p95 latency", "latency_seconds_p50": "Median latency"}
_SIZES: Final = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "share": ((0.01, "%"),),
    "bytes": ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")),
    "bytes/s": ((2.0**30, "GiB/s"), (2.0**20, "MiB/s"), (2.0**10, "KiB/s"), (1.0, "B/s")),
}
"""By unit the sizes an axis is labelled in, the largest first; other units stand in the panel's title."""

_AVERAGED: Final = ("share", "s")
"""Units of which an arm's replicas are averaged; of others they are added up."""


def render_resources(
    tidy: pd.DataFrame, changes: Sequence[ReplicaChange] = (), findings: Sequence[Check] = ()
) -> str:
    """One self-contained HTML document.

    Args:
        tidy: `resources.align.tidy_frame` of load and resources.
        changes: Where the number of replicas changed; drawn through every panel.
        findings: What to know about the numbers.
    """
    begun_ns = int(tidy["start_ns"].min()) if len(tidy) else 0
    scaling = [
        Scaling(change.arm, (change.at_ns - begun_ns) / 1e9, change.before, change.after)
        for change in changes
    ]
    return page_template("resources.html.jinja").render(
        arms=[arm for arm in ARMS if (tidy["arm"] == arm).any()],
        drawn=resources_figure(tidy, scaling),
        scaling=scaling_sentences(scaling),
        findings=findings,
        version=__version__,
    )


def resources_figure(tidy: pd.DataFrame, scaling: Sequence[Scaling] = ()) -> Figure | None:
    """A panel for each quantity that is known, and the same values as a table; None where none is."""
    titles = {**LOAD_TITLES, **TITLES}
    present = set(tidy["metric"])
    known = [metric for metric in titles if metric in present]
    if not known:
        return None
    panels = tuple(
        _panel(
            tidy[tidy["metric"] == metric],
            titles[metric],
            scaling,
            first=metric == known[0],
            last=metric == known[-1],
        )
        for metric in known
    )
    arms = [arm for arm in ARMS if (tidy["arm"] == arm).any()]
    points = {(metric, arm): _points(tidy, metric, arm) for metric in known for arm in arms}
    units = {metric: str(tidy.loc[tidy["metric"] == metric, "unit"].iloc[0]) for metric in known}
    columns = [key for key, values in points.items() if values]
    seconds = sorted({at for values in points.values() for at in values})
    rows = tuple(
        (
            format_seconds(at, trimmed=True),
            *(quantity_text(points[metric, arm].get(at), units[metric]) for metric, arm in columns),
        )
        for at in seconds
    )
    return Figure(panels, ("Time", *(f"{titles[metric]}, {arm}" for metric, arm in columns)), rows)


def _points(tidy: pd.DataFrame, metric: str, arm: str) -> dict[float, float]:
    own = tidy[(tidy["metric"] == metric) & (tidy["arm"] == arm)]
    if own.empty:
        return {}
    by_time = own.groupby("seconds")["value"]
    together = by_time.mean() if own["unit"].iloc[0] in _AVERAGED else by_time.sum()
    return {float(at): float(value) for at, value in together.items()}  # type: ignore[arg-type]


def _panel(rows: pd.DataFrame, title: str, scaling: Sequence[Scaling], *, first: bool, last: bool) -> Panel:
    metric, unit = str(rows["metric"].iloc[0]), str(rows["unit"].iloc[0])
    curves = {arm: points for arm in ARMS if (points := _points(rows, metric, arm))}
    values = [value for points in curves.values() for value in points.values()]
    seconds = sorted({at for points in curves.values() for at in points})
    x = time_scale(0.0, max(seconds))
    y = latency_scale(values) if metric in LOAD_TITLES else _linear_scale(values, unit)
    ranges = [
        f"{arm.capitalize()} between {quantity_text(min(points.values()), unit)} and "
        f"{quantity_text(max(points.values()), unit)}."
        for arm, points in curves.items()
    ]
    picture = chart(
        Chart(
            name=f"{title} over time. {' '.join(ranges)}",
            x=x,
            y=y,
            height=130,
            curves=tuple(Curve(arm, tuple(sorted(curves[arm].items()))) for arm in reversed(tuple(curves))),
            hits=tuple(Hit(at, _tip(at, curves, unit)) for at in seconds),
            vertical_marks=tuple(
                Mark(
                    change.at_seconds,
                    scaling_text(change) if first else "",
                    f"scaling {change.arm}",
                    number % 3,
                )
                for number, change in enumerate(scaling)
                if x.contains(change.at_seconds)
            ),
            x_labels=last,
            group="resources",
        )
    )
    estimated = "histogram quantile" in set(rows["method"])
    heading = title if unit in _SIZES or unit in ("count", "replicas") else f"{title}, {unit}"
    return Panel(heading, picture, "From a histogram: linear within its buckets." if estimated else "")


def _linear_scale(values: Sequence[float], unit: str) -> Scale:
    top = 1.15 * max(*values, 1e-9)
    sizes = _SIZES.get(unit, ((1.0, ""),))
    size, name = next((one for one in sizes if top >= one[0]), sizes[-1])
    ticks = [
        tick for tick in nice_ticks(0.0, top / size) if unit not in ("count", "replicas") or tick == int(tick)
    ]
    return Scale(
        0.0, top, tuple((tick * size, f"{tick:g}\N{NO-BREAK SPACE}{name}".strip()) for tick in ticks)
    )


def _tip(at: float, curves: dict[str, dict[float, float]], unit: str) -> str:
    lines = [format_seconds(at)]
    for arm, points in curves.items():
        lines.append(f"{arm.capitalize()}\t{quantity_text(points.get(at), unit)}")
    return "\n".join(lines)
