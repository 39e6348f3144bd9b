"""How far this machine's clock is from another's, by asking it the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

_QUESTIONS: Final = 9


class ClockOffset(NamedTuple):
    """The difference between two clocks."""

    offset_ns: int
    """What must be added to the own clock to get the other's."""
    uncertainty_ns: int
    """By how much the offset may be wrong."""


def clock_offset(
    ask: Callable[[], int], *, questions: int = _QUESTIONS, now: Callable[[], int] = time.time_ns
) -> ClockOffset:
    """Asks another machine for its time and returns the difference by the quickest answer.

    The other clock was read somewhere between question and answer (Cristian's algorithm): in the
    middle, give or take half the round trip. The quickest of several tells it best.

    Args:
        ask: Returns the other machine's Unix time in nanoseconds.
        questions: How often to ask.
        now: The own clock.
    """
    best = ClockOffset(0, 1 << 62)
    for _ in range(questions):
        asked_at = now()
        told = ask()
        answered_at = now()
        half = (answered_at - asked_at) // 2
        if half < best.uncertainty_ns:
            best = ClockOffset(told - asked_at - half, half)
    return best
