"""Several files of one run as one report: requests pooled or buckets added, percentiles never averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from model_load_test.components.results.checks import Check
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.locust import bucket_percentiles
from model_load_test.components.results.report import Report, ToolSummary

_VEGETA_STREAMS = ("vegeta results JSON", "vegeta results CSV", "vegeta results gob")


def merge(reports: Sequence[Report]) -> Report:
    """Pools the reports of several workers.

    One vegeta report beside vegeta's streams is taken as their own summary, for the cross-check.

    Raises:
        ResultsError: They are of different tools, or some tell requests and some do not.
    """
    if len(reports) == 1:
        return reports[0]
    streams = [report for report in reports if report.kind in _VEGETA_STREAMS]
    summaries = [report for report in reports if report.kind == "vegeta report JSON"]
    if streams and len(summaries) == 1 and len(streams) + 1 == len(reports):
        merged = merge(streams)
        files = (*merged.files, *summaries[0].files)
        return replace(
            merged, stated=summaries[0].stated, checks=(*merged.checks, *summaries[0].checks), files=files
        )
    _refuse_mixture(reports)
    first = reports[0]
    return replace(
        first,
        rows=_pooled([report.rows for report in reports]),
        cut_off=sum(report.cut_off for report in reports),
        checks=tuple(check for report in reports for check in report.checks) + _lost_percentiles(reports),
        stated=None if first.has_rows else _added([r.stated for r in reports if r.stated is not None]),
        files=tuple(file for report in reports for file in report.files),
        tool_version=first.tool_version if len({report.tool_version for report in reports}) == 1 else "",
    )


def _refuse_mixture(reports: Sequence[Report]) -> None:
    first = reports[0]
    for report in reports[1:]:
        if (
            report.tool != first.tool
            or report.has_rows != first.has_rows
            or report.has_times != first.has_times
        ):
            raise ResultsError(
                report.files[0],
                "",
                Description(f"a {report.kind} beside a {first.kind}"),
                "give the files of one run together, all as written by the same tool in the same way",
                "mixture",
            )
        if report.table is not None or first.table is not None:
            raise ResultsError(
                report.files[0],
                "",
                Description("several results tables"),
                "give them one by one; each is a whole run",
                "mixture",
            )


def _pooled(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).unify_dictionaries()


def _lost_percentiles(reports: Sequence[Report]) -> tuple[Check, ...]:
    if reports[0].has_rows or all(r.stated and r.stated.response_times_ms is not None for r in reports):
        return ()
    detail = (
        f"The percentiles of {len(reports)} summaries cannot be merged and are left out. "
        "Give the requests themselves (ghz -O json, vegeta encode -to json)"
    )
    return (Check(code="percentiles-not-mergeable", detail=detail, consequence="WARNING"),)


def _added(summaries: Sequence[ToolSummary]) -> ToolSummary:
    """The sum of summaries: counts and buckets added, means weighted by their requests."""
    started = [s.started_at_ns for s in summaries if s.started_at_ns is not None]
    ended = [s.ended_at_ns for s in summaries if s.ended_at_ns is not None]
    oks = [s.ok for s in summaries if s.ok is not None]
    requests = sum(s.requests for s in summaries)
    means = [(s.mean_ns, s.requests) for s in summaries if s.mean_ns is not None and s.requests]
    slowest = [s.max_ns for s in summaries if s.max_ns is not None]
    buckets = _add_buckets(summaries)
    whole_window = len(started) == len(ended) == len(summaries)
    return ToolSummary(
        requests=requests,
        ok=sum(oks) if len(oks) == len(summaries) else None,
        status_counts=_add_counts([s.status_counts for s in summaries]),
        errors=_add_errors([s.errors for s in summaries]),
        started_at_ns=min(started) if whole_window else None,
        ended_at_ns=max(ended) if whole_window else None,
        last_sent_at_ns=None,
        duration_ns=max(ended) - min(started) if whole_window else None,
        mean_ns=float(np.average([m for m, _ in means], weights=[n for _, n in means])) if means else None,
        mean_covers="ok" if all(s.mean_covers == "ok" for s in summaries) else "all",
        percentile_ns=bucket_percentiles(buckets) if buckets is not None else {},
        max_ns=max(slowest) if slowest else None,
        percentiles_cover="ok" if all(s.percentiles_cover == "ok" for s in summaries) else "all",
        percentiles_are_estimates=any(s.percentiles_are_estimates for s in summaries),
        response_times_ms=buckets,
    )


def _add_counts(several: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in several:
        for key, count in counts.items():
            total[key] = total.get(key, 0) + count
    return total


def _add_errors(several: Sequence[Mapping[str, int | None]]) -> dict[str, int | None]:
    """Adds where every summary that knows the text knows its number."""
    total: dict[str, int | None] = {}
    for errors in several:
        for text, count in errors.items():
            known = total.get(text, 0)
            total[text] = None if count is None or known is None else known + count
    return total


def _add_buckets(summaries: Sequence[ToolSummary]) -> dict[int, int] | None:
    total: dict[int, int] = {}
    for summary in summaries:
        if summary.response_times_ms is None:
            return None
        for bucket, count in summary.response_times_ms.items():
            total[bucket] = total.get(bucket, 0) + count
    return total
