"""Candidate against baseline, metric by metric, from pairs of blocks measured under the same noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, inf, isfinite, log1p
from statistics import NormalDist
from typing import Final

import numpy as np
from msgspec import structs

from model_load_test.components.gate import exceedance, failures, signed_rank
from model_load_test.components.gate.blocks import ArmBlocks, Floats, Pairs
from model_load_test.components.gate.exceedance import Exceedance
from model_load_test.components.gate.signed_rank import Interval
from model_load_test.components.gate.spec import GateSpec
from model_load_test.components.gate.verdict import MetricVerdict
from model_load_test.components.results.percentile import TAIL_ROWS, enough_rows, nearest_rank
from model_load_test.components.results.resource_use import CpuUse, cpu_seconds_per_request

QUANTILES: Final = {"p50": 0.50, "p95": 0.95, "p99": 0.99}

LEAST_ABOVE_IN_A_BLOCK: Final = 1
"""Requests of a block above the percentile, or only the pooled tail is compared (100 for p99)."""
COLLAPSED: Final = 0.5
"""A candidate failing more than this share, over a sound baseline's, fails without any test."""

EARLY_SHARE: Final = 0.5
"""The share of the margin that a failing metric must exceed at the full confidence 1 - alpha."""
BEYOND_CONFIDENCE: Final = 0.8
"""The confidence with which a failing metric must exceed the whole margin."""

_POWER = NormalDist().inv_cdf(0.8)
_MOST_PAIRS_WANTED = 100_000
_CONCENTRATED = "the slow requests sit in few blocks: the pooled tail is worse, the typical block is not"

_Values = tuple[float | None, float | None]
"""The candidate's and the baseline's value over all pairs."""


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
    p_half: float
    """One-sided p against "worse by at most half the margin"."""
    p_margin: float
    """One-sided p against "worse by at most the margin"."""
    candidate: float | None
    baseline: float | None
    p_worse_tail: float = 1.0
    """`p_half` of the pooled tail; small forbids PASS."""
    guards: bool = False
    """Whether it can only fail the metric, beside the finding that is reported."""
    refused: str = ""
    """Why the metric was not judged, if it was not."""
    lacking: float = 1.0
    """How many times the requests of this run a refused metric needs."""


def find(pairs: Pairs, spec: GateSpec, alpha: float, cpu: Sequence[CpuUse] = ()) -> list[Finding]:
    """Collects the evidence on every metric of the spec, in the order of its margins.

    p99 has two findings where a block is long enough for a percentile of its own: the blocks'
    p99, which is precise, and the pooled tail, which also sees slow requests that sit in few
    blocks.

    Args:
        pairs: At least one pair of blocks.
        spec: The margins.
        alpha: One-sided error of each bound.
        cpu: What the servers used over stretches of blocks, for the metric `cpu`.
    """
    found: list[Finding] = []
    for metric in spec.margins:
        margin = spec.margin(metric)
        if metric == "errors":
            found.append(_errors(pairs, margin, alpha))
        elif metric == "goodput":
            found.append(_goodput(pairs, margin, alpha))
        elif metric == "mean":
            found.append(_mean(pairs, margin, alpha))
        elif metric == "cpu":
            found.append(_cpu(cpu, margin, alpha))
        else:
            found.extend(_percentile(pairs, metric, margin, alpha))
    return found


def decide(findings: list[Finding], spec: GateSpec, alpha: float) -> dict[str, MetricVerdict]:
    """Judges each metric.

    FAIL: worse by more than half the margin at confidence 1 - alpha, Holm-adjusted over all
    findings, and worse by more than the whole margin at confidence 0.8. PASS: the upper bound is
    inside the margin, and the pooled tail is not worse by more than half of it at alpha. "Any
    metric is worse" is a union of hypotheses and needs Holm's correction; "every metric is inside
    its margin" is an intersection, for which each at `alpha` is enough (Berger 1982).
    """
    adjusted = holm([finding.p_half for finding in findings if not finding.refused])
    of_judged = iter(adjusted)
    verdicts: dict[str, MetricVerdict] = {}
    for finding in findings:
        p_holm = None if finding.refused else next(of_judged)
        verdict = _verdict_of(finding, spec, p_holm, alpha)
        if not finding.guards:
            verdicts[finding.metric] = verdict
        elif verdict.verdict == "FAIL" and verdicts[finding.metric].verdict != "FAIL":
            verdicts[finding.metric] = structs.replace(verdict, note=_CONCENTRATED)
    return verdicts


