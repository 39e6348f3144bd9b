"""The stand-in for KFP's driver, held against KFP's own local runner; needs no cluster."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import compiler, dsl, kubernetes
from kfp.local.executor_input_utils import construct_executor_input
from kfp.pipeline_spec import pipeline_spec_pb2
from kfp_steps import Runner


class ObedientCluster:
    """Keeps the pods it is given and says that each has succeeded, with the outputs set for its task."""

    def __init__(self, outputs: dict[str, dict[str, Any]], failing: str = "") -> None:
        self.pods: dict[str, Any] = {}
        self._outputs = outputs
        self._failing = failing

    def create(self, pod: Any, namespace: str) -> None:
        self.pods[pod["metadata"]["name"]] = pod

    def get(self, path: str) -> Any:
        name = path.rpartition("/")[2]
        failed = self._failing and self._failing in name
        return {**self.pods[name], "status": {"phase": "Failed" if failed else "Succeeded"}}

    def read(self, path: str) -> bytes:
        return json.dumps(
            next((output for task, output in self._outputs.items() if f"{task}-" in path), {})
        ).encode()

    def log(self, *_: Any) -> str:
        return ""

    def delete(self, *_: Any) -> None:
        """Nothing to do."""

    def pod(self, task: str) -> Any:
        (found,) = (pod for name, pod in self.pods.items() if name.startswith(f"{task}-"))
        return found

    def command(self, task: str) -> list[str]:
        words = self.pod(task)["spec"]["containers"][0]["command"]
        return list(words[words.index("--") + 1 :])


@dsl.component
def measure(rate: float, looks: list[int], results: dsl.Output[dsl.Dataset], times: int = 3) -> str:
    return str(rate)


@dsl.container_component
def deploy(name: str, results: dsl.Input[dsl.Dataset], place: dsl.OutputPath(str)):  # type: ignore[valid-type]
    return dsl.ContainerSpec(
        image="image",
        command=["deploy", "--results", results.path, "--name", name],
        args=[place, dsl.PIPELINE_JOB_ID_PLACEHOLDER, dsl.IfPresentPlaceholder("name", ["--named"])],
    )


@dsl.component
def clean(state: dsl.PipelineTaskFinalStatus) -> None:
    print(state)


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    @dsl.pipeline(name="inner")
    def inner(rate: float, selector: dict[str, str] = {}) -> str:  # noqa: B006
        measured = measure(rate=rate, looks=[1, 2])
        kubernetes.add_node_selector_json(measured, selector)
        deploy(name=f"at {measured.outputs['Output']}", results=measured.outputs["results"])
        return measured.outputs["Output"]

    @dsl.pipeline(name="outer")
    def outer(rate: float, selector: dict[str, str] = {}):  # noqa: B006
        gate = inner(rate=rate, selector=selector)
        clean().after(gate).ignore_upstream_failure()

    path = tmp_path / "outer.yaml"
    compiler.Compiler().compile(outer, str(path))
    return path


OUTPUTS = {
    "measure": {"parameterValues": {"Output": "fast"}},
    "deploy": {"parameterValues": {"place": "here"}},
}


def run(cluster: ObedientCluster, compiled: Path, **arguments: Any) -> Any:
    return Runner(cluster, "ns").run(compiled, arguments, run_id="0123456789")  # type: ignore[arg-type]


def test_the_executor_input_is_what_kfps_own_runner_makes(compiled: Path) -> None:
    cluster = ObedientCluster(OUTPUTS)
    ours = run(cluster, compiled, rate=2.0).executor_input("inner/measure")
    spec = json_format.ParseDict(
        next(yaml.safe_load_all(compiled.read_text())), pipeline_spec_pb2.PipelineSpec()
    )
    theirs = construct_executor_input(
        spec.components["comp-measure"], {"rate": 2.0, "looks": [1, 2]}, "/root", block_input_artifact=True
    )
    mine = json_format.ParseDict(ours, pipeline_spec_pb2.ExecutorInput())
    assert mine.inputs == theirs.inputs
    assert (
        mine.outputs.artifacts["results"].artifacts[0].type
        == theirs.outputs.artifacts["results"].artifacts[0].type
    )
    assert set(mine.outputs.parameters) == set(theirs.outputs.parameters)
    assert json.dumps(ours["inputs"]["parameterValues"]) == '{"times": 3, "looks": [1, 2], "rate": 2}'


def test_command_lines_are_resolved_as_the_launcher_does(compiled: Path) -> None:
    cluster = ObedientCluster(OUTPUTS)
    finished = run(cluster, compiled, rate=2.0)
    assert finished.succeeded
    uri = finished.executor_input("inner/deploy")["inputs"]["artifacts"]["results"]["artifacts"][0]["uri"]
    assert uri.startswith("minio://mlpipeline/v2/artifacts/outer/0123456789/inner/measure/")
    assert cluster.command("inner-deploy") == [
        *("deploy", "--results", uri.replace("minio://", "/minio/"), "--name", "at fast"),
        *("/tmp/kfp/outputs/place", "0123456789", "--named"),
    ]
    assert "{{$" not in " ".join(cluster.command("inner-measure"))


def test_kubernetes_settings_come_from_run_time_parameters(compiled: Path) -> None:
    cluster = ObedientCluster(OUTPUTS)
    run(cluster, compiled, rate=2.0, selector={"pool": "load"})
    assert cluster.pod("inner-measure")["spec"]["nodeSelector"] == {"pool": "load"}
    assert "nodeSelector" not in cluster.pod("inner-deploy")["spec"]


def test_what_follows_a_failure_is_skipped_and_what_cleans_up_still_runs(compiled: Path) -> None:
    cluster = ObedientCluster(OUTPUTS, failing="measure")
    finished = run(cluster, compiled, rate=2.0)
    states = {name: step.state for name, step in finished.steps.items()}
    assert states == {"inner/measure": "FAILED", "inner/deploy": "SKIPPED", "clean": "SUCCEEDED"}
    assert not finished.succeeded
    assert finished.executor_input("clean")["inputs"]["parameterValues"]["state"]["state"] == "FAILED"


def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    @dsl.pipeline(name="conditional")
    def conditional(rate: float):  # type: ignore[no-untyped-def]
        with dsl.If(rate > 1):
            measure(rate=rate, looks=[1])

    compiler.Compiler().compile(conditional, str(tmp_path / "if.yaml"))
    with pytest.raises(NotImplementedError, match="condition"):
        run(ObedientCluster({}), tmp_path / "if.yaml", rate=2.0)
