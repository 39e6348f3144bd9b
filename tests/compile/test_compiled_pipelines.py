"""What `make compile` writes: loadable, complete, from one image, uncached, without secrets."""

import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from model_load_test.components.image import REPOSITORY
from model_load_test.components.version import __version__

FILES = sorted(path.name for path in (Path(__file__).parent / "golden").glob("*.yaml"))
"""What `make compile` writes; a test below holds this list against it."""
NO_DEFAULT = {"candidate_endpoint", "candidate_model", "model_name"}
"""What only the user knows; all else has a default with which the pipeline runs."""
EXAMPLES = ("train_gate_push", "nightly_capacity")
GOOGLE_IMAGE = re.compile(r"gcr\.io/ml-pipeline/google-cloud-pipeline-components:\d+\.\d+\.\d+")
KNOWN_PLACEHOLDERS = re.compile(
    r"\{\{\$(\.(inputs|outputs|pipeline_[a-z_]+|pipeline)[^}]*|\.json_escape\[1\])?\}\}"
)
MOST_BYTES = 150_000
SECRET = r"token|password|secret|credential|api_?key"


@functools.cache
def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def executors_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = documents(path)[0]["deploymentSpec"]["executors"]
    return found


def executors(folder: Path) -> dict[str, Any]:
    return {
        f"{name}/{executor}": found
        for name in FILES
        for executor, found in executors_of(folder / name).items()
    }


