"""Does a tool measure the same inside a run as by itself? Rate, p50 and p99 at one spec, and the start.

python tests/benchmarks/load_faithfulness.py [--rounds 20] [--tools ghz,vegeta] [--rates 100,1000,highest]

Each round loads one embedded server four times, in random order: twice by the bare tool, and twice by
the run's own segment runner with what a run does beside it (it watches the machine and tells its
standing). The server has one core and the tool the others, lest the scheduler's choice of the moment
be compared. A load is as long as a block of the gate.

Ratios are of one invocation: Hodges-Lehmann estimate over the rounds with its exact 95 % interval. The
bare tool's two loads are the control: what they differ by is the machine's noise and nothing of ours.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from model_load_test.components.gate.signed_rank import hodges_lehmann
from model_load_test.components.load.bottleneck_probe import saturation_watch
from model_load_test.components.load.generators import find_generator
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.processes import Interruption
from model_load_test.components.load.progress import Standing, print_progress
from model_load_test.components.load.run import LoadTest, SegmentRunner, request_sources
from model_load_test.components.load.schedule import Segment
from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.manifest import read_manifest
from model_load_test.components.results.percentile import percentile
from model_load_test.components.results.readers import read_report
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server

LEAST_RATE_RATIO = 0.999
MOST_P50 = 0.02
MOST_P99 = 0.05
MOST_START_SECONDS = 0.3
LEAST_BLOCK_SECONDS = 1.0
LEAST_BLOCK_REQUESTS = 200
HELD_SHARE = 0.98
"""A rate counts as held while the bare tool achieves this share of it..."""
HELD_P99_NS = 20e6
"""...and p99 stays below this..."""
HELD_TRIES = 3
"""...so many times in a row."""
WATCH_BEGINS_SECONDS = 0.1
"""In a run the watch has begun long before a block; its first look is the dearest."""
MISSED = " **missed**"
CORES = sorted(os.sched_getaffinity(0))
PROTOCOL_OF_TOOL = {"ghz": "grpc", "vegeta": "http"}


@dataclass(frozen=True)
class Measured:
    """One load."""

    achieved_rps: float
    p50_ns: int
    p99_ns: int
    start_seconds: float
    """From asking for the start to the first request."""


@dataclass(frozen=True)
class Ratio:
    """Of two loads, with its 95 % interval."""

    estimate: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.estimate:.4f} [{self.lower:.4f}, {self.upper:.4f}]"


def main() -> int:
    """Prints a line for each tool and rate; returns 1 when a figure is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tools", default="ghz,vegeta")
    parser.add_argument("--rates", default="100,1000,highest")
    arguments = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}; {arguments.rounds} rounds each")
    ratios = "achieved, ours / bare | p50, ours / bare | p99, ours / bare | p99, bare / bare"
    print(f"| tool | rate | {ratios} | start, median and most |")
    print("|---|---|---|---|---|---|---|")
    missed = False
    for tool in arguments.tools.split(","):
        if shutil.which(tool) is None:
            print(f"| {tool} | | not on PATH | | | | |")
            continue
        with embedded_server("digits", backend="numpy") as server, tempfile.TemporaryDirectory() as folder:
            _part_cores(server.pid)
            test = _test(tool, server, Path(folder))
            for rate in arguments.rates.split(","):
                rate_rps = _highest_rate(test) if rate == "highest" else float(rate)
                missed |= _compare(test, rate_rps, rate, arguments.rounds)
    return int(missed)


