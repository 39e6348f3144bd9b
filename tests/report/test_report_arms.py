"""Each arm's summary as the report shows it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from model_load_test.components.report.arms import error_share, latency_seconds, summarize_arms
from model_load_test.components.results.table import SCHEMA, RunMetadata


def test_the_warmup_is_left_out_and_the_offered_rate_is_the_specs(results_table) -> None:
    table = results_table(pairs=3, warmup_seconds=2, error_share=0.1)
    arms = summarize_arms(table, RunMetadata(load_spec={"rate_rps": 210.0, "mode": "duet"}))
    assert list(arms) == ["candidate", "baseline"]
    candidate = arms["candidate"]
    assert candidate.arm == "candidate"
    assert candidate.requests == 600
    assert candidate.offered_rps == 210.0
    assert candidate.achieved_rps == pytest.approx(200, rel=0.02)
    assert error_share(candidate) == pytest.approx(0.1, abs=0.05)
    assert error_share(candidate) == candidate.failed / 600


def test_an_arm_without_rows_has_no_summary(results_table) -> None:
    assert list(summarize_arms(results_table(pairs=2, arms=("candidate",)), RunMetadata())) == ["candidate"]
    assert summarize_arms(SCHEMA.empty_table(), RunMetadata()) == {}


def test_a_tail_that_few_requests_tell_is_absent(results_table) -> None:
    few = summarize_arms(results_table(pairs=3), RunMetadata())["candidate"]
    assert latency_seconds(few, "p99") is None
    assert 0.005 < latency_seconds(few, "p50") < latency_seconds(few, "p95") < 0.05
    enough = summarize_arms(results_table(pairs=11), RunMetadata())["candidate"]
    assert latency_seconds(enough, "p99") > latency_seconds(enough, "p95")
    assert latency_seconds(None, "p50") is None


def test_arms_have_the_rate_of_their_own_blocks(results_table) -> None:
    table = results_table(pairs=4, warmup_seconds=0)
    # The baseline's blocks follow the candidate's: each arm is loaded every other second.
    second = np.asarray(table["block"])
    later = np.where(np.asarray(table["arm"].cast(pa.string())) == "baseline", 1, 0)
    sent = np.asarray(table["sent_at_ns"]) + (second + later) * 10**9
    for column in ("sent_at_ns", "scheduled_at_ns"):
        table = table.set_column(table.schema.get_field_index(column), column, pa.array(sent))
    spec = {"rate_rps": 200.0, "mode": "interleaved", "block_seconds": 1.0}
    arms = summarize_arms(table.cast(SCHEMA), RunMetadata(load_spec=spec))
    assert [arm.achieved_rps for arm in arms.values()] == [200.0, 200.0]
    assert [arm.goodput_rps for arm in arms.values()] == [200.0, 200.0]
    unknown_spec = summarize_arms(table.cast(SCHEMA), RunMetadata())
    assert unknown_spec["candidate"].achieved_rps == pytest.approx(115, abs=3)
