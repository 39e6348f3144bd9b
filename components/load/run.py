"""One load test from start to end: warm up, measure look by look, stop as soon as it is decided."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import pyarrow as pa

from model_load_test.components.load.blocks import assign_block, with_schedule
from model_load_test.components.load.generators import (
    Attack,
    Generator,
    GeneratorCommand,
    attack_command,
    find_generator,
    write_targets,
)
from model_load_test.components.load.host import CpuWatch, host_facts
from model_load_test.components.load.processes import GeneratorEnd, Interruption, run_generators
from model_load_test.components.load.progress import (
    BLOCKS_PER_LINE,
    Progress,
    print_progress,
    progress_line,
)
from model_load_test.components.load.schedule import Arm, Segment, segments_of_block, warmup_segment
from model_load_test.components.load.spec import LoadSpec
from model_load_test.components.payload.manifest import PayloadManifest, read_bodies, read_manifest
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.results.checks import Check
from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.readers import read_report
from model_load_test.components.results.table import SCHEMA, RunMetadata

GENERATOR_GRACE_SECONDS: Final = 10.0
"""Beyond load and timeout: start, connection and writing the report."""


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


def run_load_test(
    test: LoadTest, stop_rule: StopRule, progress: Progress = print_progress
) -> tuple[pa.Table, RunMetadata]:
    """Runs the load test and returns its rows and their metadata.

    Loads segment by segment; after each planned look asks `stop_rule`, given all rows so far,
    whether the measurement is decided. SIGTERM and SIGINT stop the generators, keep the rows they
    have and add an INVALID check, as does a generator that dies or hangs.

    Args:
        test: What to load and with what.
        stop_rule: Asked after each look.
        progress: Receives one line of text per segment and look.

    Returns:
        The rows in the shape of `results.table.SCHEMA`, warm-up included as block -1, and the
        metadata to be written with them.

    Raises:
        GeneratorMissing: The generator is not installed.
    """
    generator = find_generator(test.spec.tool)
    test.work_path.mkdir(parents=True, exist_ok=True)
    runner = SegmentRunner(test, generator, request_sources(test))
    spec = test.spec
    cpu = CpuWatch()
    started_at_ns = time.time_ns()
    progress(
        f"load test: {spec.mode}, {spec.rate_rps:g} requests/s per arm, {generator.tool} {generator.version}"
    )
    with interruptible(runner.interruption):
        measure(runner, spec, stop_rule, progress)
    metadata = RunMetadata(
        load_spec=msgspec.to_builtins(spec),
        payload=payload_facts(read_manifest(test.payload_path)),
        tool=generator.tool,
        tool_version=generator.version,
        command=tuple(runner.commands),
        host={**host_facts(), **cpu.shares()},
        checks=tuple(msgspec.to_builtins(check) for check in runner.checks),
        cut_off=runner.cut_off,
        started_at_ns=started_at_ns,
        ended_at_ns=time.time_ns(),
    )
    return runner.table(), metadata


class Runner(Protocol):
    """What `measure` asks to run a segment: the generators of this machine, or those of a Job's pods."""

    @property
    def healthy(self) -> bool:
        """Whether it makes sense to go on."""

    def table(self) -> pa.Table:
        """All rows so far."""

    def run(self, segment: Segment) -> None:
        """Runs one segment and keeps its rows."""


def measure(runner: Runner, spec: LoadSpec, stop_rule: StopRule, progress: Progress) -> None:
    """Warms up, then measures pair by pair until the stop rule or the last look ends it."""
    if spec.warmup_seconds:
        progress(f"warm-up, {spec.warmup_seconds:g} s")
        runner.run(warmup_segment(spec))
    first_block = 0
    for number, look in enumerate(spec.looks, start=1):
        progress(f"look {number} of {len(spec.looks)}: up to pair {look}")
        for block in range(first_block, look):
            for segment in segments_of_block(spec, block):
                if not runner.healthy:
                    return
                runner.run(segment)
            if (block + 1) % BLOCKS_PER_LINE == 0 or block + 1 == look:
                progress(progress_line(runner.table(), block, spec))
        if not runner.healthy:
            return
        decision = stop_rule(runner.table())
        progress(f"after {look} pairs: {decision.text}")
        if decision.stop:
            return
        first_block = look


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
    """What each arm's generator reads its requests from."""
    if test.spec.tool == "ghz":
        return dict.fromkeys(test.endpoints, test.payload_path)
    manifest = read_manifest(test.payload_path)
    sources: dict[Arm, Path] = {}
    bodies = read_bodies(test.payload_path)
    for arm, endpoint in test.endpoints.items():
        sources[arm] = test.work_path / f"targets-{arm}.jsonl"
        write_targets(sources[arm], f"{endpoint}{manifest.path}", bodies)
    return sources


