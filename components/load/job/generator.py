"""One generator of a load Job: fetches its payload, gets ready, loads what it is told, brings its rows.

python -m model_load_test.components.load.job.generator, in a pod that the Job's manifest describes.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import pyarrow as pa

from model_load_test.components.errors import InputError
from model_load_test.components.load.bottleneck_probe import machine_numbers, saturation_watch
from model_load_test.components.load.generators import find_generator
from model_load_test.components.load.host import CpuWatch, host_facts
from model_load_test.components.load.job.clock import ClockOffset, clock_offset
from model_load_test.components.load.job.held_start import HeldStart, StartCalledOff
from model_load_test.components.load.job.manifest import COORDINATOR, INDEX, NODE_NAME, POD_NAME, TOKEN
from model_load_test.components.load.job.plan import (
    HOLD_SECONDS,
    Failure,
    Greeting,
    Loaded,
    Order,
    Plan,
    Start,
)
from model_load_test.components.load.locust.account import core_shares
from model_load_test.components.load.locust.account import findings as locust_findings
from model_load_test.components.load.locust.forkserver import fork_server
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.processes import Interruption
from model_load_test.components.load.run import (
    SegmentRunner,
    interruptible,
    remove_request_files,
    request_sources,
)
from model_load_test.components.load.schedule import Segment
from model_load_test.components.results.table import ROWS_SCHEMA

DONE: Final = 0
STOPPED: Final = 0
"""Told to stop by the coordinator: no fault of the generator's."""
CANNOT_START: Final = 2
ABANDONED: Final = 3
"""The coordinator is gone: nobody wants the rows any more."""
ENDED: Final = 143
"""The pod was told to end, by eviction, preemption or somebody's hand."""

_PATIENCE_SECONDS: Final = 30.0
"""So long a coordinator may be unreachable; it sits in the same cluster and keeps no state elsewhere."""
_LAST_WORDS_SECONDS: Final = 3.0
"""A generator that is told to end has no time to wait for a coordinator that may be gone."""
_PAUSE_SECONDS: Final = 0.2
_CHUNK_BYTES: Final = 1 << 20

Answer = TypeVar("Answer")


class CoordinatorGone(Exception):
    """The coordinator does not answer any more."""


class Coordinator:
    """The generator's end of the conversation. Not for several threads at once: each takes its own."""

    def __init__(self, address: str, token: str, interruption: Interruption) -> None:
        self._address = address
        self._token = token
        self._interruption = interruption
        self._connection: http.client.HTTPConnection | None = None

    def another(self) -> Coordinator:
        """A connection of its own, for another thread."""
        return Coordinator(self._address, self._token, self._interruption)

    def ask(self, path: str, kind: type[Answer], body: object = None) -> Answer:
        """Asks until there is an answer; every question may be asked twice.

        Raises:
            CoordinatorGone: There was none for too long.
            InputError: The coordinator takes us for somebody else.
        """
        encoded = None if body is None else msgspec.msgpack.encode(body)
        begun = time.monotonic()
        while True:
            try:
                return msgspec.msgpack.decode(self._exchange(path, encoded), type=kind)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                patience = _LAST_WORDS_SECONDS if self._interruption.is_set() else _PATIENCE_SECONDS
                if time.monotonic() > begun + patience:
                    raise CoordinatorGone(f"{self._address} does not answer: {error}") from None
                time.sleep(_PAUSE_SECONDS)

    def download(self, path: str, file: Path) -> str:
        """Downloads into `file` and returns the SHA-256 of what came."""
        digest = sha256()
        response = self._send(path, None)
        with file.open("wb") as out:
            while chunk := response.read(_CHUNK_BYTES):
                digest.update(chunk)
                out.write(chunk)
        return digest.hexdigest()

    def close(self) -> None:
        """Closes the connection; the next question opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, path: str, body: bytes | None) -> bytes:
        return self._send(path, body).read()

    def _send(self, path: str, body: bytes | None) -> http.client.HTTPResponse:
        if self._connection is None:
            host, _, port = self._address.rpartition(":")
            host = host.removeprefix("[").removesuffix("]")
            self._connection = http.client.HTTPConnection(host, int(port), timeout=HOLD_SECONDS + 10)
        self._connection.request(
            "GET" if body is None else "POST", path, body, {"Authorization": f"Bearer {self._token}"}
        )
        response = self._connection.getresponse()
        if response.status == http.client.FORBIDDEN:
            raise InputError(TOKEN, "***", "the coordinator at this address is that of another run")
        if response.status != http.client.OK:
            response.read()
            raise http.client.HTTPException(f"{path}: HTTP {response.status}")
        return response


@dataclass(frozen=True)
class _Place:
    """What the pod's environment says."""

    coordinator: Coordinator
    index: int
    pod: str
    node: str


