"""What each arm was sent and how it answered, by the summary every command of the project prints."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from model_load_test.components.results.summary import Summary, summarize
from model_load_test.components.results.table import RunMetadata

ARMS: Final = ("candidate", "baseline")
_NANOSECONDS: Final = 1e9


def summarize_arms(table: pa.Table, metadata: RunMetadata) -> dict[str, Summary]:
    """A summary per arm that has rows; the warm-up is left out.

    Rates are those of the time in which an arm was loaded: between its blocks it waits for the other arm
    or for the generator's next start, so the time is that of the arm's own blocks.
    """
    spec = metadata.load_spec
    block_seconds = spec.get("block_seconds")
    arms = table.column("arm").cast(pa.string()).to_numpy()
    blocks = table.column("block").to_numpy()
    summaries = {}
    for arm in ARMS:
        chosen = (arms == arm) & (blocks >= 0)
        if chosen.any():
            summary = summarize(table.filter(pa.array(chosen)), asked_rps=spec.get("rate_rps"))
            summary = msgspec.structs.replace(summary, arm=arm)
            if block_seconds:
                summary = _over(summary, np.unique(blocks[chosen]).size * block_seconds)
            summaries[arm] = summary
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


def _over(summary: Summary, loaded_seconds: float) -> Summary:
    return msgspec.structs.replace(
        summary,
        achieved_rps=summary.requests / loaded_seconds,
        goodput_rps=None if summary.ok is None else summary.ok / loaded_seconds,
    )
