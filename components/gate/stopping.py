"""The question the load room asks at each look: is it decided already?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import GateSpec
from model_load_test.components.gate.verdict import Verdict
from model_load_test.components.results.resource_use import CpuUse

if TYPE_CHECKING:
    from model_load_test.components.load.run import StopRule


CpuSoFar = Callable[[pa.Table], Sequence[CpuUse]]
"""Tells what the servers have used over the blocks of the rows so far."""


def stop_rule(
    spec: GateSpec, *, history: Sequence[Mapping[str, float]] = (), cpu_so_far: CpuSoFar | None = None
) -> Callable[[pa.Table], Verdict]:
    """The judgement of all rows measured so far, for the looks planned in `spec.looks`.

    It is `judge` itself: the verdict a run stopped with is the verdict of its results table.
    """

    def rule(table: pa.Table) -> Verdict:
        cpu = cpu_so_far(table) if cpu_so_far and "cpu" in spec.margins else ()
        return judge(table, spec, history=history, cpu=cpu)

    return rule


def stops(verdict: Verdict) -> bool:
    """Whether a run is over before its last look: decided against its baseline arm, or spoilt.

    A run without a baseline arm goes on to the end: alpha is not spent over looks against a
    history, and what it records must be as long as the runs it will be compared with.
    """
    decided = verdict.judgement == "paired" and verdict.verdict != "INCONCLUSIVE"
    return decided or verdict.verdict == "INVALID"


def load_stop_rule(spec: GateSpec, cpu_so_far: CpuSoFar | None = None) -> StopRule:
    """`stop_rule` as the load room asks it: stop or go on, and the running estimate as text."""
    # Judging a file offline must not need the generators' modules.
    from model_load_test.components.load.run import StopDecision

    rule = stop_rule(spec, cpu_so_far=cpu_so_far)

    def decide(table: pa.Table) -> StopDecision:
        verdict = rule(table)
        ratios = [
            f"{name} x{metric.ratio:.3f} [{metric.lower:.3f}, {metric.upper:.3f}]"
            for name, metric in verdict.metrics.items()
            if metric.ratio is not None
            and metric.lower is not None
            and metric.upper is not None
            and name not in ("errors", "goodput")
        ]
        return StopDecision(stops(verdict), f"{verdict.verdict} {', '.join(ratios)}".strip())

    return decide
