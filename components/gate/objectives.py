"""Absolute service-level objectives of the candidate, such as `p99_ms<=50`.

A percentile or a failure share is judged by the binomial distribution of the requests over the
limit, as MLPerf's load generator does (loadgen/early_stopping.cc), a failed request counting as
over. Requests of one block fare alike, so their number is divided by the design effect measured
over the blocks. A mean or a goodput is judged by Student's t over the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from model_load_test.components.gate.blocks import ArmBlocks, Floats
from model_load_test.components.gate.failures import design_effect
from model_load_test.components.gate.verdict import ObjectiveVerdict
from model_load_test.components.results.objective import Objective, parse_objective
from model_load_test.components.results.percentile import nearest_rank


@dataclass(frozen=True)
class Evidence:
    """What the requests say about one objective."""

    observed: float
    p_met: float
    """Chance of data as good as these if the objective were just missed: small means met."""
    p_missed: float
    """Chance of data as bad as these if the objective were just met: small means missed."""


def judge_objectives(
    texts: tuple[str, ...], candidate: ArmBlocks, alpha: float
) -> tuple[ObjectiveVerdict, ...]:
    """Judges the candidate's measured blocks against every objective.

    PASS is claimed at `alpha` each (all must hold), FAIL at `alpha` over all of them (Bonferroni).

    Args:
        texts: Objectives as the user wrote them.
        candidate: The candidate's blocks, at least one.
        alpha: One-sided error of this judgement.
    """
    return tuple(_judge(parse_objective(text), candidate, alpha, alpha / len(texts)) for text in texts)


def _judge(
    objective: Objective, candidate: ArmBlocks, alpha: float, alpha_of_failing: float
) -> ObjectiveVerdict:
    evidence = _evidence(objective, candidate)
    if evidence is None:
        return ObjectiveVerdict(
            objective.text, "INCONCLUSIVE", note="too few blocks with successful requests"
        )
    if evidence.p_met <= alpha:
        return ObjectiveVerdict(objective.text, "PASS", evidence.observed, 1 - evidence.p_met)
    if evidence.p_missed <= alpha_of_failing:
        return ObjectiveVerdict(objective.text, "FAIL", evidence.observed, 1 - evidence.p_missed)
    return ObjectiveVerdict(
        objective.text,
        "INCONCLUSIVE",
        evidence.observed,
        1 - min(evidence.p_met, evidence.p_missed),
        f"confidence {1 - alpha:.4g} is asked for",
    )


def _evidence(objective: Objective, candidate: ArmBlocks) -> Evidence | None:
    if objective.quantity == "error_rate":
        observed = float(candidate.failures.sum() / candidate.requests.sum())
        return _binomial(candidate.failures, candidate.requests, objective.limit, observed)
    if objective.quantity == "percentile":
        return _percentile_evidence(objective, candidate)
    blocks = candidate.mean() if objective.quantity == "mean" else -candidate.goodput()
    limit = objective.limit if objective.quantity == "mean" else -objective.limit
    return _student(blocks[np.isfinite(blocks)], limit, objective.unit)


def _percentile_evidence(objective: Objective, candidate: ArmBlocks) -> Evidence | None:
    if not candidate.latencies.size:
        return None
    late = candidate.latencies > objective.limit
    block_of = np.repeat(np.arange(candidate.numbers.size), candidate.succeeded)
    over = np.bincount(block_of[late], minlength=candidate.numbers.size) + candidate.failures
    rank = nearest_rank(candidate.latencies.size, 100 * objective.q) - 1
    observed = float(np.partition(candidate.latencies, rank)[rank]) / objective.unit
    return _binomial(over, candidate.requests, 1 - objective.q, observed)


def _binomial(counts: np.ndarray, requests: np.ndarray, share: float, observed: float) -> Evidence:
    from scipy.special import bdtr, bdtrc

    effect = design_effect(counts, requests)
    n = float(requests.sum() / effect)
    over = float(counts.sum() / effect)
    # Rounded against the claim on either side, since the effective numbers are not whole.
    p_met = float(bdtr(ceil(over - 1e-9), int(n), share)) if n >= 1 else 1.0
    p_missed = float(bdtrc(int(over + 1e-9) - 1, ceil(n), share)) if int(over + 1e-9) >= 1 else 1.0
    return Evidence(observed, min(1.0, p_met), min(1.0, p_missed))


def _student(values: Floats, limit: float, unit: float) -> Evidence | None:
    from scipy.special import stdtr

    if values.size < 5:
        return None
    centre = float(values.mean())
    error = float(values.std(ddof=1)) / sqrt(values.size)
    observed = abs(centre) / unit
    if error == 0:
        return Evidence(observed, 0.0 if centre <= limit else 1.0, 0.0 if centre > limit else 1.0)
    p_missed = float(stdtr(values.size - 1, (limit - centre) / error))
    return Evidence(observed, 1 - p_missed, p_missed)
