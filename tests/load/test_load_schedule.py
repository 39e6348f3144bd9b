from __future__ import annotations

from collections import Counter

from model_load_test.components.load.schedule import order_of_arms, segments_of_look, warmup_segment
from model_load_test.components.load.spec import parse_load_spec


def blocks(mode: str, first: int, count: int) -> list[tuple[str, int]]:
    spec = parse_load_spec({"mode": mode})
    return [
        (arm, block)
        for segment in segments_of_look(spec, first, count)
        for arm in segment.arms
        for block in range(segment.first_block, segment.first_block + segment.blocks)
    ]


def test_duet_and_interleaved_measure_each_arm_once_in_each_block() -> None:
    for mode in ("duet", "interleaved"):
        counted = Counter(blocks(mode, first=15, count=13))
        assert counted == {(arm, block): 1 for arm in ("candidate", "baseline") for block in range(15, 28)}


def test_single_measures_the_candidate_alone() -> None:
    assert {arm for arm, _ in blocks("single", 0, 7)} == {"candidate"}
    assert warmup_segment(parse_load_spec({"mode": "single"})).arms == ("candidate",)


def test_interleaved_loads_one_arm_at_a_time_in_an_order_drawn_from_the_seed() -> None:
    spec = parse_load_spec({"mode": "interleaved", "seed": 7})
    segments = list(segments_of_look(spec, 0, 200))
    assert all(len(segment.arms) == 1 for segment in segments)
    first = Counter(segment.arms[0] for segment in segments[::2])
    assert 70 < first["candidate"] < 130, "either arm goes first about half of the time"
    assert segments == list(segments_of_look(spec, 0, 200))
    other = parse_load_spec({"mode": "interleaved", "seed": 8})
    assert segments != list(segments_of_look(other, 0, 200))


def test_the_order_is_a_permutation_of_both_arms() -> None:
    assert {frozenset(order_of_arms(0, block)) for block in range(50)} == {
        frozenset(("candidate", "baseline"))
    }


def test_a_duet_lets_the_phase_between_the_arms_run_through_each_block() -> None:
    spec = parse_load_spec({"mode": "duet", "rate_rps": 100})
    segments = list(segments_of_look(spec, 0, 60))
    for segment in segments:
        rates = {arm: segment.rate_rps(spec, arm) for arm in segment.arms}
        cycles_per_block = abs(rates["candidate"] - rates["baseline"]) * spec.block_seconds
        assert cycles_per_block >= 1
    assert Counter(segment.detuned_arm for segment in segments) == {"candidate": 6, "baseline": 6}


def test_below_the_least_rate_each_block_draws_its_own_phase_instead() -> None:
    spec = parse_load_spec({"mode": "duet", "rate_rps": 20})
    segments = list(segments_of_look(spec, 0, 10))
    assert {segment.blocks for segment in segments} == {1}
    assert {segment.rate_rps(spec, "candidate") for segment in segments} == {20}


def test_arms_that_are_loaded_alone_get_the_offered_rate() -> None:
    for mode in ("single", "interleaved"):
        spec = parse_load_spec({"mode": mode})
        assert all(segment.detuned_arm is None for segment in segments_of_look(spec, 0, 15))
