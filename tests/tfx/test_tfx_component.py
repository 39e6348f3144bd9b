"""`ModelLoadTest` in TFX pipelines: compiled by TFX, run by KFP's rules, pushed by TFX's Pusher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from model_load_test.components.errors import InputError

QUICK = {
    "rate_rps": 100.0,
    "block_seconds": 0.5,
    "looks": [10],
    "warmup_seconds": 0.5,
    "payload_requests": 50,
}
WIDE_MARGINS = {"mean": 2.0, "p50": 2.0, "p95": 4.0, "p99": 6.0, "errors": 0.05, "goodput": 0.5}
"""A busy test machine must not decide these tests: equal is within a factor, slower is far beyond."""


def pushed(destination: Path) -> list[str]:
    return [path.read_text() for path in destination.glob("*/saved_model.pb")]


@pytest.mark.slow
@pytest.mark.parametrize(("delay_ms", "pushes"), [(20, True), (80, False)])
def test_pusher_pushes_what_the_gate_passed_and_nothing_else(
    delay_ms: float,
    pushes: bool,
    made: ModuleType,
    backend: Any,
    model: str,
    start_server: Callable[..., str],
    tmp_path: Path,
) -> None:
    trained = made.imported_model(model)
    gate = made.load_test(
        trained,
        serving_spec={"endpoint": start_server(delay_ms), "model_name": "digits"},
        baseline=start_server(20),
        load_spec=QUICK,
        gate_spec={"margins": WIDE_MARGINS},
    )
    pushing = made.pusher(trained, gate.outputs["blessing"], tmp_path / "pushed")
    spec = made.compiled_for_kubeflow([trained, gate, pushing], tmp_path)
    assert backend.run(spec), backend.account()
    tested = backend.tasks["ModelLoadTest"]
    blessing = tested.artifacts["blessing"]["metadata"]
    assert blessing["blessed"] == int(pushes), tested.log
    assert blessing["reason"].startswith("PASS" if pushes else "FAIL")
    assert tested.artifacts["metrics"]["metadata"]["gate_passed"] == int(pushes)
    assert tested.artifacts["metrics"]["metadata"]["candidate_p50_ms"] > delay_ms
    report = backend.stored(tested.artifacts["report"]["uri"])
    written = {path.name for path in report.iterdir()}
    assert {"report.html", "report.md", "report.json", "results.parquet"} <= written
    assert pushed(tmp_path / "pushed") == (["the model"] if pushes else [])
    assert backend.tasks["Pusher"].artifacts["pushed_model"]["metadata"]["pushed"] == int(pushes)


@pytest.mark.slow
@pytest.mark.parametrize(("blessed", "pushes"), [(1, True), (0, False)])
def test_infra_validator_and_the_gate_must_both_say_yes(
    blessed: int,
    pushes: bool,
    made: ModuleType,
    backend: Any,
    model: str,
    start_server: Callable[..., str],
    tmp_path: Path,
) -> None:
    trained = made.imported_model(model)
    validated = made.imported_blessing(f"{backend.root}/validated", blessed)
    gate = made.load_test(
        trained,
        validated,
        serving_spec={"endpoint": start_server(), "model_name": "digits"},
        load_spec={**QUICK, "looks": [4]},
    )
    pushing = made.pusher(trained, gate.outputs["blessing"], tmp_path / "pushed")
    spec = made.compiled_for_kubeflow([trained, validated, gate, pushing], tmp_path)
    assert backend.run(spec), backend.account()
    tested = backend.tasks["ModelLoadTest"]
    assert tested.artifacts["blessing"]["metadata"]["blessed"] == int(pushes), tested.log
    assert ("load test:" in tested.log) == pushes, "a model that was not validated is not loaded"
    assert pushed(tmp_path / "pushed") == (["the model"] if pushes else [])


@pytest.mark.slow
def test_the_gate_may_break_the_run(
    made: ModuleType, backend: Any, model: str, start_server: Callable[..., str], tmp_path: Path
) -> None:
    trained = made.imported_model(model)
    gate = made.load_test(
        trained,
        serving_spec={"endpoint": start_server(), "model_name": "digits"},
        load_spec={**QUICK, "looks": [4]},
        gate_spec={"on_missing_baseline": "fail"},
        break_on_failure=True,
    )
    pushing = made.pusher(trained, gate.outputs["blessing"], tmp_path / "pushed")
    assert not backend.run(made.compiled_for_kubeflow([trained, gate, pushing], tmp_path))
    assert backend.tasks["ModelLoadTest"].state == "FAILED"
    assert backend.tasks["ModelLoadTest"].log.splitlines()[-1].startswith("NO_BASELINE")
    assert backend.tasks["Pusher"].state == "SKIPPED"


@pytest.mark.slow
def test_a_server_that_is_not_there_fails_the_task_with_one_clear_line(
    made: ModuleType, backend: Any, model: str, tmp_path: Path
) -> None:
    trained = made.imported_model(model)
    gate = made.load_test(
        trained, serving_spec={"endpoint": "grpc://127.0.0.1:9", "model_name": "digits"}, load_spec=QUICK
    )
    assert not backend.run(made.compiled_for_kubeflow([trained, gate], tmp_path))
    assert "no model server answers" in backend.tasks["ModelLoadTest"].log.splitlines()[-1]


def test_a_measurement_is_never_taken_from_the_cache(made: ModuleType, tmp_path: Path) -> None:
    trained = made.imported_model("s3://b/m")
    gate = made.load_test(trained, serving_spec=made.LIVE)
    spec = made.compiled_for_kubeflow([trained, gate], tmp_path)
    given = spec["root"]["dag"]["tasks"]["ModelLoadTest"]["inputs"]["parameters"]["run_id"]
    assert given == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}


def test_infra_validator_v2_compiles_where_tfx_refuses_its_own(made: ModuleType, tmp_path: Path) -> None:
    trained = made.imported_model("s3://b/m")
    with pytest.raises(NotImplementedError):
        made.compiled_for_kubeflow([trained, made.infra_validator(trained, own=False)], tmp_path)
    trained = made.imported_model("s3://b/m")
    spec = made.compiled_for_kubeflow([trained, made.infra_validator(trained, own=True)], tmp_path)
    given = spec["root"]["dag"]["tasks"]["InfraValidatorV2"]["inputs"]["parameters"]["serving_spec"]
    assert "infra-validation-model" in given["runtimeValue"]["constant"]
    outputs = spec["components"]["InfraValidatorV2"]["outputDefinitions"]["artifacts"]
    assert "tfx.InfraBlessing" in outputs["blessing"]["artifactType"]["instanceSchema"]


def test_a_serving_spec_of_tfx_reaches_the_task(made: ModuleType, tmp_path: Path) -> None:
    trained = made.imported_model("s3://b/m")
    gate = made.load_test(
        trained, serving_spec=made.serving_spec("2.16.1"), baseline={"model": "s3://b/production"}
    )
    spec = made.compiled_for_kubeflow([trained, gate], tmp_path)
    given = spec["root"]["dag"]["tasks"]["ModelLoadTest"]["inputs"]["parameters"]
    assert '"tags": ["2.16.1"]' in given["serving_spec"]["runtimeValue"]["constant"]
    assert given["baseline_model"]["runtimeValue"]["constant"] == "s3://b/production"


@pytest.mark.parametrize(
    ("channels", "changes", "said"),
    [
        ({"infra_blessing": "ModelBlessing"}, {}, "infra_blessing: 'ModelBlessing': give a channel of type"),
        ({"model": "Examples"}, {}, "model: 'Examples'"),
        ({"examples": "Model"}, {}, "examples: 'Model'"),
        ({}, {"baseline": "http://taxi:8501"}, "use the protocol grpc"),
        ({}, {"load_spec": {"rate_rps": 0.0}}, "rate_rps"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_pipeline_is_written(
    channels: dict[str, str], changes: dict[str, Any], said: str, made: ModuleType
) -> None:
    given = {name: made.channel_of(kind) for name, kind in {"model": "Model", **channels}.items()}
    with pytest.raises(InputError, match=said):
        made.ModelLoadTest(**given, **{"serving_spec": made.LIVE, **changes})


def test_the_fixtures_are_what_tfx_compiles(made: ModuleType, tmp_path: Path) -> None:
    import tfx
    import yaml

    fixtures = Path(__file__).parent / "fixtures"
    for name, components in (("taxi", made.taxi()), ("validated", made.validated_components())):
        spec = yaml.safe_load(made.compiled(components, tmp_path / f"{name}.yaml").read_text())
        recorded = yaml.safe_load((fixtures / f"{name}.yaml").read_text())
        for one in (spec, recorded):
            assert one.pop("sdkVersion").startswith("tfx-")
        assert spec == recorded, (
            f"python tests/tfx/made_pipelines.py tests/tfx/fixtures (TFX {tfx.__version__})"
        )
