"""The compiled sub-DAG, run by KFP's own local runner against real servers under real load."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from model_load_test.components.baseline.recording import read_record_file
from model_load_test.components.baseline.run_records import key_of_run
from model_load_test.components.baseline.store import open_store
from model_load_test.components.report.model import report_schema
from model_load_test.components.results.table import read_results
from model_load_test.components.serving.embedded.process import EmbeddedServer
from model_load_test.pipelines.compiling import compile_all

RUN = """
import json, sys
from kfp import components, local
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[2], raise_on_error=True)
task = components.load_component_from_file(sys.argv[1])(**json.loads(sys.argv[3]))
print("OUTPUTS", json.dumps(dict(task.outputs), default=lambda artifact: artifact.path))
"""

WIDE_MARGINS = {"mean": 2.0, "p50": 2.0, "p95": 4.0, "p99": 6.0, "errors": 0.05, "goodput": 0.5}
"""A busy test machine must not decide these tests: equal is within a factor, slower is far beyond."""


@dataclass(frozen=True)
class PipelineRun:
    """What a run of the compiled pipeline left behind."""

    exit_code: int
    log: str
    root: Path

    def artifact(self, task: str, name: str) -> Path:
        (found,) = self.root.glob(f"*/{task}/{name}")
        return found

    @property
    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.artifact("compare-to-baseline", "report").read_text())
        return content


@pytest.fixture(scope="module")
def kubeflow_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_all(tmp_path_factory.mktemp("compiled"))[0]


@pytest.fixture
def run_pipeline(kubeflow_yaml: Path, tmp_path: Path) -> Callable[..., PipelineRun]:
    runs = iter(range(100))

    def run(**arguments: Any) -> PipelineRun:
        root = tmp_path / f"run-{next(runs)}"
        quick = {"rate_rps": 100.0, "block_seconds": 0.4, "looks": [8, 16], "warmup_seconds": 0.5}
        values = {"model_name": "digits", "payload_requests": 50, **quick, **arguments}
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(kubeflow_yaml), str(root), json.dumps(values)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        return PipelineRun(done.returncode, done.stdout + done.stderr, root)

    return run


def endpoints(protocol: str, candidate: EmbeddedServer, baseline: EmbeddedServer) -> dict[str, str]:
    def address(server: EmbeddedServer) -> str:
        return str(server.grpc if protocol == "grpc" else server.rest)

    return {"candidate_endpoint": address(candidate), "baseline_endpoint": address(baseline)}


@pytest.mark.slow
def test_a_slower_candidate_breaks_the_run_after_all_artifacts_exist(
    protocol: str,
    start_server: Callable[..., EmbeddedServer],
    run_pipeline: Callable[..., PipelineRun],
    tmp_path: Path,
) -> None:
    store = f"mlmd+sqlite://{tmp_path / 'mlmd.sqlite'}"
    run = run_pipeline(
        **endpoints(protocol, start_server(delay_ms=60), start_server()),
        margins=WIDE_MARGINS,
        baseline_store=store,
    )
    assert run.exit_code != 0
    assert "enforce-gate" in run.log.splitlines()[-1], run.log[-3000:]
    assert "FAIL: " in run.log
    assert run.report["verdict"]["verdict"] == "FAIL"
    assert run.report["server_kind"] == "embedded"
    assert run.report["payload"]["requests"] == 50
    jsonschema.validate(run.report, report_schema())
    assert run.artifact("write-report", "page").read_text().startswith("<!doctype html>")
    assert "FAIL" in run.artifact("write-report", "summary").read_text()
    results = read_results(run.artifact("run-load-test", "results"))
    key = key_of_run(results.metadata, "default", "digits")
    assert open_store(store).latest(key) == [], "a failing run never becomes a baseline"


@pytest.mark.slow
def test_an_equal_candidate_passes_and_is_found_again_as_a_baseline(
    start_server: Callable[..., EmbeddedServer], run_pipeline: Callable[..., PipelineRun], tmp_path: Path
) -> None:
    store = f"mlmd+sqlite://{tmp_path / 'mlmd.sqlite'}"
    candidate, baseline = start_server(delay_ms=20), start_server(delay_ms=20)
    run = run_pipeline(
        **endpoints("grpc", candidate, baseline),
        margins=WIDE_MARGINS,
        baseline_store=store,
        model_version="7",
    )
    assert run.exit_code == 0, run.log[-3000:]
    outputs = json.loads(run.log.split("OUTPUTS ", 1)[1].splitlines()[0])
    assert {name: outputs[name] for name in ("verdict", "passed")} == {"verdict": "PASS", "passed": True}
    results = read_results(run.artifact("run-load-test", "results"))
    (record,) = open_store(store).latest(key_of_run(results.metadata, "default", "digits"))
    assert record.verdict == "PASS"
    assert record.model_version == "7"
    assert record.metrics["candidate_p50_ms"] > 20
    assert read_record_file(Path(outputs["record"])) == record, "what promote_baseline takes after a push"


@pytest.mark.slow
def test_the_first_run_alone_has_no_baseline_and_becomes_one(
    start_server: Callable[..., EmbeddedServer], run_pipeline: Callable[..., PipelineRun], tmp_path: Path
) -> None:
    store = f"mlmd+sqlite://{tmp_path / 'mlmd.sqlite'}"
    server = start_server(delay_ms=5)
    alone = {"candidate_endpoint": str(server.grpc), "baseline_store": store, "looks": [8]}
    first = run_pipeline(**alone)
    assert first.exit_code == 0, first.log[-3000:]
    assert first.report["verdict"]["verdict"] == "NO_BASELINE"
    second = run_pipeline(**alone)
    assert second.report["verdict"]["judgement"] == "historical", "the first run was found"
    assert second.report["verdict"]["verdict"] == "INCONCLUSIVE", "one earlier run proves nothing"
    assert second.exit_code != 0, "on_inconclusive is fail unless it is told otherwise"
    assert len(second.report["history"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_name": "cat"}, "model_name: 'cat'"),
        ({"signature_name": "serve"}, "it has: serving_default"),
        ({"candidate_endpoint": "127.0.0.1:8500"}, "the scheme is missing"),
        ({"candidate_endpoint": "grpc://127.0.0.1:9"}, "no model server answers"),
        ({"rate_rps": -1.0}, "rate_rps: -1.0"),
        ({"margins": {"p59": 0.1}}, "did you mean 'p99'"),
        ({"mode": "dual"}, "duet, interleaved, single"),
    ],
)
def test_bad_input_breaks_the_run_with_a_clear_line_before_any_load(
    change: dict[str, Any],
    said: str,
    start_server: Callable[..., EmbeddedServer],
    run_pipeline: Callable[..., PipelineRun],
) -> None:
    from urllib.request import urlopen

    candidate, baseline = start_server(), start_server()
    run = run_pipeline(**{**endpoints("grpc", candidate, baseline), **change})
    assert run.exit_code != 0
    assert said in run.log, run.log[-3000:]
    for server in (candidate, baseline):
        page = urlopen(f"{server.rest}/monitoring/prometheus/metrics", timeout=5).read().decode()
        assert 'API="Predict"' not in page, "a request was sent"
