"""From the results table alone to the verdict; the load room's stop rule and the offline judge are this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, sqrt

import numpy as np
import pyarrow as pa

from model_load_test.components.gate import historical, paired, wording
from model_load_test.components.gate.blocks import (
    ArmBlocks,
    Pairs,
    apart,
    of_two_loads,
    overlapping,
    pair,
    planned_requests,
    read_arms,
)
from model_load_test.components.gate.drift import drift_alarms
from model_load_test.components.gate.objectives import judge_objectives
from model_load_test.components.gate.spec import GateSpec
from model_load_test.components.gate.verdict import MetricVerdict, ObjectiveVerdict, Outcome, Verdict
from model_load_test.components.results.checks import Check
from model_load_test.components.results.resource_use import CpuUse

LEAST_PAIRS = 5
"""Fewer pairs have no bound at any usable alpha (2^-5 = 0.03)."""
MOST_OF_PLANNED = 1.2
"""Blocks of more than so many times the planned requests belong to another load."""
LEAST_VARYING = 20
"""So many latencies are never all the same to the nanosecond."""
SUSPICIOUS_DEVIATIONS = 3.0
"""An autocorrelation beyond so many of its standard deviations (1/sqrt(n)) is told."""


def judge(
    table: pa.Table,
    spec: GateSpec,
    *,
    checks: Sequence[Check] = (),
    history: Sequence[Mapping[str, float]] = (),
    cpu: Sequence[CpuUse] = (),
) -> Verdict:
    """Judges a run.

    Both arms: paired judgement. Only the candidate: against `history` where there is one, else
    NO_BASELINE. A check whose consequence is INVALID beats everything. FAIL if any metric or
    objective fails, PASS if all of them pass, else INCONCLUSIVE.

    Args:
        table: The results table; rows with `block == -1` are warm-up and ignored.
        spec: Margins, alpha, looks and objectives.
        checks: Findings about the measurement, from `results` and from loading.
        history: Per earlier passing run of the same key its `mean`, `p50`, `p95`, `p99` in
            seconds, `errors` as a share and `goodput` per second, as `MetricVerdict.candidate`
            has them; oldest first.
        cpu: CPU time of the servers over stretches of the same blocks, for a margin of `cpu`.

    Raises:
        ResultsTableError: The table lacks a column or holds values that are not measurements.
    """
    arms = read_arms(table)
    findings = (*checks, *_table_checks(arms, spec), *drift_alarms(history))
    invalid = tuple(check.detail for check in findings if check.consequence == "INVALID")
    if invalid:
        return _plain("INVALID", invalid, spec, findings)
    candidate, baseline = arms["candidate"], arms.get("baseline")
    if baseline is not None:
        return _judge_pairs(candidate, baseline, spec, findings, cpu)
    alpha = spec.alpha_at(candidate.numbers.size)
    objectives = judge_objectives(spec.objectives, candidate, alpha)
    if history and spec.margins:
        return historical.judge_against(history, candidate, spec, objectives, findings)
    return historical.without_baseline(candidate, spec, objectives, findings)


def _judge_pairs(
    candidate: ArmBlocks,
    baseline: ArmBlocks,
    spec: GateSpec,
    checks: tuple[Check, ...],
    cpu: Sequence[CpuUse],
) -> Verdict:
    pairs = pair(candidate, baseline, spec.requests_per_block, spec.requests_of_blocks)
    alpha = spec.alpha_at(pairs.count + pairs.void)
    objectives = judge_objectives(spec.objectives, candidate, alpha)
    if pairs.count <= pairs.void:
        detail = (
            f"Only {pairs.count} of {pairs.count + pairs.void} blocks are complete in both arms; "
            "load both over the same blocks, with a generator that keeps up."
        )
        return _plain("INVALID", (detail,), spec, (*checks, _invalid("incomplete-blocks", detail)))
    findings = paired.find(pairs, spec, alpha, cpu)
    metrics = paired.decide(findings, spec, alpha)
    more_looks = pairs.count + pairs.void < spec.looks[-1]
    outcome = _combined(metrics, objectives, pairs, more_looks)
    wanted = paired.pairs_wanted(findings, metrics, alpha) if outcome == "INCONCLUSIVE" else None
    usual_requests = float(np.median(pairs.baseline.requests))
    return Verdict(
        verdict=outcome,
        reasons=tuple(_reasons(outcome, metrics, objectives, pairs, wanted)),
        metrics=metrics,
        objectives=objectives,
        pairs=pairs.count,
        pairs_wanted=wanted,
        requests_wanted=None if wanted is None else ceil(wanted * usual_requests),
        alpha=spec.alpha,
        detectable_effect=paired.detectable_effect(findings, alpha),
        noise_floor=spec.noise_floor,
        checks=(*checks, *_autocorrelation_check(pairs)),
    )


def _autocorrelation_check(pairs: Pairs) -> tuple[Check, ...]:
    resemblance = paired.autocorrelation(pairs)
    if resemblance <= SUSPICIOUS_DEVIATIONS / sqrt(max(pairs.count, 1)):
        return ()
    detail = (
        f"Neighbouring pairs of blocks resemble each other (autocorrelation {resemblance:.2f}), "
        "so this verdict is wrong more often than alpha says; use longer blocks."
    )
    return (Check("autocorrelated-pairs", detail, "WARNING", {"autocorrelation": resemblance}),)


def _combined(
    metrics: Mapping[str, MetricVerdict],
    objectives: Sequence[ObjectiveVerdict],
    pairs: Pairs,
    more_looks: bool,
) -> Outcome:
    outcomes = [*(found.verdict for found in metrics.values()), *(found.verdict for found in objectives)]
    if "FAIL" in outcomes:
        return "FAIL"
    # A refused metric waits for more requests while more are planned; in the end the rest decides.
    open_metrics = "INCONCLUSIVE" in outcomes or ("REFUSED" in outcomes and more_looks)
    decided = "PASS" in outcomes and not open_metrics and pairs.count >= LEAST_PAIRS
    return "PASS" if decided else "INCONCLUSIVE"


def _reasons(
    outcome: Outcome,
    metrics: Mapping[str, MetricVerdict],
    objectives: Sequence[ObjectiveVerdict],
    pairs: Pairs,
    wanted: int | None,
) -> list[str]:
    if outcome == "FAIL":
        decisive = [*wording.failing(metrics), *wording.objective_sentences(objectives, "FAIL")]
    elif outcome == "PASS":
        decisive = [*wording.passing(metrics, pairs.count, objectives), *wording.faster(metrics)]
    else:
        decisive = [
            *wording.undecided(metrics),
            *wording.objective_sentences(objectives, "INCONCLUSIVE"),
            _advice(wanted, pairs),
        ]
    return [*decisive, *wording.refused(metrics), *_left_out(pairs)]


def _advice(wanted: int | None, pairs: Pairs) -> str:
    if pairs.count < LEAST_PAIRS:
        return f"{pairs.count} complete pairs of blocks decide nothing; measure at least 10."
    if wanted is None:
        return "More load would not decide it: the difference is too near to what is allowed."
    return f"About {wanted} further pairs of blocks would probably decide it."


def _left_out(pairs: Pairs) -> list[str]:
    if not pairs.void:
        return []
    return [f"{pairs.void} of {pairs.count + pairs.void} blocks were left out: too few requests in an arm."]


def _table_checks(arms: Mapping[str, ArmBlocks], spec: GateSpec) -> list[Check]:
    if "candidate" not in arms:
        held = "only baseline rows" if arms else "no measured rows"
        return [_invalid("no-candidate", f"The table holds {held}; load the candidate too.")]
    found = [check for arm, blocks in arms.items() for check in _arm_checks(arm, blocks, spec)]
    if "baseline" in arms and not found:
        found += _pairing_checks(arms["candidate"], arms["baseline"], spec)
    return found


def _arm_checks(arm: str, blocks: ArmBlocks, spec: GateSpec) -> list[Check]:
    if blocks.doubled:
        detail = f"Rows of the {arm} stand in the table more than once; merge each file once."
        return [_invalid("duplicated-blocks", detail)]
    if overlapping(blocks):
        detail = f"Blocks of the {arm} overlap in time: the table mixes several runs; judge each alone."
        return [_invalid("overlapping-blocks", detail)]
    planned = planned_requests(blocks.numbers, spec.requests_per_block, spec.requests_of_blocks)
    if spec.requests_per_block and float(np.median(blocks.requests - MOST_OF_PLANNED * planned)) > 2:
        detail = (
            f"Blocks of the {arm} hold {np.median(blocks.requests):.0f} requests where "
            f"{np.median(planned):g} were planned: these are not rows of this load spec; judge them with the "
            "spec they were measured by."
        )
        return [_invalid("other-load", detail)]
    if arm == "baseline" and blocks.failures.sum() > paired.COLLAPSED * blocks.requests.sum():
        detail = (
            "Most requests to the baseline failed, so there is nothing to compare with; mend the baseline."
        )
        return [_invalid("baseline-failed", detail)]
    if blocks.latencies.size >= LEAST_VARYING and np.ptp(blocks.latencies) == 0:
        detail = (
            f"All requests to the {arm} took exactly {blocks.latencies[0] * 1e3:.6g} ms: that was not "
            "measured, or by a clock too coarse; load with a tool that tells nanoseconds."
        )
        return [_invalid("constant-latency", detail)]
    return []


def _pairing_checks(candidate: ArmBlocks, baseline: ArmBlocks, spec: GateSpec) -> list[Check]:
    if apart(candidate, baseline):
        detail = (
            "Candidate and baseline were not loaded at the same time, so that one of them may have met "
            "a busier machine; load both in one run, duet or interleaved."
        )
        return [_invalid("arms-apart", detail)]
    if not spec.requests_of_blocks and of_two_loads(candidate, baseline):
        detail = "The table joins blocks of different rates or lengths; judge each run alone."
        return [_invalid("mixed-loads", detail)]
    return []


def _invalid(code: str, detail: str) -> Check:
    return Check(code=code, detail=detail, consequence="INVALID")


def _plain(outcome: Outcome, reasons: tuple[str, ...], spec: GateSpec, checks: tuple[Check, ...]) -> Verdict:
    return Verdict(
        verdict=outcome,
        reasons=reasons,
        judgement="none",
        alpha=spec.alpha,
        noise_floor=spec.noise_floor,
        checks=checks,
    )
