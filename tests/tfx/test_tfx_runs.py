"""Grafted pipelines, TFX's tasks in pipelines of KFP, and the taxi example: run by KFP's rules, for real."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

QUICK = {"rate_rps": 100.0, "block_seconds": 0.5, "looks": [10], "warmup_seconds": 0.5}
WIDE_MARGINS = {"mean": 2.0, "p50": 2.0, "p95": 4.0, "p99": 6.0, "errors": 0.05, "goodput": 0.5}
"""A busy test machine must not decide these tests: equal is within a factor, slower is far beyond."""

GRAFT = """
import json, sys
from model_load_test.pipelines.tfx import insert_gate
insert_gate(sys.argv[1], **json.loads(sys.argv[2])).write(sys.argv[1])
"""

COMPILE = """
import sys
from kfp import compiler
from model_load_test.pipelines import load_test_gate
compiler.Compiler().compile(load_test_gate, sys.argv[1] + "/kubeflow.yaml")
"""

PUSH_BY_KFP = """
import sys
from kfp import compiler, dsl
from model_load_test.pipelines.tfx import tfx_task_as_component

push = tfx_task_as_component(sys.argv[1], "Pusher")

@dsl.pipeline
def pushes(model: str, blessing: str):
    def imported(uri: str, **metadata):
        return dsl.importer(artifact_uri=uri, artifact_class=dsl.Artifact, metadata=metadata).output
    push(model=imported(model), infra_blessing=imported(blessing, blessed=int(sys.argv[3])))