def main() -> int:
    """Runs the generator; its exit code says how it ended."""
    with interruptible() as interruption, tempfile.TemporaryDirectory(prefix="generator-") as folder:
        place = _place(os.environ, interruption)
        try:
            return _run(place, Path(folder), interruption)
        except CoordinatorGone as error:
            _say(f"giving up: {error}")
            return ABANDONED
        except InputError as error:
            _say(f"error: {error}")
            failure = Failure(place.index, str(error))
            place.coordinator.another().ask("/failed", type(None), failure)
            return CANNOT_START


def _run(place: _Place, folder: Path, interruption: Interruption) -> int:
    coordinator, index = place.coordinator, place.index
    plan = coordinator.ask(f"/plan?index={index}", Plan)
    payload = fetch_payload(coordinator, plan, folder)
    preparation = dict(plan.preparation)
    if plan.locustfile:
        preparation["locustfile"] = str(folder / "locustfile.py")
        (folder / "locustfile.py").write_bytes(plan.locustfile)
    test = prepare(**preparation, payload_path=payload, work_path=folder / "work")
    test.work_path.mkdir(parents=True, exist_ok=True)
    generator = find_generator(test.spec.tool)
    runner = SegmentRunner(test, generator, request_sources(test), interruption)
    clock = clock_offset(lambda: coordinator.ask("/time", int))
    told_to_stop = _listen_for_stop(coordinator.another(), interruption)
    greeting = Greeting(
        index=index,
        pod=place.pod,
        node=place.node,
        tool_version=generator.version,
        host=host_facts(),
        clock_offset_ns=clock.offset_ns,
        clock_uncertainty_ns=clock.uncertainty_ns,
    )
    coordinator.ask("/ready", type(None), greeting)
    _say(f"generator {index} of {plan.generators} is ready")
    try:
        with ExitStack() as stack:
            if generator.tool == "locust":
                runner.fork_server = stack.enter_context(fork_server())
            watch = stack.enter_context(saturation_watch(generator, test.endpoints))
            cpu = CpuWatch()

            def machine() -> dict[str, Any]:
                numbers = machine_numbers(watch, generator, core_shares(runner.accounts))
                return {**cpu.shares(), "saturation": numbers}

            exit_code = _load_as_ordered(coordinator, index, runner, clock, folder, machine)
    finally:
        remove_request_files(test)
    if interruption.is_set() and not told_to_stop.is_set():
        why = f"its pod was told to end ({interruption.reason})"
        coordinator.another().ask("/failed", type(None), Failure(index, why))
        return ENDED
    return exit_code


def _load_as_ordered(
    coordinator: Coordinator,
    index: int,
    runner: SegmentRunner,
    clock: ClockOffset,
    folder: Path,
    machine: Callable[[], dict[str, Any]],
) -> int:
    number = -1
    while not runner.interruption.is_set():
        order = coordinator.ask(f"/order?index={index}&after={number}", Order)
        if order.stop:
            _say(f"stopping: {order.stop}")
            return STOPPED
        if order.segment is None:
            continue
        number = order.number
        loaded = _load(coordinator, index, number, order.segment, runner, clock, folder, machine)
        coordinator.ask(f"/rows?index={index}&number={number}", type(None), loaded)
    _say(f"stopping: {runner.interruption.reason}")
    return STOPPED


