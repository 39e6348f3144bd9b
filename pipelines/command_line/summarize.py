"""`model-load-test summarize`: what a generator's report says, told the truth about."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any, Final

from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.readers import read_report
from model_load_test.components.results.report_summary import summarize_report
from model_load_test.components.results.summary import Summary, to_json_values

BAD_INPUT: Final = 2

_MOST_ERRORS_SHOWN: Final = 10
_LABEL_WIDTH: Final = 10
_HEADS_WIDTH: Final = 40


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "summarize",
        help="what a generator's report or our results table says, told the truth about",
        description=(
            "Reads reports of ghz, vegeta and Locust, streams of vegeta and results.parquet, plain or gzip, "
            "and prints one summary each. Exit code 2 if a file is refused; the others are still printed."
        ),
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a report; - is standard input")
    parser.add_argument(
        "--format",
        choices=("table", "json"),
        default="table",
        help="json: one object a line (default: table)",
    )
    parser.add_argument(
        "--merge", action="store_true", help="the files are the workers of one run: one summary of all"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the summaries and returns the exit code: 0, or 2 if a file was refused."""
    exit_code = 0
    groups = [arguments.files] if arguments.merge else [[file] for file in arguments.files]
    for number, files in enumerate(groups):
        try:
            summaries = summarize_report(read_report(files))
        except ResultsError as error:
            exit_code = BAD_INPUT
            _print_refusal(error, arguments.format)
            continue
        for summary in summaries:
            print(_as_json(summary) if arguments.format == "json" else _as_table(summary, number > 0))
    return exit_code


def _print_refusal(error: ResultsError, form: str) -> None:
    if form == "json":
        print(json.dumps({"file": error.file, "error": {"code": error.code, "detail": str(error)}}))
    else:
        print(f"refused  {error}", file=sys.stderr)


def _as_json(summary: Summary) -> str:
    return json.dumps(to_json_values(summary), allow_nan=False, ensure_ascii=False)


def _as_table(summary: Summary, apart: bool) -> str:
    return ("\n" if apart else "") + "\n".join(table_lines(summary))


def table_lines(summary: Summary) -> Iterator[str]:
    """The summary for a person, line by line."""
    tool = " ".join(part for part in (summary.tool, summary.tool_version, summary.arm) if part)
    yield f"{summary.file}  ({tool})" if tool else summary.file
    counts = [summary.requests, summary.ok, summary.failed, summary.cut_off]
    yield _line(
        "Requests", "total, ok, failed, cut off", [f"{n:,}" if n is not None else "?" for n in counts]
    )
    if summary.duration_seconds is not None:
        yield _line("Duration", "first sent to last answer", [f"{summary.duration_seconds:.3f}s"])
    rates = [summary.offered_rps, summary.achieved_rps, summary.goodput_rps]
    if any(rate is not None for rate in rates):
        yield _line(
            "Rate", "offered, achieved, good", [f"{r:.2f}/s" if r is not None else "?" for r in rates]
        )
    told = [
        (head, value)
        for head, value in (
            ("mean", summary.latency_ns.mean),
            ("50", summary.latency_ns.p50),
            ("90", summary.latency_ns.p90),
            ("95", summary.latency_ns.p95),
            ("99", summary.latency_ns.p99),
            ("99.9", summary.latency_ns.p999),
            ("max", summary.latency_ns.max),
        )
        if value is not None
    ]
    if told:
        yield _line("Latency ok", ", ".join(head for head, _ in told), [duration(value) for _, value in told])
    if summary.status_counts:
        yield _line("Status", "code:count", [f"{code}:{n:,}" for code, n in summary.status_counts.items()])
    yield from _errors(summary)
    for warning in summary.warnings:
        yield f"! {warning.code}: {warning.detail}"


def _errors(summary: Summary) -> Iterator[str]:
    shown = list(summary.errors.items())[:_MOST_ERRORS_SHOWN]
    if not shown:
        return
    yield "Errors"
    for text, count in shown:
        yield f"  {'?' if count is None else f'{count:,}':>9}  {text}"
    if len(summary.errors) > len(shown):
        yield f"  and {len(summary.errors) - len(shown)} more texts"


def _line(label: str, heads: str, values: list[str]) -> str:
    return f"{label:<{_LABEL_WIDTH}}  {'[' + heads + ']':<{_HEADS_WIDTH}}  {', '.join(values)}"


def duration(nanoseconds: float) -> str:
    """A duration with a unit that leaves one to three digits before the point."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if abs(nanoseconds) >= size:
            return f"{nanoseconds / size:.3f}{unit}"
    return f"{nanoseconds:.0f}ns"
