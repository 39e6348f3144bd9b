"""How a model's runs went over time: their latencies, what is noise among them, what was promoted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from model_load_test.components.report.arms import latency_seconds
from model_load_test.components.report.charts import Chart, Curve, Hit, Mark, chart
from model_load_test.components.report.figures import Figure, Panel
from model_load_test.components.report.model import HistoryPoint, RunReport
from model_load_test.components.report.scales import Scale, latency_scale
from model_load_test.components.report.wording import ABSENT, format_seconds, metric_title

METRICS: Final = ("p95", "p50")
"""Panels, from top to bottom."""

LEAST_RUNS: Final = 5
"""Passing runs from which their own spread is known well enough to be drawn."""

_TABLE_METRICS: Final = ("p50", "p95", "p99")
_MILLISECONDS: Final = 1e-3
_BOUND: Final = 0.95
_MOST_TICKS: Final = 5
_ALONE: Final = ""
"""Verdict of a point that was written before points told theirs; only passing runs were."""


class _Run(msgspec.Struct, frozen=True):
    """One place on the horizontal axis."""

    label: str
    date: str
    seconds: dict[str, float]
    passing: bool
    this: bool = False
    promoted: str = ""


def history_figure(report: RunReport) -> Figure | None:
    """Earlier runs with the same baseline key and this one at the end; None without earlier ones."""
    this = {
        name: seconds
        for name in _TABLE_METRICS
        if (seconds := latency_seconds(report.arms.get("candidate"), name)) is not None
    }
    runs = [_earlier(point) for point in report.history]
    if not any("p95" in run.seconds for run in runs):
        return None
    if "p95" in this:
        runs.append(_Run("This run", "this run", this, passing=False, this=True))
    return _figure(runs, report.verdict.noise_floor)


def trend_figure(points: Sequence[HistoryPoint]) -> Figure | None:
    """The runs of a key over time, oldest first; None when none of them tells its p95."""
    runs = [_earlier(point) for point in points]
    return _figure(runs, {}) if any("p95" in run.seconds for run in runs) else None


def noise_band(seconds: Sequence[float], floor: float | None) -> tuple[float, float] | None:
    """Where one more run of a model no faster and no slower falls nine times in ten.

    Of five runs on it is the prediction interval of their logarithms (Hahn and Meeker, Statistical
    Intervals, section 4.8), as the gate uses it. Of fewer runs the spread is not known: then it is
    twice the calibrated noise floor around their middle, where there is one.

    Args:
        seconds: What passing runs measured, above 0.
        floor: Standard deviation of ln(ratio) between identical servers.
    """
    logs = [math.log(value) for value in seconds if value > 0]
    if len(logs) >= LEAST_RUNS:
        from scipy.special import stdtrit

        centre = math.fsum(logs) / len(logs)
        variance = math.fsum((value - centre) ** 2 for value in logs) / (len(logs) - 1)
        half = float(stdtrit(len(logs) - 1, _BOUND)) * math.sqrt(variance * (1 + 1 / len(logs)))
    elif logs and floor:
        centre, half = sorted(logs)[len(logs) // 2], 2 * floor
    else:
        return None
    return math.exp(centre - half), math.exp(centre + half)


def _earlier(point: HistoryPoint) -> _Run:
    seconds = {
        name: point.metrics[f"candidate_{name}_ms"] * _MILLISECONDS
        for name in _TABLE_METRICS
        if point.metrics.get(f"candidate_{name}_ms", 0.0) > 0
    }
    return _Run(
        label=f"{point.created_at:%d %b %Y, %H:%M} {point.model_version}".strip(),
        date=f"{point.created_at:%d %b}",
        seconds=seconds,
        passing=point.verdict in (_ALONE, "PASS", "NO_BASELINE"),
        promoted="reference" if point.reference else "promoted" if point.promoted_at else "",
    )


def _figure(runs: Sequence[_Run], floors: Mapping[str, float]) -> Figure:
    shown = [name for name in METRICS if any(name in run.seconds for run in runs)]
    panels = tuple(_panel(name, runs, floors.get(name), last=name == shown[-1]) for name in shown)
    rows = tuple(
        (
            run.label,
            *(format_seconds(run.seconds.get(name)) for name in _TABLE_METRICS),
            "" if run.this else "pass" if run.passing else "no pass",
            run.promoted or ABSENT,
        )
        for run in runs
    )
    return Figure(panels, ("Run", *map(metric_title, _TABLE_METRICS), "Verdict", "Promoted"), rows)


def _panel(name: str, runs: Sequence[_Run], floor: float | None, *, last: bool) -> Panel:
    title = metric_title(name)
    drawn = [(index, run, run.seconds[name]) for index, run in enumerate(runs) if name in run.seconds]
    passing = [seconds for _, run, seconds in drawn if run.passing]
    band = noise_band(passing, floor)
    values = [seconds for _, _, seconds in drawn]
    picture = chart(
        Chart(
            name=f"{title} of {len(drawn)} runs, from {format_seconds(min(values))} to "
            f"{format_seconds(max(values))}. {_band_in_words(band)}",
            x=Scale(-0.5, len(runs) - 0.5, _ticks(runs)),
            y=latency_scale([*values, *(band or ())]),
            height=160,
            curves=(
                Curve("baseline", tuple((index, run.seconds.get(name)) for index, run in enumerate(runs))),
            ),
            dots=tuple((_style(run), index, seconds) for index, run, seconds in drawn),
            hits=tuple(Hit(index, _tip(run, title, seconds)) for index, run, seconds in drawn),
            vertical_marks=tuple(
                Mark(
                    index,
                    run.promoted if run.promoted == "reference" else "",
                    "promotion",
                    before=index > len(runs) / 2,
                )
                for index, run in enumerate(runs)
                if run.promoted
            ),
            levels=(("noise", *band),) if band else (),
            x_labels=last,
            group="trend",
        )
    )
    return Panel(f"{title} latency", picture, _caption(band, len(passing)))


def _caption(band: tuple[float, float] | None, runs: int) -> str:
    if band is None:
        return ""
    if runs >= LEAST_RUNS:
        return f"Tinted: where one more run like the {runs} passing ones falls nine times in ten."
    return "Tinted: twice the calibrated noise floor."


def _band_in_words(band: tuple[float, float] | None) -> str:
    return f"Noise from {format_seconds(band[0])} to {format_seconds(band[1])}." if band else ""


def _style(run: _Run) -> str:
    if run.this:
        return "candidate"
    return "baseline" if run.passing else "failed"


def _tip(run: _Run, title: str, seconds: float) -> str:
    lines = [run.label, f"{title}\t{format_seconds(seconds)}"]
    if not run.this and not run.passing:
        lines.append("Verdict\tno pass")
    if run.promoted:
        lines.append(f"Promoted\t{'the reference now' if run.promoted == 'reference' else 'earlier'}")
    return "\n".join(lines)


def _ticks(runs: Sequence[_Run]) -> tuple[tuple[float, str], ...]:
    """Dates of some of the runs, evenly apart and the last one among them."""
    step = max(1, math.ceil(len(runs) / _MOST_TICKS))
    return tuple((float(index), runs[index].date) for index in range((len(runs) - 1) % step, len(runs), step))
