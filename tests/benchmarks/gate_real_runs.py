"""How the gate decides real runs: embedded servers of known slowness, loaded by ghz on this machine.

    nice -n 10 python tests/benchmarks/gate_real_runs.py [--minutes 10] [--write]

Every run starts both servers afresh, so that the luck of a start is drawn anew. The cases are run
in turn until the time is over; every run is one line in the file of runs, and the table counts all
lines, so that several sessions add up. --write puts it into docs/gate.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from scipy.stats import beta

from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import gate_spec_of_run
from model_load_test.components.gate.stopping import load_stop_rule
from model_load_test.components.gate.verdict import Verdict
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.run import run_load_test
from model_load_test.components.payload.make import make_payload
from model_load_test.components.results.validity import validate
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "gate.md"
BEGIN, END = "<!-- real-runs: begin -->", "<!-- real-runs: end -->"
MODEL = "digits"
BASE_DELAY_MS = 20.0
BASE_LATENCY_MS = 21.5
"""What a request to a server of that delay takes by ghz's clock; measured."""
SPEC: dict[str, Any] = {
    "rate_rps": 200.0,
    "block_seconds": 0.5,
    "looks": (10, 15, 20, 30),
    "warmup_seconds": 1.0,
}
"""Blocks of half a second, so that ten minutes hold some thirty runs."""
DEMANDS: dict[str, Any] = {"margins": {"errors": 0.01}}
"""As by default, but that 3 000 requests an arm cannot tell failures to 0.1 percentage points."""

# Works and rests for random times, a quarter of the time at work on average, and ends by itself.
HOG = """
import random, sys, time
end, draw = time.monotonic() + float(sys.argv[1]), random.Random(int(sys.argv[2]))
while time.monotonic() < end:
    stop = time.monotonic() + draw.uniform(0.2, 1.0)
    while time.monotonic() < min(stop, end):
        pass
    time.sleep(max(0.0, min(draw.uniform(0.6, 3.0), end - time.monotonic())))
"""


@dataclass(frozen=True)
class Case:
    """What is measured."""

    slower: float
    """Relative slow-down of the candidate."""
    mode: str
    hog: bool

    @property
    def name(self) -> str:
        """As the table shows it."""
        effect = f"+{100 * self.slower:.0f} %" if self.slower else "identical"
        return f"{effect}, {self.mode}{', CPU hog' if self.hog else ''}"


CASES = (
    Case(0.0, "duet", False),
    Case(0.0, "duet", True),
    Case(0.1, "duet", False),
    Case(0.1, "duet", True),
    Case(0.2, "duet", False),
    Case(0.2, "duet", True),
    Case(0.0, "interleaved", False),
    Case(0.2, "interleaved", True),
)


class Run(msgspec.Struct, frozen=True):
    """One line of the file of runs."""

    case: str
    verdict: str
    pairs: int
    p50_ratio: float | None
    seconds: float
    busy: float
    """Share of the machine's CPU time in use while loading, our own included."""
    at: str
    reason: str = ""


