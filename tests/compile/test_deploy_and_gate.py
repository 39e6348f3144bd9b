"""`deploy_and_gate`: every knob of both halves, teardown in any case, nothing cached, one image."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from model_load_test.components.image import load_test_image
from model_load_test.pipelines.deploy_and_gate.pipeline import deploy_and_gate
from model_load_test.pipelines.knobs import combined, described, own_knobs
from model_load_test.pipelines.load_test_gate.pipeline import load_test_gate


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("compiled") / "deploy_and_gate.yaml"
    compiler.Compiler().compile(deploy_and_gate, str(path))
    return list(yaml.safe_load_all(path.read_text()))


def dag(spec: dict[str, Any], component: str) -> dict[str, Any]:
    return dict(spec["components"][f"comp-{component}"]["dag"]["tasks"])


def test_every_knob_of_the_gate_is_there_with_its_default(documents: list[dict[str, Any]]) -> None:
    ours = documents[0]["root"]["inputDefinitions"]["parameters"]
    answered = {"server_kind", "server_image", "server_flags", "server_replicas"}
    of_the_gate = inspect.signature(load_test_gate.pipeline_func).parameters
    for name, knob in of_the_gate.items():
        if name in answered or name in ("candidate_endpoint", "model_name"):
            continue
        assert ours[name].get("defaultValue") == knob.default, name
    assert not answered & set(ours), "deploying answers these"


def test_a_user_must_give_the_models_name_and_sees_what_every_knob_is(
    documents: list[dict[str, Any]],
) -> None:
    parameters = documents[0]["root"]["inputDefinitions"]["parameters"]
    assert [name for name, knob in parameters.items() if not knob.get("isOptional")] == ["model_name"]
    assert not [name for name, knob in parameters.items() if not knob.get("description")]


def test_teardown_runs_whatever_happens_and_hangs_on_one_task_alone(documents: list[dict[str, Any]]) -> None:
    teardown = dag(documents[0], "measure-and-tear-down")["teardown-model-server"]
    assert teardown["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    # KFP makes it an exit hook of each task it depends on: on a second one it would run too early.
    assert teardown["dependentTasks"] == ["validate-deploy-and-measure"]
    assert not any("taskOutputParameter" in given for given in teardown["inputs"]["parameters"].values())


def test_what_is_torn_down_is_what_was_deployed(documents: list[dict[str, Any]]) -> None:
    spec = documents[0]
    deployed = dag(spec, "validate-deploy-and-measure")["deploy-model-server"]["inputs"]["parameters"]
    removed = dag(spec, "measure-and-tear-down")["teardown-model-server"]["inputs"]["parameters"]
    for name in ("deployment", "namespace", "run_id"):
        assert deployed[name] == removed[name]
    assert removed["run_id"] == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}


def test_nothing_is_loaded_that_was_not_blessed_and_served(documents: list[dict[str, Any]]) -> None:
    tasks = dag(documents[0], "validate-deploy-and-measure")
    blessing = tasks["deploy-model-server"]["inputs"]["parameters"]["infra_blessing"]
    assert blessing["taskOutputParameter"]["producerTask"] == "validate-model-server"
    loaded = tasks["load-test-gate"]["inputs"]["parameters"]
    for name in ("candidate_endpoint", "baseline_endpoint", "server_image", "server_flags", "server_kind"):
        assert loaded[name]["taskOutputParameter"]["producerTask"] == "deploy-model-server", name


def test_every_image_is_ours_and_no_task_is_cached(documents: list[dict[str, Any]]) -> None:
    spec = documents[0]
    images = {one["container"]["image"] for one in spec["deploymentSpec"]["executors"].values()}
    assert images == {load_test_image()}
    for component in (spec["root"], *spec["components"].values()):
        for name, task in component.get("dag", {}).get("tasks", {}).items():
            assert not task.get("cachingOptions", {}).get("enableCache"), name


def test_the_generators_nodes_can_be_chosen_at_run_time(documents: list[dict[str, Any]]) -> None:
    executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["exec-run-load-test"]["tolerations"] == [
        {"tolerationJson": {"componentInputParameter": "tolerations"}}
    ]


def test_two_parts_with_one_name_for_different_things_are_refused() -> None:
    def one(a: int = 1) -> None:
        """One.

        Args:
            a: First,
                on two lines.
        """

    def other(a: int = 2, b: str = "") -> None:
        """Other.

        Args:
            a: Second.
            b: Third.
        """

    with pytest.raises(ValueError, match="one name"):
        combined(lambda *_: None, [*own_knobs(one), *own_knobs(other)], None, "")
    assert [knob.name for knob in own_knobs(other, without=("a",))] == ["b"]
    text = described(one, other)
    assert "    a: First, on two lines." in text
    assert "    b: Third." in text


def test_the_golden_file_of_it_loads_as_a_task_of_a_users_pipeline(tmp_path: Path) -> None:
    from kfp import components, dsl

    gate = components.load_component_from_file(str(Path(__file__).parent / "golden" / "deploy_and_gate.yaml"))

    @dsl.component(base_image="python:3.11")
    def push():  # type: ignore[no-untyped-def]
        print("pushed")

    @dsl.pipeline(name="train-and-push")
    def train_and_push(model: str):  # type: ignore[no-untyped-def]
        push().after(gate(candidate_model=model, model_name="m"))

    compiler.Compiler().compile(train_and_push, str(tmp_path / "user.yaml"))
    assert "comp-teardown-model-server" in (tmp_path / "user.yaml").read_text()
