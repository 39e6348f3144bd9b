"""Charts as SVG, drawn by pure functions from values to markup.

A chart stretches with the page: horizontal places are percentages, curves lie in a nested picture that
is stretched without thickening its lines, and text keeps its size. Colours come from the page's style
sheet by class, so that light, dark and paper differ there only. Points that a reader can ask about are
`hit` elements carrying their text; the page's script shows it on hover and on the arrow keys.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from model_load_test.components.report.scales import Scale

_STRETCH = 10


@dataclass(frozen=True)
class Curve:
    """A line through points; a point whose value is absent leaves a gap."""

    style: str
    """CSS class: `candidate`, `baseline`."""
    points: tuple[tuple[float, float | None], ...]
    filled: bool = False
    """Whether the area down to the axis is tinted."""


@dataclass(frozen=True)
class Hit:
    """A place on the horizontal axis a reader can ask about."""

    at: float
    tip: str
    """Lines of text; a tab parts a label from its value."""


@dataclass(frozen=True)
class Mark:
    """A line across the chart with a label at its upper or left end."""

    at: float
    label: str
    style: str = ""
    row: int = 0
    """Row of the label of a vertical mark, counted from the top."""
    before: bool = False
    """Whether the label of a vertical mark stands left of its line."""


@dataclass(frozen=True)
class Chart:
    """One chart: two scales and what is drawn between them."""

    name: str
    """What the chart shows and says, for those who cannot see it."""
    x: Scale
    y: Scale
    height: int
    curves: tuple[Curve, ...] = ()
    dots: tuple[tuple[str, float, float], ...] = ()
    """CSS class and place of single points."""
    hits: tuple[Hit, ...] = ()
    vertical_marks: tuple[Mark, ...] = ()
    horizontal_marks: tuple[Mark, ...] = ()
    bands: tuple[tuple[str, float, float], ...] = ()
    """CSS class and horizontal extent of tinted stretches."""
    levels: tuple[tuple[str, float, float], ...] = ()
    """CSS class and vertical extent of tinted stretches."""
    crosses: tuple[float, ...] = ()
    """Places along the bottom where something failed."""
    x_labels: bool = True
    y_labels: bool = True
    group: str = ""
    """Charts of one group share their cross-hair."""


@dataclass(frozen=True)
class Interval:
    """One row of a forest plot."""

    name: str
    """The row in words."""
    style: str
    """CSS class: the metric's outcome in lower case."""
    margin: float
    """End of the allowed zone, on the axis."""
    estimate: float | None = None
    lower: float | None = None
    upper: float | None = None
    neutral: float = 1.0
    """Where candidate and baseline are equal."""
    tip: str = ""
    higher_is_better: bool = False


