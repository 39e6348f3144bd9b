"""What `make compile` writes: loadable, complete, from one image, uncached, without secrets."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_load_test.components.image import REPOSITORY
from model_load_test.components.version import __version__
from model_load_test.pipelines.compiling import compile_all


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    compile_all(folder)
    return folder


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def executors(compiled: Path) -> dict[str, Any]:
    return {
        **documents(compiled / "kubeflow.yaml")[0]["deploymentSpec"]["executors"],
        **documents(compiled / "vertex.yaml")[0]["deploymentSpec"]["executors"],
    }


def tasks(spec: dict[str, Any]) -> dict[str, Any]:
    found = dict(spec["root"]["dag"]["tasks"])
    for component in spec["components"].values():
        found.update(component.get("dag", {}).get("tasks", {}))
    return found


def test_every_image_is_ours_at_the_packages_version(compiled: Path) -> None:
    images = {executor["container"]["image"] for executor in executors(compiled).values()}
    assert images == {f"{REPOSITORY}:{__version__}"}


def test_the_image_can_be_named_at_compile_time(tmp_path: Path, repository: Path) -> None:
    import os
    import subprocess
    import sys

    subprocess.run(
        [sys.executable, "-m", "model_load_test.pipelines.compiling", str(tmp_path)],
        env={**os.environ, "MODEL_LOAD_TEST_IMAGE": "registry.example/copy:1"},
        check=True,
        capture_output=True,
    )
    assert {e["container"]["image"] for e in executors(tmp_path).values()} == {"registry.example/copy:1"}


def test_nothing_is_installed_at_run_time(compiled: Path) -> None:
    for executor in executors(compiled).values():
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_every_task_is_uncached(compiled: Path) -> None:
    for name, task in tasks(documents(compiled / "kubeflow.yaml")[0]).items():
        assert not task.get("cachingOptions", {}).get("enableCache"), name


def test_enforcing_comes_after_every_artifact(compiled: Path) -> None:
    enforce = tasks(documents(compiled / "kubeflow.yaml")[0])["enforce-gate"]
    assert set(enforce["dependentTasks"]) >= {"compare-to-baseline", "write-report", "record-baseline"}


def test_no_input_is_an_optional_artifact_and_every_knob_has_a_description(compiled: Path) -> None:
    spec = documents(compiled / "kubeflow.yaml")[0]
    inputs = spec["root"]["inputDefinitions"]
    assert "artifacts" not in inputs
    required = {name for name, knob in inputs["parameters"].items() if not knob.get("isOptional")}
    assert required == {"candidate_endpoint", "model_name"}
    undescribed = [name for name, knob in inputs["parameters"].items() if not knob.get("description")]
    assert not undescribed


def test_where_the_load_runs_is_said_at_run_time(compiled: Path) -> None:
    platform = documents(compiled / "kubeflow.yaml")[1]["platforms"]["kubernetes"]["deploymentSpec"]
    settings = platform["executors"]["exec-run-load-test"]
    assert settings["tolerations"] == [{"tolerationJson": {"componentInputParameter": "tolerations"}}]
    assert settings["nodeSelector"] == {"nodeSelectorJson": {"componentInputParameter": "node_selector"}}
    assert settings["nodeAffinity"] == [
        {"nodeAffinityJson": {"componentInputParameter": "node_affinity"}}
    ]
    container = executors(compiled)["exec-run-load-test"]["container"]
    asked = documents(compiled / "kubeflow.yaml")[0]["deploymentSpec"]["executors"]["exec-run-load-test"]
    assert asked["container"]["resources"] == {
        "resourceCpuRequest": "{{$.inputs.parameters['pipelinechannel--cpu_request']}}",
        "resourceMemoryRequest": "{{$.inputs.parameters['pipelinechannel--memory_request']}}",
    }
    assert "resources" not in container, "Vertex has no requests"


def test_no_knob_is_called_like_a_secret(compiled: Path) -> None:
    names = documents(compiled / "kubeflow.yaml")[0]["root"]["inputDefinitions"]["parameters"]
    assert not [name for name in names if re.search(r"token|password|secret|credential", name)]


def test_the_compiled_gate_can_be_one_task_of_another_pipeline(compiled: Path, tmp_path: Path) -> None:
    from kfp import compiler, components, dsl

    gate = components.load_component_from_file(str(compiled / "kubeflow.yaml"))

    @dsl.component(base_image="python:3.11")
    def push():  # type: ignore[no-untyped-def]
        print("pushed")

    @dsl.pipeline(name="train-and-push")
    def train_and_push(endpoint: str):  # type: ignore[no-untyped-def]
        push().after(gate(candidate_endpoint=endpoint, model_name="m"))

    compiler.Compiler().compile(train_and_push, str(tmp_path / "user.yaml"))
    user = documents(tmp_path / "user.yaml")
    assert "exec-run-load-test" in user[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_vertex_takes_the_single_document(compiled: Path) -> None:
    aiplatform = pytest.importorskip("google.cloud.aiplatform", reason="the extra `vertex` is not installed")
    from google.auth.credentials import AnonymousCredentials

    path = compiled / "vertex.yaml"
    assert len(documents(path)) == 1
    aiplatform.init(project="p", location="us-central1", credentials=AnonymousCredentials())
    job = aiplatform.PipelineJob(
        display_name="gate",
        template_path=str(path),
        pipeline_root="gs://bucket/root",
        parameter_values={"candidate_endpoint": "grpc://10.0.0.7:8500", "model_name": "m"},
    )
    assert job.to_dict()["runtimeConfig"]["parameterValues"]["model_name"] == "m"