def autocorrelation(pairs: Pairs) -> float:
    """Rank correlation of neighbouring pairs' ln(ratio) of the mean; near zero for honest pairs.

    The tests take pairs as independent. Ranks, because bursts would dominate the plain one.
    """
    ratios = _log_ratios(pairs.candidate.mean(), pairs.baseline.mean())
    ranks = signed_rank.doubled_midranks(ratios) - (ratios.size + 1.0)
    spread = float((ranks * ranks).sum())
    return float((ranks[1:] * ranks[:-1]).sum()) / spread if spread else 0.0


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
    undecided = [f for f in findings if verdicts[f.metric].verdict in ("INCONCLUSIVE", "REFUSED")]
    wanted = [_pairs_to_decide(f, alpha, len(findings)) for f in undecided if not f.guards]
    if not wanted or max(wanted) > _MOST_PAIRS_WANTED:
        return None
    return max(1, ceil(max(wanted)))


def detectable_effect(findings: list[Finding], alpha: float) -> dict[str, float]:
    """Per metric the smallest excess this run would have failed in 4 of 5 cases.

    Relative, or a share for `errors`; without the metrics for which the run has no lower bound.
    """
    judged = [finding for finding in findings if not finding.refused]
    effects: dict[str, float] = {}
    for finding in judged:
        below = finding.interval.estimate - finding.interval.lower
        if not isfinite(below) or finding.guards:
            continue
        half, whole = _distances(below, alpha, len(judged))
        effect = max(finding.limit * EARLY_SHARE + half, finding.limit + whole)
        effects[finding.metric] = effect if finding.metric == "errors" else exp(min(effect, 700.0)) - 1
    return effects


def reach_of_bound(finding: Finding, alpha: float) -> float:
    """How far above the truth the upper bound lies in at most 4 of 5 runs like this one."""
    z_alpha = NormalDist().inv_cdf(1 - alpha)
    return (finding.interval.upper - finding.interval.estimate) * (z_alpha + _POWER) / z_alpha


def _distances(below: float, alpha: float, tests: int) -> tuple[float, float]:
    """How far beyond half and beyond the whole margin the truth must be for FAIL with 80 % power."""
    z_alpha = NormalDist().inv_cdf(1 - alpha)
    z_first = NormalDist().inv_cdf(1 - alpha / tests)
    z_beyond = NormalDist().inv_cdf(BEYOND_CONFIDENCE)
    return below * (z_first + _POWER) / z_alpha, below * (z_beyond + _POWER) / z_alpha


def _mean(pairs: Pairs, margin: float, alpha: float) -> Finding:
    ratios = _log_ratios(pairs.candidate.mean(), pairs.baseline.mean())
    overall = (_overall_mean(pairs.candidate), _overall_mean(pairs.baseline))
    return _log_ratio_finding("mean", ratios, margin, alpha, overall)


def _goodput(pairs: Pairs, margin: float, alpha: float) -> Finding:
    candidate, baseline = pairs.candidate.goodput(), pairs.baseline.goodput()
    overall = (_finite_mean(candidate), _finite_mean(baseline))
    return _log_ratio_finding("goodput", _log_ratios(baseline, candidate), margin, alpha, overall)


def _cpu(uses: Sequence[CpuUse], margin: float, alpha: float) -> Finding:
    """CPU time per request, stretch by stretch; both arms' servers were busy in the same seconds."""
    arms = {
        arm: {use.block: use for use in uses if use.arm == arm and use.requests and use.cpu_seconds > 0}
        for arm in ("candidate", "baseline")
    }
    common = sorted(arms["candidate"].keys() & arms["baseline"].keys())
    overall: _Values = (
        cpu_seconds_per_request(arms["candidate"][block] for block in common),
        cpu_seconds_per_request(arms["baseline"][block] for block in common),
    )
    if not common:
        why = "no CPU time of both servers is known; name where to look in resource_sources"
        return _refused("cpu", 0, margin, why, overall)
    per_request = [
        np.array([arms[arm][block].cpu_seconds / arms[arm][block].requests for block in common])
        for arm in ("candidate", "baseline")
    ]
    return _log_ratio_finding("cpu", _log_ratios(*per_request), margin, alpha, overall)


def _percentile(pairs: Pairs, metric: str, margin: float, alpha: float) -> list[Finding]:
    q = QUANTILES[metric]
    arms = (pairs.candidate, pairs.baseline)
    overall = (_overall_percentile(pairs.candidate, q), _overall_percentile(pairs.baseline, q))
    if not all(enough_rows(arm.latencies.size, 100 * q) for arm in arms):
        least = round(TAIL_ROWS / (1 - q))
        why = f"it needs {least} successful requests an arm"
        refused = _refused(metric, pairs.count, margin, why, overall)
        return [replace(refused, lacking=least / max(1, min(arm.latencies.size for arm in arms)))]
    by_block = min(float(np.median(arm.succeeded)) for arm in arms) * (1 - q) >= LEAST_ABOVE_IN_A_BLOCK - 1e-9
    if by_block and metric != "p99":
        return [_block_percentile(pairs, metric, margin, alpha, overall)]
    tails = exceedance.prepare(pairs, q)
    pooled = _pooled_tail(tails, metric, margin, overall)
    if not by_block:
        return [replace(pooled, interval=exceedance.interval(tails, alpha))]
    if pooled.p_half <= alpha:
        pooled = replace(pooled, interval=exceedance.interval(tails, alpha))
    typical = _block_percentile(pairs, metric, margin, alpha, overall)
    return [replace(typical, p_worse_tail=pooled.p_half), replace(pooled, guards=True)]


