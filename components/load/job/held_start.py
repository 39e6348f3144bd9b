"""Generators that are started, ready to send, and held until an agreed instant.

A process that is only started at that instant sends its first request when it happens to be loaded,
linked, scheduled and done with parsing. So it is started before, with its last input file replaced by
a named pipe: it reads all but the last byte of it, and gets that byte at the instant.
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
from model_load_test.components.load.processes import Interruption
from model_load_test.components.load.schedule import Arm

_HELD_OPTIONS: Final = ("--protoset=", "-targets=")
"""The input that ghz, or vegeta, reads last and whole before it connects and sends."""
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

        What has no file to hold it by is started at the instant itself: then this returns when it comes.
        """
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
        threading.Thread(target=self._release, args=(pipes,), name="held-start", daemon=True).start()
        return changed

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


def _write(end: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(end, view) :]


def _sleep_until(instant_ns: int) -> None:
    """Returns at the instant, on the wall clock, to a few microseconds."""
    while (left := (instant_ns - time.time_ns()) / 1e9) > 0:
        time.sleep(left - _SPIN_SECONDS if left > _SPIN_SECONDS else 0)
