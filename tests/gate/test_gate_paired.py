from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_load_test.components.gate import exceedance
from model_load_test.components.gate.blocks import Pairs, pair, read_arms
from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.paired import Finding, autocorrelation, decide, holm, pairs_wanted
from model_load_test.components.gate.signed_rank import Interval
from model_load_test.components.gate.spec import GateSpec, parse_gate_spec

ONLY_P99 = parse_gate_spec({"margins": dict.fromkeys(("mean", "p50", "p95", "errors", "goodput"))})
MakeTable = Callable[..., pa.Table]


def finding(lower: float, estimate: float, upper: float, p_half: float, p_margin: float) -> Finding:
    return Finding("p99", 60, np.log(1.25), Interval(estimate, lower, upper), p_half, p_margin, 0.02, 0.02)


def outcome(*findings: Finding) -> str:
    return decide(list(findings), ONLY_P99, 0.025)["p99"].verdict


def test_to_fail_half_the_margin_must_be_proven_and_the_whole_be_likely() -> None:
    assert outcome(finding(0.2, 0.3, 0.4, 0.0001, 0.19)) == "FAIL"
    assert outcome(finding(0.2, 0.3, 0.4, 0.0001, 0.21)) == "INCONCLUSIVE"
    assert outcome(finding(0.2, 0.3, 0.4, 0.03, 0.01)) == "INCONCLUSIVE"


def test_to_pass_the_bound_must_be_inside_and_the_pooled_tail_sound() -> None:
    inside = finding(-0.1, 0.0, 0.1, 1.0, 1.0)
    assert outcome(inside) == "PASS"
    assert outcome(replace(inside, p_worse_tail=0.03)) == "PASS"
    tail = decide([replace(inside, p_worse_tail=0.02)], ONLY_P99, 0.025)["p99"]
    assert tail.verdict == "INCONCLUSIVE"
    assert "few blocks" in tail.note
    assert outcome(finding(-0.1, 0.0, 0.23, 1.0, 1.0)) == "INCONCLUSIVE"


def test_a_guarding_tail_fails_the_metric_but_never_passes_it() -> None:
    open_ = finding(-0.1, 0.1, 0.3, 1.0, 1.0)
    guard = replace(finding(0.5, 0.9, 1.2, 0.0001, 0.0001), guards=True)
    failed = decide([open_, guard], ONLY_P99, 0.025)["p99"]
    assert failed.verdict == "FAIL"
    assert failed.ratio == pytest.approx(np.exp(0.9))
    calm_guard = replace(finding(-0.1, 0.0, 0.1, 1.0, 1.0), guards=True)
    assert outcome(open_, calm_guard) == "INCONCLUSIVE"


def test_pairs_wanted_grow_as_the_estimate_nears_the_margin() -> None:
    wanted = []
    for estimate in (0.0, 0.1, 0.2):
        found = [finding(estimate - 0.25, estimate, estimate + 0.25, 1.0, 1.0)]
        wanted.append(pairs_wanted(found, decide(found, ONLY_P99, 0.025), 0.025))
    assert None not in wanted
    assert wanted == sorted(wanted)
    at_margin = [finding(0.0, np.log(1.25), 0.5, 0.5, 0.5)]
    assert pairs_wanted(at_margin, decide(at_margin, ONLY_P99, 0.025), 0.025) is None


def test_pairs_wanted_do_decide(make_table: MakeTable) -> None:
    decided = []
    for seed in range(20):
        first = judge(make_table(pairs=15, ratio=1.03, seed=seed), GateSpec())
        if first.pairs_wanted is None or first.pairs_wanted > 200:
            continue
        looks = {"looks": [15 + first.pairs_wanted], "alpha": 0.0125}
        whole = make_table(pairs=15 + first.pairs_wanted, ratio=1.03, seed=seed)
        decided.append(judge(whole, parse_gate_spec(looks)).verdict != "INCONCLUSIVE")
    assert len(decided) >= 10
    assert np.mean(decided) >= 0.5


def test_a_candidate_that_serves_less_fails_by_goodput(make_table: MakeTable) -> None:
    table = make_table(pairs=30)
    within = np.arange(table.num_rows) % 200
    slower = (np.array(table.column("arm").to_pylist()) == "baseline") | (within % 5 != 0)
    verdict = judge(table.filter(pa.array(slower)), GateSpec())
    assert verdict.metrics["goodput"].verdict == "FAIL"
    assert verdict.metrics["goodput"].ratio == pytest.approx(0.8, abs=0.02)
    assert verdict.metrics["goodput"].faster is False
    assert verdict.metrics["p50"].verdict == "PASS"


def test_the_bounds_of_a_lopsided_tail_are_on_their_own_sides(make_table: MakeTable) -> None:
    def lopsided(rng: np.random.Generator, arm: str, block: int, requests: int) -> np.ndarray:
        seconds = rng.lognormal(np.log(6e-3), 0.25, requests)
        if arm == "candidate" and block % 6 == 0:
            seconds[: requests // 15] += 0.2
        return seconds

    found = read_arms(make_table(pairs=30, latency=lopsided))
    tails = exceedance.prepare(pair(found["candidate"], found["baseline"], 0), 0.99)
    bounds = exceedance.interval(tails, 0.05)
    above, below = bounds.upper - bounds.estimate, bounds.estimate - bounds.lower
    assert below > 3 * above
    assert (
        exceedance.p_above(tails, bounds.lower + 0.01)
        > 0.05
        >= exceedance.p_above(tails, bounds.lower - 0.01)
    )


def test_autocorrelated_pairs_are_told(make_table: MakeTable) -> None:
    def drifting(rng: np.random.Generator, arm: str, block: int, requests: int) -> np.ndarray:
        wave = 0.2 * np.sin(block / 6) if arm == "candidate" else 0.0
        return rng.lognormal(np.log(6e-3) + wave, 0.25, requests)

    codes = [check.code for check in judge(make_table(latency=drifting), GateSpec()).checks]
    assert codes == ["autocorrelated-pairs"]
    assert judge(make_table(), GateSpec()).checks == ()


def test_honest_pairs_have_no_autocorrelation(make_table: MakeTable) -> None:
    def of(seed: int) -> float:
        found = read_arms(make_table(seed=seed))
        return autocorrelation(Pairs(found["candidate"], found["baseline"], 0))

    assert abs(np.mean([of(seed) for seed in range(20)])) < 0.06


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_step_down(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    order = np.argsort(p_values)
    assert adjusted[order[0]] == pytest.approx(min(1.0, p_values[order[0]] * len(p_values)))
    assert all(a >= p for a, p in zip(adjusted, p_values, strict=True))
    assert np.diff(np.array(adjusted)[order]).min(initial=0) >= 0
    bonferroni = np.minimum(1, np.array(p_values) * len(p_values))
    assert (np.array(adjusted) <= bonferroni + 1e-12).all()


def test_holm_on_a_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
