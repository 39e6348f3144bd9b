from collections.abc import Callable
from math import exp, log, sqrt

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import GateSpec, parse_gate_spec

MakeTable = Callable[..., pa.Table]


def past_runs(count: int, scatter: float = 0.01, seed: int = 0) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    base = {"mean": 0.00619, "p50": 0.006, "p95": 0.00905, "p99": 0.01073, "goodput": 200.0}
    return [
        {"errors": 0.0, **{name: value * exp(rng.normal(0, scatter)) for name, value in base.items()}}
        for _ in range(count)
    ]


def test_the_interval_is_the_prediction_interval_of_one_more_run(make_table: MakeTable) -> None:
    past = past_runs(12)
    found = judge(make_table(arms=("candidate",)), GateSpec(), history=past).metrics["p50"]
    logs = np.log([run["p50"] for run in past])
    assert found.candidate is not None
    half = stats.t.ppf(0.95, 11) * logs.std(ddof=1) * sqrt(1 + 1 / 12)
    centre = log(found.candidate) - logs.mean()
    assert (found.ratio, found.lower, found.upper) == pytest.approx(
        (exp(centre), exp(centre - half), exp(centre + half))
    )
    assert found.n == 12


def test_tails_never_pass_however_calm_the_history(make_table: MakeTable) -> None:
    verdict = judge(make_table(arms=("candidate",)), GateSpec(), history=past_runs(30, 0.001))
    assert verdict.verdict == "INCONCLUSIVE"
    assert verdict.metrics["p50"].verdict == "PASS"
    assert {verdict.metrics[name].verdict for name in ("p95", "p99")} == {"INCONCLUSIVE"}
    assert "load both together" in verdict.reasons[0]


def test_mean_and_tails_never_fail_however_slow(make_table: MakeTable) -> None:
    def slow_tail(rng: np.random.Generator, arm: str, block: int, requests: int) -> np.ndarray:
        return rng.lognormal(np.log(6e-3), 0.25, requests) * np.where(rng.random(requests) < 0.2, 10.0, 1.0)

    spec = parse_gate_spec({"margins": {"p50": 0.5}})
    verdict = judge(make_table(arms=("candidate",), latency=slow_tail), spec, history=past_runs(20))
    assert verdict.verdict == "INCONCLUSIVE"
    for name in ("mean", "p95", "p99"):
        assert verdict.metrics[name].verdict == "INCONCLUSIVE"
        assert "busy minute" in verdict.metrics[name].note
    assert "busy minute" in " ".join(verdict.reasons)


def test_without_tails_a_stored_baseline_may_pass(make_table: MakeTable) -> None:
    spec = parse_gate_spec({"margins": {"p95": None, "p99": None}})
    assert judge(make_table(arms=("candidate",)), spec, history=past_runs(30, 0.005)).verdict == "PASS"


def test_fewer_than_five_runs_decide_nothing(make_table: MakeTable) -> None:
    table = make_table(arms=("candidate",), ratio=1.5)
    assert judge(table, GateSpec(), history=past_runs(4)).verdict == "INCONCLUSIVE"
    assert judge(table, GateSpec(), history=past_runs(5)).verdict == "FAIL"


def test_significance_within_the_margin_does_not_fail(make_table: MakeTable) -> None:
    table = make_table(arms=("candidate",), ratio=1.03)
    verdict = judge(table, GateSpec(), history=past_runs(40, 0.0005))
    assert verdict.metrics["p50"].p_holm is not None
    assert verdict.metrics["p50"].p_holm < 0.01
    assert verdict.verdict != "FAIL"


def test_less_goodput_and_more_failures_fail(make_table: MakeTable) -> None:
    table = make_table(arms=("candidate",), error_rates=(0.2, 0.0))
    verdict = judge(table, GateSpec(), history=past_runs(10, 0.001))
    assert verdict.metrics["goodput"].verdict == "FAIL"
    assert verdict.metrics["goodput"].ratio == pytest.approx(0.8, abs=0.03)
    assert verdict.metrics["errors"].verdict == "FAIL"


def test_one_failure_in_a_short_run_does_not_fail(make_table: MakeTable) -> None:
    table = make_table(pairs=3, requests=100, arms=("candidate",))
    ok = np.ones(table.num_rows, bool)
    ok[7] = False
    broken = table.set_column(table.column_names.index("ok"), "ok", pa.array(ok))
    found = judge(broken, GateSpec(), history=past_runs(10)).metrics["errors"]
    assert found.candidate == pytest.approx(1 / 300)
    assert found.verdict == "INCONCLUSIVE"


def test_values_that_are_no_numbers_are_left_out(make_table: MakeTable) -> None:
    past = [*past_runs(6), {"p50": float("nan"), "mean": 0.0}, {}]
    assert judge(make_table(arms=("candidate",)), GateSpec(), history=past).metrics["p50"].n == 6
