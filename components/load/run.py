"""One load test from start to end: warm up, measure look by look, stop as soon as it is decided."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from model_load_test.components.errors import InputError
from model_load_test.components.load.blocks import assign_block, with_schedule
from model_load_test.components.load.bottleneck import bottleneck_line, bottlenecks_of
from model_load_test.components.load.bottleneck_probe import BottleneckProbe, ServerProbe
from model_load_test.components.load.connection import (
    ConnectionOptions,
    write_ghz_metadata,
    write_vegeta_targets,
)
from model_load_test.components.load.counters import MetricsPage
from model_load_test.components.load.exporter import NO_OBSERVER, Observer
from model_load_test.components.load.generators import (
    Attack,
    Generator,
    GeneratorCommand,
    attack_command,
    find_generator,
)
from model_load_test.components.load.host import CpuWatch, host_facts
from model_load_test.components.load.locust.account import WorkerAccount, core_shares, read_accounts
from model_load_test.components.load.locust.account import findings as locust_findings
from model_load_test.components.load.locust.forkserver import fork_server
from model_load_test.components.load.locust.rows import read_rows
from model_load_test.components.load.processes import GeneratorEnd, Interruption, run_generators
from model_load_test.components.load.progress import (
    Progress,
    ProgressUpdate,
    Standing,
    print_progress,
)
from model_load_test.components.load.safety import Budget, CircuitBreaker, Limits
from model_load_test.components.load.schedule import (
    WARMUP_BLOCK,
    Arm,
    Segment,
    segments_of_block,
    warmup_segment,
)
from model_load_test.components.load.spec import LoadSpec
from model_load_test.components.payload.manifest import PayloadManifest, read_http_bodies, read_manifest
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.results.checks import Check, Consequence
from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.readers import read_report
from model_load_test.components.results.table import SCHEMA, RunMetadata

GENERATOR_GRACE_SECONDS: Final = 10.0
"""Beyond load and timeout: start, connection and writing the report."""

_SLOW_START_SECONDS: Final = 40.0
"""Locust takes a second of a core to start, and so do its workers: on a busy machine many seconds. And
whoever waits for others at a gate waits for the slowest."""

_LONGEST_ANSWER_SECONDS: Final = 20.0
"""An interrupted run waits no longer for the answers it is owed: a pod has 30 s to end."""
_PAUSE_POLL_SECONDS: Final = 0.1
_GHZ_METADATA_NAME: Final = "metadata.json"
_OWNER_ONLY: Final = 0o700
_CLOSED_LOOP: Final = (
    "The load was a closed loop: each of the simultaneous requests waits for its answer before the next is "
    "sent. A slow answer slows the load, so the latencies hide waiting that an open loop shows; do not "
    "compare them with those of an open loop."
)


class StopDecision(NamedTuple):
    """What the stop rule says at a look."""

    stop: bool
    text: str
    """The running estimate, for the log."""


StopRule = Callable[[pa.Table], StopDecision]

Gate = Callable[[Mapping[Arm, GeneratorCommand]], Mapping[Arm, GeneratorCommand]]


@dataclass(frozen=True)
class LoadTest:
    """Everything a run needs; made once, checked by `preflight` before any load is sent."""

    spec: LoadSpec
    endpoints: Mapping[Arm, Endpoint]
    payload_path: Path
    work_path: Path
    """Scratch folder for target files and the generators' own reports."""
    server_kind: str = ""
    """What the servers say they are, where they say it: `embedded`."""
    connection: ConnectionOptions = field(default_factory=ConnectionOptions)
    limits: Limits = field(default_factory=Limits)
    metrics: Mapping[Arm, MetricsPage] = field(default_factory=dict)
    """Where the servers show their metrics, where that is not the usual place."""
    locustfile: Path | None = None


