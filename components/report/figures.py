"""Which charts a report shows: from the report's values to charts with their captions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec
from markupsafe import Markup

from model_load_test.components.gate.verdict import MetricVerdict, Verdict
from model_load_test.components.report.arms import ARMS, latency_seconds
from model_load_test.components.report.charts import (
    Chart,
    Curve,
    Hit,
    Interval,
    Mark,
    chart,
    forest_axis,
    forest_row,
)
from model_load_test.components.report.model import RunReport
from model_load_test.components.report.resources import scaling_text
from model_load_test.components.report.scales import (
    Scale,
    difference_scale,
    latency_scale,
    ratio_scale,
    tail_scale,
    tail_value,
    time_scale,
)
from model_load_test.components.report.traces import SeriesPoint
from model_load_test.components.report.wording import (
    allowed_end,
    format_change,
    format_count,
    format_difference,
    format_level,
    format_margin,
    format_p,
    format_seconds,
    format_share,
    interval,
    metric_title,
    present,
)
from model_load_test.components.results.percentile import enough_rows

Stretch: TypeAlias = tuple[float, dict[str, SeriesPoint]]
"""A stretch of time: its middle in seconds since the run began, and each arm's point."""


class Panel(msgspec.Struct, frozen=True):
    """One chart and the words over it."""

    title: str
    picture: Markup
    caption: str = ""


class Figure(msgspec.Struct, frozen=True):
    """Charts that belong together, with the same values as a table."""

    panels: tuple[Panel, ...]
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


class ForestRow(msgspec.Struct, frozen=True):
    """One metric of a forest plot: its words and its picture."""

    name: str
    style: str
    verdict: str
    candidate: str
    baseline: str
    difference: str
    interval: str
    margin: str
    picture: Markup
    note: str = ""


class Forest(msgspec.Struct, frozen=True):
    """Metrics that share an axis."""

    rows: tuple[ForestRow, ...]
    axis: Markup
    axis_title: str


def forest_figures(verdict: Verdict) -> list[Forest]:
    """The metrics' intervals against their margins: ratios on one axis, failure shares on another."""
    if verdict.verdict == "INVALID" or not any(present(m.ratio) for m in verdict.metrics.values()):
        return []
    ratios = {name: metric for name, metric in verdict.metrics.items() if name != "errors"}
    errors = {name: metric for name, metric in verdict.metrics.items() if name == "errors"}
    forests = []
    if ratios:
        ends = [allowed_end(name, metric.margin) for name, metric in ratios.items()]
        scale = ratio_scale([*ends, *_finite(ratios.values())])
        forests.append(_forest(verdict, ratios, scale, "Change, and what is allowed"))
    if errors:
        ends = [metric.margin for metric in errors.values()]
        scale = difference_scale([*ends, *_finite(errors.values())])
        forests.append(_forest(verdict, errors, scale, "Difference in percentage points"))
    return forests


def time_figure(report: RunReport) -> Figure | None:
    """Median and p95 over time for each arm, and the ratio of p95 pair by pair."""
    points = report.series
    if not any(_level(point, "p50") for point in points):
        return None
    scale = time_scale(0.0, max(point.end_seconds for point in points))
    stretches = _stretches(points)
    pairs = _pairs(points)
    paired = len(pairs) >= 3
    panels = [
        _latency_panel(report, "p95", scale, stretches, last=False),
        _latency_panel(report, "p50", scale, stretches, last=not paired),
    ]
    if paired:
        panels.append(_ratio_panel(report, pairs, scale))
    arms = _arms(points)
    ratios = {candidate.block: format_change(ratio) for candidate, _, ratio in pairs}
    columns = ("Time", "Block", *(f"{arm.capitalize()} {name}" for name in ("p50", "p95") for arm in arms))
    rows = tuple(
        (
            format_seconds(at),
            _block_name(some),
            *(format_seconds(_level(some.get(arm), name)) for name in ("p50", "p95") for arm in arms),
            *([ratios.get(next(iter(some.values())).block, "")] if paired else []),
            format_count(sum(point.failed for point in some.values())),
        )
        for at, some in stretches
    )
    return Figure(tuple(panels), (*columns, *(["p95 change"] if paired else []), "Failed"), rows)