class SegmentRunner:
    """Runs segments one after the other and keeps what they yielded."""

    def __init__(self, test: LoadTest, generator: Generator, sources: Mapping[Arm, Path]) -> None:
        self.interruption = Interruption()
        self.checks: list[Check] = []
        self.commands: dict[str, None] = {}
        self.cut_off = 0
        self._test = test
        self._generator = generator
        self._sources = sources
        self._segments = 0
        self._tables: list[pa.Table] = []

    @property
    def healthy(self) -> bool:
        """Whether it makes sense to go on."""
        return not any(check.consequence == "INVALID" for check in self.checks)

    def table(self) -> pa.Table:
        """All rows so far."""
        return pa.concat_tables(self._tables).unify_dictionaries() if self._tables else SCHEMA.empty_table()

    def run(self, segment: Segment) -> None:
        """Runs one segment and keeps its rows."""
        self._tables.append(assign_block(self.load(segment), segment))

    def load(self, segment: Segment, gate: Gate | None = None) -> dict[Arm, pa.Table]:
        """Runs one segment and returns the rows of each arm, not yet assigned to its block.

        Args:
            segment: What to load.
            gate: Given the commands to start, returns those to start instead of them, which wait
                for a sign before they send.
        """
        spec = self._test.spec
        seconds = segment.load_seconds
        commands = {
            arm: attack_command(
                self._generator,
                spec,
                Attack(
                    endpoint=self._test.endpoints[arm],
                    rate_rps=segment.rate_rps(spec, arm),
                    source=self._sources[arm],
                    load_seconds=seconds,
                    report=self._test.work_path / f"{arm}-{self._segments:04d}.json",
                ),
            )
            for arm in segment.arms
        }
        for command in commands.values():
            self.commands.setdefault(" ".join(_without_paths(command.attack)))
        self._segments += 1
        deadline_seconds = seconds + spec.timeout_seconds + GENERATOR_GRACE_SECONDS
        ends = run_generators(gate(commands) if gate else commands, deadline_seconds, self.interruption)
        return {end.arm: self._rows_of(end, segment.rate_rps(spec, end.arm)) for end in ends}

    def _rows_of(self, end: GeneratorEnd, rate_rps: float) -> pa.Table:
        if end.trouble:
            self._find(
                "generator-stopped",
                f"The {self._generator.tool} of the {end.arm} did not finish: {end.trouble}.",
            )
        if not end.report.exists():
            return _no_rows()
        try:
            report = read_report(end.report)
        except ResultsError as error:
            self._find(
                "report-unreadable",
                f"The {self._generator.tool} of the {end.arm} left a report that cannot be read: {error}.",
            )
            return _no_rows()
        finally:
            end.report.unlink()
        self.cut_off += report.cut_off
        if self._generator.tool == "vegeta":
            return with_schedule(report.rows, rate_rps)
        return report.rows

    def _find(self, code: str, detail: str) -> None:
        self.checks.append(Check(code=code, detail=detail, consequence="INVALID"))


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
def interruptible(interruption: Interruption) -> Iterator[None]:
    """Turns SIGTERM and SIGINT into an orderly stop while the block runs, in the main thread only."""

    def stop(number: int, _frame: FrameType | None) -> None:
        interruption.set(f"the run received {signal.Signals(number).name}")

    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: there the caller's own handling stands
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
