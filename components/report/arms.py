"""What each arm was sent and how it answered, by the summary every command of the project prints."""

from __future__ import annotations

from typing import Final

import msgspec
import pyarrow as pa

from model_load_test.components.results.summary import Summary, summarize_blocks
from model_load_test.components.results.table import RunMetadata

ARMS: Final = ("candidate", "baseline")
_NANOSECONDS: Final = 1e9


def summarize_arms(table: pa.Table, metadata: RunMetadata) -> dict[str, Summary]:
    """A summary per arm that has rows; the warm-up is left out."""
    arms = table.column("arm").cast(pa.string()).to_numpy()
    blocks = table.column("block").to_numpy()
    summaries = {}
    for arm in ARMS:
        chosen = (arms == arm) & (blocks >= 0)
        if chosen.any():
            summary = summarize_blocks(table.filter(pa.array(chosen)), metadata.load_spec)
            summaries[arm] = msgspec.structs.replace(summary, arm=arm)
    return summaries


def latency_seconds(summary: Summary | None, name: str) -> float | None:
    """A latency of a summary (`mean`, `p50`, ..., `max`) in seconds; absent where too few tell it."""
    value = getattr(summary.latency_ns, name, None) if summary else None
    return None if value is None else value / _NANOSECONDS


def error_share(summary: Summary) -> float | None:
    """Failed requests over all; absent where the failures were not counted."""
    if summary.failed is None or not summary.requests:
        return None
    return summary.failed / summary.requests
