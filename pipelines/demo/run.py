"""The demo: two candidates against production, each through the compiled sub-DAG."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from model_load_test.components.load.generators import find_generator
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server
from model_load_test.pipelines.demo.local_run import run_locally
from model_load_test.pipelines.demo.models import MODEL_NAME


@dataclass(frozen=True)
class Scenario:
    """One run of the gate: which model stands as the candidate, and what should come of it."""

    name: str
    candidate: str
    expected_verdict: str


SCENARIOS: Final = (Scenario("same", "retrained", "PASS"), Scenario("slower", "heavier", "FAIL"))

ARTIFACTS: Final = {
    "compare-to-baseline/report": "report.json",
    "write-report/page": "report.html",
    "write-report/summary": "report.md",
    "run-load-test/results": "results.parquet",
}
"""Where KFP's local runner leaves a task's output, and what it is called in the demo's folder."""


def run_demo(output: Path, protocol: str, rate_rps: float) -> int:
    """Trains, serves, loads and judges; prints a table of both runs.

    Args:
        output: Folder for models, reports and the metadata store.
        protocol: grpc (ghz) or http (vegeta).
        rate_rps: Offered requests per second and arm.

    Returns:
        0 when every scenario ended as it should, else 1.

    Raises:
        GeneratorMissing: The load generator of the protocol is not installed.
    """
    find_generator("ghz" if protocol == "grpc" else "vegeta")
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    models = output / "models"
    if not models.exists():
        _say("training three small digit classifiers")
        subprocess.run(
            [sys.executable, "-m", "model_load_test.pipelines.demo.models", str(models)], check=True
        )
    pipeline = _compiled_pipeline(output)
    rows = [_run_scenario(scenario, models, pipeline, output, protocol, rate_rps) for scenario in SCENARIOS]
    print()
    print(_table(rows))
    print(f"\nRecorded runs: model-load-test baseline list mlmd+sqlite://{output / 'mlmd.sqlite'}")
    as_expected = all(
        row["verdict"] == row["expected"] and row["went_on"] == (row["expected"] == "PASS") for row in rows
    )
    print("\nBoth ended as they should." if as_expected else "\nNOT as expected; the reports say why.")
    return 0 if as_expected else 1


def _compiled_pipeline(output: Path) -> Path:
    from model_load_test.pipelines.compiling import compile_all

    return next(path for path in compile_all(output / "compile") if path.name == "kubeflow.yaml")


def _run_scenario(
    scenario: Scenario, models: Path, pipeline: Path, output: Path, protocol: str, rate_rps: float
) -> dict[str, Any]:
    folder = output / scenario.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _say(f"scenario {scenario.name}: starting production and {scenario.candidate}")
    started = time.monotonic()
    with _served(models / "production", models / scenario.candidate) as (baseline, candidate):
        arguments = {
            "candidate_endpoint": _endpoint(candidate, protocol),
            "baseline_endpoint": _endpoint(baseline, protocol),
            "model_name": MODEL_NAME,
            "model_version": scenario.candidate,
            "rate_rps": rate_rps,
            "baseline_store": f"mlmd+sqlite://{output / 'mlmd.sqlite'}",
            "namespace": "demo",
            "resource_sources": {"processes": {"candidate": candidate.pid, "baseline": baseline.pid}},
        }
        went_on = run_locally(pipeline, folder / "pipeline", arguments, folder / "pipeline.log")
    _collect(folder)
    report = json.loads((folder / "report.json").read_text())
    return {
        "scenario": scenario.name,
        "candidate": scenario.candidate,
        "expected": scenario.expected_verdict,
        "verdict": report["verdict"]["verdict"],
        "went_on": went_on,
        "metrics": report["verdict"]["metrics"],
        "pairs": report["verdict"].get("pairs", 0),
        "seconds": time.monotonic() - started,
        "report": folder / "report.html",
    }


@contextmanager
def _served(*base_paths: Path) -> Iterator[list[EmbeddedServer]]:
    """One fresh server a model, loaded side by side: importing TensorFlow takes most of the time."""
    with ExitStack() as stack, ThreadPoolExecutor(len(base_paths)) as starters:
        servers = [embedded_server(MODEL_NAME, base_path) for base_path in base_paths]
        yield list(starters.map(stack.enter_context, servers))


def _endpoint(server: EmbeddedServer, protocol: str) -> str:
    return str(server.grpc if protocol == "grpc" else server.rest)


def _collect(folder: Path) -> None:
    """Copies the artifacts people open from KFP's tree into the scenario's folder."""
    for place, name in ARTIFACTS.items():
        found = sorted((folder / "pipeline").glob(f"*/{place}"))
        if found:
            shutil.copyfile(found[-1], folder / name)


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'run':<8} {'candidate':<10} {'verdict':<13} {'pipeline':<22} {'p50':>8} {'p95':>8}  report"]
    for row in rows:
        ratios = [
            f"x{row['metrics'][name]['ratio']:.2f}" if "ratio" in row["metrics"].get(name, {}) else "-"
            for name in ("p50", "p95")
        ]
        pipeline = "went on" if row["went_on"] else "broke at enforce-gate"
        lines.append(
            f"{row['scenario']:<8} {row['candidate']:<10} {row['verdict']:<13} {pipeline:<22} "
            f"{ratios[0]:>8} {ratios[1]:>8}  {row['report']}"
        )
    return "\n".join(lines)


def _say(line: str) -> None:
    print(f"\n== {line}", flush=True)
