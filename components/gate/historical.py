"""The candidate alone, against what earlier passing runs of the same key measured.

A prediction interval for one more run (Hahn and Meeker, Statistical Intervals, section 4.8):
x > mean + t(K-1, 1-alpha/m) s sqrt(1 + 1/K) on ln(value). Without a baseline that was loaded in the
same seconds, a busy minute cannot be told from a slower model: so only the median, the failures and
the goodput can fail a candidate, and no tail percentile can pass it. Failing by the mean and the
tails too was measured (tests/benchmarks/gate_error_rates.py): every false alarm came from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, isfinite, log, log1p, sqrt
from typing import Final

import numpy as np

from model_load_test.components.gate import wording
from model_load_test.components.gate.blocks import ArmBlocks
from model_load_test.components.gate.failures import share_of
from model_load_test.components.gate.paired import QUANTILES
from model_load_test.components.gate.spec import OPTIONAL_MARGINS, GateSpec
from model_load_test.components.gate.verdict import MetricVerdict, ObjectiveVerdict, Outcome, Verdict
from model_load_test.components.results.checks import Check
from model_load_test.components.results.percentile import enough_rows, nearest_rank

LEAST_RUNS: Final = 5
"""Earlier runs needed for a prediction interval."""
TAILS: Final = ("p95", "p99")
"""Never passed by a stored baseline."""
_ONLY_TOGETHER: Final = "it is compared with a baseline loaded beside it only"
DISTURBED: Final = ("mean", *TAILS)
"""Never failed by a stored baseline: one busy minute looks like a slower model."""


def observe(candidate: ArmBlocks) -> dict[str, float]:
    """The values of the candidate over all its measured rows, as a history holds them.

    Returns:
        `mean`, `p50`, `p95`, `p99` in seconds, `errors` as a share, `goodput` per second; without
        those that cannot be computed.
    """
    values = {"errors": float(candidate.failures.sum() / candidate.requests.sum())}
    goodput = candidate.goodput()
    if np.isfinite(goodput).any():
        values["goodput"] = float(goodput[np.isfinite(goodput)].mean())
    size = candidate.latencies.size
    if size:
        values["mean"] = float(candidate.latencies.mean())
        for metric, q in QUANTILES.items():
            if enough_rows(size, 100 * q):
                rank = nearest_rank(size, 100 * q) - 1
                values[metric] = float(np.partition(candidate.latencies, rank)[rank])
    return values


def without_baseline(
    candidate: ArmBlocks,
    spec: GateSpec,
    objectives: tuple[ObjectiveVerdict, ...],
    checks: tuple[Check, ...],
) -> Verdict:
    """NO_BASELINE with the candidate's own values, or FAIL if it misses an objective.

    Where only objectives are demanded nothing is missing: then they alone decide.
    """
    observed = observe(candidate)
    metrics = {
        metric: MetricVerdict(
            "REFUSED", spec.margin(metric), 0, candidate=observed.get(metric), note="no baseline"
        )
        for metric in spec.margins
    }
    missed = wording.objective_sentences(objectives, "FAIL")
    if not spec.margins and not missed:
        unmet = wording.objective_sentences(objectives, "INCONCLUSIVE")
        return Verdict(
            verdict="INCONCLUSIVE" if unmet else "PASS",
            reasons=tuple(unmet or wording.passing({}, 0, objectives)),
            judgement="none",
            objectives=objectives,
            alpha=spec.alpha,
            noise_floor=spec.noise_floor,
            checks=checks,
        )
    recorded = "There is no baseline to compare with; this run can be recorded as the first one."
    return Verdict(
        verdict="FAIL" if missed else "NO_BASELINE",
        reasons=(*missed, recorded, *wording.objective_sentences(objectives, "INCONCLUSIVE")),
        judgement="none",
        metrics=metrics,
        objectives=objectives,
        alpha=spec.alpha,
        noise_floor=spec.noise_floor,
        checks=checks,
    )


def judge_against(
    history: Sequence[Mapping[str, float]],
    candidate: ArmBlocks,
    spec: GateSpec,
    objectives: tuple[ObjectiveVerdict, ...],
    checks: tuple[Check, ...],
) -> Verdict:
    """Judges the candidate against the prediction interval of its history."""
    observed = observe(candidate)
    metrics = {
        metric: _judge_metric(
            metric,
            observed.get(metric),
            _past(metric, history),
            _binomial_variance(candidate) if metric == "errors" else 0.0,
            spec,
        )
        for metric in spec.margins
    }
    outcomes = [*(found.verdict for found in metrics.values()), *(found.verdict for found in objectives)]
    outcome: Outcome = "INCONCLUSIVE"
    if "FAIL" in outcomes:
        outcome = "FAIL"
    elif set(outcomes) == {"PASS"}:
        outcome = "PASS"
    return Verdict(
        verdict=outcome,
        reasons=tuple(_reasons(outcome, metrics, objectives, len(history))),
        judgement="historical",
        metrics=metrics,
        objectives=objectives,
        alpha=spec.alpha,
        noise_floor=spec.noise_floor,
        checks=checks,
    )


def _past(metric: str, history: Sequence[Mapping[str, float]]) -> list[float]:
    least = -1.0 if metric == "errors" else 0.0
    return [run[metric] for run in history if metric in run and isfinite(run[metric]) and run[metric] > least]


def _judge_metric(
    metric: str, value: float | None, past: list[float], own_variance: float, spec: GateSpec
) -> MetricVerdict:
    margin = spec.margin(metric)
    if value is None:
        why = _ONLY_TOGETHER if metric in OPTIONAL_MARGINS else "too few successful requests"
        return MetricVerdict("REFUSED", margin, len(past), note=why)
    if len(past) < LEAST_RUNS:
        note = f"{len(past)} earlier runs hold this metric; {LEAST_RUNS} are needed"
        return MetricVerdict("INCONCLUSIVE", margin, len(past), candidate=value, note=note)
    from scipy.special import stdtr, stdtrit

    linear = metric == "errors"
    worse = -1.0 if metric == "goodput" else 1.0
    scale = np.array(past) if linear else np.log(past)
    here = value if linear else log(max(value, 1e-9))
    limit = margin if linear else log1p(margin)
    centre, runs = float(scale.mean()), len(past)
    shift = worse * (here - centre)
    spread = sqrt(float(scale.var(ddof=1)) * (1 + 1 / runs) + own_variance)
    half = float(stdtrit(runs - 1, 1 - spec.alpha)) * spread
    p = float(stdtr(runs - 1, -shift / spread)) if spread else float(shift <= 0)
    p_adjusted = min(1.0, p * len(spec.margins))
    beyond = p_adjusted <= spec.alpha and shift >= limit
    fails = beyond and metric not in DISTURBED
    passes = shift + half < limit and metric not in TAILS
    shown = [here - centre, here - centre - half, here - centre + half]
    ratio, lower, upper = shown if linear else (exp(max(-700.0, min(700.0, end))) for end in shown)
    return MetricVerdict(
        "FAIL" if fails else "PASS" if passes else "INCONCLUSIVE",
        margin,
        runs,
        ratio=ratio,
        lower=lower,
        upper=upper,
        p_holm=p_adjusted,
        candidate=value,
        baseline=centre if linear else exp(centre),
        faster=not linear and shift + half < -log1p(spec.luck(metric)),
        note=_note(metric, beyond),
    )


def _note(metric: str, beyond: bool) -> str:
    if beyond and metric in DISTURBED:
        return "beyond the earlier runs, but a busy minute on the machine looks the same"
    return "a stored baseline never passes a tail percentile" if metric in TAILS else ""


def _binomial_variance(candidate: ArmBlocks) -> float:
    """Of the candidate's failure share: a history without failures would not know of it."""
    requests = share_of(candidate.failures, candidate.requests).effective
    share = (float(candidate.failures.sum()) + 1) / (float(candidate.requests.sum()) + 2)
    return share * (1 - share) / requests


def _reasons(
    outcome: Outcome,
    metrics: Mapping[str, MetricVerdict],
    objectives: Sequence[ObjectiveVerdict],
    runs: int,
) -> list[str]:
    if outcome == "FAIL":
        return [*wording.failing(metrics), *wording.objective_sentences(objectives, "FAIL")]
    if outcome == "PASS":
        return [f"The candidate is inside the margins of {runs} earlier runs."]
    return [
        f"A stored baseline ({runs} earlier runs) cannot prove the candidate sound; "
        "deploy the old model again and load both together.",
        *wording.undecided(metrics),
        *wording.objective_sentences(objectives, "INCONCLUSIVE"),
        *wording.refused(metrics),
    ]
