from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from model_load_test.components.gate.blocks import overlapping, pair, read_arms

MakeTable = Callable[..., pa.Table]


def rows_of(table: pa.Table, arm: str, block: int) -> np.ndarray:
    arms = np.array(table.column("arm").to_pylist())
    chosen = (arms == arm) & (table.column("block").to_numpy() == block) & np.array(table.column("ok"))
    return table.column("latency_ns").to_numpy()[chosen] * 1e-9


def test_block_statistics_are_those_of_the_rows(make_table: MakeTable) -> None:
    table = make_table(pairs=4, requests=137, error_rates=(0.1, 0.0))
    arm = read_arms(table)["candidate"]
    for block in range(4):
        rows = rows_of(table, "candidate", block)
        assert arm.succeeded[block] == rows.size
        assert arm.requests[block] == 137
        assert arm.mean()[block] == pytest.approx(rows.mean())
        for q in (0.5, 0.95, 0.99):
            expected = np.quantile(rows, q, method="inverted_cdf")
            assert arm.percentile(q)[block] == pytest.approx(expected)


def test_goodput_is_the_offered_rate_less_failures(make_table: MakeTable) -> None:
    arm = read_arms(make_table(pairs=3, requests=50))["baseline"]
    assert arm.goodput() == pytest.approx([50, 50, 50])
    failing = read_arms(make_table(pairs=30, requests=200, error_rates=(0.5, 0.0)))["candidate"]
    assert failing.goodput().mean() == pytest.approx(100, rel=0.05)


def test_a_block_without_success_has_no_latency_but_a_goodput_of_zero(make_table: MakeTable) -> None:
    arm = read_arms(make_table(pairs=2, error_rates=(1.0, 0.0)))["candidate"]
    assert np.isnan(arm.percentile(0.5)).all()
    assert np.isnan(arm.mean()).all()
    assert (arm.goodput() == 0).all()


def test_blocks_need_not_be_numbered_without_gaps(make_table: MakeTable) -> None:
    table = make_table(pairs=4)
    gaps = pa.array(table.column("block").to_numpy() * 1000 + 7)
    arm = read_arms(table.set_column(1, "block", gaps))["candidate"]
    assert arm.numbers.tolist() == [7, 1007, 2007, 3007]


def test_pairs_are_complete_in_both_arms(make_table: MakeTable) -> None:
    table = make_table(pairs=6, requests=100)
    arms, blocks = np.array(table.column("arm").to_pylist()), table.column("block").to_numpy()
    within = np.tile(np.arange(100), 12)
    gone = ((arms == "candidate") & (blocks == 2)) | ((arms == "baseline") & (blocks == 4) & (within < 10))
    found = read_arms(table.filter(pa.array(~gone)))
    lenient = pair(found["candidate"], found["baseline"], 0)
    assert (lenient.count, lenient.void) == (5, 1)
    planned = pair(found["candidate"], found["baseline"], 100)
    assert (planned.count, planned.void) == (4, 2)
    assert planned.candidate.numbers.tolist() == planned.baseline.numbers.tolist() == [0, 1, 3, 5]
    assert planned.candidate.latencies.size == planned.candidate.succeeded.sum() == 400


def test_a_short_block_may_lose_two_requests_at_its_edges(make_table: MakeTable) -> None:
    table = make_table(pairs=5, requests=20)
    within = np.tile(np.arange(20), 10)
    for lost, complete in ((2, 5), (3, 0)):
        found = read_arms(table.filter(pa.array(within >= lost)))
        assert pair(found["candidate"], found["baseline"], 20).count == complete


def test_a_slow_closed_loop_keeps_its_blocks(make_table: MakeTable) -> None:
    slow = read_arms(make_table(pairs=20, requests=100, arms=("candidate",)))["candidate"]
    fast = read_arms(make_table(pairs=20, requests=300, arms=("baseline",)))["baseline"]
    assert pair(slow, fast, 0).count == 20


def test_one_run_does_not_overlap_itself(make_table: MakeTable) -> None:
    table = make_table(pairs=20)
    assert not overlapping(read_arms(table)["candidate"])
    later = make_table(pairs=20, started_at_ns=1_700_000_900_000_000_000)
    assert overlapping(read_arms(pa.concat_tables([table, later]))["candidate"])


def test_blocks_of_a_varying_rate_are_held_against_their_own_plan() -> None:
    plan = (20.0, 60.0, 100.0)
    for shortened, void in ((None, 0), (2, 1), (0, 1)):
        counts = [int(plan[block % 3]) for block in range(9)]
        if shortened is not None:
            counts[shortened] //= 2
        found = read_arms(pa.concat_tables([_of_counts("candidate", counts), _of_counts("baseline", counts)]))
        assert pair(found["candidate"], found["baseline"], 60.0, plan).void == void


def _of_counts(arm: str, counts: list[int]) -> pa.Table:
    from model_load_test.components.results.table import SCHEMA

    blocks = [block for block, count in enumerate(counts) for _ in range(count)]
    sent_at_ns = [block * 10**9 + k * 10**6 for block, count in enumerate(counts) for k in range(count)]
    size = len(blocks)
    return pa.table(
        {
            "arm": [arm] * size,
            "block": blocks,
            "worker": [0] * size,
            "sent_at_ns": sent_at_ns,
            "scheduled_at_ns": [None] * size,
            "latency_ns": [10**6 + k % 7 for k in range(size)],
            "ok": [True] * size,
            "status": ["OK"] * size,
            "error": [""] * size,
            "request_bytes": [None] * size,
            "response_bytes": [None] * size,
        },
        schema=SCHEMA,
    )


def test_a_run_of_a_varying_rate_is_not_taken_for_two_runs() -> None:
    from model_load_test.components.gate.judge import judge
    from model_load_test.components.gate.spec import gate_spec_of_run

    counts = [30 if block % 2 else 120 for block in range(20)]
    table = pa.concat_tables([_of_counts("candidate", counts), _of_counts("baseline", counts)])
    constant = {"rate_rps": 75.0, "block_seconds": 1.0, "looks": [20]}
    varying = {**constant, "block_rates_rps": [120.0, 30.0]}
    codes = {check.code for check in judge(table, gate_spec_of_run({}, constant)).checks}
    assert "mixed-loads" in codes
    verdict = judge(table, gate_spec_of_run({}, varying))
    assert not verdict.checks
    assert verdict.pairs == 20