def run_load_test(
    test: LoadTest,
    stop_rule: StopRule,
    progress: Progress = print_progress,
    observer: Observer = NO_OBSERVER,
    interruption: Interruption | None = None,
) -> tuple[pa.Table, RunMetadata]:
    """Runs the load test and returns its rows and their metadata.

    Loads segment by segment; after each planned look asks `stop_rule`, given all rows so far,
    whether the measurement is decided. SIGTERM and SIGINT stop the generators, keep the rows they
    have and add an INVALID check, as do a generator that dies or hangs and a server that collapses.
    A budget that is used up ends the run before the next segment, with a WARNING.

    Args:
        test: What to load and with what.
        stop_rule: Asked after each look.
        progress: Receives what is to be shown, live and lasting.
        observer: Follows the segments, such as `exporter.LoadExporter`.
        interruption: Whoever holds it can have the run stopped. A caller that does more than one run, or
            has to keep what it yields, gets it from `interruptible`, which it holds until that is done: a
            signal that comes between two runs would otherwise end the process.

    Returns:
        The rows in the shape of `results.table.SCHEMA`, warm-up included as block -1, and the
        metadata to be written with them.

    Raises:
        GeneratorMissing: The generator is not installed.
    """
    generator = find_generator(test.spec.tool)
    spec = test.spec
    cpu = CpuWatch()
    started_at_ns = time.time_ns()
    progress(ProgressUpdate(f"load test: {_load_in_words(spec)}, {generator.tool} {generator.version}"))
    manifest = read_manifest(test.payload_path)
    servers = ServerProbe(spec, test.endpoints, test.metrics, manifest.model_name)
    probe = BottleneckProbe(servers, generator)
    try:
        runner = SegmentRunner(test, generator, request_sources(test), interruption or Interruption())
        runner.before_first_block = servers.begin
        with interruptible(runner.interruption), probe, ExitStack() as stack:
            if generator.tool == "locust":
                runner.fork_server = stack.enter_context(fork_server())
            measure(runner, spec, stop_rule, progress, test.limits, observer)
            runner.note_interruption()
    finally:
        remove_request_files(test)
    table = runner.table()
    runner.checks += locust_findings(runner.accounts)
    found = probe.findings(table, core_shares(runner.accounts))
    line = bottleneck_line(bottlenecks_of(found))
    if line:
        progress(ProgressUpdate(line))
    metadata = RunMetadata(
        load_spec=msgspec.to_builtins(spec),
        payload=payload_facts(manifest),
        tool=generator.tool,
        tool_version=generator.version,
        command=tuple(runner.commands),
        host={**host_facts(), **cpu.shares(), **found},
        checks=tuple(msgspec.to_builtins(check) for check in runner.checks),
        cut_off=runner.cut_off,
        started_at_ns=started_at_ns,
        ended_at_ns=time.time_ns(),
    )
    return table, metadata


def _load_in_words(spec: LoadSpec) -> str:
    if spec.concurrency:
        return f"{spec.mode}, closed loop of {spec.concurrency} requests at once per arm"
    return f"{spec.mode}, {spec.rate_profile or f'{spec.rate_rps:g} requests/s'} per arm"


class Runner(Protocol):
    """What `measure` asks to run a segment: the generators of this machine, or those of a Job's pods."""

    checks: list[Check]
    """What was found; `measure` adds to it."""
    tick: Callable[[], None]
    """To be called now and then while a segment runs; `measure` sets it."""

    @property
    def healthy(self) -> bool:
        """Whether it makes sense to go on."""

    def table(self) -> pa.Table:
        """All rows so far."""

    def run(self, segment: Segment) -> None:
        """Runs one segment, which has an arm at least, and keeps its rows."""


def measure(
    runner: Runner,
    spec: LoadSpec,
    stop_rule: StopRule,
    progress: Progress,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    observer: Observer = NO_OBSERVER,
) -> None:
    """Warms up, then measures pair by pair until the stop rule, a limit or the last look ends it."""
    if spec.concurrency:
        runner.checks.append(Check(code="closed-loop", detail=_CLOSED_LOOP, consequence="WARNING"))
    overseer = _Overseer(runner, spec, progress, limits, observer)
    if spec.warmup_seconds and not overseer.load(warmup_segment(spec), look=0):
        return
    first_block = 0
    for number, look in enumerate(spec.looks):
        for block in range(first_block, look):
            for segment in segments_of_block(spec, block):
                if not overseer.load(segment, look=number):
                    return
            overseer.show_pair()
        decision = stop_rule(runner.table())
        progress(ProgressUpdate(f"after {look} pairs: {decision.text}"))
        if decision.stop:
            return
        first_block = look


class _Overseer:
    """Has segments run one after the other, shows the standing and watches the limits."""

    def __init__(
        self, runner: Runner, spec: LoadSpec, progress: Progress, limits: Limits, observer: Observer
    ) -> None:
        self._runner = runner
        self._observer = observer
        self._spec = spec
        self._progress = progress
        self._standing = Standing(spec)
        self._budget = Budget(limits)
        self._breaker = CircuitBreaker(limits)
        runner.tick = self._show

    def load(self, segment: Segment, look: int) -> bool:
        """Runs a segment, or waits through a pause; says whether the run may go on."""
        if not self._runner.healthy:
            return False
        lacking = self._budget.lacks(self._spec, segment)
        if lacking:
            self._find("budget-spent", f"The run ended early: {lacking}.", "WARNING")
            return False
        self._standing.begin(segment, look)
        self._observer.begin(segment)
        self._show()
        if segment.arms:
            self._runner.run(segment)
            self._take(self._runner.table().slice(self._budget.sent), segment)
        else:
            self._pause(segment.block_seconds)
        return self._runner.healthy

    def show_pair(self) -> None:
        """Shows the standing after the last segment of a pair."""
        self._progress(self._standing.update(pair_done=True))

    def _show(self) -> None:
        self._progress(self._standing.update())

    def _take(self, rows: pa.Table, segment: Segment) -> None:
        self._budget.sent += rows.num_rows
        self._standing.add(rows)
        self._observer.add(rows, segment)
        for arm in segment.arms:
            own = rows.filter(pc.field("arm") == arm)
            failed = own.num_rows - (pc.sum(own["ok"]).as_py() or 0)
            collapse = self._breaker.add(arm, segment.load_seconds, own.num_rows, failed)
            if collapse:
                self._find("circuit-breaker", f"The run was ended: {collapse}.", "INVALID")

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._runner.healthy and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _PAUSE_POLL_SECONDS))

    def _find(self, code: str, detail: str, consequence: Consequence) -> None:
        self._runner.checks.append(Check(code=code, detail=detail, consequence=consequence))