def texts_in(value: object) -> Iterator[str]:
    """Every text of a document, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (key, *texts_in(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from texts_in(inner)


def tasks(spec: dict[str, Any]) -> dict[str, Any]:
    found = dict(spec["root"]["dag"]["tasks"])
    for component in spec["components"].values():
        found.update(component.get("dag", {}).get("tasks", {}))
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_image_is_ours_at_the_packages_version(compiled: Path, name: str) -> None:
    images = {executor["container"]["image"] for executor in executors_of(compiled / name).values()}
    if name.startswith("vertex"):  # Google's own components bring an image with a version of its own
        images = {image for image in images if not GOOGLE_IMAGE.fullmatch(image)}
    assert images == {f"{REPOSITORY}:{__version__}"}


@pytest.mark.parametrize("name", FILES)
def test_no_image_is_named_anywhere_else(compiled: Path, name: str) -> None:
    """A container component names images in its arguments too: those of the pods that it makes."""
    registries = re.compile(r"^(ghcr\.io|docker\.io|gcr\.io|quay\.io|localhost)/\S+$")
    named = {text for text in texts_in(documents(compiled / name)) if registries.match(text)}
    assert {image for image in named if not GOOGLE_IMAGE.fullmatch(image)} == {f"{REPOSITORY}:{__version__}"}
    assert not [text for text in texts_in(documents(compiled / name)) if re.search(r"\S:latest\b", text)]


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
    images = {executor["container"]["image"] for executor in executors(tmp_path).values()}
    assert {image for image in images if not GOOGLE_IMAGE.fullmatch(image)} == {"registry.example/copy:1"}


def test_nothing_is_installed_at_run_time(compiled: Path) -> None:
    for executor in executors(compiled).values():
        assert "pip install" not in " ".join(executor["container"]["command"])


def test_these_are_all_files(compiled: Path) -> None:
    assert {path.name for path in compiled.iterdir()} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_every_task_is_uncached(compiled: Path, name: str) -> None:
    for task_name, task in tasks(documents(compiled / name)[0]).items():
        if "taskInfo" in task and not task["componentRef"]["name"].startswith("comp-condition"):
            assert not task.get("cachingOptions", {}).get("enableCache"), task_name


@pytest.mark.parametrize("name", FILES)
def test_no_document_is_larger_than_a_backend_takes(compiled: Path, name: str) -> None:
    assert (compiled / name).stat().st_size <= MOST_BYTES


@pytest.mark.parametrize("name", FILES)
def test_every_placeholder_is_one_that_kubeflow_resolves(compiled: Path, name: str) -> None:
    text = (compiled / name).read_text()
    unknown = [found for found in re.findall(r"\{\{.*?\}\}", text) if not KNOWN_PLACEHOLDERS.fullmatch(found)]
    assert not unknown
    # Vertex AI resolves these, open-source Kubeflow does not know them.
    assert name.startswith("vertex") or "pipeline_google_cloud" not in text


def test_enforcing_comes_after_every_artifact(compiled: Path) -> None:
    enforce = tasks(documents(compiled / "kubeflow.yaml")[0])["enforce-gate"]
    assert set(enforce["dependentTasks"]) >= {"compare-to-baseline", "write-report", "record-baseline"}


@pytest.mark.parametrize("name", FILES)
def test_no_input_is_an_optional_artifact_and_every_knob_has_a_description(compiled: Path, name: str) -> None:
    spec = documents(compiled / name)[0]
    inputs = spec["root"]["inputDefinitions"]
    assert "artifacts" not in inputs
    required = {knob for knob, found in inputs["parameters"].items() if not found.get("isOptional")}
    assert "model_name" in required
    assert required <= NO_DEFAULT
    undescribed = [knob for knob, found in inputs["parameters"].items() if not found.get("description")]
    assert not undescribed
    for component, found in spec["components"].items():
        executor = executors_of(compiled / name).get(found.get("executorLabel"), {"container": {"image": ""}})
        if GOOGLE_IMAGE.fullmatch(executor["container"]["image"]):
            continue
        artifacts = found.get("inputDefinitions", {}).get("artifacts", {})
        assert not [artifact for artifact, told in artifacts.items() if told.get("isOptional")], component


def test_where_the_load_runs_is_said_at_run_time(compiled: Path) -> None:
    platform = documents(compiled / "kubeflow.yaml")[1]["platforms"]["kubernetes"]["deploymentSpec"]
    settings = platform["executors"]["exec-run-load-test"]
    assert settings["tolerations"] == [{"tolerationJson": {"componentInputParameter": "tolerations"}}]
    assert settings["nodeSelector"] == {"nodeSelectorJson": {"componentInputParameter": "node_selector"}}
    assert settings["nodeAffinity"] == [{"nodeAffinityJson": {"componentInputParameter": "node_affinity"}}]
    container = executors(compiled)["vertex.yaml/exec-run-load-test"]["container"]
    asked = documents(compiled / "kubeflow.yaml")[0]["deploymentSpec"]["executors"]["exec-run-load-test"]
    assert asked["container"]["resources"] == {
        "resourceCpuRequest": "{{$.inputs.parameters['pipelinechannel--cpu_request']}}",
        "resourceMemoryRequest": "{{$.inputs.parameters['pipelinechannel--memory_request']}}",
    }
    assert "resources" not in container, "Vertex has no requests"


@pytest.mark.parametrize("name", FILES)
def test_no_knob_takes_a_secret(compiled: Path, name: str) -> None:
    spec = documents(compiled / name)[0]
    knobs = {
        knob
        for part in (spec["root"], *spec["components"].values())
        for knob in part.get("inputDefinitions", {}).get("parameters", {})
    }
    assert not {knob for knob in knobs if re.search(SECRET, knob)}
    variables = {
        variable["name"]
        for executor in executors_of(compiled / name).values()
        for variable in executor["container"].get("env", [])
    }
    assert not {variable for variable in variables if re.search(SECRET, variable, re.IGNORECASE)}


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


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_keeps_to_the_same_rules(name: str, tmp_path: Path) -> None:
    example = getattr(importlib.import_module(f"model_load_test.pipelines.examples.{name}"), name)
    path = tmp_path / "example.yaml"
    compiler.Compiler().compile(example, str(path))
    assert {found["container"]["image"] for found in executors_of(path).values()} == {
        f"{REPOSITORY}:{__version__}"
    }
    text = path.read_text()
    assert "pip install" not in text
    assert not [one for one in re.findall(r"\{\{.*?\}\}", text) if not KNOWN_PLACEHOLDERS.fullmatch(one)]
    spec = documents(path)[0]
    for part in (spec["root"], *spec["components"].values()):
        artifacts = part.get("inputDefinitions", {}).get("artifacts", {})
        assert not [artifact for artifact, told in artifacts.items() if told.get("isOptional")]
    ours = tasks({"root": {"dag": {"tasks": {}}}, "components": spec["components"]})
    assert not [task for task, found in ours.items() if found.get("cachingOptions", {}).get("enableCache")]
