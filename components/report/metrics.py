"""The numbers of a run for `dsl.Metrics`: flat, finite, and named the same in every run.

A text, a boolean, NaN or infinity in a Metrics artifact breaks the executor or the store behind it, so
a number that is not known is left out.
"""

from __future__ import annotations

import math
from typing import Final

from model_load_test.components.report.arms import error_share, latency_seconds
from model_load_test.components.report.model import RunReport

_MILLISECONDS: Final = 1e3
_LATENCIES: Final = ("mean", "p50", "p95", "p99")


def metrics(report: RunReport) -> dict[str, float]:
    """The run as numbers, e.g. `candidate_p95_ms`, `ratio_p95_upper`, `error_rate`, `gate_passed`.

    Latencies are of the requests that succeeded, in milliseconds; `candidate_cpu_ms` is the server's CPU
    time per request, where someone looked; ratios are candidate/baseline;
    rates are per second and arm; shares lie between 0 and 1.
    """
    verdict = report.verdict
    numbers: dict[str, float | None] = {"gate_passed": 1.0 if verdict.verdict == "PASS" else 0.0}
    for arm, summary in report.arms.items():
        for name in _LATENCIES:
            seconds = latency_seconds(summary, name)
            numbers[f"{arm}_{name}_ms"] = None if seconds is None else seconds * _MILLISECONDS
        cpu_seconds = report.resources.cpu_seconds_per_request(arm)
        numbers[f"{arm}_cpu_ms"] = None if cpu_seconds is None else cpu_seconds * _MILLISECONDS
    for name, metric in verdict.metrics.items():
        prefix = "difference" if name == "errors" else "ratio"
        numbers[f"{prefix}_{name}"] = metric.ratio
        # The bound that the margin is held against: of goodput, where more is better, the lower one.
        if name == "goodput":
            numbers["ratio_goodput_lower"] = metric.lower
        else:
            numbers[f"{prefix}_{name}_upper"] = metric.upper
    if "candidate" in report.arms:
        candidate = report.arms["candidate"]
        numbers["achieved_rps"] = candidate.achieved_rps
        numbers["error_rate"] = error_share(candidate)
        numbers["goodput_rps"] = candidate.goodput_rps
        numbers["requests"] = candidate.requests
    if "baseline" in report.arms:
        numbers["baseline_error_rate"] = error_share(report.arms["baseline"])
    if "goodput" in verdict.metrics:
        numbers["goodput_rps"] = verdict.metrics["goodput"].candidate
    numbers["offered_rps"] = report.load_spec.get("rate_rps")
    numbers["pairs"] = verdict.pairs
    numbers["requests_wanted"] = verdict.requests_wanted
    return {
        name: float(value)
        for name, value in numbers.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
