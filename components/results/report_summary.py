"""The summaries of a report: from its requests where it tells them, else from what the tool says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np

from model_load_test.components.results import columns
from model_load_test.components.results.checks import Check
from model_load_test.components.results.cut_off import CUT_OFF_TEXTS
from model_load_test.components.results.percentile import enough_rows
from model_load_test.components.results.report import Report, ToolSummary
from model_load_test.components.results.summary import (
    PERCENTILES,
    Finding,
    Latencies,
    Summary,
    summarize,
    summarize_blocks,
)
from model_load_test.components.results.validity import by_weight, load_of, validate_report

_NS_PER_MS: Final = 1e6


def summarize_report(report: Report) -> list[Summary]:
    """One summary of a foreign report; of our own results table one an arm, warm-up left out."""
    checks = validate_report(report)
    if report.table is not None:
        load_spec = report.metadata.load_spec if report.metadata else {}
        return [
            _labelled(
                report,
                summarize_blocks(report.table.filter(columns.booleans(rows)), load_spec),
                checks,
                arm,
            )
            for arm, rows in _arms(report)
        ]
    if not report.has_rows:
        summary, doubts = _from_tool(report)
        return [_labelled(report, summary, (*checks, *doubts))]
    load = load_of(report)
    summary = summarize(
        report.rows, asked_rps=load.rate_rps, cut_off=report.cut_off, has_times=report.has_times
    )
    return [_labelled(report, summary, checks)]


def _arms(report: Report) -> list[tuple[str, columns.Bools]]:
    assert report.table is not None
    of_arm, arms = columns.texts(report.table["arm"])
    measured = columns.numbers(report.table["block"], np.int32) >= 0
    return [(arm, (of_arm == index) & measured) for index, arm in enumerate(arms)]


def _labelled(report: Report, summary: Summary, checks: Iterable[Check], arm: str = "") -> Summary:
    warnings = tuple(
        Finding(code=check.code, detail=check.detail)
        for check in by_weight(list(checks))
        if check.consequence != "INFO" or check.code == "too-few-rows"
    )
    return msgspec.structs.replace(
        summary,
        file=", ".join(report.files),
        arm=arm,
        tool=report.tool,
        tool_version=report.tool_version,
        cut_off=report.cut_off if not report.table else summary.cut_off,
        warnings=warnings,
    )


def _from_tool(report: Report) -> tuple[Summary, list[Check]]:
    """What can be said of a summary without requests, and what about it is doubtful."""
    stated = report.stated or ToolSummary(requests=0)
    requests = stated.requests - report.cut_off
    failed = None if stated.ok is None else requests - stated.ok
    seconds = stated.duration_ns / 1e9 if stated.duration_ns else None
    statuses = _without_cut_off(stated, report.cut_off)
    latencies, doubts = _latencies(report, stated, failed)
    summary = Summary(
        requests=requests,
        ok=stated.ok,
        failed=failed,
        cut_off=report.cut_off,
        status_counts=statuses,
        errors=_failures(stated, report.cut_off),
        started_at_ns=stated.started_at_ns,
        duration_seconds=seconds,
        offered_rps=_offered(report, stated),
        achieved_rps=requests / seconds if seconds and not report.options.get("skipFirst") else None,
        goodput_rps=stated.ok / seconds
        if seconds and stated.ok is not None and not report.options.get("skipFirst")
        else None,
        latency_ns=latencies,
    )
    return summary, doubts


def _offered(report: Report, stated: ToolSummary) -> float | None:
    asked_rps = load_of(report).rate_rps
    if asked_rps is not None or stated.started_at_ns is None or stated.last_sent_at_ns is None:
        return asked_rps
    span_ns = stated.last_sent_at_ns - stated.started_at_ns
    return (stated.requests - 1) / (span_ns / 1e9) if span_ns > 0 else None


def _without_cut_off(stated: ToolSummary, cut_off: int) -> dict[str, int]:
    statuses = dict(stated.status_counts)
    for status in ("Unavailable", "Canceled"):
        taken = min(cut_off, statuses.get(status, 0))
        cut_off -= taken
        if taken:
            statuses[status] -= taken
    return {status: count for status, count in statuses.items() if count}


def _failures(stated: ToolSummary, cut_off: int) -> dict[str, int | None]:
    if not cut_off:
        return dict(stated.errors)
    return {
        text: count
        for text, count in stated.errors.items()
        if not any(sign in text for sign in CUT_OFF_TEXTS)
    }


def _latencies(report: Report, stated: ToolSummary, failed: int | None) -> tuple[Latencies, list[Check]]:
    """The tool's latencies, as far as they are of OK requests only."""
    doubts: list[Check] = []
    clean = failed == 0
    mean_ns = stated.mean_ns if clean or stated.mean_covers == "ok" else None
    of_ok = clean or stated.percentiles_cover == "ok"
    ok = stated.ok if stated.ok is not None else stated.requests
    percentile_ns = {
        name: stated.percentile_ns[q]
        for name, q in PERCENTILES.items()
        if of_ok and q in stated.percentile_ns and enough_rows(ok, q)
    }
    if ok and not (clean or (mean_ns is None and of_ok and failed is None)) and stated.requests:
        doubts += _mixed(stated, failed, of_ok)
    if percentile_ns and (stated.percentiles_are_estimates or stated.response_times_ms is not None):
        doubts.append(_estimated(report))
    if not enough_rows(ok, 99.0):
        doubts.append(_too_few(ok))
    return (
        Latencies(mean=mean_ns, max=stated.max_ns if of_ok else None, **percentile_ns) if ok else Latencies()
    ), doubts


def _mixed(stated: ToolSummary, failed: int | None, percentiles_are_ok: bool) -> list[Check]:
    how_many = "an unknown number of" if failed is None else str(failed)
    left_out = "mean is" if percentiles_are_ok else "latencies are"
    told = ", ".join(
        f"{name} {value / _NS_PER_MS:.3f} ms"
        for name, value in (
            ("mean", stated.mean_ns),
            *(
                ()
                if percentiles_are_ok
                else ((f"p{q:g}", value) for q, value in stated.percentile_ns.items())
            ),
        )
        if value is not None
    )
    detail = (
        f"The tool mixes {how_many} failed requests into its figures, so its {left_out} left out "
        f"({told or 'none'} over all). Give the requests themselves"
    )
    return [Check(code="latency-includes-failures", detail=detail, consequence="WARNING")]


def _estimated(report: Report) -> Check:
    how = (
        "vegeta's percentiles are estimates (t-digest): off by 1 % or, with two kinds of requests, much more"
        if report.tool == "vegeta"
        else "Locust rounds response times: to 1 ms below 100 ms, to 10 ms below 1 s, to 100 ms above"
    )
    return Check(
        code="percentiles-estimated",
        detail=f"{how}. Give the requests themselves for exact ones",
        consequence="WARNING",
    )


def _too_few(ok: int) -> Check:
    return Check(
        code="too-few-rows",
        detail=f"{ok} OK requests do not tell the 99th percentile, which needs 2000. Run longer or faster",
        consequence="INFO",
        numbers={"ok": float(ok), "needed": 2000.0},
    )
