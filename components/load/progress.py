"""What a person sees while the load runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import get_args

import pyarrow as pa

from model_load_test.components.load.blocks import rows_of_arm
from model_load_test.components.load.schedule import Arm
from model_load_test.components.results.percentile import percentile

Progress = Callable[[str], None]


def print_progress(line: str) -> None:
    """Writes one line to the log at once, as a pod's log wants it."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stdout, flush=True)


def segment_line(rows: pa.Table, pairs: int, max_pairs: int, mode: str) -> str:
    """One line on the blocks just measured, e.g. `pair 10 of at most 60: p50 1.21 ms against 1.19 ms`."""
    unit = "block" if mode == "single" else "pair"
    parts = [f"{unit} {pairs} of at most {max_pairs}"]
    for arm in get_args(Arm):
        of_arm = rows_of_arm(rows, arm)
        if of_arm.num_rows:
            parts.append(_arm_text(arm, of_arm))
    return "; ".join(parts)


def _arm_text(arm: Arm, rows: pa.Table) -> str:
    ok = rows.filter(rows["ok"])
    sent_at_ns = rows["sent_at_ns"].to_numpy()
    window_seconds = (int(sent_at_ns.max()) - int(sent_at_ns.min())) / 1e9
    rate = f"{(rows.num_rows - 1) / window_seconds:.0f}/s" if window_seconds > 0 else "one request"
    if not ok.num_rows:
        return f"{arm} {rate}, all {rows.num_rows} failed"
    latency_ns = ok["latency_ns"].to_numpy()
    texts = [f"p{q} {percentile(latency_ns, q) / 1e6:.2f} ms" for q in (50, 95)]
    failed = rows.num_rows - ok.num_rows
    return f"{arm} {rate}, {', '.join(texts)}" + (f", {failed} failed" if failed else "")