def payload_facts(manifest: PayloadManifest) -> dict[str, Any]:
    """What the results' metadata says of the requests."""
    return {
        "summary": manifest.summary,
        "signature": manifest.signature_name,
        "requests": manifest.requests,
        "batch_sizes": dict(manifest.batch_sizes),
        "seed": manifest.seed,
        "hash": manifest.hash,
    }


def request_sources(test: LoadTest) -> dict[Arm, Path]:
    """Writes what each arm's generator reads its requests from, and for ghz what it sends along.

    The files may hold secrets: they are their owner's alone, and `remove_request_files` ends them.
    """
    test.work_path.mkdir(parents=True, exist_ok=True)
    test.work_path.chmod(_OWNER_ONLY)
    if test.spec.protocol == "grpc":
        write_ghz_metadata(test.work_path / _GHZ_METADATA_NAME, test.connection)
        return dict.fromkeys(test.endpoints, test.payload_path)
    manifest, bodies = read_manifest(test.payload_path), read_http_bodies(test.payload_path)
    sources = {arm: _targets_path(test, arm) for arm in test.endpoints}
    for arm, endpoint in test.endpoints.items():
        write_vegeta_targets(sources[arm], endpoint, manifest.path, bodies, test.connection)
    return sources


def remove_request_files(test: LoadTest) -> None:
    """Removes what `request_sources` wrote."""
    for path in (test.work_path / _GHZ_METADATA_NAME, *(_targets_path(test, arm) for arm in test.endpoints)):
        path.unlink(missing_ok=True)


def _targets_path(test: LoadTest, arm: Arm) -> Path:
    return test.work_path / f"targets-{arm}.jsonl"