def _block_percentile(pairs: Pairs, metric: str, margin: float, alpha: float, overall: _Values) -> Finding:
    q = QUANTILES[metric]
    ratios = _log_ratios(pairs.candidate.percentile(q), pairs.baseline.percentile(q))
    return _log_ratio_finding(metric, ratios, margin, alpha, overall)


def _pooled_tail(tails: Exceedance, metric: str, margin: float, overall: _Values) -> Finding:
    limit = log1p(margin)
    return Finding(
        metric,
        tails.pairs,
        limit,
        Interval(tails.log_ratio, -inf, inf),
        exceedance.p_above(tails, limit * EARLY_SHARE),
        exceedance.p_above(tails, limit),
        *overall,
    )


def _errors(pairs: Pairs, margin: float, alpha: float) -> Finding:
    arms = (pairs.candidate, pairs.baseline)
    candidate, baseline = (failures.share_of(arm.failures, arm.requests) for arm in arms)
    per_pair = arms[0].failures / arms[0].requests - arms[1].failures / arms[1].requests
    collapsed = candidate.value - baseline.value > COLLAPSED
    # The sign flips know that one burst of failures is one event; the interval knows the margin.
    p_worse = exceedance.p_positive_sum(per_pair)
    p_half, p_margin = (
        0.0 if collapsed else max(p_worse, failures.p_beyond(candidate, baseline, excess))
        for excess in (margin * EARLY_SHARE, margin)
    )
    bounds = failures.difference(candidate, baseline, alpha)
    return Finding("errors", pairs.count, margin, bounds, p_half, p_margin, candidate.value, baseline.value)


def _log_ratio_finding(metric: str, ratios: Floats, margin: float, alpha: float, overall: _Values) -> Finding:
    limit = log1p(margin)
    if not ratios.size:
        why = "no pair of blocks has successful requests in both arms"
        return _refused(metric, 0, margin, why, overall)
    return Finding(
        metric,
        ratios.size,
        limit,
        signed_rank.hodges_lehmann(ratios, alpha),
        signed_rank.p_greater(ratios - limit * EARLY_SHARE),
        signed_rank.p_greater(ratios - limit),
        *overall,
    )


def _refused(metric: str, n: int, margin: float, why: str, overall: _Values) -> Finding:
    return Finding(metric, n, log1p(margin), Interval(0.0, -inf, inf), 1.0, 1.0, *overall, refused=why)


def _verdict_of(finding: Finding, spec: GateSpec, p_holm: float | None, alpha: float) -> MetricVerdict:
    margin = spec.margin(finding.metric)
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
    fails = p_holm <= alpha and finding.p_margin <= 1 - BEYOND_CONFIDENCE
    inside = finding.interval.upper < finding.limit
    worse_tail = finding.p_worse_tail <= alpha
    faster = finding.metric != "errors" and finding.interval.upper < -log1p(spec.luck(finding.metric))
    return MetricVerdict(
        verdict="FAIL" if fails else "PASS" if inside and not worse_tail else "INCONCLUSIVE",
        margin=margin,
        n=finding.n,
        ratio=estimate,
        lower=lower,
        upper=upper,
        p_holm=p_holm,
        candidate=finding.candidate,
        baseline=finding.baseline,
        faster=faster and not worse_tail,
        note=_CONCENTRATED if inside and worse_tail and not fails else "",
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


def _pairs_to_decide(finding: Finding, alpha: float, tests: int) -> float:
    interval = finding.interval
    gap = finding.limit - interval.estimate
    if finding.refused:
        return finding.n * max(finding.lacking - 1.0, 0.0)
    if not isfinite(interval.upper - interval.lower) or finding.p_worse_tail <= alpha:
        return float(finding.n)
    if gap == 0:
        return inf
    if gap > 0:
        scale = reach_of_bound(finding, alpha) / gap
        # A bound on few failures shrinks with the requests themselves, not with their root.
        growth = scale if finding.metric == "errors" and interval.estimate == 0 else scale * scale
    else:
        half, whole = _distances(interval.estimate - interval.lower, alpha, tests)
        growth = max(half / (finding.limit * (1 - EARLY_SHARE) - gap), whole / -gap) ** 2
    return finding.n * max(growth - 1, 0.0)


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
    rank = nearest_rank(arm.latencies.size, 100 * q) - 1
    return float(np.partition(arm.latencies, rank)[rank])


def _finite_mean(values: Floats) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else None
