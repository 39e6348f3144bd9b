"""`model-load-test compare A B`: the difference between two runs, and whether its uncertainty is known."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from model_load_test.components.results.difference import Difference, differences
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.readers import read_report
from model_load_test.components.results.report import Report
from model_load_test.components.results.report_summary import summarize_report
from model_load_test.components.results.summary import Summary

BAD_INPUT: Final = 2
NO_UNCERTAINTY: Final = "no uncertainty known"

_NS_PER_MS: Final = 1e6


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "compare",
        help="the difference between two reports, with its uncertainty where one is known",
        description=(
            "Prints B - A for each latency of the OK requests of two reports, such as with and without "
            "an extra hop. Where both tell their requests there is a 95 %% interval of what the spread "
            "within the runs explains; two runs one after the other also differ by their time, which no "
            "interval knows. For a decision run both servers together: load_test_gate."
        ),
    )
    parser.add_argument("a", metavar="A", help="a report, plain or gzip")
    parser.add_argument("b", metavar="B", help="the report to compare with it")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(arguments: argparse.Namespace) -> int:
    """Prints the comparison and returns 0.

    Raises:
        ResultsError: A file is refused.
    """
    reports = [read_report(arguments.a), read_report(arguments.b)]
    first, second = (_only_summary(report) for report in reports)
    rows = [report.rows if report.has_rows and report.has_times else None for report in reports]
    found = list(differences(first.latency_ns, second.latency_ns, rows[0], rows[1]))
    if not found:
        raise ResultsError(
            f"{arguments.a}, {arguments.b}",
            "latencies",
            Description("no figure that both tell of their OK requests"),
            "give the requests themselves, or longer runs",
            "nothing-to-compare",
        )
    why_unknown = _why_unknown(reports, found)
    if arguments.format == "json":
        print(_as_json(first, second, found, why_unknown))
    else:
        print("\n".join(_as_table(first, second, found, why_unknown)))
    return 0


def _only_summary(report: Report) -> Summary:
    summaries = summarize_report(report)
    if len(summaries) != 1:
        raise ResultsError(
            report.files[0],
            "arm",
            Description(f"{len(summaries)} arms in one results table"),
            "judge compares its arms: model-load-test judge",
            "several-arms",
        )
    return summaries[0]


def _why_unknown(reports: list[Report], found: list[Difference]) -> str:
    if any(difference.lower is not None for difference in found):
        return ""
    summarized = [report.files[0] for report in reports if not report.has_rows]
    if summarized:
        return f"{NO_UNCERTAINTY}: {' and '.join(summarized)} held only a summary"
    return f"{NO_UNCERTAINTY}: too few requests, or their times are not told"


def _as_json(a: Summary, b: Summary, found: list[Difference], why_unknown: str) -> str:
    values: dict[str, Any] = {
        "a": a.file,
        "b": b.file,
        "latency_ns": {d.figure: _without_figure(d) for d in found},
        "failed": {"a": a.failed, "b": b.failed},
        "requests": {"a": a.requests, "b": b.requests},
        "warnings": {
            name: [msgspec.to_builtins(w) for w in side.warnings] for name, side in (("a", a), ("b", b))
        },
    }
    if why_unknown:
        values["uncertainty"] = why_unknown
    return json.dumps(values, allow_nan=False, ensure_ascii=False)


def _without_figure(difference: Difference) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(difference)
    del values["figure"]
    return values


def _as_table(a: Summary, b: Summary, found: list[Difference], why_unknown: str) -> Iterator[str]:
    for name, summary in (("A", a), ("B", b)):
        failed = "?" if summary.failed is None else f"{summary.failed:,}"
        yield f"{name}  {summary.file}  ({summary.tool}, {summary.requests:,} requests, {failed} failed)"
    yield ""
    yield f"{'latency':<8}{'A ms':>12}{'B ms':>12}{'B - A ms':>12}{'B / A':>9}  95 % interval of B - A, ms"
    for d in found:
        ratio = f"{d.ratio:9.4f}" if d.ratio is not None else f"{'':9}"
        interval = (
            f"{d.lower / _NS_PER_MS:+.3f} to {d.upper / _NS_PER_MS:+.3f}"
            if d.lower is not None and d.upper is not None
            else NO_UNCERTAINTY
        )
        numbers = f"{d.a / _NS_PER_MS:12.3f}{d.b / _NS_PER_MS:12.3f}{d.difference / _NS_PER_MS:+12.3f}"
        yield f"{d.figure:<8}{numbers}{ratio}  {interval}"
    if why_unknown:
        yield ""
        yield why_unknown
    for name, summary in (("A", a), ("B", b)):
        for warning in summary.warnings:
            yield f"! {name} {warning.code}: {warning.detail}"
