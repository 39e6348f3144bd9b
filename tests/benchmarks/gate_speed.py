"""Time to judge 60 pairs from a table of 24 000 rows, beside the reference sketch's own time.

python tests/benchmarks/gate_speed.py
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from gate_rules import sketch_verdict
from gate_trials import World

from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import GateSpec

REPEATS = 41
LIMIT_MS = 50.0
LIMIT_RATIO = 3.0


def main() -> int:
    """Prints medians; returns 1 when a limit is exceeded."""
    trial = World(lottery=0).trial(np.random.default_rng(0))
    table = trial.table(60)
    ours = _milliseconds(lambda: judge(table, GateSpec()))
    sketch = _milliseconds(lambda: sketch_verdict(trial.baseline, trial.candidate, 0.025))
    print(
        f"judge: {ours:.1f} ms for {table.num_rows} rows, 60 pairs, 6 metrics; "
        f"sketch (4 metrics, arrays given): {sketch:.1f} ms; ratio {ours / sketch:.2f}"
    )
    return int(ours > LIMIT_MS or ours > LIMIT_RATIO * sketch)


def _milliseconds(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
