"""A Locust master and its workers: one process for each core that is to send.

Only a Locust process may call these functions: they import Locust, which patches the process.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from model_load_test.components.load.locust.plan import Plan, plan_arguments
from model_load_test.components.load.locust.worker import BEGIN, DONE, MASTER_HOST, Sender

WORKER_WORD: Final = "worker"
"""First word of a worker's command line; the second is the file of the master's port."""

_CONNECT_SECONDS: Final = 30.0
_END_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.01


class WorkersMissing(RuntimeError):
    """Not all workers came, or one ended before its time."""


def lead(plan: Plan) -> None:
    """Runs `plan` with a master in this process and its workers in processes of their own.

    Raises:
        WorkersMissing: A worker did not come, or ended early; the others' rows are kept.
    """
    folder = Path(plan.report)
    folder.mkdir(parents=True, exist_ok=True)
    port_file = folder / "master-port"
    command = [sys.executable, "-m", __package__, WORKER_WORD, str(port_file), *plan_arguments(plan)]
    workers = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(plan.workers)]
    try:
        _lead(plan, workers, port_file)
    finally:
        _end(workers)
    failed = [worker.returncode for worker in workers if worker.returncode]
    if failed:
        raise WorkersMissing(f"{len(failed)} of {plan.workers} workers ended with exit code {failed[0]}")


def _lead(plan: Plan, workers: list[subprocess.Popen[bytes]], port_file: Path) -> None:
    import gevent
    from gevent.event import Event

    sender = Sender(plan)
    sender.environment.parsed_options = None  # or the master would send them to be parsed by the workers
    runner = sender.environment.create_master_runner(MASTER_HOST, 0)
    done: set[int] = set()
    all_done = Event()

    def on_done(msg: Any, **_environment: Any) -> None:
        done.add(msg.data["worker"])
        if len(done) == plan.workers:
            all_done.set()

    runner.register_message(DONE, on_done)
    sender.environment.events.init.fire(environment=sender.environment, runner=runner, web_ui=None)
    partial = port_file.with_suffix(".partial")
    partial.write_text(str(runner.server.port))
    partial.rename(port_file)
    _wait_for_workers(runner, plan, workers, sender)
    if sender.stop.is_set():
        return
    runner.start(plan.users, spawn_rate=plan.users)
    start_ns = sender.start_together()
    runner.send_message(BEGIN, {"start_ns": start_ns})
    watching = gevent.spawn(_stop_without_workers, workers, sender.stop)
    gevent.wait([all_done, sender.stop], timeout=sender.patience_seconds + _END_SECONDS, count=1)
    watching.kill()
    if not sender.stop.is_set():
        runner.quit()


def _wait_for_workers(
    runner: Any, plan: Plan, workers: list[subprocess.Popen[bytes]], sender: Sender
) -> None:
    deadline = time.monotonic() + _CONNECT_SECONDS
    while runner.worker_count < plan.workers and not sender.stop.is_set():
        ended = [worker for worker in workers if worker.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise WorkersMissing(
                f"{runner.worker_count} of {plan.workers} Locust workers came, {len(ended)} ended at once"
            )
        time.sleep(_POLL_SECONDS)


def _stop_without_workers(workers: list[subprocess.Popen[bytes]], stop: Any) -> None:
    """A worker that dies ends the run: what it should have sent is missing."""
    while not any(worker.poll() for worker in workers):
        time.sleep(_POLL_SECONDS * 10)
    stop.set()


def _end(workers: list[subprocess.Popen[bytes]]) -> None:
    """Lets the workers write their rows, and leaves none behind."""
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _END_SECONDS
    for worker in workers:
        try:
            worker.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
