"""The run as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jinja2
import msgspec
from markupsafe import Markup

from model_load_test.components.errors import InputError
from model_load_test.components.load.bottleneck import bottleneck_line
from model_load_test.components.report.arms import error_share, latency_seconds
from model_load_test.components.report.figures import (
    distribution_figure,
    forest_figures,
    tail_figure,
    time_figure,
)
from model_load_test.components.report.model import HistoryPoint, RunReport
from model_load_test.components.report.resources import resource_rows, scaling_sentences
from model_load_test.components.report.trend import history_figure, trend_figure
from model_load_test.components.report.wording import (
    ABSENT,
    METRIC_TITLES,
    OUTCOMES,
    format_change,
    format_count,
    format_difference,
    format_level,
    format_margin,
    format_p,
    format_rate,
    format_seconds,
    format_share,
    interval,
    metric_title,
    present,
)
from model_load_test.components.version import __version__

_HERE = Path(__file__).parent
_LATENCIES = ("mean", "p50", "p90", "p95", "p99", "p999", "max")
_MOST_ERRORS = 12
_MOST_PARTS = 12
_WEB_SCHEMES = ("", "http", "https")
_CONSEQUENCE_ORDER = {"INVALID": 0, "WARNING": 1, "INFO": 2}


class Tile(msgspec.Struct, frozen=True):
    """One of the figures at the top of the page."""

    title: str
    value: str
    detail: str = ""


class FactRow(msgspec.Struct, frozen=True):
    """One line of a table of facts."""

    name: str
    values: tuple[str, ...]
    differs: bool = False
    """Whether the arms do not agree."""
    code: bool = False
    """Whether the name is a machine's own text."""


def render_page(report: RunReport) -> str:
    """The report as one self-contained HTML document; no part of it asks the network for anything."""
    page = _environment().get_template("report.html.jinja")
    return page.render(
        report=report,
        verdict=report.verdict,
        outcome=OUTCOMES[report.verdict.verdict],
        style=report.verdict.verdict.lower().replace("_", "-"),
        title=_title(report),
        subtitle=_subtitle(report),
        tiles=_tiles(report),
        forests=forest_figures(report.verdict),
        metric_rows=_metric_rows(report),
        time_figure=time_figure(report),
        shape_figures=[
            figure for figure in (distribution_figure(report), tail_figure(report)) if figure is not None
        ],
        history=history_figure(report),
        arms=list(report.arms),
        request_rows=_request_rows(report),
        latency_rows=_latency_rows(report),
        bottleneck=bottleneck_line(report.bottlenecks),
        resource_rows=[FactRow(name, values) for name, values in resource_rows(report)],
        scaling=scaling_sentences(report.scaling),
        failures=_failures(report),
        checks=sorted(report.verdict.checks, key=lambda check: _CONSEQUENCE_ORDER[check.consequence]),
        fingerprint_arms=list(report.fingerprints),
        fingerprint_rows=_fingerprint_rows(report),
        load_facts=_facts(report.load_spec),
        payload_facts=_facts(report.payload),
        links=[(name, target, _is_web_address(target)) for name, target in report.links.items()],
        wanted=_wanted(report),
        data=_data(report),
        absent=ABSENT,
        text=_asset,
    )


def render_trend(title: str, subtitle: str, points: Sequence[HistoryPoint]) -> str:
    """The runs of a key over time as one self-contained HTML document.

    Args:
        title: Heading of the page.
        subtitle: One sentence under it.
        points: The runs, oldest first.

    Raises:
        InputError: None of the runs tells its p95.
    """
    trend = trend_figure(points)
    if trend is None:
        raise InputError("runs", len(points), "there must be a run that holds candidate_p95_ms")
    page = _environment().get_template("trend.html.jinja")
    return page.render(title=title, subtitle=subtitle, trend=trend, version=__version__, text=_asset)


def page_template(name: str) -> jinja2.Template:
    """A page's template, in which `text` puts in a style sheet or script of ours."""
    return _environment().get_template(name, globals={"text": _asset})


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(count=format_count, moment=_moment, unbroken=_unbroken)
    return environment


def _asset(name: str) -> Markup:
    """A style sheet or script of ours, put into the page as it stands."""
    return Markup((_HERE / name).read_text(encoding="utf-8"))


def _data(report: RunReport) -> Markup:
    """`report.json` for a script element: no `<` is left that could end it."""
    text = msgspec.json.encode(report).decode()
    return Markup(text.replace("<", "\\u003c"))


def _title(report: RunReport) -> str:
    candidate = report.models.get("candidate")
    word = OUTCOMES[report.verdict.verdict].word
    return f"{word} \N{MIDDLE DOT} {candidate.name if candidate else 'load test'}"


def _subtitle(report: RunReport) -> str:
    names = [
        f"{model.name} {model.version}".strip()
        for arm in ("candidate", "baseline")
        if (model := report.models.get(arm))
    ]
    return " against ".join(names)


def _moment(moment: datetime) -> str:
    return f"{moment:%d %b %Y, %H:%M} {moment:%Z}".strip()


