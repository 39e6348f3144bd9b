"""The gate on real runs: servers of known slowness, started afresh, loaded by ghz.

Only what must hold on any machine is asserted; how often the rest happens is counted by
tests/benchmarks/gate_real_runs.py. MODEL_LOAD_TEST_GATE_RUNS raises the number of runs of each case.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from model_load_test.components.gate.verdict import Verdict
from model_load_test.components.serving.embedded.process import EmbeddedServer

RUNS = int(os.environ.get("MODEL_LOAD_TEST_GATE_RUNS", "1"))
SPEC = {"rate_rps": 200.0, "block_seconds": 0.5, "looks": (10, 15, 20), "warmup_seconds": 1.0}
WIDE = {"mean": 0.5, "p50": 0.3, "p95": 1.0, "p99": None, "errors": 0.01, "goodput": 0.2}
"""Margins that match a machine whose cores are busy with something else."""

Judge = Callable[..., Verdict]


@pytest.fixture(scope="module")
def real_runs(repository: Path) -> ModuleType:
    """The benchmark that counts such runs: what it measures by is what is tested here."""
    path = repository / "tests" / "benchmarks" / "gate_real_runs.py"
    spec = importlib.util.spec_from_file_location("gate_real_runs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate_real_runs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def judge_run(
    real_runs: ModuleType,
    start_server: Callable[..., EmbeddedServer],
    payload: Callable[[str], Path],
    tmp_path: Path,
) -> Judge:
    """Loads a candidate of `delay_ms` beside a baseline of 20 ms; the verdict of the run."""
    if shutil.which("ghz") is None:
        pytest.skip("ghz is not on PATH (`make tools` says why it could not be installed)")

    def judged(
        delay_ms: float, mode: str, hog: bool, seed: int, margins: dict[str, Any], **values: Any
    ) -> Verdict:
        candidate, baseline = start_server(delay_ms=delay_ms), start_server(delay_ms=20.0)
        with real_runs.hog(seconds=120, seed=seed) if hog else nullcontext():
            verdict, _ = real_runs.measure(
                candidate,
                baseline,
                payload(str(candidate.grpc)),
                tmp_path,
                {**SPEC, "seed": seed, **values},
                {"margins": margins},
                mode,
            )
        if verdict.verdict == "INVALID":
            pytest.skip(f"this machine is too busy to measure: {verdict.reasons[0]}")
        return verdict

    return judged


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(RUNS))
@pytest.mark.parametrize(
    ("mode", "hog"), [("duet", False), ("interleaved", True)], ids=["duet", "interleaved-hog"]
)
def test_a_server_twice_as_slow_fails(judge_run: Judge, mode: str, hog: bool, seed: int) -> None:
    verdict = judge_run(45.0, mode, hog, seed, {"errors": 0.01})
    assert verdict.verdict == "FAIL", verdict.reasons
    assert verdict.metrics["p50"].verdict == "FAIL"
    ratio = verdict.metrics["p50"].ratio
    assert ratio is not None
    assert 1.5 < ratio < 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(RUNS))
@pytest.mark.parametrize(
    ("mode", "hog"), [("duet", True), ("interleaved", False)], ids=["duet-hog", "interleaved"]
)
def test_identical_servers_do_not_fail(judge_run: Judge, mode: str, hog: bool, seed: int) -> None:
    verdict = judge_run(20.0, mode, hog, seed, WIDE, looks=(10,))
    assert verdict.verdict in ("PASS", "INCONCLUSIVE"), verdict.reasons


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(RUNS))
def test_a_server_a_fifth_slower_does_not_pass(judge_run: Judge, seed: int) -> None:
    verdict = judge_run(24.3, "duet", False, seed, {"errors": 0.01})
    assert verdict.verdict in ("FAIL", "INCONCLUSIVE"), verdict.reasons
