"""A task that is told to stop cleans up first: SIGTERM becomes an exception, once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """The task was told to stop, as Kubernetes does when a run is cancelled or a node drained."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")

    @property
    def exit_code(self) -> int:
        """The exit code of a process that ended so."""
        return 128 + self.signal_number


@contextmanager
def interruptible() -> Iterator[None]:
    """In the block SIGTERM and SIGINT raise `Interrupted`; further ones are ignored, so that clean-up ends.

    Only for the main thread.
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, signal.SIG_IGN)
        raise Interrupted(number)

    before = {one: signal.signal(one, interrupt) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
