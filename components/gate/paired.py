"""Candidate against baseline, metric by metric, from pairs of blocks measured under the same noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, exp, inf, isfinite, log1p
from statistics import NormalDist
from typing import Final

import numpy as np

from model_load_test.components.gate import exceedance, failures, signed_rank
from model_load_test.components.gate.blocks import ArmBlocks, Floats, Pairs
from model_load_test.components.gate.signed_rank import Interval
from model_load_test.components.gate.spec import GateSpec
from model_load_test.components.gate.verdict import MetricVerdict

QUANTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}

LEAST_ABOVE_IN_A_BLOCK: Final = 4
"""Requests of a block above the percentile, or the exceedance test takes over (400 for p99)."""
LEAST_ABOVE_IN_AN_ARM: Final = 20
"""Requests of an arm above the percentile, or it is refused (2 000 for p99)."""
COLLAPSED: Final = 0.5
"""A candidate failing more than this share, over a sound baseline's, fails without any test."""

_POWER = NormalDist().inv_cdf(0.8)
_MOST_PAIRS_WANTED = 100_000


@dataclass(frozen=True)
class Finding:
    """One metric's evidence on the scale of the test: ln(ratio), or a difference of shares.

    The scale is turned so that larger is worse for every metric.
    """

    metric: str
    n: int
    limit: float
    """The margin on this scale."""
    interval: Interval
    p: float
    """One-sided p against "worse by at most the margin"."""
    candidate: float | None
    baseline: float | None
    refused: str = ""
    """Why the metric was not judged, if it was not."""


def find(pairs: Pairs, spec: GateSpec, alpha: float) -> list[Finding]:
    """Collects the evidence on every metric of the spec, in the order of its margins.

    Args:
        pairs: At least one pair of blocks.
        spec: The margins.
        alpha: One-sided error of each bound.
    """
    finders: Mapping[str, Callable[[Pairs, str, float, float], Finding]] = {
        "errors": _errors,
        "goodput": _goodput,
        "mean": _mean,
        "p50": _percentile,
        "p95": _percentile,
        "p99": _percentile,
    }
    return [finders[metric](pairs, metric, spec.margin(metric), alpha) for metric in spec.margins]


def decide(findings: list[Finding], spec: GateSpec, alpha: float) -> dict[str, MetricVerdict]:
    """Judges each metric: FAIL by Holm's adjusted p, PASS by its own upper bound.

    "Any metric is worse" is a union of hypotheses and needs Holm's correction; "every metric is
    inside its margin" is an intersection, for which each at `alpha` is enough (Berger 1982).
    """
    judged = [finding for finding in findings if not finding.refused]
    adjusted = dict(zip([f.metric for f in judged], holm([f.p for f in judged]), strict=True))
    return {f.metric: _verdict_of(f, spec.margin(f.metric), adjusted.get(f.metric), alpha) for f in findings}


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, p_values[index] * (len(p_values) - place)))
        adjusted[index] = running
    return adjusted


def pairs_wanted(findings: list[Finding], verdicts: Mapping[str, MetricVerdict], alpha: float) -> int | None:
    """Further pairs that would decide every open metric with 80 % power, were its estimate the truth.

    None when nothing is open, or when an estimate is so near its margin that no run would decide.
    """
    open_findings = [f for f in findings if verdicts[f.metric].verdict == "INCONCLUSIVE"]
    wanted = [_pairs_to_decide(finding, alpha) for finding in open_findings]
    if not wanted or max(wanted) > _MOST_PAIRS_WANTED:
        return None
    return max(1, ceil(max(wanted)))


def detectable_effect(finding: Finding, alpha: float, metrics: int) -> float | None:
    """The smallest excess this run would have failed in 4 of 5 cases; relative, or a share for errors.

    None when the run has no lower bound for the metric.
    """
    below = finding.interval.estimate - finding.interval.lower
    if finding.refused or not isfinite(below):
        return None
    # The lower bound is at `alpha`; Holm asks alpha/m of the first metric to fail.
    z_alpha = NormalDist().inv_cdf(1 - alpha)
    z_first = NormalDist().inv_cdf(1 - alpha / metrics)
    effect = finding.limit + below * (z_first + _POWER) / z_alpha
    return effect if finding.metric == "errors" else exp(min(effect, 700.0)) - 1


def _mean(pairs: Pairs, metric: str, margin: float, alpha: float) -> Finding:
    return _log_ratio_finding(
        metric,
        _log_ratios(pairs.candidate.mean(), pairs.baseline.mean()),
        margin,
        alpha,
        _overall_mean(pairs.candidate),
        _overall_mean(pairs.baseline),
    )


def _goodput(pairs: Pairs, metric: str, margin: float, alpha: float) -> Finding:
    candidate, baseline = pairs.candidate.goodput(), pairs.baseline.goodput()
    return _log_ratio_finding(
        metric,
        _log_ratios(baseline, candidate),
        margin,
        alpha,
        _finite_mean(candidate),
        _finite_mean(baseline),
    )


