"""The gate in pipelines that TFX compiled; needs no TFX, but what TFX 1.16 compiled."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from model_load_test.components.errors import InputError
from model_load_test.components.kfp_version import SUPPORTED, require_kfp
from model_load_test.pipelines.tfx import CompiledPipeline, compiled, insert_gate
from model_load_test.pipelines.tfx.compiled import compile_pipeline, read_compiled
from model_load_test.pipelines.tfx.graft import title_of

kfp = pytest.importorskip("kfp")
if tuple(int(part) for part in kfp.__version__.split(".")[:2]) < SUPPORTED["kfp"][0]:
    pytest.skip(
        f"kfp {kfp.__version__} compiles no gate; the graft is tried with one compiled elsewhere",
        allow_module_level=True,
    )

FIXTURES = Path(__file__).parent / "fixtures"
ENDPOINTS = {"candidate_endpoint": "grpc://taxi-candidate:8500", "baseline_endpoint": "grpc://taxi:8500"}


@pytest.fixture(scope="session")
def load_test_gate() -> CompiledPipeline:
    from model_load_test.pipelines import load_test_gate

    return compile_pipeline(load_test_gate)


@pytest.fixture
def taxi() -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((FIXTURES / "taxi.yaml").read_text())
    return spec


@pytest.fixture
def validated() -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((FIXTURES / "validated.yaml").read_text())
    return spec


def tasks(pipeline: CompiledPipeline) -> dict[str, Any]:
    found: dict[str, Any] = pipeline.spec["root"]["dag"]["tasks"]
    return found


def test_the_gate_stands_between_trainer_and_pusher(
    taxi: dict[str, Any], load_test_gate: CompiledPipeline
) -> None:
    before = copy.deepcopy(taxi)
    grafted = insert_gate(taxi, gate=load_test_gate, model_name="taxi", **ENDPOINTS)
    assert taxi == before, "what was given stays as it is"
    assert tasks(grafted)["load-test-gate"]["dependentTasks"] == ["Trainer"]
    assert tasks(grafted)["load-test-gate-bless"]["dependentTasks"] == ["load-test-gate"]
    assert "load-test-gate-bless" in tasks(grafted)["Pusher"]["dependentTasks"]
    assert tasks(grafted)["Pusher"]["inputs"]["artifacts"]["infra_blessing"] == {
        "taskOutputArtifact": {"producerTask": "load-test-gate-bless", "outputArtifactKey": "blessing"}
    }
    for name in ("Trainer", "CsvExampleGen"):
        assert tasks(grafted)[name] == before["root"]["dag"]["tasks"][name]


def test_pusher_is_told_that_it_takes_a_blessing(
    taxi: dict[str, Any], load_test_gate: CompiledPipeline
) -> None:
    grafted = insert_gate(taxi, gate=load_test_gate, model_name="taxi", **ENDPOINTS).spec
    declared = grafted["components"]["Pusher"]["inputDefinitions"]["artifacts"]["infra_blessing"]
    assert title_of(declared["artifactType"]) == "tfx.InfraBlessing"
    args = grafted["deploymentSpec"]["executors"]["Pusher_executor"]["container"]["args"]
    told = json.loads(args[args.index("--json_serialized_inputs_spec_args") + 1])
    assert title_of(told["artifacts"]["infra_blessing"]["artifactType"]) == "tfx.InfraBlessing"
    assert {"model", "infra_blessing"} == set(told["artifacts"])


def test_the_whole_sub_dag_comes_along_with_its_settings_for_kubernetes(
    taxi: dict[str, Any], load_test_gate: CompiledPipeline, tmp_path: Path
) -> None:
    from kfp.pipeline_spec import pipeline_spec_pb2

    grafted = insert_gate(taxi, gate=load_test_gate, model_name="taxi", **ENDPOINTS)
    read = read_compiled(grafted.write(tmp_path / "grafted.yaml"), "grafted")
    assert read == grafted
    json_format.ParseDict(grafted.spec, pipeline_spec_pb2.PipelineSpec())
    components, executors = grafted.spec["components"], grafted.spec["deploymentSpec"]["executors"]
    inner = components["load-test-gate-load-test-gate"]["dag"]["tasks"]
    assert set(inner) == set(load_test_gate.spec["root"]["dag"]["tasks"])
    for task in inner.values():
        label = components[task["componentRef"]["name"]]["executorLabel"]
        assert label in executors
    settings = grafted.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(settings) <= set(executors)
    assert len(settings) == len(
        load_test_gate.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    )
    used = {one["executorLabel"] for one in components.values() if "executorLabel" in one}
    assert used == set(executors), "an executor is left that nothing runs, or one is missing"
    assert len(grafted.text()) < 150_000


def test_nothing_of_the_gate_is_taken_from_the_cache(
    taxi: dict[str, Any], load_test_gate: CompiledPipeline
) -> None:
    grafted = insert_gate(taxi, gate=load_test_gate, model_name="taxi", **ENDPOINTS)
    for name in ("load-test-gate", "load-test-gate-bless"):
        assert tasks(grafted)[name]["cachingOptions"] == {}


@pytest.mark.parametrize(("on_failure", "breaks"), [("refuse", False), ("break", True)])
def test_a_failure_refuses_the_push_or_breaks_the_run(
    on_failure: str, breaks: bool, taxi: dict[str, Any], load_test_gate: CompiledPipeline
) -> None:
    grafted = insert_gate(taxi, gate=load_test_gate, on_failure=on_failure, model_name="taxi", **ENDPOINTS)
    given = tasks(grafted)["load-test-gate"]["inputs"]["parameters"]["break_on_failure"]
    assert given == {"runtimeValue": {"constant": breaks}}


def test_infra_validators_blessing_goes_into_the_gates(
    validated: dict[str, Any], load_test_gate: CompiledPipeline
) -> None:
    grafted = insert_gate(validated, gate=load_test_gate, model_name="taxi", **ENDPOINTS)
    blesser = tasks(grafted)["load-test-gate-bless"]
    assert blesser["inputs"]["artifacts"]["infra_blessing"] == {
        "taskOutputArtifact": {"producerTask": "InfraValidatorV2", "outputArtifactKey": "blessing"}
    }
    assert blesser["dependentTasks"] == ["InfraValidatorV2", "load-test-gate"]
    pushed = tasks(grafted)["Pusher"]["inputs"]["artifacts"]["infra_blessing"]
    assert pushed["taskOutputArtifact"]["producerTask"] == "load-test-gate-bless"


def test_the_policies_reach_the_blessing(taxi: dict[str, Any], load_test_gate: CompiledPipeline) -> None:
    grafted = insert_gate(
        taxi, gate=load_test_gate, model_name="taxi", on_missing_baseline="fail", **ENDPOINTS
    )
    parameters = tasks(grafted)["load-test-gate-bless"]["inputs"]["parameters"]
    assert parameters["on_missing_baseline"] == {"runtimeValue": {"constant": "fail"}}
    assert parameters["verdict"]["taskOutputParameter"]["producerTask"] == "load-test-gate"


def test_tasks_beside_an_exit_handler_are_found(
    taxi: dict[str, Any], load_test_gate: CompiledPipeline
) -> None:
    taxi["components"]["_tfx_dag"] = {"dag": taxi["root"]["dag"]}
    taxi["root"] = {"dag": {"tasks": {"_tfx_dag": {"componentRef": {"name": "_tfx_dag"}}}}}
    grafted = insert_gate(taxi, gate=load_test_gate, model_name="taxi", **ENDPOINTS)
    assert "load-test-gate" in grafted.spec["components"]["_tfx_dag"]["dag"]["tasks"]
    assert set(tasks(grafted)) == {"_tfx_dag"}


def test_a_gate_that_deploys_the_model_gets_its_address(taxi: dict[str, Any]) -> None:
    from model_load_test.pipelines import deploy_and_gate

    grafted = insert_gate(taxi, gate=deploy_and_gate, model_name="taxi")
    finder = tasks(grafted)["load-test-gate-find-saved-model"]
    assert finder["inputs"]["artifacts"]["model"]["taskOutputArtifact"]["producerTask"] == "Trainer"
    given = tasks(grafted)["load-test-gate"]["inputs"]["parameters"]["candidate_model"]
    assert given["taskOutputParameter"] == {
        "producerTask": "load-test-gate-find-saved-model",
        "outputParameterKey": "uri",
    }


def test_a_pipeline_of_schema_2_0_is_refused_with_what_to_compile_with() -> None:
    with pytest.raises(InputError, match=r"schema 2\.0.*use_pipeline_spec_2_1=True"):
        insert_gate(FIXTURES / "taxi-2.0.json", model_name="taxi", **ENDPOINTS)


def test_a_spec_of_schema_2_0_is_refused_too(taxi: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"schemaVersion 2\.0\.0.*use_pipeline_spec_2_1=True"):
        insert_gate({**taxi, "schemaVersion": "2.0.0"}, model_name="taxi", **ENDPOINTS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"after": "Traner"}, r"after: 'Traner': no such task in the pipeline; did you mean 'Trainer'"),
        ({"before": "Deployer"}, r"before: 'Deployer': no such task.*CsvExampleGen, Pusher, Trainer"),
        ({"after": "Pusher", "before": "Trainer"}, "before: 'Trainer': it runs before 'Pusher'"),
        (
            {"before": "Trainer", "after": "CsvExampleGen"},
            "the task takes no infra_blessing; name TFX's Pusher",
        ),
        ({"baseline_endpoint": "http://taxi:8501"}, "baseline_endpoint: .*use the protocol grpc"),
        ({"candidate_endpoint": "taxi:8500"}, "candidate_endpoint: 'taxi:8500': the scheme is missing"),
        ({"candidate_endpoint": "grpc://taxi:8500"}, "this is the candidate's endpoint"),
        ({"rate": 100.0}, "rate: 100.0: no such parameter of the gate; did you mean 'rate_rps'"),
        ({"rate_rps": "fast"}, "rate_rps: 'fast': give a value of type int or float"),
        ({"rate_rps": True}, "rate_rps: True: give a value of type int or float"),
        ({"on_failure": "stop"}, "on_failure: 'stop': choose refuse or break"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_compiled(
    changes: dict[str, Any], said: str, taxi: dict[str, Any], load_test_gate: CompiledPipeline
) -> None:
    with pytest.raises(InputError, match=said):
        insert_gate(taxi, **{"gate": load_test_gate, "model_name": "taxi", **ENDPOINTS, **changes})


def test_a_parameter_that_is_missing_is_named(taxi: dict[str, Any], load_test_gate: CompiledPipeline) -> None:
    with pytest.raises(InputError, match="model_name: None: the gate needs model_name"):
        insert_gate(taxi, gate=load_test_gate, **ENDPOINTS)


def test_a_blessing_of_another_type_is_refused(
    validated: dict[str, Any], load_test_gate: CompiledPipeline
) -> None:
    other = {"instanceSchema": "title: tfx.ModelBlessing\ntype: object\n"}
    wired = copy.deepcopy(validated)
    wired["components"]["InfraValidatorV2"]["outputDefinitions"]["artifacts"]["blessing"]["artifactType"] = (
        other
    )
    with pytest.raises(InputError, match=r"Pusher\.infra_blessing: 'tfx\.ModelBlessing of InfraValidatorV2'"):
        insert_gate(wired, gate=load_test_gate, model_name="taxi", **ENDPOINTS)
    declared = copy.deepcopy(validated)
    declared["components"]["Pusher"]["inputDefinitions"]["artifacts"]["infra_blessing"]["artifactType"] = (
        other
    )
    with pytest.raises(InputError, match=r"Pusher\.infra_blessing: 'tfx\.ModelBlessing': the input must be"):
        insert_gate(declared, gate=load_test_gate, model_name="taxi", **ENDPOINTS)


def test_a_second_gate_needs_a_name_of_its_own(
    taxi: dict[str, Any], load_test_gate: CompiledPipeline
) -> None:
    once = insert_gate(taxi, gate=load_test_gate, model_name="taxi", **ENDPOINTS)
    with pytest.raises(InputError, match="name: 'load-test-gate': the pipeline has a task of this name"):
        insert_gate(once.spec, gate=load_test_gate, model_name="taxi", **ENDPOINTS)


def test_a_gate_without_a_verdict_is_refused(taxi: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="gate: 'taxi': give a pipeline with the output verdict"):
        insert_gate(taxi, gate=FIXTURES / "taxi.yaml", model_name="taxi")


def test_a_file_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: 1\n")
    with pytest.raises(InputError, match="give one compiled pipeline"):
        insert_gate(tmp_path / "x.yaml", model_name="taxi", **ENDPOINTS)
    with pytest.raises(InputError, match="give a file that can be read"):
        insert_gate(tmp_path / "y.yaml", model_name="taxi", **ENDPOINTS)


def test_a_kfp_that_cannot_compile_the_gate_is_refused(
    monkeypatch: pytest.MonkeyPatch, taxi: dict[str, Any]
) -> None:
    def refuse() -> None:
        require_kfp({"kfp": "2.5.0", "kfp-kubernetes": "1.5.0"}.__getitem__)

    monkeypatch.setattr(compiled, "require_kfp", refuse)
    with pytest.raises(InputError, match=r"kfp: '2\.5\.0': install kfp>=2\.13,<3"):
        insert_gate(taxi, model_name="taxi", **ENDPOINTS)
