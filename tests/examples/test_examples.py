"""The examples compile, and the first is run: a good model is pushed, a slow one is not."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kfp import compiler

from model_load_test.components.serving.embedded.process import embedded_server
from model_load_test.pipelines.examples.nightly_capacity import nightly_capacity
from model_load_test.pipelines.examples.train_gate_push import train_gate_push

RUN = """
import json, sys
from kfp import local
from model_load_test.pipelines.examples.train_gate_push import train_gate_push
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[1], raise_on_error=True)
train_gate_push(**json.loads(sys.argv[2]))
"""
WIDE_MARGINS = {"mean": 2.0, "p50": 2.0, "p95": 4.0, "p99": 6.0, "errors": 0.05, "goodput": 0.5}
"""A busy test machine must not decide: equal is within a factor, slower is far beyond."""


@pytest.mark.parametrize("example", [train_gate_push, nightly_capacity], ids=lambda example: example.name)
def test_the_example_compiles(example: object, tmp_path: Path) -> None:
    compiler.Compiler().compile(example, str(tmp_path / "example.yaml"))
    assert (tmp_path / "example.yaml").stat().st_size > 0


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
    if shutil.which("ghz") is None:
        pytest.skip("ghz is not on PATH (`make tools` says why it could not be installed)")
    candidate, baseline = start(delay_ms), start(10.0)  # type: ignore[operator]
    arguments = {
        "candidate_endpoint": str(candidate.grpc),
        "baseline_endpoint": str(baseline.grpc),
        "destination": str(tmp_path / "pushed"),
        "looks": [8, 16, 30],
        "block_seconds": 0.5,
        "margins": WIDE_MARGINS,
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "root"), json.dumps(arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (tmp_path / "pushed" / "model" / "weights.txt").exists() is pushed, done.stdout + done.stderr
    assert (done.returncode == 0) is pushed
    if not pushed:
        assert "The candidate is worse" in done.stdout + done.stderr