def _unbroken(sentence: str) -> str:
    """A sentence whose percent signs stay with their numbers."""
    return sentence.replace(" %", "\N{NO-BREAK SPACE}%")


def _tiles(report: RunReport) -> list[Tile]:
    tiles = []
    for name in ("p50", "p95", "p99"):
        metric = report.verdict.metrics.get(name)
        level = latency_seconds(report.arms.get("candidate"), name)
        if metric is not None and present(metric.ratio) and report.verdict.verdict != "INVALID":
            against = f"{format_level(name, metric.candidate)} against {format_level(name, metric.baseline)}"
            tiles.append(Tile(f"{metric_title(name)} latency", format_change(metric.ratio), against))
        elif level is not None:
            tiles.append(Tile(f"{metric_title(name)} latency", format_seconds(level), "candidate"))
    candidate = report.arms.get("candidate")
    if candidate is not None:
        counted = f"{format_count(candidate.failed)} of {format_count(candidate.requests)}"
        tiles.append(Tile("Failed requests", format_share(error_share(candidate)), counted))
        offered = report.load_spec.get("rate_rps")
        tiles.append(
            Tile(
                "Achieved rate",
                format_rate(candidate.achieved_rps),
                f"of {format_count(offered)} offered per arm" if offered else "per arm",
            )
        )
    return tiles


def _wanted(report: RunReport) -> str:
    verdict = report.verdict
    if verdict.verdict != "INCONCLUSIVE" or not verdict.pairs_wanted:
        return ""
    requests = (
        f", about {format_count(verdict.requests_wanted)} more requests per arm"
        if verdict.requests_wanted
        else ""
    )
    return f"{format_count(verdict.pairs_wanted)} more pairs of blocks{requests}"


def _metric_rows(report: RunReport) -> list[tuple[str, ...]]:
    effects = report.verdict.detectable_effect
    return [
        (
            metric_title(name),
            format_difference(name, metric.ratio),
            interval(name, metric),
            format_margin(name, metric.margin),
            format_p(metric.p_holm),
            format_count(metric.n),
            format_margin(name, effects[name]) if name in effects else ABSENT,
        )
        for name, metric in report.verdict.metrics.items()
    ]


def _request_rows(report: RunReport) -> list[FactRow]:
    arms = list(report.arms.values())
    offered = report.load_spec.get("rate_rps")
    failed = [f"{format_count(arm.failed)} ({format_share(error_share(arm))})" for arm in arms]
    return [
        FactRow("Sent", tuple(format_count(arm.requests) for arm in arms)),
        FactRow("Succeeded", tuple(format_count(arm.ok) for arm in arms)),
        FactRow("Failed", tuple(failed)),
        *([FactRow("Offered rate", (format_rate(offered),) * len(arms))] if offered else []),
        FactRow("Achieved rate", tuple(format_rate(arm.achieved_rps) for arm in arms)),
    ]


def _latency_rows(report: RunReport) -> list[FactRow]:
    arms = list(report.arms.values())
    return [
        FactRow(METRIC_TITLES[name], tuple(format_seconds(latency_seconds(arm, name)) for arm in arms))
        for name in _LATENCIES
        if any(latency_seconds(arm, name) is not None for arm in arms)
    ]


def _failures(report: RunReport) -> list[FactRow]:
    """Each error text with its count per arm, the most frequent first."""
    arms = list(report.arms.values())
    totals: dict[str, int] = {}
    for arm in arms:
        for error, count in arm.errors.items():
            totals[error] = totals.get(error, 0) + (count or 0)
    frequent = sorted(totals, key=lambda error: -totals[error])
    rows = [
        FactRow(error, tuple(format_count(arm.errors.get(error, 0)) for arm in arms), code=True)
        for error in frequent[:_MOST_ERRORS]
    ]
    rest = frequent[_MOST_ERRORS:]
    if rest:
        others = tuple(format_count(sum(arm.errors.get(error) or 0 for error in rest)) for arm in arms)
        rows.append(FactRow(f"{format_count(len(rest))} other texts", others))
    return rows


def _fingerprint_rows(report: RunReport) -> list[FactRow]:
    columns = list(report.fingerprints.values())
    names = list(dict.fromkeys(name for facts in columns for name in facts))
    rows = []
    for name in names:
        values = tuple(facts.get(name, ABSENT) for facts in columns)
        rows.append(FactRow(name.replace("_", " "), values, len(set(values)) > 1))
    return rows


def _facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), _fact(value)) for name, value in values.items() if value not in ("", None)
    ]


def _fact(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        shown = [_fact(part) for part in value]
        if len(shown) > _MOST_PARTS:
            shown = [*shown[: _MOST_PARTS // 2], "...", shown[-1] + f" ({len(shown)} in all)"]
        return ", ".join(shown)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_fact(part)}" for name, part in value.items())
    return str(value)


def _is_web_address(target: str) -> bool:
    """Whether a link may be followed: a page of the web or a file beside this one, never a script."""
    try:
        return urlsplit(target).scheme.lower() in _WEB_SCHEMES and not target.lstrip().startswith("//")
    except ValueError:
        return False
