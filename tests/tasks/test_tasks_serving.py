"""The bodies of the serving room's container components, run as KFP's launcher runs them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model_load_test.components import deploy_model_server, plan_serving, validate_model_server
from model_load_test.components.executor import parse_executor_input
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server
from model_load_test.components.tasks.__main__ import TASKS, main

MODEL = {"model_name": "digits", "candidate_model": "gs://bucket/new", "run_id": "r", "task_id": "t"}


def executor_input(folder: Path, component: Any, **parameters: Any) -> str:
    """What KFP would put in for `{{$}}`."""
    outputs = component.component_spec.outputs or {}
    files = {
        name: {"outputFile": str(folder / name)} for name, one in outputs.items() if "system." not in one.type
    }
    artifacts = {
        name: {"artifacts": [{"name": "1", "uri": str(folder / name), "metadata": {}}]}
        for name in outputs
        if name not in files
    }
    document = {
        "inputs": {"parameterValues": parameters},
        "outputs": {"parameters": files, "artifacts": artifacts, "outputFile": str(folder / "output.json")},
    }
    return json.dumps(document)


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(name: str, given: str) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([name, given])
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", "/nonexistent")


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with embedded_server("digits", backend="numpy") as running:
        yield running


def test_a_plan_names_the_deployment_and_needs_no_cluster(tmp_path: Path) -> None:
    given = executor_input(tmp_path, plan_serving, **MODEL)
    done = subprocess.run(
        [sys.executable, "-m", "model_load_test.components.tasks", "plan_serving", given],
        env={**os.environ, "_KFP_RUNTIME": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "deployment").read_text() == "t"
    assert "candidate: gs://bucket/new in tensorflow/serving:2.19.1" in done.stdout


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"infra_blessing": '{"blessed": 0, "reason": "did not load"}'}, "did not load"),
        ({"server_tolerations": [{"key": "a", "effekt": "x"}]}, "did you mean 'effect'"),
        ({"serving": {"kind": "tfserving"}}, "tf-serving"),
        ({"candidate_model": "bucket/new"}, "pvc://"),
        ({"candidate_model": ""}, "give a model to deploy"),
        ({"candidate_endpoint": "grpc://h:1"}, "not both"),
        ({"model_name": ""}, "model_name"),
        ({"serving": {"kind": "seldon-v2"}, "baseline_model": "gs://bucket/old"}, "after each arm"),
        ({"baseline_model": 7.0}, "baseline_model"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_stops_before_anything_is_created(
    given: dict[str, Any], named: str, tmp_path: Path
) -> None:
    done = run("plan_serving", executor_input(tmp_path, plan_serving, **{**MODEL, **given}))
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_placeholder_that_a_backend_left_is_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_POD_NAME", "gate-x7k2p-system-container-impl-123")
    left = {"run_id": "{{$.pipeline_job_uuid}}", "task_id": "{{$.pipeline_task_uuid}}"}
    names = []
    for _ in range(2):
        assert main(["plan_serving", executor_input(tmp_path, plan_serving, **{**MODEL, **left})]) == 0
        names.append((tmp_path / "deployment").read_text())
    assert names[0] == names[1] != "{{$.pipeline_task_uuid}}", "a retry must find its deployment again"


def test_live_servers_are_handed_on_with_what_can_be_seen_of_them(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    given = {
        "model_name": "digits",
        "candidate_endpoint": str(server.grpc),
        "baseline_endpoint": str(server.grpc),
        "run_id": "r",
        "task_id": "t",
    }
    done = run("deploy_model_server", executor_input(tmp_path, deploy_model_server, **given))
    assert done.returncode == 0, done.stderr
    read = {name: (tmp_path / name).read_text() for name in deploy_model_server.component_spec.outputs}
    assert read["endpoint_of_candidate"] == str(server.grpc)
    assert read["server_kind"] == "embedded"
    assert (json.loads(read["server_flags"]), json.loads(read["server_replicas"])) == ([], 1)
    assert read["resources"] == ""


def test_without_a_cluster_a_deployment_says_what_is_missing(tmp_path: Path) -> None:
    done = run("deploy_model_server", executor_input(tmp_path, deploy_model_server, **MODEL))
    assert done.returncode == 2
    assert "KUBECONFIG" in done.stderr


def test_what_nobody_asked_to_validate_is_blessed(tmp_path: Path) -> None:
    given = executor_input(tmp_path, validate_model_server, **MODEL, validate=False)
    done = run("validate_model_server", given)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "blessed").read_text() == "1"
    assert (tmp_path / "blessing" / "INFRA_BLESSED").exists()
    answer = json.loads((tmp_path / "output.json").read_text())
    assert answer["artifacts"]["blessing"]["artifacts"][0]["metadata"]["blessed"] == 1


def test_every_component_of_the_room_has_a_body_and_names_it() -> None:
    import importlib

    from model_load_test import components

    for name, module in TASKS.items():
        if module != "serving":
            continue
        body = importlib.import_module(f"model_load_test.components.tasks.{module}")
        assert callable(getattr(body, name))
        container = getattr(components, name).component_spec.implementation.container
        assert container.args[0] == name
        assert container.args[1] == "{{$}}"


def test_an_artifacts_path_follows_from_its_uri_unless_kfp_says_another() -> None:
    artifacts = {
        "a": {"artifacts": [{"uri": "minio://bucket/x", "metadata": {"blessed": 1.0}}]},
        "b": {"artifacts": [{"uri": "s3://bucket/y", "customPath": "/mnt/y"}]},
        "none": {"artifacts": []},
    }
    document = {"inputs": {"artifacts": artifacts}, "outputs": {"outputFile": "/tmp/o"}}
    task = parse_executor_input(json.dumps(document))
    assert (str(task.inputs["a"].path), str(task.inputs["b"].path)) == ("/minio/bucket/x", "/mnt/y")
    assert "none" not in task.inputs
