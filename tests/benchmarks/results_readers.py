"""CPU time and memory of the readers against the standard library and vegeta itself, in one run.

Run `python tests/benchmarks/results_readers.py`; with vegeta on the PATH it is measured beside. Best of
three, each in a process of its own; what a process needs before it reads is measured and taken off, for
the reader as for the standard library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from results_inputs import ghz_report, vegeta_stream

RUNS = 3

OURS = """
import sys
from model_load_test.components.results.readers import read_report
if sys.argv[1] != "-":
    assert read_report(sys.argv[1]).rows.num_rows == 1_000_000
"""
STDLIB_DOCUMENT = """
import json, sys
if sys.argv[1] != "-":
    with open(sys.argv[1], "rb") as file:
        assert len(json.load(file)["details"]) == 1_000_000
"""
STDLIB_LINES = """
import json, sys
if sys.argv[1] != "-":
    with open(sys.argv[1], "rb") as file:
        assert sum(json.loads(line)["latency"] > 0 for line in file) == 1_000_000
"""


@dataclass(frozen=True)
class Cost:
    """What a process used."""

    cpu_seconds: float
    peak_mb: float


def cost(command: list[str]) -> Cost:
    """Runs a command and returns its CPU seconds and peak memory."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with exit code {process.returncode}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def python_cost(program: str, path: Path) -> Cost:
    """The best of several runs of a program, less what it takes to start."""
    start = min(cost([sys.executable, "-c", program, "-"]).cpu_seconds for _ in range(RUNS))
    runs = [cost([sys.executable, "-c", program, str(path)]) for _ in range(RUNS)]
    return Cost(min(run.cpu_seconds for run in runs) - start, min(run.peak_mb for run in runs))


def main() -> None:
    """Measures and prints a table."""
    # in a process of their own: a child's peak memory starts from that of the process that started it
    subprocess.run([sys.executable, str(Path(__file__).with_name("results_inputs.py"))], check=True)
    print("| 1 000 000 requests | CPU s | peak MB | ratio | wanted |")
    print("|---|---|---|---|---|")
    document, stream = ghz_report(), vegeta_stream()
    ours, stdlib = python_cost(OURS, document), python_cost(STDLIB_DOCUMENT, document)
    print(f"| ghz JSON with details, into the table | {_row(ours)} | | 200 MB |")
    ratio = ours.cpu_seconds / stdlib.cpu_seconds
    print(
        f"| the same, json.load only | {stdlib.cpu_seconds:.2f} | {stdlib.peak_mb:.0f} | {ratio:.2f} | 0.4 |"
    )
    ours, stdlib = python_cost(OURS, stream), python_cost(STDLIB_LINES, stream)
    print(f"| vegeta JSON stream, into the table | {_row(ours)} | | |")
    ratio = ours.cpu_seconds / stdlib.cpu_seconds
    print(f"| the same, json.loads by line only | {_row(stdlib)} | {ratio:.2f} | 0.4 |")
    vegeta = shutil.which("vegeta")
    if vegeta is None:
        print("vegeta is not on the PATH: not measured beside")
        return
    runs = [cost([vegeta, "report", "-type=json", str(stream)]) for _ in range(RUNS)]
    theirs = Cost(min(run.cpu_seconds for run in runs), min(run.peak_mb for run in runs))
    ratio = ours.cpu_seconds / theirs.cpu_seconds
    print(f"| the same, vegeta report | {_row(theirs)} | {ratio:.2f} | 0.33 |")


def _row(measured: Cost) -> str:
    return f"{measured.cpu_seconds:.2f} | {measured.peak_mb:.0f}"


if __name__ == "__main__":
    main()