class SegmentRunner:
    """Runs segments one after the other and keeps what they yielded."""

    def __init__(
        self, test: LoadTest, generator: Generator, sources: Mapping[Arm, Path], interruption: Interruption
    ) -> None:
        self.interruption = interruption
        self.checks: list[Check] = []
        self.commands: dict[str, None] = {}
        self.cut_off = 0
        self.tick: Callable[[], None] = lambda: None
        self.before_first_block: Callable[[], None] = lambda: None
        self.fork_server: Path | None = None
        """Where Locust is started from, once it has been imported."""
        self.accounts: list[WorkerAccount] = []
        """What Locust's workers said of themselves."""
        self._test = test
        self._generator = generator
        self._sources = sources
        self._manifest = read_manifest(test.payload_path)
        self._headers = test.connection.header_values()
        self._secrets = test.connection.secrets()
        self._segments = 0
        self._in_blocks = False
        self._tables: list[pa.Table] = []

    @property
    def healthy(self) -> bool:
        """Whether it makes sense to go on."""
        return not self.interruption.is_set() and not self._is_invalid

    @property
    def _is_invalid(self) -> bool:
        return any(check.consequence == "INVALID" for check in self.checks)

    def note_interruption(self) -> None:
        """Says so where the run was stopped while no generator was running that could tell."""
        if self.interruption.is_set() and not self._is_invalid:
            self._find("generator-stopped", f"The load was stopped: {self.interruption.reason}.")

    def table(self) -> pa.Table:
        """All rows so far."""
        return pa.concat_tables(self._tables).unify_dictionaries() if self._tables else SCHEMA.empty_table()

    def run(self, segment: Segment) -> None:
        """Runs one segment and keeps its rows."""
        if segment.block != WARMUP_BLOCK and not self._in_blocks:
            self._in_blocks = True
            self.before_first_block()
        self._tables.append(assign_block(self.load(segment), segment))

    def load(self, segment: Segment, gate: Gate | None = None) -> dict[Arm, pa.Table]:
        """Runs one segment and returns the rows of each arm, not yet assigned to its block.

        Args:
            segment: What to load.
            gate: Given the commands to start, returns those to start instead of them, which wait
                for a sign before they send.
        """
        test, spec = self._test, self._test.spec
        self._renew_headers(segment.load_seconds + spec.timeout_seconds)
        metadata_file = test.work_path / _GHZ_METADATA_NAME
        meeting = test.work_path / f"meeting-{self._segments:04d}"
        commands = {
            arm: attack_command(
                self._generator,
                spec,
                Attack(
                    endpoint=test.endpoints[arm],
                    rate_rps=segment.rate_rps(spec, arm),
                    source=self._sources[arm],
                    load_seconds=segment.load_seconds,
                    report=test.work_path / f"{arm}-{self._segments:04d}.json",
                    call=self._manifest.call,
                    protoset=self._manifest.protoset,
                    connection=test.connection,
                    metadata_file=metadata_file if metadata_file.exists() else None,
                    meeting=meeting,
                    parties=len(segment.arms),
                    locustfile=test.locustfile,
                    fork_server=self.fork_server,
                ),
            )
            for arm in segment.arms
        }
        for command in commands.values():
            self.commands.setdefault(" ".join(_without_paths(command.attack)))
        self._segments += 1
        ends = run_generators(
            gate(commands) if gate else commands,
            segment.load_seconds
            + spec.timeout_seconds
            + (_SLOW_START_SECONDS if spec.tool == "locust" or gate else GENERATOR_GRACE_SECONDS),
            self.interruption,
            answer_seconds=min(spec.timeout_seconds, _LONGEST_ANSWER_SECONDS),
            secrets=self._secrets,
            tick=self.tick,
        )
        shutil.rmtree(meeting, ignore_errors=True)
        return {end.arm: self._rows_of(end, segment.rate_rps(spec, end.arm)) for end in ends}

    def _renew_headers(self, lasting_seconds: float) -> None:
        """Writes the generators' files anew where a token has changed, or would end before the segment."""
        try:
            current = self._test.connection.header_values(lasting_seconds)
            if current == self._headers:
                return
            self._sources = request_sources(self._test)
            self._secrets = tuple({*self._test.connection.secrets(), *self._secrets})
            self._headers = current
        except InputError as error:
            # What was measured is worth more than what cannot be asked any more: the server's answers tell.
            if not any(check.code == "credentials-not-renewed" for check in self.checks):
                self._find(
                    "credentials-not-renewed", f"The old ones were sent on: {error}.", consequence="WARNING"
                )

    def _rows_of(self, end: GeneratorEnd, rate_rps: float) -> pa.Table:
        if end.trouble:
            self._find(
                "generator-stopped",
                f"The {self._generator.tool} of the {end.arm} did not finish: {end.trouble}.",
            )
        if self._generator.tool == "locust":
            return self._locust_rows(end.report)
        try:
            if not end.report.exists():
                return _no_rows()
            report = read_report(end.report)
        except ResultsError as error:
            self._find(
                "report-unreadable",
                f"The {self._generator.tool} of the {end.arm} left a report that cannot be read: {error}.",
            )
            return _no_rows()
        finally:
            for suffix in (".json", ".gob", ".log"):
                end.report.with_suffix(suffix).unlink(missing_ok=True)
        self.cut_off += report.cut_off
        if self._generator.tool == "vegeta" and not self._test.spec.concurrency:
            return with_schedule(report.rows, rate_rps)
        return report.rows

    def _locust_rows(self, folder: Path) -> pa.Table:
        try:
            accounts = read_accounts(folder)
            self.accounts += accounts
            self.cut_off += sum(account.unanswered for account in accounts)
            return read_rows(folder)
        finally:
            folder.with_suffix(".log").unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)

    def _find(self, code: str, detail: str, consequence: Consequence = "INVALID") -> None:
        self.checks.append(Check(code=code, detail=detail, consequence=consequence))


def _no_rows() -> pa.Table:
    return SCHEMA.empty_table().drop_columns(["arm", "block"])


def _without_paths(command: tuple[str, ...]) -> Iterator[str]:
    """The command line as the report shows it: no folder of the machine that ran it."""
    for word in command:
        flag, separator, value = word.partition("=")
        if value.startswith("/"):
            yield flag + separator + Path(value).name
        else:
            yield Path(word).name if word.startswith("/") else word


@contextmanager
def interruptible(interruption: Interruption | None = None) -> Iterator[Interruption]:
    """Turns SIGTERM and SIGINT into an orderly stop while the block runs, in the main thread only.

    Args:
        interruption: What a signal sets; a new one without. It is what the block is given.
    """
    interruption = interruption or Interruption()

    def stop(number: int, _frame: FrameType | None) -> None:
        interruption.set(f"the run received {signal.Signals(number).name}")

    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: there the caller's own handling stands
        yield interruption
        return
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
