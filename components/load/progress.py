"""What a person sees while the load runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import get_args

import pyarrow as pa
import pyarrow.compute as pc

from model_load_test.components.load.blocks import rows_of_arm
from model_load_test.components.load.schedule import Arm
from model_load_test.components.load.spec import LoadSpec
from model_load_test.components.results.percentile import percentile

Progress = Callable[[str], None]

BLOCKS_PER_LINE = 5


def print_progress(line: str) -> None:
    """Writes one line to the log at once, as a pod's log wants it."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stdout, flush=True)


def progress_line(table: pa.Table, block: int, spec: LoadSpec) -> str:
    """One line on the newest blocks, e.g. `pair 10 of at most 60; candidate 200/s, p50 1.21 ms, ...`."""
    unit = "block" if spec.mode == "single" else "pair"
    parts = [f"{unit} {block + 1} of at most {spec.max_pairs}"]
    newest = table.filter(pc.field("block") > block - BLOCKS_PER_LINE)
    for arm in get_args(Arm):
        rows = rows_of_arm(newest, arm)
        if rows.num_rows:
            parts.append(_arm_text(arm, rows, spec))
    return "; ".join(parts)


def _arm_text(arm: Arm, rows: pa.Table, spec: LoadSpec) -> str:
    blocks = len(set(rows["block"].to_pylist()))
    rate = f"{rows.num_rows / (blocks * spec.block_seconds):.0f}/s"
    ok = rows.filter(rows["ok"])
    if not ok.num_rows:
        return f"{arm} {rate}, all {rows.num_rows} failed"
    latency_ns = ok["latency_ns"].to_numpy()
    texts = [f"p{q} {percentile(latency_ns, q) / 1e6:.2f} ms" for q in (50, 95)]
    failed = rows.num_rows - ok.num_rows
    return f"{arm} {rate}, {', '.join(texts)}" + (f", {failed} failed" if failed else "")
