"""The examples are run: a good model is pushed, a slow one is not; too little capacity breaks the night."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from model_load_test.components.serving.embedded.process import embedded_server
from model_load_test.pipelines.examples.nightly_capacity import nightly_capacity
from model_load_test.pipelines.examples.train_gate_push import train_gate_push

RUN = """
import importlib, json, sys
from kfp import local
example = getattr(importlib.import_module(f"model_load_test.pipelines.examples.{sys.argv[1]}"), sys.argv[1])
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2], raise_on_error=True)
example(**json.loads(sys.argv[3]))
"""
WIDE_MARGINS = {"mean": 2.0, "p50": 2.0, "p95": 4.0, "p99": 6.0, "errors": 0.05, "goodput": 0.5}
"""A busy test machine must not decide: equal is within a factor, slower is far beyond."""


@pytest.mark.parametrize("example", [train_gate_push, nightly_capacity], ids=lambda example: example.name)
def test_the_example_compiles(example: object, tmp_path: Path) -> None:
    compiler.Compiler().compile(example, str(tmp_path / "example.yaml"))
    assert (tmp_path / "example.yaml").stat().st_size > 0


def run(example: str, arguments: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs an example by KFP's local runner, as its user would."""
    if shutil.which("ghz") is None:
        pytest.skip("ghz is not on PATH (`make tools` says why it could not be installed)")
    return subprocess.run(
        [sys.executable, "-c", RUN, example, str(folder / "root"), json.dumps(arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )


@pytest.fixture
def start() -> Iterator[object]:
    with ExitStack() as stack:
        yield lambda delay_ms: stack.enter_context(
            embedded_server("digits", backend="numpy", delay_ms=delay_ms)
        )


@pytest.mark.slow
@pytest.mark.parametrize(("delay_ms", "pushed"), [(10.0, True), (60.0, False)], ids=["equal", "slower"])
def test_train_gate_push_pushes_what_is_not_slower(
    start: object, tmp_path: Path, delay_ms: float, pushed: bool
) -> None:
    candidate, baseline = start(delay_ms), start(10.0)  # type: ignore[operator]
    arguments = {
        "candidate_endpoint": str(candidate.grpc),
        "baseline_endpoint": str(baseline.grpc),
        "destination": str(tmp_path / "pushed"),
        "looks": [8, 16, 30],
        "block_seconds": 0.5,
        "margins": WIDE_MARGINS,
    }
    done = run("train_gate_push", arguments, tmp_path)
    assert (tmp_path / "pushed" / "model" / "weights.txt").exists() is pushed, done.stdout + done.stderr
    assert (done.returncode == 0) is pushed
    if not pushed:
        assert "The candidate is worse" in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("wanted_rps", "enough"), [(5.0, True), (5000.0, False)])
def test_the_nightly_run_breaks_when_there_is_too_little_capacity(
    start: object, tmp_path: Path, wanted_rps: float, enough: bool
) -> None:
    server = start(5.0)  # type: ignore[operator]
    arguments = {
        "endpoint": str(server.grpc),
        "objectives": ["p50_ms<=2000"],
        "wanted_rps": wanted_rps,
        "highest": 40.0,
    }
    done = run("nightly_capacity", arguments, tmp_path)
    assert (done.returncode == 0) is enough, done.stdout + done.stderr
    assert ("add replicas" in done.stdout + done.stderr) is not enough


def test_the_vertex_example_is_one_document_that_promotes_only_after_the_gate(tmp_path: Path) -> None:
    for module in ("google_cloud_pipeline_components", "google.cloud.aiplatform"):
        pytest.importorskip(module, reason="the extra `vertex` is not installed")
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform

    path = tmp_path / "vertex_gate.yaml"
    module = "model_load_test.pipelines.examples.vertex_gate"
    subprocess.run([sys.executable, "-m", module, str(path)], check=True, capture_output=True)
    spec = yaml.safe_load(path.read_text())
    tasks = spec["root"]["dag"]["tasks"]
    gate = next(name for name in tasks if "gate" in name)
    assert gate in tasks["model-get"]["dependentTasks"]
    assert gate in tasks["importer"]["dependentTasks"]
    assert tasks["model-upload"]["dependentTasks"] == ["importer", "model-get"]
    aiplatform.init(project="p", location="us-central1", credentials=AnonymousCredentials())
    job = aiplatform.PipelineJob(
        display_name="vertex-gate",
        template_path=str(path),
        pipeline_root="gs://bucket/root",
        parameter_values={"project": "p", "model_id": "1234", "rate_rps": 20.0},
        enable_caching=False,
    )
    assert job.to_dict()["runtimeConfig"]["parameterValues"]["model_id"] == "1234"
