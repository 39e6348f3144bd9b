"""`ModelLoadTest` in TFX pipelines: compiled by TFX, run by KFP's rules, pushed by TFX's Pusher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

tfx = pytest.importorskip("tfx", reason="TFX is not installed here; `make test-tfx` makes an environment with it")

import yaml
from tfx.components import Pusher
from tfx.dsl.components.common import importer
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as runner
from tfx.proto import infra_validator_pb2, pusher_pb2
from tfx.types import channel, standard_artifacts

from model_load_test.components.errors import InputError
from model_load_test.components.tfx import InfraValidatorV2, ModelLoadTest
from model_load_test.pipelines.tfx import kubeflow_entrypoint

QUICK = {
    "rate_rps": 100.0,
    "block_seconds": 0.5,
    "looks": [10],
    "warmup_seconds": 0.5,
    "payload_requests": 50,
}
WIDE_MARGINS = {"mean": 2.0, "p50": 2.0, "p95": 4.0, "p99": 6.0, "errors": 0.05, "goodput": 0.5}
"""A busy test machine must not decide these tests: equal is within a factor, slower is far beyond."""


def model_importer(uri: str) -> Any:
    return importer.Importer(source_uri=uri, artifact_type=standard_artifacts.Model).with_id("Trainer")


def blessing_importer(uri: str, blessed: int) -> Any:
    return importer.Importer(
        source_uri=uri, artifact_type=standard_artifacts.InfraBlessing, custom_properties={"blessed": blessed}
    ).with_id("InfraValidator")


def pusher(model: Any, blessing: Any, destination: Path) -> Any:
    return Pusher(
        model=model,
        infra_blessing=blessing,
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(destination))
        ),
    )


def compiled(components: list[Any], folder: Path, **config: Any) -> dict[str, Any]:
    runner.KubeflowV2DagRunner(
        config=runner.KubeflowV2DagRunnerConfig(
            default_image="tfx",
            default_commands=kubeflow_entrypoint(),
            **{"use_pipeline_spec_2_1": True, **config},
        ),
        output_dir=str(folder),
        output_filename="taxi.yaml",
    ).run(tfx_pipeline.Pipeline(pipeline_name="taxi", pipeline_root="/root", components=components))
    spec: dict[str, Any] = yaml.safe_load((folder / "taxi.yaml").read_text())
    return spec


@pytest.fixture
def model(backend: Any, tmp_path: Path) -> str:
    """A Model artifact as Trainer leaves it, in the object store."""
    folder = tmp_path / "model"
    (folder / "Format-Serving" / "variables").mkdir(parents=True)
    (folder / "Format-Serving" / "saved_model.pb").write_text("the model")
    uri = f"{backend.root}/model"
    backend.put(uri, folder)
    return uri


def pushed(destination: Path) -> list[str]:
    return [path.read_text() for path in destination.glob("*/saved_model.pb")]


@pytest.mark.slow
@pytest.mark.parametrize(("delay_ms", "pushes"), [(20, True), (80, False)])
def test_pusher_pushes_what_the_gate_passed_and_nothing_else(
    delay_ms: float, pushes: bool, backend: Any, model: str, start_server: Callable[..., str], tmp_path: Path
) -> None:
    imported = model_importer(model)
    gate = ModelLoadTest(
        model=imported.outputs["result"],
        serving_spec={"endpoint": start_server(delay_ms), "model_name": "digits"},
        baseline=start_server(20),
        load_spec=QUICK,
        gate_spec={"margins": WIDE_MARGINS},
    )
    pushing = pusher(imported.outputs["result"], gate.outputs["blessing"], tmp_path / "pushed")
    assert backend.run(compiled([imported, gate, pushing], tmp_path)), backend.account()
    tested = backend.tasks["ModelLoadTest"]
    verdict = "PASS" if pushes else "FAIL"
    assert tested.artifacts["blessing"]["metadata"]["blessed"] == int(pushes), tested.log
    assert tested.artifacts["blessing"]["metadata"]["reason"].startswith(verdict)
    assert tested.artifacts["metrics"]["metadata"]["gate_passed"] == int(pushes)
    assert tested.artifacts["metrics"]["metadata"]["candidate_p50_ms"] > delay_ms
    report = backend.stored(tested.artifacts["report"]["uri"])
    assert {"report.html", "report.md", "report.json", "results.parquet"} <= {
        path.name for path in report.iterdir()
    }
    assert pushed(tmp_path / "pushed") == (["the model"] if pushes else [])
    assert backend.tasks["Pusher"].artifacts["pushed_model"]["metadata"]["pushed"] == int(pushes)


@pytest.mark.slow
@pytest.mark.parametrize(("blessed", "pushes"), [(1, True), (0, False)])
def test_infra_validator_and_the_gate_must_both_say_yes(
    blessed: int, pushes: bool, backend: Any, model: str, start_server: Callable[..., str], tmp_path: Path
) -> None:
    imported = model_importer(model)
    validated = blessing_importer(f"{backend.root}/validated", blessed)
    gate = ModelLoadTest(
        model=imported.outputs["result"],
        infra_blessing=validated.outputs["result"],
        serving_spec={"endpoint": start_server(), "model_name": "digits"},
        load_spec={**QUICK, "looks": [4]},
    )
    pushing = pusher(imported.outputs["result"], gate.outputs["blessing"], tmp_path / "pushed")
    assert backend.run(compiled([imported, validated, gate, pushing], tmp_path)), backend.account()
    tested = backend.tasks["ModelLoadTest"]
    assert tested.artifacts["blessing"]["metadata"]["blessed"] == int(pushes), tested.log
    assert ("load test:" in tested.log) == pushes, "a model that was not validated is not loaded"
    assert pushed(tmp_path / "pushed") == (["the model"] if pushes else [])


@pytest.mark.slow
def test_the_gate_may_break_the_run(
    backend: Any, model: str, start_server: Callable[..., str], tmp_path: Path
) -> None:
    imported = model_importer(model)
    gate = ModelLoadTest(
        model=imported.outputs["result"],
        serving_spec={"endpoint": start_server(), "model_name": "digits"},
        load_spec={**QUICK, "looks": [4]},
        gate_spec={"on_no_baseline": "fail"},
        break_on_failure=True,
    )
    pushing = pusher(imported.outputs["result"], gate.outputs["blessing"], tmp_path / "pushed")
    assert not backend.run(compiled([imported, gate, pushing], tmp_path))
    assert backend.tasks["ModelLoadTest"].state == "FAILED"
    assert backend.tasks["ModelLoadTest"].log.splitlines()[-1].startswith("NO_BASELINE")
    assert backend.tasks["Pusher"].state == "SKIPPED"


@pytest.mark.slow
def test_a_server_that_is_not_there_fails_the_task_with_one_clear_line(
    backend: Any, model: str, tmp_path: Path
) -> None:
    imported = model_importer(model)
    gate = ModelLoadTest(
        model=imported.outputs["result"],
        serving_spec={"endpoint": "grpc://127.0.0.1:9", "model_name": "digits"},
        load_spec=QUICK,
    )
    assert not backend.run(compiled([imported, gate], tmp_path))
    last = backend.tasks["ModelLoadTest"].log.splitlines()[-1]
    assert last.startswith("error: ")
    assert "no model server answers" in last


def test_a_measurement_is_never_taken_from_the_cache(backend: Any, tmp_path: Path) -> None:
    imported = model_importer("s3://b/m")
    gate = ModelLoadTest(
        imported.outputs["result"], serving_spec={"endpoint": "grpc://taxi:8500", "model_name": "taxi"}
    )
    task = compiled([imported, gate], tmp_path)["root"]["dag"]["tasks"]["ModelLoadTest"]
    assert task["inputs"]["parameters"]["run_id"] == {
        "runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}
    }


def test_infra_validator_v2_compiles_where_tfx_refuses_its_own(tmp_path: Path) -> None:
    from tfx.components import InfraValidator

    spec = infra_validator_pb2.ServingSpec(
        tensorflow_serving=infra_validator_pb2.TensorFlowServing(tags=["2.16.1"]),
        kubernetes=infra_validator_pb2.KubernetesConfig(),
        model_name="taxi",
    )
    imported = model_importer("s3://b/m")
    with pytest.raises(NotImplementedError):
        compiled([imported, InfraValidator(imported.outputs["result"], serving_spec=spec)], tmp_path)
    imported = model_importer("s3://b/m")
    ir = compiled([imported, InfraValidatorV2(imported.outputs["result"], serving_spec=spec)], tmp_path)
    outputs = ir["components"]["InfraValidatorV2"]["outputDefinitions"]["artifacts"]
    assert "tfx.InfraBlessing" in outputs["blessing"]["artifactType"]["instanceSchema"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"infra_blessing": channel.Channel(type=standard_artifacts.ModelBlessing)},
            "infra_blessing: 'ModelBlessing': give a channel of type InfraBlessing",
        ),
        ({"model": channel.Channel(type=standard_artifacts.Examples)}, "model: 'Examples'"),
        ({"examples": channel.Channel(type=standard_artifacts.Model)}, "examples: 'Model'"),
        ({"baseline": "http://taxi:8501"}, "use the protocol grpc"),
        ({"load_spec": {"rate_rps": 0.0}}, "rate_rps"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_pipeline_is_written(changes: dict[str, Any], said: str) -> None:
    values = {
        "model": channel.Channel(type=standard_artifacts.Model),
        "serving_spec": {"endpoint": "grpc://candidate:8500", "model_name": "taxi"},
        **changes,
    }
    with pytest.raises(InputError, match=said):
        ModelLoadTest(**values)
