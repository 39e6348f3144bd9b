"""Generators that start together: each leaves its name in a folder and waits for the others'."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

SETTLE_SECONDS = 0.1
"""From the last arrival to the common start: every party must have seen it by then."""

_POLL_SECONDS = 0.005


def meet(
    folder: Path,
    name: str,
    parties: int,
    patience_seconds: float,
    called_off: Callable[[], bool] = lambda: False,
) -> int:
    """Waits until `parties` have come, and returns the instant at which all of them start.

    Every party computes the same instant from the same files, so no one has to lead.

    Args:
        folder: The meeting place; it is made where it is missing.
        name: This party's, unique among them.
        parties: How many are expected.
        patience_seconds: After which one starts without the others.
        called_off: Whether to wait no longer.

    Returns:
        Unix time in nanoseconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}"
    partial.write_text(str(time.time_ns()))
    partial.rename(folder / name)
    deadline = time.monotonic() + patience_seconds
    while len(come := _arrivals(folder)) < parties:
        if time.monotonic() > deadline or called_off():
            return time.time_ns() + round(SETTLE_SECONDS * 1e9)
        time.sleep(_POLL_SECONDS)
    return max(come) + round(SETTLE_SECONDS * 1e9)


def _arrivals(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in folder.iterdir() if not path.name.startswith(".")]
