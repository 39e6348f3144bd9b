"""The question the load room asks at each look: is it decided already?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pyarrow as pa

from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import GateSpec
from model_load_test.components.gate.verdict import Verdict


def stop_rule(
    spec: GateSpec, *, history: Sequence[Mapping[str, float]] = ()
) -> Callable[[pa.Table], Verdict]:
    """The judgement of all rows measured so far, for the looks planned in `spec.looks`.

    It is `judge` itself: the verdict a run stopped with is the verdict of its results table.
    """
    return partial(judge, spec=spec, history=history)


def decided(verdict: Verdict) -> tuple[bool, str]:
    """Whether to stop loading at this verdict, and the running estimate in one line for the log."""
    return (
        verdict.verdict != "INCONCLUSIVE",
        f"{verdict.verdict} after {verdict.pairs} pairs: {verdict.reasons[0]}",
    )
