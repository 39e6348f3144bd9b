"""Generator processes: started together, bounded in time, stopped so that they keep their rows."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model_load_test.components.load.generators import GeneratorCommand
from model_load_test.components.load.schedule import Arm

_POLL_SECONDS: Final = 0.02
_REPORT_GRACE_SECONDS: Final = 3.0
"""An interrupted generator writes its report on SIGINT; this long it may take."""
_SHOWN_CHARACTERS: Final = 300


@dataclass(frozen=True)
class GeneratorEnd:
    """How one generator process ended."""

    arm: Arm
    report: Path
    trouble: str = ""
    """Empty when it ended by itself with exit code 0 and left a report; else what happened."""


class Interruption:
    """Set when the run is to stop now: the generators get SIGINT and keep the rows they have."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason = ""

    def set(self, reason: str) -> None:
        """Asks for the stop; the first reason stays."""
        self.reason = self.reason or reason
        self._event.set()

    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()


def run_generators(
    commands: Mapping[Arm, GeneratorCommand], deadline_seconds: float, interruption: Interruption
) -> list[GeneratorEnd]:
    """Runs one generator an arm at the same time and waits for all.

    Args:
        commands: In the order in which they are started.
        deadline_seconds: After which a generator still running is interrupted, then killed.
        interruption: Checked all the while.
    """
    running: list[_Running] = []
    try:
        for arm, command in commands.items():
            running.append(_start(arm, command))
        troubles = _wait(
            [generator.process for generator in running], time.monotonic() + deadline_seconds, interruption
        )
    finally:
        for generator in running:
            if generator.process.poll() is None:
                generator.process.kill()
                generator.process.wait()
    return [_end_of(generator, trouble) for generator, trouble in zip(running, troubles, strict=True)]


@dataclass(frozen=True)
class _Running:
    arm: Arm
    command: GeneratorCommand
    process: subprocess.Popen[bytes]
    log: Path


def _start(arm: Arm, command: GeneratorCommand) -> _Running:
    log = command.report_path.with_suffix(".log")
    with log.open("wb") as log_file:
        process = subprocess.Popen(command.attack, stdin=subprocess.DEVNULL, stdout=log_file, stderr=log_file)
    return _Running(arm, command, process, log)


def _wait(processes: list[subprocess.Popen[bytes]], deadline: float, interruption: Interruption) -> list[str]:
    """Waits for all processes; says of each why it was stopped, empty when it was not."""
    troubles = [""] * len(processes)
    while any(process.poll() is None for process in processes):
        late = time.monotonic() > deadline
        if late or interruption.is_set():
            why = (
                "it hung and was stopped at its deadline"
                if late
                else f"it was stopped: {interruption.reason}"
            )
            for index, process in enumerate(processes):
                if process.poll() is None:
                    troubles[index] = why
                    process.send_signal(signal.SIGINT)
            _wait_until(processes, time.monotonic() + _REPORT_GRACE_SECONDS)
            break
        time.sleep(_POLL_SECONDS)
    return troubles


def _wait_until(processes: list[subprocess.Popen[bytes]], deadline: float) -> None:
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_of(generator: _Running, trouble: str) -> GeneratorEnd:
    command, returncode = generator.command, generator.process.returncode
    if not trouble and returncode != 0:
        said = generator.log.read_text(errors="replace").strip()[-_SHOWN_CHARACTERS:]
        trouble = f"it ended with exit code {returncode} and said: {said or 'nothing'}"
    if command.decode:
        # decoded even after trouble: an interrupted generator has rows worth keeping
        decoding_trouble = _decode(command)
        trouble = trouble or decoding_trouble
    if not trouble and not command.report_path.exists():
        trouble = "it left no report"
    return GeneratorEnd(generator.arm, command.report_path, trouble)


def _decode(command: GeneratorCommand) -> str:
    decoded = subprocess.run(command.decode, capture_output=True, text=True, timeout=120, check=False)
    return (
        ""
        if decoded.returncode == 0
        else f"its results could not be decoded: {decoded.stderr[-_SHOWN_CHARACTERS:]}"
    )
