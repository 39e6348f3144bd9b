"""Rates of our own results table: those of the time in which an arm was loaded."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from model_load_test.components.results.summary import summarize_blocks
from model_load_test.components.results.table import SCHEMA
from model_load_test.components.results.validity import check_rows

SPEC = {"rate_rps": 100.0, "block_seconds": 1.0}


def two_blocks_three_seconds_apart() -> pa.Table:
    sent_at_ns = np.concatenate([start + np.arange(100) * 10_000_000 for start in (0, 3_000_000_000)])
    count = len(sent_at_ns)
    return pa.table(
        {
            "arm": ["candidate"] * count,
            "block": np.repeat([0, 1], 100).astype(np.int32),
            "worker": np.zeros(count, np.int16),
            "sent_at_ns": sent_at_ns + 10**18,
            "scheduled_at_ns": pa.nulls(count, pa.int64()),
            "latency_ns": np.full(count, 1_000_000),
            "ok": [True] * (count - 20) + [False] * 20,
            "status": ["OK"] * count,
            "error": [""] * count,
            "request_bytes": pa.nulls(count, pa.int64()),
            "response_bytes": pa.nulls(count, pa.int64()),
        }
    ).cast(SCHEMA)


def test_the_pause_between_blocks_is_not_counted_as_a_low_rate() -> None:
    summary = summarize_blocks(two_blocks_three_seconds_apart(), SPEC)
    assert summary.offered_rps == 100.0
    assert summary.achieved_rps == 100.0
    assert summary.goodput_rps == 90.0


def test_without_a_load_spec_only_the_whole_window_is_known() -> None:
    summary = summarize_blocks(two_blocks_three_seconds_apart(), {})
    assert summary.achieved_rps == pytest.approx(200 / 3.991, rel=1e-3)


def test_the_pause_between_blocks_is_no_paused_generator() -> None:
    rows = two_blocks_three_seconds_apart()
    assert "sending-gap" in {check.code for check in check_rows(rows)}
    assert "sending-gap" not in {check.code for check in check_rows(rows, starts_each_block=True)}