def _percentile(pairs: Pairs, metric: str, margin: float, alpha: float) -> Finding:
    q = QUANTILES[metric]
    arms = (pairs.candidate, pairs.baseline)
    overall = (_overall_percentile(pairs.candidate, q), _overall_percentile(pairs.baseline, q))
    if min(arm.latencies.size for arm in arms) * (1 - q) < LEAST_ABOVE_IN_AN_ARM - 1e-9:
        least = round(LEAST_ABOVE_IN_AN_ARM / (1 - q))
        return _refused(metric, pairs.count, margin, f"needs {least} successful requests an arm", overall)
    if min(float(np.median(arm.succeeded)) for arm in arms) * (1 - q) >= LEAST_ABOVE_IN_A_BLOCK - 1e-9:
        ratios = _log_ratios(pairs.candidate.percentile(q), pairs.baseline.percentile(q))
        return _log_ratio_finding(metric, ratios, margin, alpha, *overall)
    tails = exceedance.prepare(pairs, q)
    bounds = exceedance.interval(tails, alpha)
    p = exceedance.p_above(tails, log1p(margin))
    return Finding(metric, tails.pairs, log1p(margin), bounds, p, overall[0], overall[1])


def _errors(pairs: Pairs, metric: str, margin: float, alpha: float) -> Finding:
    candidate = failures.share_of(pairs.candidate.failures, pairs.candidate.requests)
    baseline = failures.share_of(pairs.baseline.failures, pairs.baseline.requests)
    per_pair = (
        pairs.candidate.failures / pairs.candidate.requests
        - pairs.baseline.failures / pairs.baseline.requests
    )
    collapsed = candidate.value - baseline.value > COLLAPSED
    # The sign flips know that one burst of failures is one event; the interval knows the margin.
    p = (
        0.0
        if collapsed
        else max(failures.p_beyond(candidate, baseline, margin), exceedance.p_positive_sum(per_pair))
    )
    return Finding(
        metric,
        pairs.count,
        margin,
        failures.difference(candidate, baseline, alpha),
        p,
        candidate.value,
        baseline.value,
    )


def _log_ratio_finding(
    metric: str, ratios: Floats, margin: float, alpha: float, candidate: float | None, baseline: float | None
) -> Finding:
    limit = log1p(margin)
    if not ratios.size:
        return _refused(
            metric, 0, margin, "no pair of blocks has successful requests in both arms", (candidate, baseline)
        )
    interval = signed_rank.hodges_lehmann(ratios, alpha)
    return Finding(
        metric, ratios.size, limit, interval, signed_rank.p_greater(ratios - limit), candidate, baseline
    )


def _refused(
    metric: str, n: int, margin: float, why: str, overall: tuple[float | None, float | None]
) -> Finding:
    return Finding(metric, n, log1p(margin), Interval(0.0, -inf, inf), 1.0, overall[0], overall[1], why)


def _verdict_of(finding: Finding, margin: float, p_holm: float | None, alpha: float) -> MetricVerdict:
    if finding.refused or p_holm is None:
        return MetricVerdict(
            "REFUSED",
            margin,
            finding.n,
            candidate=finding.candidate,
            baseline=finding.baseline,
            note=finding.refused,
        )
    estimate, lower, upper = _shown(finding)
    fails = p_holm <= alpha
    passes = finding.interval.upper < finding.limit
    return MetricVerdict(
        verdict="FAIL" if fails else "PASS" if passes else "INCONCLUSIVE",
        margin=margin,
        n=finding.n,
        ratio=estimate,
        lower=lower,
        upper=upper,
        p_holm=p_holm,
        candidate=finding.candidate,
        baseline=finding.baseline,
        faster=finding.metric != "errors" and finding.interval.upper < 0,
    )


def _shown(finding: Finding) -> tuple[float | None, float | None, float | None]:
    interval = finding.interval
    values = [interval.estimate, interval.lower, interval.upper]
    if finding.metric == "goodput":
        values = [-interval.estimate, -interval.upper, -interval.lower]
    if finding.metric != "errors":
        values = [exp(value) if abs(value) < 700 else inf for value in values]
    estimate, lower, upper = (value if isfinite(value) else None for value in values)
    return estimate, lower, upper


def _pairs_to_decide(finding: Finding, alpha: float) -> float:
    interval = finding.interval
    gap = finding.limit - interval.estimate
    half_width = interval.upper - interval.estimate if gap > 0 else interval.estimate - interval.lower
    if not isfinite(half_width):
        return float(finding.n)
    if gap == 0:
        return inf
    z_alpha = NormalDist().inv_cdf(1 - alpha)
    scale = (z_alpha + _POWER) / z_alpha * half_width / gap
    return finding.n * (scale * scale - 1)


def _log_ratios(worse_if_large: Floats, reference: Floats) -> Floats:
    usable = np.isfinite(worse_if_large) & np.isfinite(reference)
    least = 1e-9
    ratios: Floats = np.log(np.maximum(worse_if_large[usable], least) / np.maximum(reference[usable], least))
    return ratios


def _overall_mean(arm: ArmBlocks) -> float | None:
    return float(arm.latencies.mean()) if arm.latencies.size else None


def _overall_percentile(arm: ArmBlocks, q: float) -> float | None:
    if not arm.latencies.size:
        return None
    rank = max(1, ceil(q * arm.latencies.size - 1e-9)) - 1
    return float(np.partition(arm.latencies, rank)[rank])


def _finite_mean(values: Floats) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None
