"""Agreeing on a start: barrier, stop, loss, lateness; clocks; and processes held until the instant."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from model_load_test.components.load.generators import GeneratorCommand
from model_load_test.components.load.job.agreement import Agreement, Spoiled
from model_load_test.components.load.job.clock import clock_offset
from model_load_test.components.load.job.held_start import HeldStart, StartCalledOff
from model_load_test.components.load.job.plan import Greeting, Loaded
from model_load_test.components.load.processes import Interruption
from model_load_test.components.load.schedule import Segment

SEGMENT = Segment(("candidate",), 0, 1.0)
NOTHING = Loaded(rows={}, checks=(), commands=(), cut_off=0, host={})


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_load_test.components.load.job.agreement.KEEPING_SECONDS", 0.5)


def never() -> bool:
    return False


def greeting(index: int) -> Greeting:
    return Greeting(index, f"pod-{index}", "node", "1", {}, 0, 0)


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(work()), daemon=True)
    thread.start()
    return thread, answers


def test_all_start_at_one_instant_and_not_before_the_last_is_ready() -> None:
    agreement = Agreement(2)
    run, loaded = in_thread(lambda: agreement.run(SEGMENT, 10, never))
    order = agreement.order_after(0, -1, 5)
    assert order.segment == SEGMENT
    first, starts = in_thread(lambda: agreement.arm(0, order.number, 5))
    first.join(0.2)
    assert not starts, "the first must wait for the second"
    second = agreement.arm(1, order.number, 5)
    first.join(5)
    assert starts == [second]
    assert second.start_at_ns > 0
    for index in (0, 1):
        agreement.load(index, order.number, NOTHING)
    run.join(5)
    assert loaded == [{0: NOTHING, 1: NOTHING}]


def test_a_segment_ends_at_once_when_a_generator_is_lost_and_keeps_the_others_rows() -> None:
    agreement = Agreement(2)
    run, loaded = in_thread(lambda: agreement.run(SEGMENT, 60, never))
    number = agreement.order_after(0, -1, 5).number
    agreement.spoil(Spoiled("generator-lost", "gone", 1))
    assert agreement.stop_within(5)
    agreement.load(0, number, NOTHING)
    run.join(5)
    assert loaded == [{0: NOTHING}]
    assert agreement.order_after(0, number, 5).stop


def test_a_silent_generator_is_waited_for_only_so_long() -> None:
    agreement = Agreement(1)
    run, loaded = in_thread(lambda: agreement.run(SEGMENT, 0.2, never))
    run.join(20)
    assert loaded == [{}]
    assert [one.code for one in agreement.spoiled] == ["generator-late"]


def test_an_interrupted_run_stops_the_generators() -> None:
    agreement, interruption = Agreement(1), Interruption()
    run, loaded = in_thread(lambda: agreement.run(SEGMENT, 60, interruption.is_set))
    number = agreement.order_after(0, -1, 5).number
    interruption.set("SIGTERM")
    assert "interrupted" in agreement.stop_within(5)
    agreement.load(0, number, NOTHING)
    run.join(10)
    assert loaded == [{0: NOTHING}]


def test_ready_means_all_of_them() -> None:
    agreement = Agreement(2)
    agreement.greet(greeting(1))
    assert not agreement.wait_until_ready(0.1, never)
    agreement.greet(greeting(0))
    assert agreement.wait_until_ready(1, never)
    agreement.spoil(Spoiled("generator-failed", "no"))
    assert not agreement.wait_until_ready(1, never)


def test_rows_of_another_segment_do_not_count() -> None:
    agreement = Agreement(1)
    run, loaded = in_thread(lambda: agreement.run(SEGMENT, 0.5, never))
    number = agreement.order_after(0, -1, 5).number
    agreement.load(0, number - 1, NOTHING)
    run.join(20)
    assert loaded == [{}]
    assert agreement.arm(0, number - 1, 1).stop


@pytest.mark.parametrize("offset_ns", [0, 3_600_000_000_000, -5_000_000])
def test_the_clocks_difference_is_found_by_the_quickest_answer(offset_ns: int) -> None:
    trips = iter([(9_000_000, 1_000_000), (40_000, 60_000), (5_000_000, 20_000_000)])
    clock = [10**18]
    there: list[int] = []

    def now() -> int:
        return clock[0]

    def ask() -> int:
        going, coming = next(trips)
        clock[0] += going
        there.append(clock[0] + offset_ns)
        clock[0] += coming
        return there[-1]

    found = clock_offset(ask, questions=3, now=now)
    assert found.uncertainty_ns == 50_000
    assert abs(found.offset_ns - offset_ns) <= found.uncertainty_ns


READER = (
    "import sys, time; text = open(sys.argv[1].partition('=')[2]).read(); print(len(text), time.time_ns())"
)


def command(tmp_path: Path, arm: str, source: Path, option: str = "-targets=") -> GeneratorCommand:
    attack = (sys.executable, "-c", READER, f"{option}{source}")
    return GeneratorCommand(attack, tmp_path / f"{arm}.json")


def test_processes_are_held_until_the_instant_with_their_input_read(tmp_path: Path) -> None:
    source = tmp_path / "targets"
    source.write_text("x" * 300_000)
    armed = threading.Event()
    instants: list[int] = []

    def agree() -> int:
        armed.set()
        instants.append(time.time_ns() + 300_000_000)
        return instants[0]

    with HeldStart(agree, Interruption(), tmp_path) as start:
        held = start.hold(
            {
                "candidate": command(tmp_path, "candidate", source),
                "baseline": command(tmp_path, "baseline", source),
            }
        )
        running = [subprocess.Popen(one.attack, stdout=subprocess.PIPE, text=True) for one in held.values()]
        said = [process.communicate(timeout=30)[0].split() for process in running]
    assert armed.is_set()
    for length, read_at_ns in said:
        assert length == "300000"
        assert int(read_at_ns) >= instants[0]
    assert not list(tmp_path.glob("held-*")), "the pipes are gone"


def test_a_start_that_is_called_off_interrupts_the_generators(tmp_path: Path) -> None:
    source = tmp_path / "targets"
    source.write_text("xy")
    interruption = Interruption()

    def agree() -> int:
        raise StartCalledOff("the run is over")

    with HeldStart(agree, interruption, tmp_path) as start:
        held = start.hold({"candidate": command(tmp_path, "candidate", source)})
        process = subprocess.Popen(held["candidate"].attack, stdout=subprocess.PIPE)
        process.communicate(timeout=30)
    assert interruption.reason == "the run is over"


def test_a_generator_that_never_reads_its_input_holds_up_nobody(tmp_path: Path) -> None:
    source = tmp_path / "targets"
    source.write_text("xy")
    before = threading.active_count()
    with HeldStart(lambda: 0, Interruption(), tmp_path) as start:
        start.hold({"candidate": command(tmp_path, "candidate", source)})
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() == before
    assert [path.name for path in tmp_path.iterdir()] == ["targets"]


def test_what_cannot_be_held_is_started_at_the_instant(tmp_path: Path) -> None:
    plain = {"candidate": GeneratorCommand(("true",), tmp_path / "r.json")}
    instant = time.time_ns() + 200_000_000
    with HeldStart(lambda: instant, Interruption(), tmp_path) as start:
        assert start.hold(plain) == plain
    assert time.time_ns() >= instant
