"""The run in a few lines of Markdown, for the KFP UI."""

from __future__ import annotations

import html
import re

from model_load_test.components.load.bottleneck import bottleneck_line
from model_load_test.components.report.arms import error_share, latency_seconds
from model_load_test.components.report.model import RunReport
from model_load_test.components.report.resources import cpu_sentence
from model_load_test.components.report.wording import (
    OUTCOMES,
    format_count,
    format_difference,
    format_level,
    format_margin,
    format_rate,
    format_seconds,
    format_share,
    interval,
    metric_title,
)

# Characters that start a construct inside a line of Markdown.
_SPECIAL = re.compile(r"([\\`*_\[\]|#~!])")


def render_summary(report: RunReport) -> str:
    """The verdict, why, and the numbers behind it, as Markdown."""
    parts = [
        _headline(report),
        _reasons(report),
        _embedded_note(report),
        _comparison(report),
        _requests(report),
        _plain(bottleneck_line(report.bottlenecks)),
        _plain(cpu_sentence(report)),
        _objectives(report),
        _history(report),
        _checks(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _headline(report: RunReport) -> str:
    words = OUTCOMES[report.verdict.verdict]
    return f"# {words.symbol} {words.word.upper()}\n\n**{words.meaning}**"


def _reasons(report: RunReport) -> str:
    return "\n".join(f"- {_plain(reason)}" for reason in report.verdict.reasons)


def _embedded_note(report: RunReport) -> str:
    if report.server_kind != "embedded":
        return ""
    return "> Embedded server: only the comparison means anything, not the latencies themselves."


def _comparison(report: RunReport) -> str:
    rows = [
        [
            metric_title(name),
            format_level(name, metric.candidate),
            format_level(name, metric.baseline),
            format_difference(name, metric.ratio),
            interval(name, metric),
            format_margin(name, metric.margin),
            metric.verdict,
        ]
        for name, metric in report.verdict.metrics.items()
    ]
    return _table(["Metric", "Candidate", "Baseline", "Difference", "Interval", "Allowed", "Verdict"], rows)


def _requests(report: RunReport) -> str:
    rows = [
        [
            arm.capitalize(),
            format_count(summary.requests),
            format_share(error_share(summary)),
            format_rate(summary.achieved_rps),
            *(format_seconds(latency_seconds(summary, name)) for name in ("p50", "p95", "p99")),
        ]
        for arm, summary in report.arms.items()
    ]
    return _table(["Arm", "Requests", "Failed", "Achieved", "p50", "p95", "p99"], rows)


def _objectives(report: RunReport) -> str:
    rows = [[_plain(o.objective), o.verdict, _plain(o.note)] for o in report.verdict.objectives]
    return _table(["Objective", "Verdict", "Note"], rows)


def _history(report: RunReport) -> str:
    lines = [f"- {_plain(report.history_note)}"] if report.history_note else []
    lines += [f"- measured otherwise: {_plain(what)}" for what in report.history_differences]
    return "\n".join(["### Earlier runs", "", *lines]) if lines else ""


def _checks(report: RunReport) -> str:
    lines = [f"- **{check.consequence}** {_plain(check.detail)}" for check in report.verdict.checks]
    return "\n".join(["### Validity checks", "", *lines]) if lines else ""


def _table(titles: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    lines = [titles, ["---", *(["---:"] * (len(titles) - 1))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands, on one line; HTML in it stays text in every renderer."""
    return html.escape(_SPECIAL.sub(r"\\\1", " ".join(text.split())), quote=False)