places = dict(zip(("model", "blessing"), sys.argv[4:]))
compiler.Compiler().compile(pushes, sys.argv[2], pipeline_parameters=places)
"""


@pytest.fixture(scope="module")
def programs(image_programs: Path) -> Callable[..., None]:
    """Runs Python where the gate is compiled: TFX 1.16 cannot stand beside a kfp that can."""

    def run(script: str, *arguments: object) -> None:
        done = subprocess.run(
            [image_programs / "python3", "-c", script, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run


def pushed(destination: Path) -> list[str]:
    return [path.read_text() for path in destination.glob("*/saved_model.pb")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("delay_ms", "on_failure", "ends", "pushes"),
    [(20, "refuse", True, True), (80, "refuse", True, False), (80, "break", False, False)],
)
def test_pusher_goes_by_the_grafted_gate(
    delay_ms: float,
    on_failure: str,
    ends: bool,
    pushes: bool,
    made: ModuleType,
    backend: Any,
    model: str,
    start_server: Callable[..., str],
    programs: Callable[..., None],
    tmp_path: Path,
) -> None:
    trained = made.imported_model(model)
    components = [trained, made.pusher(trained, None, tmp_path / "pushed")]
    made.compiled_for_kubeflow(components, tmp_path)
    parameters = {
        "model_name": "digits",
        "candidate_endpoint": start_server(delay_ms),
        "baseline_endpoint": start_server(20),
        "payload_requests": 50,
        "margins": WIDE_MARGINS,
        "on_failure": on_failure,
        **QUICK,
    }
    programs(GRAFT, tmp_path / "taxi.yaml", json.dumps(parameters))
    spec, _ = yaml.safe_load_all((tmp_path / "taxi.yaml").read_text())
    assert backend.run(spec) == ends, backend.account()
    assert pushed(tmp_path / "pushed") == (["the model"] if pushes else [])
    if on_failure == "break":
        assert backend.tasks["load-test-gate/enforce-gate"].state == "FAILED", backend.account()
        assert backend.tasks["Pusher"].state == "SKIPPED"
        return
    verdict = "PASS" if pushes else "FAIL"
    assert backend.tasks["load-test-gate"].parameters["verdict"] == verdict, backend.account()
    assert backend.tasks["load-test-gate-bless"].artifacts["blessing"]["metadata"]["blessed"] == int(pushes)
    assert backend.tasks["Pusher"].artifacts["pushed_model"]["metadata"]["pushed"] == int(pushes)


@pytest.mark.slow
def test_where_tfx_is_a_gate_can_be_put_in_that_was_compiled_elsewhere(
    made: ModuleType, programs: Callable[..., None], tmp_path: Path
) -> None:
    from model_load_test.pipelines.tfx import insert_gate

    programs(COMPILE, tmp_path)
    trained = made.imported_model("minio://bucket/model")
    spec = made.compiled_for_kubeflow([trained, made.pusher(trained, None, "/models")], tmp_path)
    endpoints = {"candidate_endpoint": "grpc://new:8500", "baseline_endpoint": "grpc://old:8500"}
    grafted = insert_gate(spec, gate=tmp_path / "kubeflow.yaml", model_name="taxi", **endpoints)
    assert grafted.platform, "the settings for Kubernetes came along"
    assert "load-test-gate-bless" in grafted.spec["root"]["dag"]["tasks"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("blessed", [1, 0])
def test_pusher_runs_in_a_pipeline_of_kfp(
    blessed: int,
    made: ModuleType,
    backend: Any,
    model: str,
    programs: Callable[..., None],
    tmp_path: Path,
) -> None:
    trained = made.imported_model(model)
    blessing = made.imported_blessing("s3://b/x", 1)
    pushing = made.pusher(trained, blessing.outputs["result"], tmp_path / "pushed")
    made.compiled_for_kubeflow([trained, blessing, pushing], tmp_path)
    places = (model, f"{backend.root}/blessing")
    programs(PUSH_BY_KFP, tmp_path / "taxi.yaml", tmp_path / "kfp.yaml", blessed, *places)
    spec = yaml.safe_load((tmp_path / "kfp.yaml").read_text())
    assert backend.run(spec, dict(zip(("model", "blessing"), places, strict=True))), backend.account()
    assert pushed(tmp_path / "pushed") == (["the model"] if blessed else [])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_taxi_example_trains_serves_judges_and_pushes(
    made: ModuleType, backend: Any, bucket: str, repository: Path, tmp_path: Path
) -> None:
    example = repository / "pipelines" / "examples" / "tfx_taxi"
    tfx_image = sys.modules["tests_tfx_kfp_backend"].Image(
        Path(sys.executable).parent, {"PYTHONPATH": str(example), "CUDA_VISIBLE_DEVICES": ""}
    )
    backend.images = {**backend.images, "": tfx_image}
    write_trips(tmp_path / "trips")
    values = {
        "trips": str(tmp_path / "trips"),
        "serving_directory": str(tmp_path / "served"),
        "serving_spec": {"embedded": {}, "model_name": "taxi"},
        "load_spec": {**QUICK, "payload_requests": 50},
        "gate_spec": {"margins": WIDE_MARGINS},
        "with_gate": True,
    }
    first = made.compiled_for_kubeflow(made.taxi(**values), tmp_path)
    assert backend.run(first), backend.account()
    reason = backend.tasks["ModelLoadTest"].artifacts["blessing"]["metadata"]["reason"]
    assert "NO_BASELINE" in reason
    (production,) = (tmp_path / "served").iterdir()

    values["baseline"] = {"model": str(production)}
    second = made.compiled_for_kubeflow(made.taxi(**values), tmp_path)
    assert backend.run(second), backend.account()
    tested = backend.tasks["ModelLoadTest"]
    assert tested.artifacts["blessing"]["metadata"]["reason"].startswith("PASS"), tested.log
    report = json.loads((backend.stored(tested.artifacts["report"]["uri"]) / "report.json").read_text())
    assert "example" in report["payload"]["summary"], "the requests are made of the pipeline's own examples"
    assert len(list((tmp_path / "served").iterdir())) == 2


def write_trips(folder: Path) -> None:
    """Made-up taxi trips."""
    folder.mkdir()
    numbers = random.Random(0)
    rows = ["trip_miles,trip_seconds,fare,tips"]
    for _ in range(300):
        miles = numbers.uniform(0.5, 20)
        fare = 3 + 2.5 * miles
        tips = fare * numbers.choice([0.0, 0.1, 0.25])
        rows.append(f"{miles:.2f},{miles * 180:.1f},{fare:.2f},{tips:.2f}")
    (folder / "trips.csv").write_text(os.linesep.join(rows))
