from typing import Any

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.gate.spec import (
    DEFAULT_MARGINS,
    GateSpec,
    GateSpecError,
    gate_spec_of_run,
    parse_gate_spec,
)


def test_defaults() -> None:
    spec = parse_gate_spec({})
    assert spec == GateSpec()
    assert spec.margins == DEFAULT_MARGINS


def test_margins_are_merged_and_switched_off() -> None:
    spec = parse_gate_spec({"margins": {"p95": 0.08, "p99": None, "errors": "off", "mean": 1}})
    assert spec.margins == {"mean": 1.0, "p50": 0.05, "p95": 0.08, "goodput": 0.05}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"margins": {"p95": -0.1}}, r"margins\.p95: -0\.1"),
        ({"margins": {"p95": 0}}, r"margins\.p95"),
        ({"margins": {"p95": float("nan")}}, r"margins\.p95: nan"),
        ({"margins": {"p95": "10%"}}, "margins"),
        ({"margins": {"p90": 0.1}}, "did you mean 'p99'"),
        ({"margins": [0.1]}, "mapping"),
        ({"margins": dict.fromkeys(DEFAULT_MARGINS)}, "at least one metric"),
        ({"alpha": 0}, "alpha: 0"),
        ({"alpha": 0.5}, r"alpha: 0\.5"),
        ({"alpha": float("nan")}, "alpha"),
        ({"alhpa": 0.05}, "did you mean 'alpha'"),
        ({"looks": []}, "looks"),
        ({"looks": [30, 15]}, "rising"),
        ({"looks": [0, 15]}, "rising"),
        ({"noise_floor": {"p50": -1}}, r"noise_floor\.p50"),
        ({"noise_floor": {"p5": 0.1}}, "did you mean"),
        ({"on_inconclusive": "ignore"}, "fail, warn, pass"),
        ({"objectives": ["p99<=50"]}, "unknown quantity"),
        ({"objectives": "p99_ms<=50"}, "gate spec"),
        ({"requests_per_block": -1}, "requests_per_block"),
    ],
)
def test_what_cannot_be_judged_by_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_gate_spec(values)


def test_alpha_is_spent_in_proportion_to_the_pairs() -> None:
    spec = GateSpec()
    assert [spec.alpha_at(pairs) for pairs in (10, 15, 20, 30, 60)] == pytest.approx(
        [0.05 * pairs / 60 for pairs in (10, 5, 5, 10, 30)]
    )
    assert spec.alpha_at(14) == spec.alpha_at(15)
    assert spec.alpha_at(40) == spec.alpha_at(60)
    assert spec.alpha_at(500) == spec.alpha_at(60)


@pytest.mark.parametrize("looks", [(60,), (10, 20, 40), (7, 8, 100), (1, 2, 3, 4)])
def test_all_looks_together_spend_alpha(looks: tuple[int, ...]) -> None:
    spec = parse_gate_spec({"looks": looks, "alpha": 0.1})
    assert sum(spec.alpha_at(look) for look in looks) == pytest.approx(0.1)


def test_a_run_is_judged_with_its_own_looks() -> None:
    spec = gate_spec_of_run({"alpha": 0.1}, {"looks": [5, 10], "rate_rps": 50.0, "block_seconds": 4.0})
    assert (spec.looks, spec.requests_per_block, spec.alpha) == ((5, 10), 200.0, 0.1)
    assert gate_spec_of_run({"looks": [7]}, {"looks": [5, 10]}).looks == (7,)
    assert gate_spec_of_run({}, {}) == GateSpec()


def test_errors_are_of_the_room() -> None:
    with pytest.raises(GateSpecError):
        parse_gate_spec({"alpha": 2})