def distribution_figure(report: RunReport) -> Figure | None:
    """How often each latency occurred, on a log axis, with the percentiles marked."""
    histogram = report.histogram
    if histogram is None:
        return None
    edges = histogram.edges_seconds
    arms = [arm for arm in ARMS if arm in histogram.shares]
    highest = max(max(histogram.shares[arm]) for arm in arms)
    x = Scale(edges[0], edges[-1], latency_scale((edges[0] * 1.1, edges[-1] / 1.1)).ticks, True)
    middles = [(a * b) ** 0.5 for a, b in itertools.pairwise(edges)]
    curves = [
        Curve(arm, tuple(zip(middles, _smoothed(_smoothed(histogram.shares[arm])), strict=True)), filled=True)
        for arm in reversed(arms)
    ]
    hits = [
        Hit(
            middle,
            "\n".join(
                [
                    f"{format_seconds(low)} to {format_seconds(high)}",
                    *(f"{arm.capitalize()}\t{format_share(histogram.shares[arm][index])}" for arm in arms),
                ]
            ),
        )
        for index, (middle, low, high) in enumerate(zip(middles, edges, edges[1:], strict=False))
    ]
    marks = _percentile_marks(report, arms)
    picture = chart(
        Chart(
            name="Latency distribution on a log axis. " + _levels(report),
            x=x,
            y=Scale(0, highest * 1.3),
            height=260,
            curves=tuple(curves),
            hits=tuple(hits),
            vertical_marks=tuple(mark for mark in marks if x.contains(mark.at)),
            y_labels=False,
        )
    )
    return Figure((Panel("How latencies are spread", picture, "Share of requests; log axis."),))


def tail_figure(report: RunReport) -> Figure | None:
    """Latency by percentile, the tail stretched so that p99 and p99.9 can be read."""
    quantiles = report.quantiles
    if quantiles is None:
        return None
    arms = [arm for arm in ARMS if arm in quantiles.seconds]
    fewest = min((summary.ok or 0 for summary in report.arms.values()), default=0)
    shares = [share for share in quantiles.shares if share <= 0.5 or enough_rows(fewest, 100 * share)]
    x = tail_scale(shares[-1])
    y = latency_scale([value for arm in arms for value in quantiles.seconds[arm][: len(shares)]])
    curves = [
        Curve(
            arm,
            tuple((tail_value(share), s) for share, s in zip(shares, quantiles.seconds[arm], strict=False)),
        )
        for arm in reversed(arms)
    ]
    rows = [
        (_share_name(share), *(format_seconds(quantiles.seconds[arm][index]) for arm in arms))
        for index, share in enumerate(shares)
    ]
    hits = [
        Hit(tail_value(share), _tip(rows[index][0], arms, rows[index][1:]))
        for index, share in enumerate(shares)
    ]
    picture = chart(
        Chart(
            name="Latency by percentile, the tail stretched. " + _levels(report),
            x=x,
            y=y,
            height=260,
            curves=tuple(curves),
            hits=tuple(hits),
        )
    )
    columns = ("Percentile", *(arm.capitalize() for arm in arms))
    panel = Panel("Latency by percentile", picture, "The tail is stretched; log axis.")
    return Figure((panel,), columns, tuple(rows))


def _forest(verdict: Verdict, metrics: dict[str, MetricVerdict], scale: Scale, axis_title: str) -> Forest:
    counted = "runs" if verdict.judgement == "historical" else "pairs"
    return Forest(
        tuple(_forest_row(name, metric, scale, counted) for name, metric in metrics.items()),
        forest_axis(scale),
        axis_title,
    )


def _forest_row(name: str, metric: MetricVerdict, scale: Scale, counted: str) -> ForestRow:
    title = metric_title(name)
    difference, span = format_difference(name, metric.ratio), interval(name, metric)
    margin = format_margin(name, metric.margin)
    is_errors = name == "errors"
    row = Interval(
        name=f"{title}: {difference}, interval {span}, allowed {margin}: {metric.verdict}",
        style=metric.verdict.lower(),
        margin=allowed_end(name, metric.margin),
        estimate=_shown(metric.ratio),
        lower=_shown(metric.lower),
        upper=_shown(metric.upper),
        neutral=0.0 if is_errors else 1.0,
        higher_is_better=name == "goodput",
        tip="\n".join(
            [
                title,
                f"Estimate\t{difference}",
                f"Interval\t{span}",
                f"Allowed\t{margin}",
                f"Measured\t{format_count(metric.n)} {counted}",
                *([f"Holm p\t{format_p(metric.p_holm)}"] if metric.p_holm is not None else []),
            ]
        ),
    )
    return ForestRow(
        name=title,
        style=metric.verdict.lower(),
        verdict=metric.verdict,
        candidate=format_level(name, metric.candidate),
        baseline=format_level(name, metric.baseline),
        difference=difference,
        interval=span,
        margin=margin,
        picture=forest_row(row, scale),
        note=metric.note,
    )


