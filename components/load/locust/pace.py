"""Sends Locust's users by one timetable, and keeps a row of every request they make.

Only a Locust process may call these functions: they import Locust, which patches the process.
"""

from __future__ import annotations

import http.client
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from model_load_test.components.load.blocks import TIMER_JITTER_NS
from model_load_test.components.load.locust.rows import UNKNOWN, Row, RowWriter
from model_load_test.components.load.locust.timetable import ClosedTurns, Turn, Turns

TURN_KEY: Final = "model_load_test_turn"
"""Where a request's context holds the turn it is made for."""
REQUEST_BYTES_KEY: Final = "model_load_test_request_bytes"

_SHOWN_CHARACTERS: Final = 200
_NO_ANSWER: Final = "0"


class Pace:
    """The turns of one worker, and how punctually they were taken.

    A user takes the next turn as soon as it is free and sleeps until it is due. So the times do not
    depend on the answers as long as some user is free, which Locust's own `constant_throughput`
    promises of each user by itself only.
    """

    def __init__(self) -> None:
        from gevent.event import Event

        self.begun = Event()
        self.waiting = 0
        """Users that are ready to begin."""
        self.start_ns = 0
        self.drawn_late = 0
        self._turns: Turns = ClosedTurns(0.0)

    def begin(self, start_ns: int, turns: Turns) -> None:
        """Sets all users off; a turn is due so long after `start_ns`, Unix time, as it says."""
        self.start_ns, self._turns = start_ns, turns
        self.begun.set()

    def take(self, user: Any) -> float:
        """Gives `user` its next turn; returns the seconds until it is due.

        Raises:
            locust.exception.StopUser: There are no more turns.
        """
        turn = self._turns.draw(time.time_ns() - self.start_ns)
        if turn is None:
            from locust.exception import StopUser

            raise StopUser
        early_ns = self.due_at_ns(turn) - time.time_ns()
        # a user's first turn is late where the start itself was
        if early_ns < -TIMER_JITTER_NS and user.model_load_test_turn is not None:
            self.drawn_late += 1
            turn = turn._replace(drawn_late=True)
        user.model_load_test_turn = turn
        return max(0.0, early_ns / 1e9)

    def due_at_ns(self, turn: Turn) -> int:
        """Unix time at which a turn is due."""
        return self.start_ns + turn.due_ns

    def due_by_now(self) -> int:
        """How many turns should have been sent by now."""
        return self._turns.due(time.time_ns() - self.start_ns)


def paced(user_class: Any, pace: Pace) -> Any:
    """`user_class` as a class of users that make one task a turn, whatever its own wait time says."""
    import gevent
    from locust import TaskSet
    from locust.exception import StopUser
    from locust.user.task import LOCUST_STATE_STOPPING

    class Paced(user_class):  # type: ignore[misc]  # the class is a user's own
        model_load_test_turn: Turn | None = None

        def on_start(self) -> None:
            super().on_start()
            pace.waiting += 1
            pace.begun.wait()
            try:
                gevent.sleep(pace.take(self))
            except StopUser:  # raised from here it would be logged as an error of the user's
                self._state = LOCUST_STATE_STOPPING

        def wait_time(self) -> float:
            return pace.take(self)

        def context(self) -> dict[str, Any]:
            return {**super().context(), TURN_KEY: self.model_load_test_turn}

    for nested in _task_sets(user_class.tasks):
        nested.wait_time = TaskSet.wait_time
    Paced.__name__, Paced.__qualname__ = user_class.__name__, user_class.__qualname__
    return Paced


def _task_sets(tasks: Any) -> list[Any]:
    found = []
    for task in set(tasks):
        if isinstance(task, type):
            found += [task, *_task_sets(getattr(task, "tasks", []))]
    return found


class Recorder:
    """Listens to Locust's events and writes a row for every request of the load."""

    def __init__(self, pace: Pace) -> None:
        self.requests_before_start = 0
        self.woken_late = 0
        self.latest_ns = 0
        self.exceptions: Counter[str] = Counter()
        self.cpu_warnings = 0
        self.highest_cpu_percent = 0.0
        self._pace = pace
        self._write: Callable[[Row], None] = lambda _row: None

    def write_to(self, writer: RowWriter) -> None:
        """From now on rows are kept."""
        self._write = writer.add

    def listen(self, events: Any) -> None:
        """Hooks into the events of one Locust environment."""
        events.request.add_listener(self.on_request)
        events.user_error.add_listener(self.on_user_error)
        events.cpu_warning.add_listener(self.on_cpu_warning)
        events.usage_monitor.add_listener(self.on_usage)

    def on_request(
        self,
        response_time: float,
        response_length: int | None,
        exception: BaseException | None = None,
        response: Any = None,
        context: Any = None,
        start_time: float | None = None,
        **_other: Any,
    ) -> None:
        """One request has ended."""
        latency_ns = round(response_time * 1e6)
        sent_at_ns = round(start_time * 1e9) if start_time else time.time_ns() - latency_ns
        context = context or {}
        turn = context.get(TURN_KEY)
        if not self._pace.begun.is_set() or (turn is None and TURN_KEY in context):
            self.requests_before_start += 1
            return
        scheduled_at_ns = UNKNOWN
        if turn and turn.scheduled:
            scheduled_at_ns = self._pace.due_at_ns(turn)
            late_ns = sent_at_ns - scheduled_at_ns
            self.latest_ns = max(self.latest_ns, late_ns)
            self.woken_late += late_ns > TIMER_JITTER_NS and not turn.drawn_late
        status, error = _outcome(exception, response)
        self._write(
            Row(
                sent_at_ns,
                scheduled_at_ns,
                latency_ns,
                exception is None,
                status,
                error,
                context.get(REQUEST_BYTES_KEY, UNKNOWN),
                UNKNOWN if response_length is None else response_length,
            )
        )

    def on_user_error(self, exception: BaseException, **_other: Any) -> None:
        """A task has raised."""
        self.exceptions[f"{type(exception).__name__}: {exception}"[:_SHOWN_CHARACTERS]] += 1

    def on_cpu_warning(self, **_other: Any) -> None:
        """Locust found its process at more than 90 % of a core."""
        self.cpu_warnings += 1

    def on_usage(self, cpu_usage: float, **_other: Any) -> None:
        """Locust sampled its process."""
        self.highest_cpu_percent = max(self.highest_cpu_percent, cpu_usage)


def _outcome(exception: BaseException | None, response: Any) -> tuple[str, str]:
    """Status and error text, as ghz and vegeta write them."""
    code = getattr(exception, "code", None)
    if callable(code):
        name = grpc_code_name(code().name)
        details = getattr(exception, "details", str)()
        return name, f"rpc error: code = {name} desc = {details}"
    status = str(getattr(response, "status_code", None) or _NO_ANSWER)
    if exception is None:
        return ("OK" if response is None else status), ""
    if status != _NO_ANSWER and type(exception).__name__ == "LocustBadStatusCode":
        return status, f"{status} {http.client.responses.get(int(status), '')}".strip()
    cause = getattr(exception, "original", None) or exception  # the client wraps what went wrong
    if type(cause).__name__ == "Timeout":
        return status, "no answer within the timeout"
    return status, f"{type(cause).__name__}: {cause}"


def grpc_code_name(name: str) -> str:
    """A gRPC status as Go, and so ghz, spells it: `DeadlineExceeded` for DEADLINE_EXCEEDED."""
    return {"OK": "OK", "CANCELLED": "Canceled"}.get(name) or name.title().replace("_", "")
