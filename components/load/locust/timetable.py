"""When each request is due, and who may send it: whichever user is free takes the next one."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


class Turn(NamedTuple):
    """One request of the timetable."""

    number: int
    """Its place in the timetable of all workers; it says which payload is sent."""
    due_ns: int
    """Nanoseconds after the start."""
    scheduled: bool = True
    """Whether a timetable asked for it at that time; a closed loop has none."""
    drawn_late: bool = False
    """Whether it was due before a user was free to draw it."""


def constant_arrivals(rate_rps: float, requests: int) -> Int64s:
    """Due times, in nanoseconds after the start, of `requests` requests at a constant rate."""
    return np.round(np.arange(requests) * (1e9 / rate_rps)).astype(np.int64)


class Turns(Protocol):
    """Where users draw their turns."""

    def __len__(self) -> int:
        """How many there are, as far as that is known before."""

    def draw(self, since_start_ns: int) -> Turn | None:
        """The next turn; None when there are no more."""

    def due(self, since_start_ns: int) -> int:
        """How many are due by then."""


class OpenTurns:
    """The turns of one worker: every `workers`-th of the timetable, each drawn once."""

    def __init__(self, arrivals_ns: Int64s, worker: int = 0, workers: int = 1) -> None:
        self._due_ns: list[int] = arrivals_ns[worker::workers].tolist()
        self._worker, self._workers = worker, workers
        self._drawn = 0

    def __len__(self) -> int:
        return len(self._due_ns)

    def draw(self, since_start_ns: int) -> Turn | None:
        """The next turn of the timetable, however late or early it is drawn."""
        del since_start_ns
        if self._drawn == len(self._due_ns):
            return None
        index = self._drawn
        self._drawn += 1
        return Turn(self._worker + index * self._workers, self._due_ns[index])

    def due(self, since_start_ns: int) -> int:
        """How many of the timetable are due by then."""
        return int(np.searchsorted(self._due_ns, since_start_ns, side="right"))


class ClosedTurns:
    """Turns without a timetable: one for whoever asks, until the time is over."""

    def __init__(self, seconds: float, worker: int = 0, workers: int = 1) -> None:
        self._end_ns = round(seconds * 1e9)
        self._worker, self._workers = worker, workers
        self._drawn = 0

    def __len__(self) -> int:
        return self._drawn

    def draw(self, since_start_ns: int) -> Turn | None:
        """A turn that is due now."""
        if since_start_ns >= self._end_ns:
            return None
        self._drawn += 1
        number = self._worker + (self._drawn - 1) * self._workers
        return Turn(number, max(0, since_start_ns), scheduled=False)

    def due(self, since_start_ns: int) -> int:
        """None is ever due: a closed loop asks for nothing by a time."""
        del since_start_ns
        return 0
