"""A Locust process that sends: alone, or as one of a master's workers.

Only a Locust process may call these functions: they import Locust, which patches the process.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.load.locust.account import WorkerAccount, write_account
from model_load_test.components.load.locust.meeting import SETTLE_SECONDS, meet
from model_load_test.components.load.locust.pace import Pace, Recorder, paced
from model_load_test.components.load.locust.plan import Plan
from model_load_test.components.load.locust.rows import RowWriter
from model_load_test.components.load.locust.timetable import ClosedTurns, OpenTurns, Turns, constant_arrivals
from model_load_test.components.load.saturation import waited_seconds

BEGIN: Final = "model_load_test_begin"
"""The master's message that the load starts, with the instant."""
READY: Final = "model_load_test_ready"
"""A worker's message that all its users wait for the start."""
DONE: Final = "model_load_test_done"
"""A worker's message that its rows are written."""
MASTER_HOST: Final = "127.0.0.1"

MEETING_PATIENCE_SECONDS: Final = 30.0
_FLUSH_SECONDS: Final = 0.2
_POLL_SECONDS: Final = 0.005
_CPU_SAMPLE_SECONDS: Final = 0.5
"""Locust samples its CPU every 10 s, which a short run never sees."""
_ANSWER_GRACE_SECONDS: Final = 1.0
_TELL_SECONDS: Final = 0.3
"""What a master's message may take to all workers."""
_QUIT_SECONDS: Final = 10.0

_OPTIONS: Final = Namespace(headless=True, web_base_path="", enable_rebalancing=False)
"""In place of Locust's command line, whose parser would read configuration files of the user's."""


def turns_of(plan: Plan, worker: int) -> Turns:
    """The turns of one worker of `plan`."""
    if plan.closed_seconds:
        return ClosedTurns(plan.closed_seconds, worker, plan.workers)
    return OpenTurns(constant_arrivals(plan.rate_rps, plan.requests), worker, plan.workers)


class Sender:
    """Locust's environment with our users, pace and rows."""

    def __init__(self, plan: Plan) -> None:
        import gevent
        import locust
        import locust.runners
        from gevent.event import Event
        from locust.env import Environment

        locust.runners.CPU_MONITOR_INTERVAL = _CPU_SAMPLE_SECONDS
        self.plan = plan
        self.stop = Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            gevent.signal_handler(number, self.stop.set)
        gevent.spawn(_stop_without_parent, self.stop)
        self.pace = Pace()
        self.environment = Environment(
            user_classes=[paced(one, self.pace) for one in _user_classes(plan)],
            host=plan.target,
            events=locust.events,
            stop_timeout=plan.timeout_seconds,
            parsed_options=_OPTIONS,
        )

        self._recorder = Recorder(self.pace)
        self._recorder.listen(self.environment.events)

    def start_together(self) -> int:
        """The instant of the start, agreed with the other arm's Locust where there is one."""
        plan = self.plan
        if plan.parties > 1:
            met_ns = meet(
                Path(plan.meeting),
                Path(plan.report).name,
                plan.parties,
                MEETING_PATIENCE_SECONDS,
                self.stop.is_set,
            )
        else:
            met_ns = time.time_ns() + round(SETTLE_SECONDS * 1e9)
        return met_ns + round(_TELL_SECONDS * 1e9 if plan.workers > 1 else 0)

    def wait_for_users(self, runner: Any) -> None:
        """Waits until all users of this process are ready to begin, a locustfile's `on_start` over."""
        deadline = time.monotonic() + _ANSWER_GRACE_SECONDS + self.plan.timeout_seconds
        while self.pace.waiting < len(runner.user_greenlets) and not self.stop.is_set():
            if time.monotonic() > deadline:
                return
            time.sleep(_POLL_SECONDS)

    @property
    def patience_seconds(self) -> float:
        """From the agreed start until the last answer must have come."""
        plan = self.plan
        sending_seconds = plan.closed_seconds or plan.requests / plan.rate_rps
        return sending_seconds + plan.timeout_seconds + SETTLE_SECONDS + _TELL_SECONDS + _ANSWER_GRACE_SECONDS

    def send(self, runner: Any, worker: int, begin: Callable[[], int]) -> None:
        """Sends this worker's share and writes its rows and account.

        Args:
            runner: Locust's, with its users waiting for the pace to begin.
            worker: This worker's index.
            begin: Called when all is ready; returns the instant of the start.
        """
        import gevent

        plan, folder, pid = self.plan, Path(self.plan.report), os.getpid()
        turns = turns_of(plan, worker)
        writer = RowWriter(folder, worker)
        recorder = self._recorder
        recorder.write_to(writer)
        gc.collect()
        gc.freeze()
        start_ns = begin()
        flushing = gevent.spawn(_flush_for_ever, writer)
        cpu_before, waited_before, begun = time.process_time(), waited_seconds(pid), time.monotonic()
        if not self.stop.is_set():
            self.pace.begin(start_ns, turns)
        users_done = gevent.spawn(runner.user_greenlets.join)
        gevent.wait([users_done, self.stop], timeout=self.patience_seconds, count=1)
        load_seconds, cpu_seconds = time.monotonic() - begun, time.process_time() - cpu_before
        waited = waited_seconds(pid) - waited_before
        due = self.pace.due_by_now()
        flushing.kill()
        runner.user_greenlets.kill(timeout=1)
        writer.close()
        write_account(
            folder,
            WorkerAccount(
                worker=worker,
                users=plan.users,
                turns=len(turns),
                rows=writer.written,
                drawn_late=self.pace.drawn_late,
                woken_late=recorder.woken_late,
                latest_seconds=recorder.latest_ns / 1e9,
                unanswered=0 if plan.locustfile else max(0, due - writer.written),
                requests_before_start=recorder.requests_before_start,
                exceptions=dict(recorder.exceptions),
                load_seconds=load_seconds,
                cpu_seconds=cpu_seconds,
                waited_seconds=waited,
                cpu_warnings=recorder.cpu_warnings,
                highest_cpu_percent=recorder.highest_cpu_percent,
                version=_version(),
            ),
        )