def main() -> int:
    """Runs the cases in turn until the time is over, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=Path, default=ROOT / "build" / "gate_real_runs.jsonl")
    parser.add_argument("--write", action="store_true", help="write the table into docs/gate.md")
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{ROOT / '.tools' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    arguments.runs.parent.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * arguments.minutes
    known = read_runs(arguments.runs)
    while time.monotonic() < ends:
        # The case with the fewest runs is next, so that sessions of any length stay balanced.
        case = min(CASES, key=lambda case: sum(run.case == case.name for run in known))
        found = run_case(case, seed=len(known))
        known.append(found)
        with arguments.runs.open("ab") as file:
            file.write(msgspec.json.encode(found) + b"\n")
        print(f"{found.case}: {found.verdict} after {found.pairs} pairs", file=sys.stderr, flush=True)
    text = table(known)
    print(text)
    if arguments.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    return 0


def run_case(case: Case, seed: int) -> Run:
    """Starts both servers, loads and judges them, and stops them."""
    started = time.monotonic()
    delay_ms = BASE_DELAY_MS + case.slower * BASE_LATENCY_MS
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded_server(MODEL, backend="numpy", delay_ms=delay_ms) as candidate,
        embedded_server(MODEL, backend="numpy", delay_ms=BASE_DELAY_MS) as baseline,
        hog(seconds=300, seed=seed) if case.hog else nullcontext(),
    ):
        payload = Path(folder) / "payload"
        make_payload(candidate.grpc, model_name=MODEL, out_dir=payload, requests=50)
        verdict, busy = measure(
            candidate, baseline, payload, Path(folder), {**SPEC, "seed": seed}, DEMANDS, case.mode
        )
    p50 = verdict.metrics.get("p50")
    return Run(
        case=case.name,
        verdict=verdict.verdict,
        pairs=verdict.pairs,
        p50_ratio=p50.ratio if p50 else None,
        seconds=time.monotonic() - started,
        busy=busy,
        at=time.strftime("%Y-%m-%d %H:%M:%S"),
        reason=verdict.reasons[0],
    )


def measure(
    candidate: EmbeddedServer,
    baseline: EmbeddedServer,
    payload: Path,
    folder: Path,
    spec_values: Mapping[str, Any],
    demands: Mapping[str, Any],
    mode: str,
) -> tuple[Verdict, float]:
    """Loads both servers by ghz as a pipeline would; the verdict and the busy share of the machine."""
    test = prepare(
        candidate_endpoint=str(candidate.grpc),
        baseline_endpoint=str(baseline.grpc),
        model_name=MODEL,
        signature_name="serving_default",
        payload_path=payload,
        mode=mode,
        spec_values=spec_values,
        work_path=folder / "work",
    )
    gate = gate_spec_of_run(demands, msgspec.to_builtins(test.spec))
    rows, metadata = run_load_test(test, load_stop_rule(gate), progress=lambda line: None)
    verdict = judge(rows, gate, checks=validate(rows, metadata))
    return verdict, float(metadata.host.get("cpu_busy_share", 0.0))


@contextmanager
def hog(seconds: float, seed: int) -> Iterator[None]:
    """Another process that works now and then, for as long as the block takes, `seconds` at most."""
    process = subprocess.Popen([sys.executable, "-c", HOG, str(seconds), str(seed)])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def read_runs(path: Path) -> list[Run]:
    """The runs of earlier sessions."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Run) for line in path.read_bytes().splitlines()]


def table(runs: list[Run]) -> str:
    """Shares of the verdicts a case, with Clopper and Pearson's 95 % interval."""
    lines = [
        "| servers | runs | FAIL, % | PASS, % | INCONCLUSIVE | INVALID | measured p50 | mean pairs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        of_case = [run for run in runs if run.case == case.name]
        if not of_case:
            continue
        counts = {
            verdict: sum(run.verdict == verdict for run in of_case)
            for verdict in ("FAIL", "PASS", "INCONCLUSIVE", "INVALID")
        }
        ratios = [run.p50_ratio for run in of_case if run.p50_ratio is not None]
        lines.append(
            f"| {case.name} | {len(of_case)} | {_share(counts['FAIL'], len(of_case))} "
            f"| {_share(counts['PASS'], len(of_case))} | {counts['INCONCLUSIVE']} | {counts['INVALID']} "
            f"| {100 * (np.median(ratios) - 1):+.1f} % [{100 * (min(ratios) - 1):+.1f}, "
            f"{100 * (max(ratios) - 1):+.1f}] | {np.mean([run.pairs for run in of_case]):.0f} |"
        )
    host = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    first, last = min(run.at for run in runs), max(run.at for run in runs)
    busy = np.median([run.busy for run in runs])
    return "\n".join(
        [
            *lines,
            "",
            f"{len(runs)} runs from {first} to {last} on {host}, shared with other work: "
            f"{100 * busy:.0f} % busy (median).",
        ]
    )


def _share(hits: int, runs: int) -> str:
    low = beta.ppf(0.025, hits, runs - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, runs - hits) if hits < runs else 1.0
    return f"{100 * hits / runs:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


if __name__ == "__main__":
    sys.exit(main())
