from __future__ import annotations

from collections import Counter

from model_load_test.components.load.schedule import (
    Segment,
    order_of_arms,
    segments_of_block,
    warmup_segment,
)
from model_load_test.components.load.spec import LoadSpec, parse_load_spec


def segments(spec: LoadSpec, blocks: range) -> list[Segment]:
    return [segment for block in blocks for segment in segments_of_block(spec, block)]


def test_every_mode_measures_each_of_its_arms_once_in_each_block() -> None:
    for mode, arms in (("duet", 2), ("interleaved", 2), ("single", 1)):
        measured = [
            (arm, segment.block)
            for segment in segments(parse_load_spec({"mode": mode}), range(15, 28))
            for arm in segment.arms
        ]
        assert len(measured) == len(set(measured)) == 13 * arms
        assert {block for _, block in measured} == set(range(15, 28))


def test_single_measures_the_candidate_alone() -> None:
    spec = parse_load_spec({"mode": "single"})
    assert {segment.arms for segment in segments(spec, range(9))} == {("candidate",)}
    assert warmup_segment(spec).arms == ("candidate",)


def test_interleaved_loads_one_arm_at_a_time_in_an_order_drawn_from_the_seed() -> None:
    spec = parse_load_spec({"mode": "interleaved", "seed": 7})
    drawn = segments(spec, range(200))
    assert all(len(segment.arms) == 1 for segment in drawn)
    first = Counter(segment.arms[0] for segment in drawn[::2])
    assert 70 < first["candidate"] < 130, "either arm goes first about half of the time"
    assert drawn == segments(spec, range(200))
    assert drawn != segments(parse_load_spec({"mode": "interleaved", "seed": 8}), range(200))


def test_the_order_is_a_permutation_of_both_arms() -> None:
    assert {frozenset(order_of_arms(0, block)) for block in range(50)} == {
        frozenset(("candidate", "baseline"))
    }


def test_a_duet_lets_the_phase_between_the_arms_run_through_each_block() -> None:
    spec = parse_load_spec({"mode": "duet", "rate_rps": 100})
    drawn = segments(spec, range(60))
    for segment in drawn:
        rates = {arm: segment.rate_rps(spec, arm) for arm in segment.arms}
        cycles_per_block = abs(rates["candidate"] - rates["baseline"]) * spec.block_seconds
        assert cycles_per_block >= 1
    assert Counter(segment.detuned_arm for segment in drawn) == {"candidate": 30, "baseline": 30}


def test_a_low_rate_is_not_detuned() -> None:
    spec = parse_load_spec({"mode": "duet", "rate_rps": 20})
    assert {s.rate_rps(spec, "candidate") for s in segments(spec, range(10))} == {20}


def test_arms_that_are_loaded_alone_get_the_offered_rate() -> None:
    for mode in ("single", "interleaved"):
        spec = parse_load_spec({"mode": mode})
        assert all(segment.detuned_arm is None for segment in segments(spec, range(15)))


def test_both_arms_of_a_pair_get_the_same_stretch_of_a_profile() -> None:
    sine = {"shape": "sine", "mean_rps": 100, "amplitude_rps": 90, "period_seconds": 20}
    for mode in ("duet", "interleaved"):
        spec = parse_load_spec({"mode": mode, "rate_profile": sine, "block_seconds": 1.0})
        for block in range(40):
            offered = {
                arm: segment.rate_rps(spec, arm) - (segment.detuned_arm == arm)
                for segment in segments_of_block(spec, block)
                for arm in segment.arms
            }
            assert offered == dict.fromkeys(("candidate", "baseline"), spec.rate_of_block(block))


def test_slow_stretches_are_not_detuned_and_empty_ones_are_pauses() -> None:
    steps = {"shape": "step", "from_rps": 0, "to_rps": 80, "by_rps": 40, "every_seconds": 2}
    spec = parse_load_spec({"rate_profile": steps, "block_seconds": 1.0})
    detuned = [segments_of_block(spec, block)[0].detuned_arm is not None for block in range(6)]
    assert detuned == [False, False, False, False, True, True]
    assert [segments_of_block(spec, block)[0].arms for block in range(2)] == [(), ()]
    assert warmup_segment(spec).rate_rps(spec, "candidate") == 40


def test_a_closed_loop_has_nothing_to_detune() -> None:
    spec = parse_load_spec({"concurrency": 4})
    assert all(segment.detuned_arm is None and segment.arms for segment in segments(spec, range(9)))
