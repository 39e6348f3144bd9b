from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from model_load_test.components.gate.blocks import ResultsTableError
from model_load_test.components.gate.calibration import noise_floor, visible_effects
from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import GateSpec, parse_gate_spec

MakeTable = Callable[..., pa.Table]


def test_the_floor_is_the_scatter_of_a_whole_run(make_table: MakeTable) -> None:
    def logged(seed: int) -> float:
        ratio = judge(make_table(pairs=30, seed=seed), GateSpec()).metrics["p50"].ratio
        assert ratio is not None
        return float(np.log(ratio))

    scatter = np.std([logged(seed) for seed in range(30)])
    floors = [noise_floor(make_table(pairs=30, seed=seed), GateSpec())["p50"] for seed in range(100, 110)]
    assert np.mean(floors) == pytest.approx(scatter, rel=0.4)


def test_the_luck_of_a_deployment_raises_the_floor(make_table: MakeTable) -> None:
    assert noise_floor(make_table(ratio=1.04), GateSpec())["p50"] == pytest.approx(0.04, abs=0.01)


def test_the_floor_can_be_given_back_to_the_gate(make_table: MakeTable) -> None:
    floors = noise_floor(make_table(), GateSpec())
    assert set(floors) == {"mean", "p50", "p95", "p99", "errors", "goodput"}
    parse_gate_spec({"noise_floor": floors})


def test_a_short_calibration_without_failures_does_not_excuse_failures(make_table: MakeTable) -> None:
    floors = noise_floor(make_table(pairs=15, requests=50), GateSpec())
    assert floors["errors"] == 0
    assert parse_gate_spec({"noise_floor": floors}).margin("errors") == GateSpec().margin("errors")
    assert noise_floor(make_table(error_rates=(0.01, 0.01)), GateSpec())["errors"] > 0.0005


def test_more_pairs_see_smaller_effects(make_table: MakeTable) -> None:
    table = make_table(pairs=60)
    small, large = visible_effects(table, GateSpec(), (15, 60))
    assert (small.pairs, large.pairs) == (15, 60)
    assert small.fails["p50"] > large.fails["p50"] > 0.05
    assert large.passes["p50"]
    assert not small.passes["errors"]


def test_p99_is_not_promised_to_a_run_that_refuses_it(make_table: MakeTable) -> None:
    table = make_table(pairs=60, requests=100)
    short, longer = visible_effects(table, GateSpec(), (15, 20))
    assert "p99" not in short.fails
    assert "p99" not in short.passes
    assert longer.fails["p99"] > 0.25
    assert judge(make_table(pairs=15, requests=100), GateSpec()).metrics["p99"].verdict == "REFUSED"


def test_earlier_looks_of_a_run_count(make_table: MakeTable) -> None:
    effects = visible_effects(make_table(pairs=20), GateSpec(), (10, 15, 20, 30, 60, 90))
    for metric in ("mean", "p50", "p95", "p99"):
        seen = [budget.fails[metric] for budget in effects]
        assert seen == sorted(seen, reverse=True)


def test_the_visible_effect_is_visible(make_table: MakeTable) -> None:
    (effects,) = visible_effects(make_table(pairs=60), GateSpec(), (15,))
    slower = 1 + min(effects.fails[name] for name in ("mean", "p50"))
    failed = [
        judge(make_table(pairs=15, ratio=slower, seed=seed), GateSpec()).verdict == "FAIL"
        for seed in range(40, 70)
    ]
    assert np.mean(failed) >= 0.6


def test_one_arm_or_few_pairs_are_refused(make_table: MakeTable) -> None:
    with pytest.raises(ResultsTableError, match="two identical servers"):
        noise_floor(make_table(arms=("candidate",)), GateSpec())
    with pytest.raises(ResultsTableError, match="at least 15"):
        noise_floor(make_table(pairs=10), GateSpec())
