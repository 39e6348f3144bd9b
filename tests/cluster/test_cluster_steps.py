"""The sub-DAG on a cluster: each component's real container as a pod, outputs passed on, in order."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
from cluster_api import Kube
from cluster_fixtures import Images, Server
from kfp_steps import PipelineRun, Runner, pipeline_runner

from model_load_test.components.report.model import report_schema

WIDE_MARGINS = {"mean": 2.0, "p50": 2.0, "p95": 4.0, "p99": 6.0, "errors": 0.05, "goodput": 0.5}
"""A busy machine must not decide these tests: equal is within a factor, slower is far beyond."""
DELAY_MS = 200
"""Of a server that is not slowed: long beside what a busy machine adds."""
QUICK = {
    "rate_rps": 25.0,
    "block_seconds": 1.0,
    "looks": [8, 16],
    "warmup_seconds": 1.0,
    "payload_requests": 50,
}

USER_PIPELINE = Path(__file__).with_name("train_and_push.py")
CHAIN = [
    "generate-payload",
    "run-load-test",
    "find-baseline",
    "compare-to-baseline",
    "write-report",
    "record-baseline",
    "enforce-gate",
]


@pytest.fixture(scope="module")
def train_and_push(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's pipeline with the gate in it, compiled for the images on the nodes."""
    compiled = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    subprocess.run(
        [sys.executable, str(USER_PIPELINE), str(compiled)],
        env={**os.environ, "MODEL_LOAD_TEST_IMAGE": images.load_test},
        check=True,
    )
    return compiled


@pytest.fixture
def runner(kube: Kube, namespace: str, images: Images) -> Iterator[Runner]:
    with pipeline_runner(kube, namespace, images.load_test) as runner:
        yield runner


def gate_step(run: PipelineRun, name: str) -> Any:
    return run.steps[f"load-test-gate/{name}"]


def report_of(run: PipelineRun) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(run.artifact("load-test-gate/compare-to-baseline", "report"))
    jsonschema.validate(report, report_schema())
    return report


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_equal_servers_pass_and_the_push_is_reached(
    protocol: str, runner: Runner, deploy_server: Callable[..., Server], train_and_push: Path
) -> None:
    baseline = deploy_server("baseline", delay_ms=DELAY_MS)
    candidate = deploy_server("candidate", delay_ms=DELAY_MS)
    run = runner.run(
        train_and_push,
        {
            **QUICK,
            "candidate_endpoint": getattr(candidate, protocol),
            "baseline_endpoint": getattr(baseline, protocol),
            "margins": WIDE_MARGINS,
        },
    )
    logs = "\n".join(f"{name}: {step.state}\n{step.log[-2000:]}" for name, step in run.steps.items())
    assert run.succeeded, logs
    assert sorted(run.steps) == sorted([*(f"load-test-gate/{name}" for name in CHAIN), "push"])
    assert list(run.steps)[-2:] == ["load-test-gate/enforce-gate", "push"]
    assert report_of(run)["verdict"]["verdict"] == "PASS"
    assert gate_step(run, "compare-to-baseline").parameters == {"verdict": "PASS", "passed": True}
    assert run.steps["push"].parameters == {"Output": "pushed"}
    assert run.executor_input("push")["inputs"]["parameterValues"] == {"verdict": "PASS"}
    rows = pq.read_table(io.BytesIO(run.artifact("load-test-gate/run-load-test", "results")))
    assert set(rows["arm"].to_pylist()) == {"candidate", "baseline"}
    assert run.artifact("load-test-gate/write-report", "page").startswith(b"<!doctype html>")
    metrics = gate_step(run, "compare-to-baseline").artifacts["metrics"]["metadata"]
    assert metrics["gate_passed"] == 1
    assert metrics["error_rate"] == 0


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.timeout(600)
def test_a_slowed_candidate_breaks_the_run_at_enforce_and_nothing_is_pushed(
    runner: Runner, deploy_server: Callable[..., Server], train_and_push: Path
) -> None:
    baseline = deploy_server("baseline", delay_ms=DELAY_MS)
    candidate = deploy_server("candidate", delay_ms=5 * DELAY_MS)
    run = runner.run(
        train_and_push,
        {
            **QUICK,
            "candidate_endpoint": candidate.grpc,
            "baseline_endpoint": baseline.grpc,
            "margins": WIDE_MARGINS,
        },
    )
    logs = "\n".join(f"{name}: {step.state}\n{step.log[-2000:]}" for name, step in run.steps.items())
    assert gate_step(run, "enforce-gate").state == "FAILED", logs
    assert "FAIL" in gate_step(run, "enforce-gate").log
    assert run.steps["push"].state == "SKIPPED"
    before = [gate_step(run, name).state for name in CHAIN if name != "enforce-gate"]
    assert before == ["SUCCEEDED"] * 6, logs
    report = report_of(run)
    assert report["verdict"]["verdict"] == "FAIL"
    assert report["verdict"]["metrics"]["p50"]["ratio"] > 3
    assert b"FAIL" in run.artifact("load-test-gate/write-report", "summary")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_that_is_not_there_fails_the_first_step_and_skips_the_rest(
    runner: Runner, train_and_push: Path
) -> None:
    run = runner.run(
        train_and_push,
        {
            **QUICK,
            "candidate_endpoint": f"grpc://nobody.{runner.namespace}.svc:8500",
            "baseline_endpoint": "",
            "margins": {},
        },
    )
    payload = gate_step(run, "generate-payload")
    assert payload.state == "FAILED"
    assert "nobody" in payload.log
    assert "no model server answers" in payload.log
    assert {step.state for name, step in run.steps.items() if "generate" not in name} == {"SKIPPED"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_generator_goes_where_its_parameters_say(
    runner: Runner, kube: Kube, deploy_server: Callable[..., Server], train_and_push: Path
) -> None:
    node = kube.nodes()[0]["metadata"]["labels"]["kubernetes.io/hostname"]
    server = deploy_server("server", delay_ms=5)
    run = runner.run(
        train_and_push,
        {
            **{**QUICK, "looks": [2]},
            "candidate_endpoint": server.grpc,
            "baseline_endpoint": "",
            "margins": {},
            "node_selector": {"kubernetes.io/hostname": node},
            "tolerations": [{"key": "loadtester", "operator": "Exists", "effect": "NoSchedule"}],
        },
    )
    assert gate_step(run, "run-load-test").state == "SUCCEEDED", gate_step(run, "run-load-test").log
    placed = gate_step(run, "run-load-test").spec
    assert placed["nodeSelector"] == {"kubernetes.io/hostname": node}
    assert placed["nodeName"] == node
    assert any(one.get("key") == "loadtester" for one in placed["tolerations"])
    assert "nodeSelector" not in gate_step(run, "generate-payload").spec
