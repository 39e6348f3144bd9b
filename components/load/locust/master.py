"""A Locust master and its workers: one process for each core that is to send.

Only a Locust process may call these functions: they import Locust, which patches the process.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from model_load_test.components.load.locust.plan import Plan
from model_load_test.components.load.locust.worker import BEGIN, DONE, MASTER_HOST, READY, Sender, run_led

_CONNECT_SECONDS: Final = 30.0
_END_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.01


class WorkersMissing(RuntimeError):
    """Not all workers came, or one ended before its time."""


@dataclass
class _Worker:
    """A forked worker."""

    pid: int
    code: int | None = None
    """Its exit code; negative the signal that ended it, None while it runs."""

    def poll(self) -> int | None:
        if self.code is None:
            ended, status = _plain("waitpid")(self.pid, os.WNOHANG)
            if ended:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def lead(plan: Plan) -> None:
    """Runs `plan` with a master in this process and its workers in forks of it.

    Raises:
        WorkersMissing: A worker did not come, or ended early; the others' rows are kept.
    """
    folder = Path(plan.report)
    folder.mkdir(parents=True, exist_ok=True)
    port_file = folder / "master-port"
    workers = [_fork_worker(plan, port_file) for _ in range(plan.workers)]
    try:
        _lead(plan, workers, port_file)
    finally:
        _end(workers)
    failed = [worker.code for worker in workers if worker.code]
    if failed:
        raise WorkersMissing(f"{len(failed)} of {plan.workers} workers ended with exit code {failed[0]}")


def _fork_worker(plan: Plan, port_file: Path) -> _Worker:
    # before this process has an event loop of its own that a fork would share
    pid = _plain("fork")()
    if pid:
        return _Worker(pid)
    import gevent

    code = 1
    try:
        gevent.reinit()
        random.seed()
        run_led(plan, port_file)
        code = 0
    except BaseException:  # noqa: BLE001  # os._exit shows none
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _plain(name: str) -> Any:
    """A function of `os` as it was before gevent put its own in the place."""
    from gevent import monkey

    return monkey.get_original("os", name)


def _lead(plan: Plan, workers: list[_Worker], port_file: Path) -> None:
    import gevent
    from gevent.event import Event

    sender = Sender(plan)
    sender.environment.parsed_options = None  # or the master would send them to be parsed by the workers
    runner = sender.environment.create_master_runner(MASTER_HOST, 0)
    all_ready, all_done = Event(), Event()
    for message, everyone in ((READY, all_ready), (DONE, all_done)):
        runner.register_message(message, _roll_call(plan.workers, everyone))
    sender.environment.events.init.fire(environment=sender.environment, runner=runner, web_ui=None)
    partial = port_file.with_suffix(".partial")
    partial.write_text(str(runner.server.port))
    partial.rename(port_file)
    _wait_for_workers(runner, plan, workers, sender)
    if sender.stop.is_set():
        return
    runner.start(plan.users, spawn_rate=plan.users)
    gevent.wait([all_ready, sender.stop], timeout=_CONNECT_SECONDS, count=1)
    start_ns = sender.start_together()
    runner.send_message(BEGIN, {"start_ns": start_ns})
    watching = gevent.spawn(_stop_without_workers, workers, sender.stop)
    gevent.wait([all_done, sender.stop], timeout=sender.patience_seconds + _END_SECONDS, count=1)
    watching.kill()
    if not sender.stop.is_set():
        runner.quit()


def _roll_call(workers: int, everyone: Any) -> Any:
    """A listener that sets `everyone` once so many different workers have sent the message."""
    heard: set[int] = set()

    def hear(msg: Any, **_environment: Any) -> None:
        heard.add(msg.data["worker"])
        if len(heard) == workers:
            everyone.set()

    return hear


def _wait_for_workers(runner: Any, plan: Plan, workers: list[_Worker], sender: Sender) -> None:
    deadline = time.monotonic() + _CONNECT_SECONDS
    while runner.worker_count < plan.workers and not sender.stop.is_set():
        ended = [worker for worker in workers if worker.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise WorkersMissing(
                f"{runner.worker_count} of {plan.workers} Locust workers came, {len(ended)} ended at once"
            )
        time.sleep(_POLL_SECONDS)


def _stop_without_workers(workers: list[_Worker], stop: Any) -> None:
    """A worker that dies ends the run: what it should have sent is missing."""
    while not any(worker.poll() for worker in workers):
        time.sleep(_POLL_SECONDS * 10)
    stop.set()


def _end(workers: list[_Worker]) -> None:
    """Lets the workers write their rows, and leaves none behind."""
    for worker in workers:
        worker.signal(signal.SIGINT)
    deadline = time.monotonic() + _END_SECONDS
    while any(worker.poll() is None for worker in workers):
        if time.monotonic() > deadline:
            for worker in workers:
                worker.signal(signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
