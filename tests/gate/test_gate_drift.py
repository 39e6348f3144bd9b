from collections.abc import Callable

import numpy as np
import pyarrow as pa

from model_load_test.components.gate.drift import change_point, drift_alarms
from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import GateSpec


def history(runs: int, step_at: int | None, step: float, seed: int = 0) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    slower = [step if step_at is not None and i >= step_at else 0.0 for i in range(runs)]
    return [{"p50": 0.006 * np.exp(rng.normal(0, 0.02) + extra)} for extra in slower]


def test_a_lasting_step_is_found_where_it_is() -> None:
    (alarm,) = drift_alarms(history(30, 18, 0.06))
    assert alarm.code == "drift-p50"
    assert alarm.consequence == "WARNING"
    assert abs(alarm.numbers["runs"] - 12) <= 2
    assert 1.03 < alarm.numbers["ratio"] < 1.1


def test_a_step_to_faster_is_no_alarm() -> None:
    assert drift_alarms(history(30, 18, -0.06)) == ()


def test_short_or_constant_histories_are_silent() -> None:
    assert drift_alarms(history(9, 5, 0.5)) == ()
    assert drift_alarms([{"p50": 0.006}] * 20) == ()


def test_false_alarms_are_rare() -> None:
    p_values = [change_point(np.random.default_rng(seed).normal(0, 1, 25))[1] for seed in range(120)]
    assert np.mean(np.array(p_values) <= 0.1) < 0.2
    assert np.mean(np.array(p_values) <= 0.5) > 0.3


def test_an_alarm_stands_beside_the_verdict(make_table: Callable[..., pa.Table]) -> None:
    verdict = judge(make_table(), GateSpec(), history=history(30, 18, 0.06))
    assert verdict.verdict == "PASS"
    assert [check.code for check in verdict.checks] == ["drift-p50"]