def _percentile_marks(report: RunReport, arms: Sequence[str]) -> list[Mark]:
    """Percentiles of each arm, their labels turned away from the other arm's."""
    marks = []
    for name in ("p50", "p95", "p99"):
        levels = [level for arm in arms if (level := latency_seconds(report.arms.get(arm), name)) is not None]
        for row, arm in enumerate(arms):
            level = latency_seconds(report.arms.get(arm), name)
            if level is not None:
                marks.append(Mark(level, name, arm, row, before=level < max(levels)))
    return marks


def _latency_panel(
    report: RunReport, name: str, scale: Scale, stretches: Sequence[Stretch], *, last: bool
) -> Panel:
    points, arms = report.series, _arms(report.series)
    values = [value for point in points if (value := _level(point, name)) is not None]
    title = metric_title(name)
    hits = [
        Hit(
            at,
            _tip(_block_name(some) or "At", arms, [format_seconds(_level(some.get(a), name)) for a in arms])
            + f"\nTime\t{format_seconds(at)}"
            + _failed_line(some.values()),
        )
        for at, some in stretches
    ]
    picture = chart(
        Chart(
            name=f"{title} latency over time. " + _ranges(points, arms, name),
            x=scale,
            y=latency_scale(values),
            height=160,
            curves=tuple(
                Curve(arm, tuple((_middle(p), _level(p, name)) for p in points if p.arm == arm))
                for arm in reversed(arms)
            ),
            hits=tuple(hits),
            vertical_marks=(*_looks(report), *_scalings(report, scale)),
            bands=_warmup(points),
            crosses=tuple(at for at, some in stretches if any(point.failed for point in some.values())),
            x_labels=last,
            group="time",
        )
    )
    return Panel(f"{title} latency", picture)


def _ratio_panel(
    report: RunReport, pairs: Sequence[tuple[SeriesPoint, SeriesPoint, float]], scale: Scale
) -> Panel:
    metric = report.verdict.metrics.get("p95")
    margin = allowed_end("p95", metric.margin) if metric else None
    ratios = [ratio for _, _, ratio in pairs]
    marks = [Mark(1.0, "", "neutral")]
    if metric and margin:
        marks.append(Mark(margin, f"allowed {format_margin('p95', metric.margin)}", "limit"))
    drawn = [((_middle(candidate) + _middle(baseline)) / 2, ratio) for candidate, baseline, ratio in pairs]
    picture = chart(
        Chart(
            name=f"p95 of candidate over baseline, pair by pair: from {format_change(min(ratios))} "
            f"to {format_change(max(ratios))}, {sum(r > 1 for r in ratios)} of {len(ratios)} above equal",
            x=scale,
            y=ratio_scale([*ratios, *([margin] if margin else [])]),
            height=160,
            dots=tuple(("pair above" if margin and y > margin else "pair", x, y) for x, y in drawn),
            hits=tuple(
                Hit(x, f"{_block_name({'': candidate})}\np95 change\t{format_change(ratio)}")
                for (x, ratio), (candidate, _, _) in zip(drawn, pairs, strict=True)
            ),
            vertical_marks=_looks(report),
            horizontal_marks=tuple(marks),
            bands=_warmup(report.series),
            group="time",
        )
    )
    return Panel("p95, candidate against baseline", picture, _pairs_caption(pairs[0][0].blocks))


def _pairs_caption(blocks: int) -> str:
    return "Each point is one pair of blocks." if blocks == 1 else f"Each point is {blocks} pairs of blocks."


def _arms(points: Iterable[SeriesPoint]) -> list[str]:
    present_arms = {point.arm for point in points}
    return [arm for arm in ARMS if arm in present_arms]


def _pairs(points: Iterable[SeriesPoint]) -> list[tuple[SeriesPoint, SeriesPoint, float]]:
    arms: dict[str, dict[int, SeriesPoint]] = {"candidate": {}, "baseline": {}}
    for point in points:
        if point.block is not None and point.p95_seconds:
            arms[point.arm][point.block] = point
    return [
        (candidate, arms["baseline"][block], candidate.p95_seconds / baseline_p95)
        for block, candidate in sorted(arms["candidate"].items())
        if block in arms["baseline"]
        and candidate.p95_seconds
        and (baseline_p95 := arms["baseline"][block].p95_seconds)
    ]


