"""Generators that are started, ready to send, and held until an agreed instant.

A process that is only started at that instant sends its first request when it happens to be loaded,
linked, scheduled and done with parsing. So it is started before. ghz and vegeta get their last input
file as a named pipe: they read all but the last byte of it, and that byte at the instant. Locusts meet
in a folder anyway, to start together; there we are the last to come, and so decide when.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from model_load_test.components.load.generators import GeneratorCommand
from model_load_test.components.load.locust.meeting import SETTLE_SECONDS
from model_load_test.components.load.processes import Interruption
from model_load_test.components.load.schedule import Arm

_HELD_OPTIONS: Final = ("--protoset=", "-targets=")
"""The input that ghz, or vegeta, reads last and whole before it connects and sends."""
_MEETING: Final = "--meeting="
_PARTIES: Final = "--parties="
_OURS: Final = "coordinator"
"""Our name at the meeting; the others' are those of their reports."""
_POLL_SECONDS: Final = 0.002
_SPIN_SECONDS: Final = 0.001

AgreeOnStart = Callable[[], int]
"""Says that this generator is ready, and returns the instant to start at, on the own clock."""


class StartCalledOff(Exception):
    """There will be no start: the run is over, for the reason in the message."""


class HeldStart:
    """Holds the processes of one segment; a context, left when they have ended."""

    def __init__(self, agree: AgreeOnStart, interruption: Interruption, folder: Path) -> None:
        """Prepares to hold.

        Args:
            agree: Asked once, when all processes are ready to send.
            interruption: Set when `agree` calls the start off.
            folder: For the named pipes.
        """
        self._agree = agree
        self._interruption = interruption
        self._folder = folder
        self._over = threading.Event()

    def __enter__(self) -> HeldStart:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def hold(self, commands: Mapping[Arm, GeneratorCommand]) -> Mapping[Arm, GeneratorCommand]:
        """The commands changed so that their processes wait for the agreed instant.

        What can be held in neither way is started at the instant itself: then this returns when it comes.
        """
        meeting = _meeting_place(commands)
        if meeting is not None:
            self._start_thread(self._join, meeting, len(commands))
            return {arm: _with_one_party_more(command, len(commands)) for arm, command in commands.items()}
        pipes: dict[Path, bytes] = {}
        changed: dict[Arm, GeneratorCommand] = {}
        for arm, command in commands.items():
            word = next((one for one in command.attack if one.startswith(_HELD_OPTIONS)), None)
            if word is None:
                self._wait_for_start()
                return commands
            option, _, source = word.partition("=")
            pipe = self._folder / f"held-{arm}-{time.monotonic_ns()}"
            pipes[pipe] = Path(source).read_bytes()
            attack = tuple(f"{option}={pipe}" if one == word else one for one in command.attack)
            changed[arm] = replace(command, attack=attack)
        for pipe in pipes:
            os.mkfifo(pipe, 0o600)
        self._start_thread(self._release, pipes)
        return changed

    def _start_thread(self, target: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, name="held-start", daemon=True).start()

    def _join(self, meeting: Path, others: int) -> None:
        """Comes to the Locusts' meeting when all of them have, and just so that they start at the instant."""
        while not (meeting.is_dir() and len(_come(meeting)) >= others):
            if self._interruption.is_set() or self._over.is_set():
                return
            time.sleep(_POLL_SECONDS)
        try:
            start_at_ns = self._agree()
        except StartCalledOff as why:
            self._interruption.set(str(why))
            return
        partial = meeting / f".{_OURS}"
        partial.write_text(str(start_at_ns - round(SETTLE_SECONDS * 1e9)))
        partial.rename(meeting / _OURS)

    def _wait_for_start(self) -> None:
        try:
            _sleep_until(self._agree())
        except StartCalledOff as why:
            self._interruption.set(str(why))

    def _release(self, pipes: Mapping[Path, bytes]) -> None:
        """Feeds each process all but the last byte of its file, agrees on the instant, then lets go."""
        ends: list[tuple[int, bytes]] = []
        try:
            for pipe, content in pipes.items():
                end = self._open_when_read(pipe)
                if end is None:
                    return
                ends.append((end, content[-1:]))
                _write(end, content[:-1])
            _sleep_until(self._agree())
            for end, last in ends:
                _write(end, last)
        except StartCalledOff as why:
            self._interruption.set(str(why))
        except BrokenPipeError:
            pass  # a generator ended before it was let go; its exit code and its log tell why
        finally:
            for end, _ in ends:
                os.close(end)
            for pipe in pipes:
                pipe.unlink()

    def _open_when_read(self, pipe: Path) -> int | None:
        """The writing end, once the generator has opened the reading one; None when it never will."""
        while not (self._interruption.is_set() or self._over.is_set()):
            try:
                end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                time.sleep(_POLL_SECONDS)
                continue
            os.set_blocking(end, True)
            return end
        return None


def _meeting_place(commands: Mapping[Arm, GeneratorCommand]) -> Path | None:
    words = (word for command in commands.values() for word in command.attack)
    return next((Path(word.removeprefix(_MEETING)) for word in words if word.startswith(_MEETING)), None)


def _with_one_party_more(command: GeneratorCommand, parties: int) -> GeneratorCommand:
    words = tuple(word for word in command.attack if not word.startswith(_PARTIES))
    return replace(command, attack=(*words, f"{_PARTIES}{parties + 1}"))


def _come(meeting: Path) -> list[Path]:
    return [path for path in meeting.iterdir() if not path.name.startswith(".")]


def _write(end: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(end, view) :]


def _sleep_until(instant_ns: int) -> None:
    """Returns at the instant, on the wall clock, to a few microseconds."""
    while (left := (instant_ns - time.time_ns()) / 1e9) > 0:
        time.sleep(left - _SPIN_SECONDS if left > _SPIN_SECONDS else 0)