def element(tag: str, *content: str, **attributes: object) -> Markup:
    """An element whose attributes and plain-text content are escaped; absent attributes are left out.

    An underscore in an attribute's name stands for a hyphen, a trailing one is dropped (`class_`).
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), value)
        for name, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), written, Markup("").join(map(escape, content)))


def chart(drawn: Chart) -> Markup:
    """A chart as one SVG element."""
    bare = {"no-x": not drawn.x_labels, "no-y": not drawn.y_labels}
    return element(
        "svg",
        *_grid(drawn),
        *(_band(drawn.x, band) for band in drawn.bands),
        *(_level(drawn.y, level) for level in drawn.levels),
        *(_vertical_mark(drawn, mark) for mark in drawn.vertical_marks),
        *(_horizontal_mark(drawn, mark) for mark in drawn.horizontal_marks),
        _curves(drawn),
        *(_dot(drawn, *dot) for dot in drawn.dots),
        *(_cross(drawn, at) for at in drawn.crosses),
        _crosshair(),
        *_hits(drawn),
        class_=" ".join(["plot", *(name for name, on in bare.items() if on)]),
        role="img",
        aria_label=drawn.name,
        tabindex="0" if drawn.hits else None,
        height=drawn.height,
        data_group=drawn.group or None,
    )


def forest_row(row: Interval, scale: Scale, height: int = 60) -> Markup:
    """One interval with its estimate and margin; the axis is drawn by `forest_axis`."""
    return element(
        "svg",
        *(_vertical(scale.percent(at), class_="grid") for at, _ in scale.ticks),
        _allowed_zone(row, scale),
        _vertical(scale.percent(row.neutral), class_="neutral"),
        _vertical(scale.percent(row.margin), class_="margin", y1="12%", y2="88%"),
        *_whiskers(row, scale),
        *_estimate(row, scale),
        _crosshair(),
        *_hits_row(row, scale),
        class_=f"plot forest {row.style}",
        role="img",
        aria_label=row.name,
        tabindex="0",
        height=height,
    )


def forest_axis(scale: Scale, height: int = 26) -> Markup:
    """The labelled axis under the rows of a forest plot."""
    return element(
        "svg",
        *(_x_label(scale, at, label, y=16) for at, label in scale.ticks),
        class_="plot forest axis",
        aria_hidden="true",
        height=height,
    )


def _grid(drawn: Chart) -> list[Markup]:
    shapes = []
    for value, label in drawn.y.ticks:
        y = f"{100 - drawn.y.percent(value)}%"
        shapes.append(element("line", class_="grid", x1="0", x2="100%", y1=y, y2=y))
        if drawn.y_labels:
            shapes.append(
                element("text", label, class_="tick", x="0", y=y, dx="-10", dy="0.32em", text_anchor="end")
            )
    shapes.append(element("line", class_="axis-line", x1="0", x2="100%", y1="100%", y2="100%"))
    if drawn.x_labels:
        shapes += [_x_label(drawn.x, value, label, y=None) for value, label in drawn.x.ticks]
    return shapes


def _x_label(scale: Scale, value: float, label: str, y: int | None) -> Markup:
    place = scale.percent(value)
    anchor = "start" if place < 4 else "end" if place > 96 else "middle"
    where = {"y": "100%", "dy": "22"} if y is None else {"y": str(y), "dy": None}
    return element("text", label, class_="tick", x=f"{place}%", text_anchor=anchor, **where)


def _curves(drawn: Chart) -> Markup:
    """All curves in one picture that is stretched to the chart's size."""
    paths = []
    for curve in drawn.curves:
        for run in _unbroken(curve.points):
            places = [(_STRETCH * drawn.x.percent(x), _STRETCH * (100 - drawn.y.percent(y))) for x, y in run]
            line = _path(places)
            if curve.filled:
                area = f"{line}V{_STRETCH * 100}H{places[0][0]:g}Z"
                paths.append(element("path", class_=f"area {curve.style}", d=area))
            paths.append(element("path", class_=f"curve {curve.style}", d=line))
    side = 100 * _STRETCH
    return element(
        "svg",
        *paths,
        width="100%",
        height="100%",
        viewBox=f"0 0 {side} {side}",
        preserveAspectRatio="none",
        class_="curves",
        aria_hidden="true",
    )