def _part_cores(server_pid: int) -> None:
    """Gives the server the first core and everything started from here on the others."""
    first, *others = CORES
    if others:
        for thread in Path(f"/proc/{server_pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {first})
        os.sched_setaffinity(0, others)


def _test(tool: str, server: EmbeddedServer, folder: Path) -> LoadTest:
    endpoint = server.grpc if PROTOCOL_OF_TOOL[tool] == "grpc" else server.rest
    make_payload(endpoint, model_name="digits", out_dir=folder / "payload", requests=100)
    test = prepare(
        candidate_endpoint=str(endpoint),
        baseline_endpoint="",
        model_name="digits",
        signature_name="",
        payload_path=folder / "payload",
        mode="single",
        spec_values={"rate_rps": 100.0, "looks": (1,)},
        work_path=folder / "work",
    )
    request_sources(test)
    return test


def _compare(test: LoadTest, rate_rps: float, name: str, rounds: int) -> bool:
    seconds = max(LEAST_BLOCK_SECONDS, LEAST_BLOCK_REQUESTS / rate_rps)
    loads = {"ours": _in_a_run, "bare": _bare}
    measured: dict[str, list[Measured]] = {name: [] for name in loads}
    order = random.Random(0)
    for _ in range(rounds):
        for load in order.sample(sorted(loads) * 2, 4):
            measured[load].append(loads[load](test, rate_rps, seconds))

    def logs(load: str, value: Callable[[Measured], float]) -> np.ndarray:
        """By round and, within it, the first and the second."""
        return np.log([value(one) for one in measured[load]]).reshape(rounds, 2)

    def ours_to_bare(value: Callable[[Measured], float]) -> Ratio:
        return _ratio(logs("ours", value).mean(axis=1) - logs("bare", value).mean(axis=1))

    rate = ours_to_bare(lambda one: one.achieved_rps)
    p50 = ours_to_bare(lambda one: one.p50_ns)
    p99 = ours_to_bare(lambda one: one.p99_ns)
    first, second = logs("bare", lambda one: one.p99_ns).T
    starts = sorted(one.start_seconds for one in measured["ours"])
    start = starts[len(starts) // 2]
    cells = [
        f"{rate}{_judged(rate, LEAST_RATE_RATIO, math.inf)}",
        f"{p50}{_judged(p50, 1 - MOST_P50, 1 + MOST_P50)}",
        f"{p99}{_judged(p99, 1 - MOST_P99, 1 + MOST_P99)}",
        str(_ratio(second - first)),
        f"{start:.3f} s, {starts[-1]:.3f} s{MISSED if start > MOST_START_SECONDS else ''}",
    ]
    label = f"{rate_rps:g}/s" + (" (the highest held)" if name == "highest" else "")
    line = f"| {test.spec.tool} | {label} | {' | '.join(cells)} |"
    print(line, flush=True)
    return MISSED in line


def _ratio(logs: np.ndarray) -> Ratio:
    found = hodges_lehmann(logs, 0.025)
    return Ratio(math.exp(found.estimate), math.exp(found.lower), math.exp(found.upper))


def _judged(ratio: Ratio, least: float, most: float) -> str:
    if not least <= ratio.estimate <= most:
        return MISSED
    return "" if least <= ratio.lower and ratio.upper <= most else " not proven"


def _in_a_run(test: LoadTest, rate_rps: float, seconds: float) -> Measured:
    """As a run loads one block."""
    spec = msgspec.structs.replace(test.spec, rate_rps=rate_rps, block_seconds=seconds)
    loaded = LoadTest(
        spec=spec, endpoints=test.endpoints, payload_path=test.payload_path, work_path=test.work_path
    )
    runner = SegmentRunner(loaded, find_generator(spec.tool), _sources(test), Interruption())
    segment, standing = Segment(("candidate",), 0, seconds - 0.35), Standing(spec)
    standing.begin(segment, 0)
    runner.tick = lambda: print_progress(standing.update(), sys.stderr)
    with saturation_watch(find_generator(spec.tool), loaded.endpoints):
        time.sleep(WATCH_BEGINS_SECONDS)
        asked_at_ns = time.time_ns()
        rows = runner.load(segment)["candidate"]
    if runner.checks:
        raise SystemExit(f"the run went wrong: {runner.checks}")
    return _measured(rows, asked_at_ns)


def _sources(test: LoadTest) -> dict[str, Path]:
    if test.spec.tool == "ghz":
        return {"candidate": test.payload_path}
    return {"candidate": test.work_path / "targets-candidate.jsonl"}


def _bare(test: LoadTest, rate_rps: float, seconds: float) -> Measured:
    """As somebody loads who types the tool's own command line."""
    report, address = test.work_path / "bare.json", test.endpoints["candidate"].address
    requests = math.ceil(rate_rps * seconds)
    if test.spec.tool == "ghz":
        manifest = read_manifest(test.payload_path)
        words = f"--insecure --async -c 1 --connections 1 --rps {rate_rps:.0f} -n {requests} -t 5s -O json"
        files = {
            "--protoset": test.payload_path / manifest.protoset,
            "--binary-file": test.payload_path / "requests.bin",
            "--output": report,
        }
        flags = [f"{flag}={path}" for flag, path in files.items()]
        commands = [["ghz", *words.split(), "--call", manifest.call, *flags, address]]
    else:
        gob = report.with_suffix(".gob")
        targets = test.work_path / "targets-candidate.jsonl"
        words = f"-format=json -rate={rate_rps:.0f}/1s -duration={seconds}s -timeout=5s"
        commands = [
            ["vegeta", "attack", *words.split(), f"-targets={targets}", f"-output={gob}"],
            ["vegeta", "encode", "-to=json", f"-output={report}", str(gob)],
        ]
    asked_at_ns = time.time_ns()
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = read_report(report).rows
    report.unlink()
    return _measured(rows, asked_at_ns)


def _measured(rows: pa.Table, asked_at_ns: int) -> Measured:
    if not all(rows["ok"].to_pylist()):
        raise SystemExit("requests failed: the server does not hold this rate")
    sent_at_ns = np.sort(rows["sent_at_ns"].to_numpy())
    latency_ns = rows["latency_ns"].to_numpy()
    return Measured(
        achieved_rps=(len(sent_at_ns) - 1) / ((sent_at_ns[-1] - sent_at_ns[0]) / 1e9),
        p50_ns=percentile(latency_ns, 50.0),
        p99_ns=percentile(latency_ns, 99.0),
        start_seconds=(sent_at_ns[0] - asked_at_ns) / 1e9,
    )


def _highest_rate(test: LoadTest) -> float:
    """The highest rate, in steps of a quarter, at which the bare tool keeps up and no queue forms.

    Beyond it, latency is the length of a queue, which no two loads have alike; and where it ends
    differs from minute to minute, so the step below the last that held is taken.
    """
    steps = [250.0]
    while all(_holds(test, steps[-1]) for _ in range(HELD_TRIES)):
        steps.append(float(round(steps[-1] * 1.25)))
    return steps[max(0, len(steps) - 3)]


def _holds(test: LoadTest, rate_rps: float) -> bool:
    try:
        measured = _bare(test, rate_rps, 2.0)
    except SystemExit:
        return False
    return measured.achieved_rps >= HELD_SHARE * rate_rps and measured.p99_ns <= HELD_P99_NS


if __name__ == "__main__":
    sys.exit(main())