def run_alone(plan: Plan) -> None:
    """Sends all of `plan` from this process."""
    sender = Sender(plan)
    runner = sender.environment.create_local_runner()
    sender.environment.events.init.fire(environment=sender.environment, runner=runner, web_ui=None)
    runner.start(plan.users, spawn_rate=plan.users)
    runner.spawning_greenlet.join()
    sender.wait_for_users(runner)
    sender.send(runner, 0, sender.start_together)
    sender.environment.stop_timeout = 0
    runner.quit()


def run_led(plan: Plan, port_file: Path) -> None:
    """Sends one worker's share of `plan`, led by a master of Locust's on this machine.

    Args:
        plan: The same for all workers and the master.
        port_file: Will hold the port on which the master listens.
    """
    import gevent
    from gevent.event import AsyncResult, Event

    sender = Sender(plan)
    while not port_file.exists():
        if sender.stop.is_set():
            return
        time.sleep(_POLL_SECONDS)
    runner = sender.environment.create_worker_runner(MASTER_HOST, int(port_file.read_text()))
    begun: AsyncResult = AsyncResult()
    spawned = Event()
    runner.register_message(BEGIN, lambda msg, **_environment: begun.set(msg.data))
    sender.environment.events.spawning_complete.add_listener(lambda **_counts: spawned.set())
    sender.environment.events.init.fire(environment=sender.environment, runner=runner, web_ui=None)

    def begin() -> int:
        gevent.wait([spawned, sender.stop], count=1)
        sender.wait_for_users(runner)
        runner.send_message(READY, {"worker": runner.worker_index})
        gevent.wait([begun, sender.stop], count=1)
        return int(begun.get(block=False)["start_ns"]) if begun.ready() else time.time_ns()

    sender.send(runner, runner.worker_index, begin)
    if not sender.stop.is_set():
        runner.send_message(DONE, {"worker": runner.worker_index})
        runner.greenlet.join(timeout=_QUIT_SECONDS)


def _user_classes(plan: Plan) -> list[Any]:
    if not plan.locustfile:
        from model_load_test.components.load.locust.users import user_class

        return [user_class(plan)]
    from locust.util.load_locustfile import load_locustfile

    path = str(Path(plan.locustfile).resolve())
    classes, _shapes = load_locustfile(path)
    if not classes:
        raise InputError("locustfile", plan.locustfile, "it has no class of users")
    return list(classes.values())


def _flush_for_ever(writer: RowWriter) -> None:
    while True:
        time.sleep(_FLUSH_SECONDS)
        writer.flush()


def _stop_without_parent(stop: Any) -> None:
    """A process whose parent was killed stops loading: no one reads its rows."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(_FLUSH_SECONDS)
    stop.set()


def _version() -> str:
    import locust

    return str(locust.__version__)