def _unbroken(points: Iterable[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None or not math.isfinite(y):
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _path(places: Sequence[tuple[float, float]]) -> str:
    (x, y), *others = places
    if not others:
        return f"M{x:g} {y:g}h.01"
    return f"M{x:g} {y:g}L" + " ".join(f"{x:g} {y:g}" for x, y in others)


def _band(scale: Scale, band: tuple[str, float, float]) -> Markup:
    style, low, high = band
    left, right = scale.percent(low), scale.percent(high)
    return element(
        "rect", class_=f"band {style}", x=f"{left}%", width=f"{round(right - left, 2)}%", y="0", height="100%"
    )


def _level(scale: Scale, level: tuple[str, float, float]) -> Markup:
    style, low, high = level
    bottom, top = scale.percent(low), scale.percent(high)
    place = {"y": f"{round(100 - top, 2)}%", "height": f"{round(top - bottom, 2)}%"}
    return element("rect", class_=f"band {style}", x="0", width="100%", **place)


def _vertical(place: float, **attributes: object) -> Markup:
    ends = {"y1": "0", "y2": "100%", **attributes}
    return element("line", x1=f"{place}%", x2=f"{place}%", **ends)


def _vertical_mark(drawn: Chart, mark: Mark) -> Markup:
    place = drawn.x.percent(mark.at)
    left = mark.before or place > 92
    label = element(
        "text",
        mark.label,
        class_=f"mark-label {mark.style}",
        x=f"{place}%",
        y="0",
        dx="-5" if left else "5",
        dy=11 + 15 * mark.row,
        text_anchor="end" if left else "start",
    )
    return _vertical(place, class_=f"mark {mark.style}") + label


def _horizontal_mark(drawn: Chart, mark: Mark) -> Markup:
    y = f"{100 - drawn.y.percent(mark.at)}%"
    line = element("line", class_=f"mark {mark.style}", x1="0", x2="100%", y1=y, y2=y)
    if not mark.label:
        return line
    return line + element("text", mark.label, class_=f"mark-label {mark.style}", x="0", y=y, dx="6", dy="-5")


def _dot(drawn: Chart, style: str, x: float, y: float) -> Markup:
    place = {"cx": f"{drawn.x.percent(x)}%", "cy": f"{round(100 - drawn.y.percent(y), 2)}%"}
    return element("circle", class_=f"dot {style}", r="3", **place)


def _cross(drawn: Chart, at: float) -> Markup:
    place = {"x": f"{drawn.x.percent(at)}%", "y": "100%", "dy": "9"}
    return element("text", "\N{MULTIPLICATION SIGN}", class_="cross", text_anchor="middle", **place)


def _crosshair() -> Markup:
    return element("line", class_="crosshair", x1="0", x2="0", y1="0", y2="100%")


def _hits(drawn: Chart) -> list[Markup]:
    """Strips that reach half-way to their neighbours, so that the whole chart answers."""
    places = [drawn.x.percent(hit.at) for hit in drawn.hits]
    edges = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(places)), 100.0]
    return [
        element(
            "rect",
            class_="hit",
            x=f"{round(left, 2)}%",
            width=f"{round(max(right - left, 0), 2)}%",
            y="0",
            height="100%",
            data_at=place,
            data_tip=hit.tip,
        )
        for hit, place, left, right in zip(drawn.hits, places, edges, edges[1:], strict=False)
    ]


def _allowed_zone(row: Interval, scale: Scale) -> Markup:
    margin = scale.percent(row.margin)
    left, width = (margin, 100 - margin) if row.higher_is_better else (0.0, margin)
    return element("rect", class_="allowed", x=f"{left}%", width=f"{round(width, 2)}%", y="12%", height="76%")


def _whiskers(row: Interval, scale: Scale) -> list[Markup]:
    if row.lower is None or row.upper is None:
        return []
    left, right = scale.percent(row.lower), scale.percent(row.upper)
    shapes = [element("line", class_="whisker", x1=f"{left}%", x2=f"{right}%", y1="50%", y2="50%")]
    for value, place, arrow in ((row.lower, left, "◂"), (row.upper, right, "▸")):
        if scale.contains(value):
            shapes.append(_vertical(place, class_="whisker", y1="36%", y2="64%"))
        else:
            anchor = "start" if arrow == "◂" else "end"
            shapes.append(
                element(
                    "text", arrow, class_="beyond", x=f"{place}%", y="50%", dy="0.36em", text_anchor=anchor
                )
            )
    return shapes


def _estimate(row: Interval, scale: Scale) -> list[Markup]:
    """The estimate, in a shape of its own for each outcome."""
    if row.estimate is None or not scale.contains(row.estimate):
        return []
    place = f"{scale.percent(row.estimate)}%"
    if row.style == "fail":
        # A nested picture carries the percentage; its own shape is in pixels.
        diamond = element("path", d="M0 -8L8 0L0 8L-8 0Z", class_="estimate")
        return [element("svg", diamond, x=place, y="50%", overflow="visible", width="1", height="1")]
    return [element("circle", class_="estimate", cx=place, cy="50%", r="6")]


def _hits_row(row: Interval, scale: Scale) -> list[Markup]:
    at = row.estimate if row.estimate is not None else row.neutral
    return [
        element(
            "rect",
            class_="hit",
            x="0",
            width="100%",
            y="0",
            height="100%",
            data_at=scale.percent(at),
            data_tip=row.tip,
        )
    ]
