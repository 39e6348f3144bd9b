"""What the field decides by, each reduced to "would it stop this run?", and our own gate.

The rules are described with their sources in the project's survey of judges: Flagger and k6 compare
point values with thresholds, Kayenta's judge runs Mann-Whitney on time series.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log, log1p, sqrt

import numpy as np
from gate_trials import PAIRS, Trial
from scipy import stats

from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import GateSpec, parse_gate_spec
from model_load_test.components.gate.stopping import stop_rule

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Decision:
    """FAIL, PASS or INCONCLUSIVE, after so many pairs."""

    outcome: str
    pairs: int
    metrics: dict[str, str] = field(default_factory=dict)
    """The verdict on each metric, of our own gate."""


def our_gate(trial: Trial, spec: GateSpec) -> Decision:
    """Our gate as the load room runs it: asked at each look."""
    rule = stop_rule(spec)
    for look in spec.looks:
        verdict = rule(trial.table(look))
        if verdict.verdict != "INCONCLUSIVE":
            break
    metrics = {name: found.verdict for name, found in verdict.metrics.items()}
    return Decision(verdict.verdict, look, metrics)


def our_gate_by_history(trial: Trial) -> Decision:
    """Our gate without a baseline arm, against 20 earlier runs."""
    spec = parse_gate_spec({"margins": {"errors": None, "goodput": None}})
    verdict = judge(trial.table(PAIRS, arms_measured=1), spec, history=trial.history)
    return Decision(verdict.verdict, PAIRS)


def reference_sketch(trial: Trial) -> Decision:
    """The 50-line reference: significance against zero, the estimate at the margin."""
    for look, alpha in ((15, 0.0125), (30, 0.0125), (60, 0.025)):
        verdict = sketch_verdict(trial.baseline[:look], trial.candidate[:look], alpha)
        if verdict != "INCONCLUSIVE":
            return Decision(verdict, look)
    return Decision("INCONCLUSIVE", PAIRS)


def stored_threshold(trial: Trial) -> Decision:
    """The mean or p99 of the run is more than 10 % above that of an earlier run."""
    return _threshold(trial.candidate, trial.stored)


def sequential_threshold(trial: Trial) -> Decision:
    """The same, the candidate measured right after the baseline."""
    return _threshold(trial.after, trial.baseline)


def duet_threshold(trial: Trial) -> Decision:
    """The same, both measured together."""
    return _threshold(trial.candidate, trial.baseline)


def mann_whitney(trial: Trial) -> Decision:
    """Mann-Whitney's test on the requests of both arms measured together, p < 0.05."""
    p = stats.mannwhitneyu(
        np.concatenate(trial.candidate), np.concatenate(trial.baseline), alternative="greater"
    ).pvalue
    return Decision("FAIL" if p < 0.05 else "PASS", PAIRS)


def sequential_mann_whitney(trial: Trial) -> Decision:
    """Mann-Whitney's test on requests, the candidate measured right after the baseline."""
    p = stats.mannwhitneyu(
        np.concatenate(trial.after), np.concatenate(trial.baseline), alternative="greater"
    ).pvalue
    return Decision("FAIL" if p < 0.05 else "PASS", PAIRS)


def kayenta(trial: Trial) -> Decision:
    """Kayenta's judge on one point a second of mean, p50, p95 and p99; any metric "High" fails."""
    for metric in ("mean", "p50", "p95", "p99"):
        canary = np.array([block_value(block, metric) for block in trial.candidate])
        control = np.array([block_value(block, metric) for block in trial.baseline])
        shifts = np.sort((canary[:, None] - control[None, :]).ravel())
        n, m = canary.size, control.size
        k = int(n * m / 2 - stats.norm.ppf(0.99) * sqrt(n * m * (n + m + 1) / 12))
        estimate = float(np.median(shifts))
        if shifts[max(k, 0)] > 0.25 * abs(estimate) and canary.mean() >= control.mean():
            return Decision("FAIL", PAIRS)
    return Decision("PASS", PAIRS)


def sketch_verdict(baseline: list[np.ndarray], candidate: list[np.ndarray], alpha: float) -> str:
    """One look of the reference sketch."""
    margins = {"mean": 0.05, "p50": 0.05, "p95": 0.10, "p99": 0.25}
    intervals, p_values = {}, []
    for metric in margins:
        d = np.array(
            [
                log(block_value(b, metric) / block_value(a, metric))
                for a, b in zip(baseline, candidate, strict=True)
            ]
        )
        intervals[metric] = _walsh_interval(d, alpha)
        exact = d.size <= 25 and np.unique(np.abs(d)).size == d.size
        p_values.append(
            stats.wilcoxon(d, alternative="greater", method="exact" if exact else "approx").pvalue
        )
    order = np.argsort(p_values)
    running, adjusted = 0.0, [0.0] * len(p_values)
    for place, index in enumerate(order):
        running = max(running, min(1.0, p_values[index] * (len(p_values) - place)))
        adjusted[index] = running
    for p, (metric, margin) in zip(adjusted, margins.items(), strict=True):
        if p <= alpha and intervals[metric][0] >= log1p(margin):
            return "FAIL"
    inside = all(intervals[metric][2] < log1p(margin) for metric, margin in margins.items())
    return "PASS" if inside else "INCONCLUSIVE"


def block_value(block: np.ndarray, metric: str) -> float:
    """The sketch's statistic of a block."""
    return float(block.mean() if metric == "mean" else np.quantile(block, QUANTILES[metric]))


def _walsh_interval(d: np.ndarray, alpha: float) -> tuple[float, float, float]:
    n = d.size
    i, j = np.triu_indices(n)
    walsh = np.sort((d[i] + d[j]) / 2)
    mass = np.zeros(n * (n + 1) // 2 + 1)
    mass[0] = 1
    for rank in range(1, n + 1):
        taken = mass.copy()
        taken[rank:] += mass[:-rank]
        mass = taken / 2
    k = int(np.searchsorted(np.cumsum(mass), alpha, side="right"))
    return (
        (float(np.median(walsh)), walsh[k - 1], walsh[-k])
        if k
        else (float(np.median(walsh)), -np.inf, np.inf)
    )


def _threshold(candidate: list[np.ndarray], baseline: list[np.ndarray]) -> Decision:
    new, old = np.concatenate(candidate), np.concatenate(baseline)
    worse = new.mean() > 1.1 * old.mean() or np.quantile(new, 0.99) > 1.1 * np.quantile(old, 0.99)
    return Decision("FAIL" if worse else "PASS", PAIRS)
