"""Looks at what only knows the present, again and again, while the load runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from model_load_test.components.resources.http_get import DoesNotAnswer
from model_load_test.components.resources.series import Kind, Reading, Series, Window, with_beginnings
from model_load_test.components.results.checks import Check

EVERY_SECONDS: Final = 0.5
_MOST_LOOKS: Final = 40_000


class Observed(NamedTuple):
    """One value that a look found."""

    metric: str
    kind: Kind
    arm: str
    replica: str
    source: str
    value: float
    at_ns: int
    signature: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    limit: float | None = None


Look = Callable[[], list[Observed]]
"""Raises `DoesNotAnswer` where there is nothing to see."""


@dataclass
class _History:
    first: Observed
    at_ns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, value: Observed) -> None:
        if self.at_ns and value.at_ns <= self.at_ns[-1]:
            return  # what the source has not looked at anew since
        self.at_ns.append(value.at_ns)
        self.values.append(value.value)

    def series(self, window: Window) -> Series:
        at_ns = np.array(self.at_ns, dtype=np.int64)
        inside = (at_ns >= window.start_ns) & (at_ns <= window.end_ns)
        one = self.first
        return Series(
            metric=one.metric,
            kind=one.kind,
            arm=one.arm,
            replica=one.replica,
            source=one.source,
            at_ns=at_ns[inside],
            values=np.array(self.values, dtype=np.float64)[inside],
            signature=one.signature,
            labels=dict(one.labels),
            limit=one.limit,
        )


class Sampler:
    """A context manager that looks while its block runs, and a `ResourceSource` of what it has seen.

    All looks of one sampler are taken one right after the other, so that both arms' counters are read
    at nearly the same moments.
    """

    def __init__(self, looks: Sequence[tuple[str, Look]], every_seconds: float = EVERY_SECONDS) -> None:
        """Prepares a sampler.

        Args:
            looks: What to look at, each with its name for findings.
            every_seconds: From one look to the next.
        """
        self._looks = tuple(looks)
        self._every_seconds = every_seconds
        self._histories: dict[object, _History] = {}
        self._failed: dict[str, tuple[int, str]] = {}
        self._taken = 0
        self._cpu_seconds = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="resources", daemon=True)

    def __enter__(self) -> Sampler:
        if self._looks:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Takes a last look, if it was not taken yet, and looks no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def __call__(self, window: Window) -> Reading:
        """What was seen within the window so far."""
        with self._lock:
            read = [history.series(window) for history in self._histories.values()]
            failed, taken = dict(self._failed), self._taken
        findings = [_missed(name, times, taken, why) for name, (times, why) in failed.items()]
        return Reading(with_beginnings(one for one in read if one.at_ns.size), tuple(findings))

    @property
    def cpu_seconds(self) -> float:
        """What the looking itself has cost."""
        return self._cpu_seconds

    def look(self) -> None:
        """Takes one look now."""
        for name, look in self._looks:
            try:
                seen = look()
            except DoesNotAnswer as error:
                with self._lock:
                    times, _ = self._failed.get(name, (0, ""))
                    self._failed[name] = (times + 1, str(error))
                continue
            with self._lock:
                for one in seen:
                    key = one._replace(value=0.0, at_ns=0)
                    self._histories.setdefault(key, _History(one)).add(one)
        with self._lock:
            self._taken += 1

    def _watch(self) -> None:
        due = time.monotonic()
        while True:
            before = time.thread_time()
            self.look()
            self._cpu_seconds += time.thread_time() - before
            due = max(due + self._every_seconds, time.monotonic())
            if self._over.wait(due - time.monotonic()) or self._taken >= _MOST_LOOKS:
                self.look()
                return


def _missed(name: str, times: int, taken: int, why: str) -> Check:
    detail = f"{name} could not be read at {times} of {taken} looks, last because {why}."
    return Check("resources-unreadable", detail, "WARNING", {"failed": float(times), "looks": float(taken)})
