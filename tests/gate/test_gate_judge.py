import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_load_test.components.gate.blocks import ResultsTableError
from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import GateSpec, parse_gate_spec
from model_load_test.components.gate.verdict import Verdict
from model_load_test.components.results.checks import Check

MakeTable = Callable[..., pa.Table]
SPEC = GateSpec()
RUN = {"mean": 0.0062, "p50": 0.006, "p95": 0.009, "p99": 0.0107, "errors": 0.0, "goodput": 200.0}


def assert_finite(value: Any) -> None:
    """Fails on NaN, infinity, or anything JSON would not carry."""
    if isinstance(value, float):
        assert math.isfinite(value)
    elif isinstance(value, dict):
        for inner in value.values():
            assert_finite(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            assert_finite(inner)


def checked(verdict: Verdict) -> Verdict:
    assert_finite(msgspec.to_builtins(verdict))
    assert verdict.reasons
    assert all(reason.endswith(".") for reason in verdict.reasons)
    return verdict


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def test_identical_servers_pass(make_table: MakeTable) -> None:
    verdict = checked(judge(make_table(), SPEC))
    assert verdict.verdict == "PASS"
    assert list(verdict.metrics) == ["mean", "p50", "p95", "p99", "errors", "goodput"]
    assert verdict.pairs == 60
    assert verdict.metrics["p50"].ratio == pytest.approx(1.0, abs=0.01)
    assert verdict.pairs_wanted is None


def test_a_slower_candidate_fails_at_the_first_look(make_table: MakeTable) -> None:
    verdict = checked(judge(make_table(pairs=15, ratio=1.1), SPEC))
    assert verdict.verdict == "FAIL"
    assert verdict.metrics["p50"].verdict == "FAIL"
    assert "worse" in verdict.reasons[0]


def test_a_faster_candidate_is_reported_as_such(make_table: MakeTable) -> None:
    verdict = checked(judge(make_table(ratio=0.8), SPEC))
    assert verdict.verdict == "PASS"
    assert verdict.metrics["p95"].faster
    assert any("better" in reason for reason in verdict.reasons)


def test_what_the_luck_of_a_start_explains_is_not_called_better(make_table: MakeTable) -> None:
    verdict = checked(judge(make_table(ratio=0.992), SPEC))
    assert verdict.metrics["p50"].upper is not None
    assert verdict.metrics["p50"].upper < 1
    assert not verdict.metrics["p50"].faster
    assert not any("better" in reason for reason in verdict.reasons)


def test_better_must_exceed_a_measured_noise_floor(make_table: MakeTable) -> None:
    table = make_table(ratio=0.95)
    assert judge(table, SPEC).metrics["p50"].faster
    noisy = msgspec.structs.replace(SPEC, noise_floor={"p50": 0.04})
    assert not judge(table, noisy).metrics["p50"].faster


def test_at_the_margin_it_is_undecided_and_says_what_would_decide(make_table: MakeTable) -> None:
    verdict = checked(judge(make_table(pairs=15, ratio=1.035), SPEC))
    assert verdict.verdict == "INCONCLUSIVE"
    assert verdict.pairs_wanted is not None
    assert verdict.requests_wanted == verdict.pairs_wanted * 200
    assert verdict.detectable_effect["p50"] > 0.05


def test_a_tail_regression_fails_though_the_median_is_equal(make_table: MakeTable) -> None:
    def slow_mode(rng: np.random.Generator, arm: str, block: int, requests: int) -> np.ndarray:
        slow = 0.08 if arm == "candidate" else 0.02
        return rng.lognormal(np.log(6e-3), 0.25, requests) * np.where(rng.random(requests) < slow, 3.0, 1.0)

    verdict = checked(judge(make_table(latency=slow_mode), SPEC))
    assert verdict.verdict == "FAIL"
    assert verdict.metrics["p50"].verdict == "PASS"


def test_a_tail_in_a_few_blocks_is_not_passed(make_table: MakeTable) -> None:
    def pauses(rng: np.random.Generator, arm: str, block: int, requests: int) -> np.ndarray:
        seconds = rng.lognormal(np.log(6e-3), 0.25, requests)
        if arm == "candidate" and block % 5 == 0:
            seconds[: requests // 10] += 0.1
        return seconds

    verdict = checked(judge(make_table(latency=pauses), SPEC))
    assert verdict.verdict == "FAIL"
    assert "few blocks" in verdict.metrics["p99"].note


def test_p99_is_refused_below_2000_requests_an_arm(make_table: MakeTable) -> None:
    verdict = checked(
        judge(make_table(pairs=60, requests=30), parse_gate_spec({"margins": {"errors": 0.01}}))
    )
    assert verdict.metrics["p99"].verdict == "REFUSED"
    assert "2000" in verdict.metrics["p99"].note
    assert verdict.metrics["p99"].candidate is not None
    assert verdict.verdict != "INVALID"


def test_more_failures_fail(make_table: MakeTable) -> None:
    verdict = checked(judge(make_table(error_rates=(0.02, 0.0)), SPEC))
    assert verdict.verdict == "FAIL"
    assert verdict.metrics["errors"].verdict == "FAIL"
    assert verdict.metrics["errors"].ratio == pytest.approx(0.02, abs=0.005)


def test_one_burst_of_failures_does_not_fail(make_table: MakeTable) -> None:
    table = make_table(pairs=30)
    arm, block = table.column("arm").to_pylist(), table.column("block").to_numpy()
    broken = np.array([a == "candidate" for a in arm]) & (block == 7)
    verdict = checked(judge(with_column(table, "ok", pa.array(~broken)), SPEC))
    assert verdict.metrics["errors"].verdict == "INCONCLUSIVE"


def test_a_collapsed_candidate_fails_at_once(make_table: MakeTable) -> None:
    verdict = checked(judge(make_table(pairs=3, error_rates=(1.0, 0.0)), SPEC))
    assert verdict.verdict == "FAIL"
    assert verdict.metrics["p50"].verdict == "REFUSED"


def test_all_failures_are_invalid(make_table: MakeTable) -> None:
    assert checked(judge(make_table(error_rates=(1.0, 1.0)), SPEC)).verdict == "INVALID"


def test_an_invalid_check_beats_every_verdict(make_table: MakeTable) -> None:
    check = Check("generator-saturated", "The generator was late; use more workers.", "INVALID")
    for table in (make_table(ratio=2.0), make_table(), make_table(arms=("candidate",))):
        verdict = checked(judge(table, SPEC, checks=[check]))
        assert verdict.verdict == "INVALID"
        assert verdict.reasons == (check.detail,)
        assert verdict.checks == (check,)


def test_a_warning_is_shown_and_changes_nothing(make_table: MakeTable) -> None:
    check = Check("coarse-clock", "Clock of 1 ms.", "WARNING")
    verdict = judge(make_table(), SPEC, checks=[check])
    assert verdict.verdict == "PASS"
    assert verdict.checks == (check,)


def test_only_the_candidate_has_no_baseline(make_table: MakeTable) -> None:
    verdict = checked(judge(make_table(arms=("candidate",)), SPEC))
    assert verdict.verdict == "NO_BASELINE"
    assert verdict.judgement == "none"
    assert verdict.metrics["p50"].candidate == pytest.approx(0.006, rel=0.02)


def test_only_the_baseline_is_invalid(make_table: MakeTable) -> None:
    assert checked(judge(make_table(arms=("baseline",)), SPEC)).verdict == "INVALID"


def test_no_rows_are_invalid(make_table: MakeTable) -> None:
    assert checked(judge(make_table(pairs=0), SPEC)).verdict == "INVALID"


def test_warm_up_is_ignored(make_table: MakeTable) -> None:
    with_warmup, without = (
        judge(make_table(warmup=True), SPEC),
        judge(make_table(warmup=True).slice(400), SPEC),
    )
    assert with_warmup == without
    assert with_warmup.pairs == 60


def test_three_pairs_decide_nothing(make_table: MakeTable) -> None:
    for ratio in (1.0, 1.5):
        verdict = checked(judge(make_table(pairs=3, ratio=ratio), SPEC))
        assert verdict.verdict == "INCONCLUSIVE"
        assert verdict.pairs_wanted is not None


@pytest.mark.parametrize("seconds", [0.005, 0.0])
def test_constant_latencies_were_not_measured(make_table: MakeTable, seconds: float) -> None:
    def constant(rng: np.random.Generator, arm: str, block: int, requests: int) -> np.ndarray:
        return np.full(requests, seconds)

    for ratio in (1.0, 1.2):
        verdict = checked(judge(make_table(latency=constant, ratio=ratio), SPEC))
        assert verdict.verdict == "INVALID"
        assert "clock too coarse" in verdict.reasons[0]


def test_blocks_of_equal_medians_are_judged(make_table: MakeTable) -> None:
    def coarse(rng: np.random.Generator, arm: str, block: int, requests: int) -> np.ndarray:
        return np.where(np.arange(requests) < 10, 0.006, 0.005)

    assert checked(judge(make_table(latency=coarse), SPEC)).verdict == "PASS"
    assert checked(judge(make_table(latency=coarse, ratio=1.2), SPEC)).verdict == "FAIL"


def test_a_block_without_rows_is_left_out_and_told(make_table: MakeTable) -> None:
    table = make_table(pairs=40)
    keep = (table.column("block").to_numpy() != 5) | (np.array(table.column("arm").to_pylist()) == "baseline")
    verdict = checked(judge(table.filter(pa.array(keep)), SPEC))
    assert verdict.pairs == 39
    assert any("1 of 40 blocks" in reason for reason in verdict.reasons)


def test_a_cut_off_block_is_left_out(make_table: MakeTable) -> None:
    table = make_table(pairs=30)
    verdict = judge(table.slice(0, table.num_rows - 150), SPEC)
    assert verdict.pairs == 29
    planned = judge(table.slice(0, table.num_rows - 15), parse_gate_spec({"requests_per_block": 200}))
    assert planned.pairs == 29


def test_mostly_incomplete_blocks_are_invalid(make_table: MakeTable) -> None:
    table = make_table(pairs=20)
    dead = (np.array(table.column("arm").to_pylist()) == "baseline") & (table.column("block").to_numpy() >= 8)
    verdict = checked(judge(table.filter(pa.array(~dead)), SPEC))
    assert verdict.verdict == "INVALID"
    assert "8 of 20 blocks" in verdict.reasons[0]
    assert [check.code for check in verdict.checks] == ["incomplete-blocks"]


def test_doubled_and_mixed_tables_are_invalid(make_table: MakeTable) -> None:
    table = make_table()
    assert judge(pa.concat_tables([table, table]), SPEC).verdict == "INVALID"
    later = make_table(seed=1, started_at_ns=1_700_000_900_000_000_000)
    verdict = checked(judge(pa.concat_tables([table, later]), SPEC))
    assert verdict.verdict == "INVALID"
    assert "several runs" in verdict.reasons[0]


@pytest.mark.parametrize("doubled", [[3], list(range(20))])
def test_single_doubled_blocks_are_invalid(make_table: MakeTable, doubled: list[int]) -> None:
    table = make_table(pairs=40)
    again = table.filter(pa.array(np.isin(table.column("block").to_numpy(), doubled)))
    verdict = checked(judge(pa.concat_tables([table, again]), SPEC))
    assert verdict.verdict == "INVALID"
    assert verdict.checks[0].code == "duplicated-blocks"


def test_a_coarse_clock_is_no_copy(make_table: MakeTable) -> None:
    table = make_table(pairs=30, requests=600)
    for name, step in (("sent_at_ns", 10_000_000), ("latency_ns", 1_000_000)):
        values = table.column(name).to_numpy() // step * step
        table = with_column(table, name, pa.array(values))
    assert checked(judge(table, SPEC)).verdict != "INVALID"


def of_arm(table: pa.Table, arm: str) -> pa.Table:
    return table.filter(pa.array([name == arm for name in table.column("arm").to_pylist()]))


def test_arms_measured_at_different_times_are_no_pairs(make_table: MakeTable) -> None:
    yesterday = make_table(pairs=30, seed=1, started_at_ns=1_699_900_000_000_000_000)
    joined = pa.concat_tables([of_arm(make_table(pairs=30), "candidate"), of_arm(yesterday, "baseline")])
    verdict = checked(judge(joined, SPEC))
    assert verdict.verdict == "INVALID"
    assert [check.code for check in verdict.checks] == ["arms-apart"]


def test_arms_that_take_turns_are_pairs(make_table: MakeTable) -> None:
    table = make_table(pairs=30)
    arms, blocks = np.array(table.column("arm").to_pylist()), table.column("block").to_numpy()
    later = (arms == "candidate") == (blocks % 3 == 0)
    sent = table.column("sent_at_ns").to_numpy() + (blocks.astype(np.int64) + later) * 10**9
    assert checked(judge(with_column(table, "sent_at_ns", pa.array(sent)), SPEC)).verdict == "PASS"


def test_blocks_of_two_rates_are_invalid(make_table: MakeTable) -> None:
    slow, fast = make_table(pairs=20), make_table(pairs=40, requests=400, seed=3)
    joined = pa.concat_tables([slow, fast.filter(pa.array(fast.column("block").to_numpy() >= 20))])
    verdict = checked(judge(joined, SPEC))
    assert verdict.verdict == "INVALID"
    assert [check.code for check in verdict.checks] == ["mixed-loads"]


def test_a_candidate_that_stalls_a_closed_loop_is_judged(make_table: MakeTable) -> None:
    table = make_table(pairs=40)
    arms, blocks = np.array(table.column("arm").to_pylist()), table.column("block").to_numpy()
    within = np.tile(np.arange(200), 80)
    stalled = (arms == "candidate") & (blocks % 2 == 0) & (within % 2 == 0)
    assert checked(judge(table.filter(pa.array(~stalled)), SPEC)).verdict == "FAIL"
    both = stalled | ((arms == "baseline") & (blocks % 4 < 2) & (within % 2 == 0))
    assert checked(judge(table.filter(pa.array(~both)), SPEC)).verdict != "INVALID"


def test_more_requests_than_planned_are_of_another_load(make_table: MakeTable) -> None:
    verdict = checked(judge(make_table(pairs=20), parse_gate_spec({"requests_per_block": 100})))
    assert verdict.verdict == "INVALID"
    assert "100 were planned" in verdict.reasons[0]


def test_a_baseline_that_mostly_fails_is_nothing_to_compare_with(make_table: MakeTable) -> None:
    verdict = checked(judge(make_table(error_rates=(0.0, 0.6)), SPEC))
    assert verdict.verdict == "INVALID"
    assert "mend the baseline" in verdict.reasons[0]


def test_objectives_alone_decide_where_no_comparison_is_wanted(make_table: MakeTable) -> None:
    def outcome(objective: str, arms: tuple[str, ...]) -> Verdict:
        off = dict.fromkeys(SPEC.margins)
        spec = parse_gate_spec({"margins": off, "objectives": [objective]})
        return checked(judge(make_table(arms=arms), spec, history=[RUN] * 6))

    for arms in (("candidate",), ("candidate", "baseline")):
        assert outcome("p99_ms<=50", arms).verdict == "PASS"
        assert outcome("p99_ms<=50", arms).reasons == ("It meets every objective (p99_ms<=50).",)
        assert outcome("p99_ms<=5", arms).verdict == "FAIL"
        assert outcome("p99_ms<=10.75", arms).verdict == "INCONCLUSIVE"


def test_wrong_columns_are_a_clear_error(make_table: MakeTable) -> None:
    table = make_table(pairs=2)
    with pytest.raises(ResultsTableError, match="needs the columns"):
        judge(table.drop_columns(["ok"]), SPEC)
    with pytest.raises(ResultsTableError, match="negative"):
        judge(with_column(table, "latency_ns", pa.array([-1] * table.num_rows)), SPEC)
    with pytest.raises(ResultsTableError, match="candidate and baseline"):
        judge(with_column(table, "arm", pa.array(["control"] * table.num_rows)), SPEC)
    with pytest.raises(ResultsTableError, match="no value"):
        judge(with_column(table, "latency_ns", pa.nulls(table.num_rows, pa.int64())), SPEC)


def test_the_order_of_rows_and_chunks_does_not_matter(make_table: MakeTable) -> None:
    table = make_table(pairs=20, ratio=1.02)
    shuffled = table.take(np.random.default_rng(0).permutation(table.num_rows))
    chunked = pa.concat_tables([shuffled.slice(0, 1000), shuffled.slice(1000)])
    assert judge(chunked, SPEC) == judge(table, SPEC)


def test_the_noise_floor_widens_the_margin(make_table: MakeTable) -> None:
    table = make_table(pairs=60, ratio=1.08)
    assert judge(table, SPEC).verdict == "FAIL"
    floors = dict.fromkeys(("mean", "p50", "p95", "p99"), 0.06)
    verdict = judge(table, parse_gate_spec({"noise_floor": floors}))
    assert verdict.verdict == "PASS"
    assert verdict.metrics["p50"].margin == pytest.approx(0.12)
    assert verdict.noise_floor == floors


def test_objectives_and_the_comparison_must_both_hold(make_table: MakeTable) -> None:
    def outcome(ratio: float, objective: str) -> str:
        return checked(judge(make_table(ratio=ratio), parse_gate_spec({"objectives": [objective]}))).verdict

    assert outcome(1.0, "p99_ms<=50") == "PASS"
    assert outcome(1.0, "p99_ms<=8") == "FAIL"
    assert outcome(1.5, "p99_ms<=50") == "FAIL"
    assert outcome(1.0, "p99_ms<=10.75") == "INCONCLUSIVE"


def test_a_missed_objective_fails_without_a_baseline(make_table: MakeTable) -> None:
    spec = parse_gate_spec({"objectives": ["p50_ms<=3"]})
    assert judge(make_table(arms=("candidate",)), spec).verdict == "FAIL"


def test_history_is_judged_when_there_is_no_baseline_arm(make_table: MakeTable) -> None:
    past = [{name: value * (1 + 0.002 * (i % 3)) for name, value in RUN.items()} for i in range(8)]
    verdict = checked(judge(make_table(arms=("candidate",)), SPEC, history=past))
    assert verdict.judgement == "historical"
    assert verdict.verdict == "INCONCLUSIVE"
    slower = checked(judge(make_table(arms=("candidate",), ratio=1.3), SPEC, history=past))
    assert slower.verdict == "FAIL"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["candidate", "baseline"]),
            st.integers(-1, 8),
            st.sampled_from([0, 1, 5_000_000, 2**62]),
            st.booleans(),
        ),
        max_size=120,
    ),
    st.booleans(),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_table_gives_nan_or_crashes(rows: list[tuple[str, int, int, bool]], with_history: bool) -> None:
    table = pa.table(
        {
            "arm": pa.array([row[0] for row in rows], pa.string()),
            "block": pa.array([row[1] for row in rows], pa.int32()),
            "latency_ns": pa.array([row[2] for row in rows], pa.int64()),
            "ok": pa.array([row[3] for row in rows], pa.bool_()),
            "sent_at_ns": pa.array([row[1] * 10**9 + i for i, row in enumerate(rows)], pa.int64()),
        }
    )
    spec = parse_gate_spec({"objectives": ["p99_ms<=50", "mean_ms<=5", "error_rate<=0.01", "goodput_rps>=1"]})
    checked(judge(table, spec, history=[RUN] * 6 if with_history else ()))
