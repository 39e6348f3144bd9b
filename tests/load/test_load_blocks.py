from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model_load_test.components.load.blocks import assign_block, rows_of_arm, with_schedule
from model_load_test.components.load.schedule import Segment, warmup_segment
from model_load_test.components.load.spec import parse_load_spec
from model_load_test.components.results.table import SCHEMA

SEGMENT = Segment(("candidate", "baseline"), block=15, block_seconds=1.0, lead_seconds=0.5)


def rows(sent_at_seconds: list[float], latency_ms: float = 2.0) -> pa.Table:
    count = len(sent_at_seconds)
    values = {
        "worker": [0] * count,
        "sent_at_ns": [round(seconds * 1e9) for seconds in sent_at_seconds],
        "scheduled_at_ns": [None] * count,
        "latency_ns": [round(latency_ms * 1e6)] * count,
        "ok": [True] * count,
        "status": ["OK"] * count,
        "error": [""] * count,
        "request_bytes": [None] * count,
        "response_bytes": [None] * count,
    }
    return pa.table(values, schema=SCHEMA.remove(0).remove(0))


def test_both_arms_share_the_window_that_opens_after_the_later_ones_lead() -> None:
    table = assign_block(
        {"candidate": rows([10.0, 10.69, 10.71, 11.6, 11.71]), "baseline": rows([10.2, 10.69, 10.7, 11.69])},
        SEGMENT,
    )
    # the window opens at 10.2 + 0.5 s and closes a second later
    assert table.filter(pc.field("arm") == "candidate")["block"].to_pylist() == [-1, -1, 15, 15, -1]
    assert table.filter(pc.field("arm") == "baseline")["block"].to_pylist() == [-1, -1, 15, 15]


def test_warm_up_is_no_block() -> None:
    warmup = warmup_segment(parse_load_spec({"mode": "single"}))
    table = assign_block({"candidate": rows([1.0, 2.0, 3.5])}, warmup)
    assert table["block"].to_pylist() == [-1, -1, -1]
    assert rows_of_arm(table, "candidate").num_rows == 0


def test_an_arm_without_rows_leaves_the_other_ones_rows() -> None:
    table = assign_block({"candidate": rows([]), "baseline": rows([1.0, 2.0])}, SEGMENT)
    assert table["arm"].to_pylist() == ["baseline", "baseline"]
    assert table.schema.equals(SCHEMA)


def test_latency_counts_from_the_schedule_when_the_generator_fell_behind() -> None:
    scheduled = with_schedule(rows([1.0, 1.01, 1.05, 1.03]), rate_rps=100)
    assert np.allclose(scheduled["scheduled_at_ns"].to_numpy() / 1e9, [1.0, 1.01, 1.02, 1.03])
    # the third by time was due at 1.02 and sent at 1.03, the fourth due at 1.03 and sent at 1.05
    assert np.allclose(scheduled["latency_ns"].to_numpy() / 1e6, [2.0, 2.0, 12.0, 22.0])


def test_a_request_is_never_scheduled_after_it_was_sent() -> None:
    scheduled = with_schedule(rows([1.0, 1.009, 1.0195]), rate_rps=100)
    assert (scheduled["scheduled_at_ns"].to_numpy() <= scheduled["sent_at_ns"].to_numpy()).all()
    assert scheduled["latency_ns"].to_pylist() == [2_000_000] * 3


def test_the_jitter_of_the_generators_timer_is_not_the_servers_latency() -> None:
    late_ms = [0.9, 0.1, 0.0, 1.4, 0.3]
    scheduled = with_schedule(rows([1 + k / 100 + ms / 1e3 for k, ms in enumerate(late_ms)]), rate_rps=100)
    assert scheduled["latency_ns"].to_pylist() == [2_000_000] * 5
    assert np.allclose(scheduled["scheduled_at_ns"].to_numpy() / 1e9, 1 + np.arange(5) / 100)