def _load(
    coordinator: Coordinator,
    index: int,
    number: int,
    segment: Segment,
    runner: SegmentRunner,
    clock: ClockOffset,
    folder: Path,
    machine: Callable[[], dict[str, Any]],
) -> Loaded:
    checks, cut_off = len(runner.checks), runner.cut_off

    def agree() -> int:
        armed = coordinator.another()
        while True:
            start = armed.ask(f"/armed?index={index}&number={number}", Start, ())
            if start.stop:
                raise StartCalledOff(start.stop)
            if start.start_at_ns:
                return start.start_at_ns - clock.offset_ns

    with HeldStart(agree, runner.interruption, folder) as start:
        rows = runner.load(segment, start.hold)
    return Loaded(
        rows={arm: encoded_rows(table) for arm, table in rows.items()},
        checks=tuple(msgspec.to_builtins(check) for check in runner.checks[checks:]),
        commands=tuple(runner.commands),
        cut_off=runner.cut_off - cut_off,
        host=machine(),
        findings=tuple(msgspec.to_builtins(check) for check in locust_findings(runner.accounts)),
    )


def fetch_payload(coordinator: Coordinator, plan: Plan, folder: Path) -> Path:
    """Fetches the payload set and returns its folder.

    Raises:
        InputError: What came is not what was meant, twice.
    """
    archive = folder / "payload.tar"
    for _ in range(2):
        try:
            if coordinator.download("/payload", archive) == plan.payload_sha256:
                break
        except (OSError, http.client.HTTPException):
            coordinator.close()
    else:
        raise InputError("payload", plan.payload_sha256, "the payload did not arrive whole; see the network")
    payload = folder / "payload"
    payload.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            source = tar.extractfile(member) if member.isfile() else None
            # Only files, only below the folder: the archive is ours, but so would a forged one look.
            if source is None or not (payload / member.name).resolve().is_relative_to(payload.resolve()):
                raise InputError("payload", member.name, "this is no payload set of ours")
            path = payload / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with source, path.open("wb") as out:
                shutil.copyfileobj(source, out)
    archive.unlink()
    return payload


def encoded_rows(rows: pa.Table) -> bytes:
    """Rows of one arm as an Arrow stream."""
    sink = pa.BufferOutputStream()
    table = rows.select(ROWS_SCHEMA.names).cast(ROWS_SCHEMA)
    with pa.ipc.new_stream(sink, ROWS_SCHEMA) as stream:
        stream.write_table(table.unify_dictionaries().combine_chunks())
    return sink.getvalue().to_pybytes()


def _listen_for_stop(coordinator: Coordinator, interruption: Interruption) -> threading.Event:
    """Interrupts the load within moments of the coordinator's word or end, and then sets the event."""
    told = threading.Event()

    def listen() -> None:
        try:
            while not (why := coordinator.ask("/stop", str)):
                pass
        except (CoordinatorGone, InputError) as error:
            why = str(error)
        told.set()
        interruption.set(why)

    threading.Thread(target=listen, name="stop", daemon=True).start()
    return told


def _place(environment: Mapping[str, str], interruption: Interruption) -> _Place:
    missing = [name for name in (COORDINATOR, TOKEN, INDEX) if not environment.get(name)]
    if missing:
        raise InputError(missing[0], "", "this runs in the pods of a load Job, which set it")
    return _Place(
        coordinator=Coordinator(environment[COORDINATOR], environment[TOKEN], interruption),
        index=int(environment[INDEX]),
        pod=environment.get(POD_NAME) or socket.gethostname(),
        node=environment.get(NODE_NAME, ""),
    )


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
