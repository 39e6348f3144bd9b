"""Generator processes: started together, bounded in time, stopped so that they keep their rows."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model_load_test.components.load.generators import GeneratorCommand
from model_load_test.components.load.schedule import Arm

_LOOK_BLINDLY_SECONDS: Final = 0.02
"""Where the end of a process wakes nobody, as on macOS."""
_REPORT_GRACE_SECONDS: Final = 3.0
"""An interrupted generator sends nothing more and writes its report; this long that may take."""
_TICK_SECONDS: Final = 0.5
"""Rarely, since whatever runs takes the processor from a generator that may be about to send."""
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "ftp_proxy"})
"""A proxy from the environment would stand between the generator and the server it is to measure."""
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
        self._wake, self._waker = os.pipe()
        weakref.finalize(self, _close, self._wake, self._waker)

    def set(self, reason: str) -> None:
        """Asks for the stop; the first reason stays."""
        self.reason = self.reason or reason
        if not self._event.is_set():
            self._event.set()
            os.write(self._waker, b"!")

    def fileno(self) -> int:
        """Of a file that can be read from once a stop was asked for: it wakes who polls."""
        return self._wake

    def wait(self, seconds: float) -> None:
        """Waits so long, or until the stop is asked for."""
        self._event.wait(seconds)

    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def run_generators(
    commands: Mapping[Arm, GeneratorCommand],
    deadline_seconds: float,
    interruption: Interruption,
    *,
    answer_seconds: float = 0.0,
    secrets: Sequence[str] = (),
    tick: Callable[[], None] = lambda: None,
) -> list[GeneratorEnd]:
    """Runs one generator an arm at the same time and waits for all.

    Args:
        commands: In the order in which they are started.
        deadline_seconds: After which a generator still running is interrupted, then killed.
        interruption: Checked all the while.
        answer_seconds: How long an interrupted generator may wait for the answers to what it has
            sent, before it writes its report: the requests' timeout.
        secrets: Texts that are cut out of what a generator says.
        tick: Called twice a second.
    """
    running: list[_Running] = []
    watch = _Watch(time.monotonic() + deadline_seconds, interruption, answer_seconds, tick)
    try:
        for arm, command in commands.items():
            running.append(_start(arm, command))
        troubles = _wait([generator.process for generator in running], watch)
    finally:
        for generator in running:
            if generator.process.poll() is None:
                generator.process.kill()
                generator.process.wait()
    return [
        _end_of(generator, trouble, secrets) for generator, trouble in zip(running, troubles, strict=True)
    ]


@dataclass(frozen=True)
class _Watch:
    deadline: float
    interruption: Interruption
    answer_seconds: float
    tick: Callable[[], None]


@dataclass(frozen=True)
class _Running:
    arm: Arm
    command: GeneratorCommand
    process: subprocess.Popen[bytes]
    log: Path


def _start(arm: Arm, command: GeneratorCommand) -> _Running:
    log = command.report_path.with_suffix(".log")
    environment = {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}
    with log.open("wb") as log_file:
        process = subprocess.Popen(
            command.attack, stdin=subprocess.DEVNULL, stdout=log_file, stderr=log_file, env=environment
        )
    return _Running(arm, command, process, log)


def _wait(processes: list[subprocess.Popen[bytes]], watch: _Watch) -> list[str]:
    """Waits for all processes; says of each why it was stopped, empty when it was not."""
    troubles = [""] * len(processes)
    next_tick = time.monotonic() + _TICK_SECONDS
    with ExitStack() as files:
        news = _News(processes, watch.interruption, files)
        while any(process.poll() is None for process in processes):
            now = time.monotonic()
            late = now > watch.deadline
            if late or watch.interruption.is_set():
                why = (
                    "it hung and was stopped at its deadline"
                    if late
                    else f"it was stopped: {watch.interruption.reason}"
                )
                for index, process in enumerate(processes):
                    if process.poll() is None:
                        troubles[index] = why
                        process.send_signal(signal.SIGINT)
                grace_seconds = _REPORT_GRACE_SECONDS + (0.0 if late else watch.answer_seconds)
                _wait_until(processes, time.monotonic() + grace_seconds)
                break
            if now >= next_tick:
                watch.tick()
                next_tick = now + _TICK_SECONDS
            news.wait(min(next_tick, watch.deadline) - time.monotonic())
    return troubles


class _News:
    """Waits until a process ends or a stop is asked for."""

    def __init__(
        self, processes: list[subprocess.Popen[bytes]], interruption: Interruption, files: ExitStack
    ) -> None:
        self._interruption = interruption
        self._poll = select.poll() if hasattr(os, "pidfd_open") else None
        if self._poll is not None:
            self._poll.register(interruption, select.POLLIN)
            for process in processes:
                end = os.pidfd_open(process.pid)
                files.callback(os.close, end)
                self._poll.register(end, select.POLLIN)

    def wait(self, seconds: float) -> None:
        """Returns when there is news, or after so long, or a moment where nothing tells."""
        if self._poll is None:
            self._interruption.wait(_LOOK_BLINDLY_SECONDS)
            return
        for descriptor, _ in self._poll.poll(max(0.0, seconds) * 1e3):
            if descriptor != self._interruption.fileno():
                self._poll.unregister(descriptor)


def _wait_until(processes: list[subprocess.Popen[bytes]], deadline: float) -> None:
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_of(generator: _Running, trouble: str, secrets: Sequence[str]) -> GeneratorEnd:
    command, returncode = generator.command, generator.process.returncode
    if not trouble and returncode != 0:
        said = _without(secrets, generator.log.read_text(errors="replace").strip())[-_SHOWN_CHARACTERS:]
        trouble = f"it ended with exit code {returncode} and said: {said or 'nothing'}"
    if command.decode:
        # decoded even after trouble: an interrupted generator has rows worth keeping
        decoding_trouble = _without(secrets, _decode(command))
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


def _without(secrets: Sequence[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "<secret>")
    return text
