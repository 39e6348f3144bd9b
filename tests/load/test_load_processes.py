"""Generators that die, hang or are interrupted, played by small shell scripts."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from model_load_test.components.load import processes
from model_load_test.components.load.generators import GeneratorCommand
from model_load_test.components.load.processes import Interruption, run_generators
from model_load_test.components.load.run import interruptible


def command(tmp_path: Path, script: str, name: str = "candidate") -> GeneratorCommand:
    report = tmp_path / f"{name}.json"
    return GeneratorCommand(("sh", "-c", script.replace("REPORT", str(report))), report)


def test_both_arms_run_at_the_same_time(tmp_path: Path) -> None:
    wait_for_each_other = "touch {me}; while [ ! -e {other} ]; do sleep 0.01; done; echo {{}} > REPORT"
    paths = {"me": tmp_path / "a", "other": tmp_path / "b"}
    ends = run_generators(
        {
            "candidate": command(tmp_path, wait_for_each_other.format(**paths)),
            "baseline": command(
                tmp_path, wait_for_each_other.format(me=paths["other"], other=paths["me"]), "baseline"
            ),
        },
        deadline_seconds=20,
        interruption=Interruption(),
    )
    assert [(end.arm, end.trouble) for end in ends] == [("candidate", ""), ("baseline", "")]


def test_a_generator_that_dies_says_so_with_its_own_words(tmp_path: Path) -> None:
    (end,) = run_generators(
        {"candidate": command(tmp_path, "echo no such host >&2; exit 3")}, 20, Interruption()
    )
    assert "exit code 3" in end.trouble
    assert "no such host" in end.trouble


def test_a_generator_that_leaves_no_report_is_in_trouble(tmp_path: Path) -> None:
    (end,) = run_generators({"candidate": command(tmp_path, "true")}, 20, Interruption())
    assert end.trouble == "it left no report"


def test_a_hanging_generator_is_interrupted_at_its_deadline_and_keeps_what_it_has(tmp_path: Path) -> None:
    script = "trap 'echo kept > REPORT; exit 0' INT; while true; do sleep 0.05; done"
    (end,) = run_generators({"candidate": command(tmp_path, script)}, 0.3, Interruption())
    assert "deadline" in end.trouble
    assert end.report.read_text() == "kept\n"


def test_a_generator_that_ignores_the_interruption_is_killed(tmp_path: Path) -> None:
    script = f"trap '' INT; echo $$ > {tmp_path / 'pid'}; while true; do sleep 0.05; done"
    (end,) = run_generators({"candidate": command(tmp_path, script)}, 0.3, Interruption())
    assert "deadline" in end.trouble
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_an_interruption_ends_the_run_at_once_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_TICK_SECONDS", 15.0)
    interruption = Interruption()
    threading.Timer(0.3, lambda: interruption.set("the run received SIGTERM")).start()
    script = "trap 'echo kept > REPORT; exit 0' INT; while true; do sleep 0.05; done"
    before = time.monotonic()
    (end,) = run_generators({"candidate": command(tmp_path, script)}, 60, interruption)
    assert "SIGTERM" in end.trouble
    assert end.report.exists()
    assert time.monotonic() - before < 10, "it waited neither for its deadline nor for its next look"


def test_an_interrupted_generator_may_wait_for_the_answers_it_is_owed(tmp_path: Path) -> None:
    interruption = Interruption()
    threading.Timer(0.5, lambda: interruption.set("the run received SIGTERM")).start()
    script = "trap 'sleep 4; echo kept > REPORT; exit 0' INT; while true; do sleep 0.05; done"
    (end,) = run_generators({"candidate": command(tmp_path, script)}, 60, interruption, answer_seconds=20)
    assert end.report.read_text() == "kept\n"


def test_no_proxy_stands_between_generator_and_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "grpc_proxy"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    (end,) = run_generators({"candidate": command(tmp_path, "env > REPORT")}, 20, Interruption())
    assert "proxy.example" not in end.report.read_text()
    assert "PATH=" in end.report.read_text()


def test_secrets_are_cut_out_of_what_a_generator_says(tmp_path: Path) -> None:
    (end,) = run_generators(
        {"candidate": command(tmp_path, "echo bad header canary-1 >&2; exit 3")},
        20,
        Interruption(),
        secrets=("Bearer canary-1", "canary-1"),
    )
    assert "bad header <secret>" in end.trouble


def test_somebody_is_told_twice_a_second_that_it_runs(tmp_path: Path) -> None:
    ticks: list[int] = []
    run_generators(
        {"candidate": command(tmp_path, "sleep 1.7; echo {} > REPORT")},
        20,
        Interruption(),
        tick=lambda: ticks.append(1),
    )
    assert 1 <= len(ticks) <= 3


def test_the_end_of_a_generator_wakes_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it need not look often, which would take the processor from the generators."""
    if not hasattr(os, "pidfd_open"):
        pytest.skip("this system tells nobody of a process's end")
    monkeypatch.setattr(processes, "_TICK_SECONDS", 15.0)
    begun = time.monotonic()
    (end,) = run_generators(
        {"candidate": command(tmp_path, "sleep 0.3; echo {} > REPORT")}, 60, Interruption()
    )
    assert not end.trouble
    assert time.monotonic() - begun < 10


def test_a_signal_to_the_run_wakes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_TICK_SECONDS", 15.0)
    interruption = Interruption()
    script = "trap 'echo kept > REPORT; exit 0' INT; kill -TERM PARENT; while true; do sleep 0.05; done"
    begun = time.monotonic()
    with interruptible(interruption):
        (end,) = run_generators(
            {"candidate": command(tmp_path, script.replace("PARENT", str(os.getpid())))}, 60, interruption
        )
    assert "SIGTERM" in end.trouble
    assert time.monotonic() - begun < 10


def test_an_interruption_leaves_no_open_file() -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(20):
        Interruption().set("over")
    assert len(list(Path("/dev/fd").iterdir())) < before + 20


def test_where_an_end_wakes_nobody_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    (end,) = run_generators(
        {"candidate": command(tmp_path, "sleep 0.1; echo {} > REPORT")}, 20, Interruption()
    )
    assert not end.trouble