def _stretches(points: Iterable[SeriesPoint]) -> list[Stretch]:
    """Points that belong together (the arms of one block) with the time of their middle."""
    together: dict[tuple[bool, object], dict[str, SeriesPoint]] = {}
    counted: dict[tuple[str, bool], int] = {}
    for point in points:
        index = counted.get((point.arm, point.warmup), 0)
        counted[point.arm, point.warmup] = index + 1
        key = (point.warmup, index if point.block is None else ("block", point.block))
        together.setdefault(key, {})[point.arm] = point
    middles = [
        (sum(_middle(point) for point in some.values()) / len(some), some) for some in together.values()
    ]
    return sorted(middles, key=lambda stretch: stretch[0])


def _looks(report: RunReport) -> tuple[Mark, ...]:
    """Where the gate looked at the pairs measured so far."""
    blocks = [(point.block, point) for point in report.series if point.block is not None]
    measured = max((block + point.blocks for block, point in blocks), default=0)
    marks = []
    for look in report.load_spec.get("looks", ()):
        ends = [point.end_seconds for block, point in blocks if block < look]
        if ends and look <= measured:
            marks.append(Mark(max(ends), f"look at {look}", "look"))
    return tuple(marks)


def _scalings(report: RunReport, scale: Scale) -> tuple[Mark, ...]:
    """Where the number of replicas changed; neighbours' labels stand in rows of their own."""
    inside = [change for change in report.scaling if scale.contains(change.at_seconds)]
    return tuple(
        Mark(change.at_seconds, scaling_text(change), f"scaling {change.arm}", 1 + number % 3)
        for number, change in enumerate(inside)
    )


def _warmup(points: Iterable[SeriesPoint]) -> tuple[tuple[str, float, float], ...]:
    warm = [point for point in points if point.warmup]
    if not warm:
        return ()
    return (("warmup", min(point.start_seconds for point in warm), max(point.end_seconds for point in warm)),)


def _level(point: SeriesPoint | None, name: str) -> float | None:
    if point is None:
        return None
    return point.p50_seconds if name == "p50" else point.p95_seconds


def _middle(point: SeriesPoint) -> float:
    return (point.start_seconds + point.end_seconds) / 2


def _block_name(some: dict[str, SeriesPoint]) -> str:
    point = next(iter(some.values()))
    if point.warmup:
        return "Warm-up"
    if point.block is None:
        return ""
    if point.blocks == 1:
        return f"Block {point.block}"
    return f"Blocks {point.block} to {point.block + point.blocks - 1}"


def _failed_line(points: Iterable[SeriesPoint]) -> str:
    failed = sum(point.failed for point in points)
    return f"\nFailed\t{format_count(failed)}" if failed else ""


def _tip(heading: str, arms: Sequence[str], values: Sequence[str]) -> str:
    return "\n".join(
        [heading, *(f"{arm.capitalize()}\t{value}" for arm, value in zip(arms, values, strict=True))]
    )


def _ranges(points: Iterable[SeriesPoint], arms: Sequence[str], name: str) -> str:
    sentences = []
    for arm in arms:
        values = [v for p in points if p.arm == arm and not p.warmup and (v := _level(p, name)) is not None]
        if values:
            sentences.append(
                f"{arm.capitalize()} between {format_seconds(min(values))} and {format_seconds(max(values))}."
            )
    return " ".join(sentences)


def _levels(report: RunReport) -> str:
    sentences = []
    for arm, summary in report.arms.items():
        told = {name: latency_seconds(summary, name) for name in ("p50", "p95", "p99")}
        levels = ", ".join(f"{metric_title(name)} {format_seconds(s)}" for name, s in told.items() if s)
        sentences.append(f"{arm.capitalize()}: {levels}.")
    return " ".join(sentences)


def _share_name(share: float) -> str:
    return f"p{100 * share:.4g}"


def _smoothed(shares: Sequence[float]) -> list[float]:
    """A light binomial smoothing, so that neighbouring bins do not flicker."""
    padded = [shares[0], *shares, shares[-1]]
    return [(a + 2 * b + c) / 4 for a, b, c in zip(padded, padded[1:], padded[2:], strict=False)]


def _finite(metrics: Iterable[MetricVerdict]) -> list[float]:
    return [
        value
        for metric in metrics
        for value in (metric.ratio, metric.lower, metric.upper)
        if value is not None and present(value)
    ]


def _shown(value: float | None) -> float | None:
    return value if present(value) else None
