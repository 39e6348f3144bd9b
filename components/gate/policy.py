"""Whether the pipeline goes on after a verdict."""

from __future__ import annotations

from model_load_test.components.gate.spec import GateSpec
from model_load_test.components.gate.verdict import Verdict


def may_continue(verdict: Verdict, policies: GateSpec) -> tuple[bool, str]:
    """Decides by the policies whether the next step may run.

    PASS continues, FAIL and INVALID break; `on_inconclusive` and `on_missing_baseline` decide the rest.

    Returns:
        Whether to continue, and the reason in one line.
    """
    why = verdict.reasons[0] if verdict.reasons else "no reason was recorded"
    if verdict.verdict == "PASS":
        return True, f"PASS: {why}"
    if verdict.verdict == "INCONCLUSIVE":
        return _by_policy(verdict, "on_inconclusive", policies.on_inconclusive, why)
    if verdict.verdict == "NO_BASELINE":
        return _by_policy(verdict, "on_missing_baseline", policies.on_missing_baseline, why)
    return False, f"{verdict.verdict}: {why}"


def _by_policy(verdict: Verdict, name: str, policy: str, why: str) -> tuple[bool, str]:
    goes_on = policy != "fail"
    warning = "WARNING: " if policy == "warn" else ""
    decision = "continues" if goes_on else "stops"
    return goes_on, f"{warning}{verdict.verdict} and {name}={policy}: the pipeline {decision}; {why}"
