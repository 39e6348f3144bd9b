"""What coordinator and generators have agreed on so far: who is ready, what comes next, when it starts.

One lock guards it all. The service's threads bring what the generators say and wait for what they
are to be told; the coordinator's own thread asks for one segment after the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from model_load_test.components.load.job.plan import Greeting, Loaded, Order, Start
from model_load_test.components.load.schedule import Segment

START_LEAD_SECONDS: Final = 0.1
"""From the moment all are ready to the instant of the start: time for each to be told."""
_POLL_SECONDS: Final = 0.2
KEEPING_SECONDS: Final = 25.0
"""A generator that is told to stop waits for its answers and writes what it has; then that must travel."""


@dataclass(frozen=True)
class Spoiled:
    """What makes it pointless to go on."""

    code: str
    """Of the check, such as `generator-lost`."""
    detail: str
    index: int | None = None
    """The generator that will bring no more rows."""


@dataclass
class Agreement:
    """The state of one run; every method may be called from any thread."""

    generators: int
    _greetings: dict[int, Greeting] = field(default_factory=dict)
    _order: Order = field(default_factory=Order)
    _armed: set[int] = field(default_factory=set)
    _start_at_ns: int = 0
    _loaded: dict[int, Loaded] = field(default_factory=dict)
    _lost: set[int] = field(default_factory=set)
    _spoiled: list[Spoiled] = field(default_factory=list)
    _stop: str = ""
    _dismissed: set[int] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    # What generators say and ask.

    def greet(self, greeting: Greeting) -> None:
        """A generator is ready."""
        with self._changed:
            self._greetings[greeting.index] = greeting
            self._changed.notify_all()

    def order_after(self, index: int, number: int, seconds: float) -> Order:
        """The order that follows segment `number`; an empty one when there is none within `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._stop or self._order.number > number, seconds)
            if self._stop:
                self._dismissed.add(index)
                self._changed.notify_all()
                return Order(stop=self._stop)
            return self._order if self._order.number > number else Order()

    def arm(self, index: int, number: int, seconds: float) -> Start:
        """A generator's processes wait for their start; answers once all do, or with nothing."""
        with self._changed:
            if number == self._order.number:
                self._armed.add(index)
                if len(self._armed) == self.generators and not self._start_at_ns:
                    self._start_at_ns = time.time_ns() + round(START_LEAD_SECONDS * 1e9)
                self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._stop or self._start_at_ns or number != self._order.number, seconds
            )
            if self._stop or number != self._order.number:
                return Start(stop=self._stop or "the segment is over")
            return Start(start_at_ns=self._start_at_ns)

    def load(self, index: int, number: int, loaded: Loaded) -> None:
        """A generator brings the rows of a segment; brought twice they count once."""
        with self._changed:
            if number == self._order.number:
                self._loaded[index] = loaded
                self._changed.notify_all()

    def stop_within(self, seconds: float) -> str:
        """Why the generators are to stop, as soon as they are; empty when not within `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._stop, seconds)
            return self._stop

    def spoil(self, spoiled: Spoiled) -> None:
        """Something happened that no measurement survives; a lost generator is waited for no more."""
        with self._changed:
            if spoiled.index is not None:
                self._lost.add(spoiled.index)
            self._spoiled.append(spoiled)
            self._changed.notify_all()

    # What the coordinator asks for.

    @property
    def spoiled(self) -> tuple[Spoiled, ...]:
        """What was found so far."""
        with self._changed:
            return tuple(self._spoiled)

    @property
    def greetings(self) -> dict[int, Greeting]:
        """The generators that are ready, by index."""
        with self._changed:
            return dict(sorted(self._greetings.items()))

    def wait_until_ready(self, seconds: float, interrupted: Callable[[], bool]) -> bool:
        """Waits until all generators are ready, something is spoiled or the time is over."""
        self._wait(
            lambda: len(self._greetings) == self.generators or bool(self._spoiled), seconds, interrupted
        )
        with self._changed:
            return len(self._greetings) == self.generators and not self._spoiled

    def run(self, segment: Segment, seconds: float, interrupted: Callable[[], bool]) -> dict[int, Loaded]:
        """Has one segment loaded by all and returns what each brought, by index.

        Whatever spoils it, what the others have by then is brought too.

        Args:
            segment: What to load.
            seconds: How long it may take.
            interrupted: Asked all the while; when true the generators are stopped.
        """
        with self._changed:
            self._order = Order(self._order.number + 1, segment)
            self._armed, self._start_at_ns, self._loaded = set(), 0, {}
            self._changed.notify_all()
        if not self._wait(lambda: self._all_brought() or bool(self._spoiled), seconds, interrupted):
            late = sorted(set(range(self.generators)) - set(self._loaded) - self._lost)
            if not interrupted():
                names = ", ".join(map(str, late))
                detail = f"After {seconds:.0f} s nothing was heard from generator {names}."
                self.spoil(Spoiled("generator-late", detail))
        if self.spoiled or interrupted():
            self.stop("another generator failed" if self.spoiled else "the run was interrupted")
            self._wait(self._all_brought, KEEPING_SECONDS, lambda: False)
        with self._changed:
            return dict(sorted(self._loaded.items()))

    def stop(self, why: str) -> None:
        """Tells all generators to stop, and to keep what they have."""
        with self._changed:
            self._stop = self._stop or why
            self._changed.notify_all()

    def dismiss(self, why: str, seconds: float) -> None:
        """Tells all generators to stop and waits until they have heard it, or the time is over."""
        self.stop(why)
        everyone = set(self._greetings)
        self._wait(lambda: self._dismissed | self._lost >= everyone, seconds, lambda: False)

    def _all_brought(self) -> bool:
        return set(self._loaded) | self._lost >= set(range(self.generators))

    def _wait(self, until: Callable[[], bool], seconds: float, interrupted: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + seconds
        with self._changed:
            while not until():
                left = deadline - time.monotonic()
                if left <= 0 or interrupted():
                    return False
                # A signal handler cannot notify: what it sets is looked at every now and then.
                self._changed.wait(min(left, _POLL_SECONDS))
            return True
