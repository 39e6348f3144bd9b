"""What KFP's driver and launcher do with a compiled pipeline, on one machine.

Written from their source (kubeflow/pipelines, backend/src/v2/driver and component/launcher_v2.go): upstream
artifacts come without a type, artifacts are downloaded to and uploaded from the path of their URI, the
executor's answer is read strictly, and the store's own keys are added to an artifact's metadata. An image is
a folder of programs here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

MOUNT_OF_SCHEME = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}
UNTYPED = {"instanceSchema": ""}
"""metadata/client.go: "TODO figure out how to get schema"."""


@dataclass(frozen=True)
class Image:
    """Where a container's programs are found, and what else its environment holds."""

    programs: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class TaskRun:
    """One task as it went."""

    state: str
    log: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)


class Backend:
    """Runs pipelines with an object store of its own."""

    def __init__(self, folder: Path, root: str, images: Mapping[str, Image]) -> None:
        """`root` is the pipeline root, such as minio://bucket/root; `images` go by the beginning of names."""
        self.store = folder / "store"
        self.scratch = folder / "scratch"
        self.root = root
        self.images = images
        self.tasks: dict[str, TaskRun] = {}
        """Every task that was reached, by its path: `gate/run-load-test`."""

    def run(self, spec: Mapping[str, Any], parameters: Mapping[str, Any] | None = None) -> bool:
        """Runs a pipeline; whether it succeeded."""
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        assert spec["schemaVersion"] == "2.1.0", "KFP only supports schema version 2.1.0"
        self.spec = spec
        self.run_uuid = str(uuid.uuid4())
        self.tasks.clear()
        return self._dag("", spec["root"], dict(parameters or {}), {}).state == "SUCCEEDED"

    def account(self) -> str:
        """How each task ended, with the end of its log where it failed; for the message of a test."""
        return "\n".join(
            f"{name}: {task.state} {task.log[-3000:] if task.state == 'FAILED' else ''}"
            for name, task in self.tasks.items()
        )

    def put(self, uri: str, source: Path) -> None:
        """Puts a folder into the object store."""
        shutil.copytree(source, self._stored(uri))

    def stored(self, uri: str) -> Path:
        """Where an artifact lies in the object store."""
        return self._stored(uri)

    def _dag(
        self, path: str, component: Mapping[str, Any], parameters: dict[str, Any], artifacts: dict[str, Any]
    ) -> TaskRun:
        parameters = {**defaults(component), **parameters}
        tasks, done = component["dag"]["tasks"], dict[str, TaskRun]()
        while len(done) < len(tasks):
            ready = [name for name in tasks if name not in done and upstream(tasks[name]) <= set(done)]
            assert ready, (
                f"the tasks {sorted(set(tasks) - set(done))} wait for each other or for none of this DAG"
            )
            for name in ready:
                assert "condition" not in tasks[name].get("triggerPolicy", {}), "conditions are not done here"
                always = "strategy" in tasks[name].get("triggerPolicy", {})
                failed = any(done[other].state != "SUCCEEDED" for other in upstream(tasks[name]))
                if failed and not always:
                    done[name] = TaskRun("SKIPPED")
                else:
                    done[name] = self._task(f"{path}{name}", tasks[name], done, parameters, artifacts)
                self.tasks[f"{path}{name}"] = done[name]
        outcome = TaskRun("SUCCEEDED" if all(run.state == "SUCCEEDED" for run in done.values()) else "FAILED")
        outputs = component["dag"].get("outputs", {})
        if outcome.state == "SUCCEEDED":
            for name, chosen in outputs.get("parameters", {}).items():
                one = chosen["valueFromParameter"]
                outcome.parameters[name] = done[one["producerSubtask"]].parameters[one["outputParameterKey"]]
            for name, chosen in outputs.get("artifacts", {}).items():
                (one,) = chosen["artifactSelectors"]
                outcome.artifacts[name] = done[one["producerSubtask"]].artifacts[one["outputArtifactKey"]]
        return outcome

    def _task(
        self,
        path: str,
        task: Mapping[str, Any],
        done: Mapping[str, TaskRun],
        parameters: Mapping[str, Any],
        artifacts: Mapping[str, Any],
    ) -> TaskRun:
        component = self.spec["components"][task["componentRef"]["name"]]
        own_parameters: dict[str, Any] = {}
        for name, source in task.get("inputs", {}).get("parameters", {}).items():
            if "runtimeValue" in source:
                own_parameters[name] = self._constant(source["runtimeValue"]["constant"])
            elif "componentInputParameter" in source:
                own_parameters[name] = parameters[source["componentInputParameter"]]
            else:
                made = source["taskOutputParameter"]
                own_parameters[name] = done[made["producerTask"]].parameters[made["outputParameterKey"]]
        own_artifacts: dict[str, Any] = {}
        for name, source in task.get("inputs", {}).get("artifacts", {}).items():
            if "componentInputArtifact" in source:
                if source["componentInputArtifact"] in artifacts:
                    own_artifacts[name] = artifacts[source["componentInputArtifact"]]
            else:
                made = source["taskOutputArtifact"]
                own_artifacts[name] = done[made["producerTask"]].artifacts[made["outputArtifactKey"]]
        if "dag" in component:
            return self._dag(f"{path}/", component, own_parameters, own_artifacts)
        executor = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]
        if "importer" in executor:
            return self._importer(component, executor["importer"], own_parameters)
        return self._container(path, component, executor["container"], own_parameters, own_artifacts)

    def _constant(self, value: Any) -> Any:
        return value.replace("{{$.pipeline_job_uuid}}", self.run_uuid) if isinstance(value, str) else value

    def _importer(
        self, component: Mapping[str, Any], importer: Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> TaskRun:
        (output,) = component["outputDefinitions"]["artifacts"]
        where = importer["artifactUri"]
        artifact = {
            "name": "1",
            "uri": where["constant"] if "constant" in where else parameters[where["runtimeParameter"]],
            "metadata": dict(importer.get("metadata", {})),
        }
        return TaskRun("SUCCEEDED", artifacts={output: artifact})

    def _container(
        self,
        path: str,
        component: Mapping[str, Any],
        container: Mapping[str, Any],
        parameters: Mapping[str, Any],
        artifacts: Mapping[str, Any],
    ) -> TaskRun:
        pod = self.scratch / path.replace("/", "_") / uuid.uuid4().hex[:8]
        pod.mkdir(parents=True)
        declared = component.get("outputDefinitions", {})
        outputs = {
            name: {
                "name": f"{path}-{name}",
                "type": definition["artifactType"],
                "uri": f"{self.root}/{self.run_uuid}/{path}/{name}",
                "metadata": dict(definition.get("metadata", {})),
            }
            for name, definition in declared.get("artifacts", {}).items()
        }
        executor_input = {
            "inputs": {
                "parameterValues": as_go_writes({**defaults(component), **parameters}),
                "artifacts": {
                    name: {"artifacts": [{**artifact, "type": UNTYPED}]}
                    for name, artifact in artifacts.items()
                },
            },
            "outputs": {
                "parameters": {
                    name: {"outputFile": str(pod / "outputs" / name)}
                    for name in declared.get("parameters", {})
                },
                "artifacts": {name: {"artifacts": [artifact]} for name, artifact in outputs.items()},
                "outputFile": str(pod / "kfp_outputs" / "output_metadata.json"),
            },
        }
        (pod / "outputs").mkdir()
        for artifact in artifacts.values():
            self._download(artifact["uri"])
        for artifact in outputs.values():
            mounted(artifact["uri"]).parent.mkdir(parents=True, exist_ok=True)
        command = [
            filled(word, executor_input)
            for word in (*container.get("command", ()), *container.get("args", ()))
        ]
        image = next(image for start, image in self.images.items() if container["image"].startswith(start))
        ended = subprocess.run(
            command,
            cwd=pod,
            env={
                **{key: os.environ[key] for key in ("HOME", "LANG") if key in os.environ},
                "PATH": f"{image.programs}:{os.environ['PATH']}",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                **image.environment,
                **{pair["name"]: pair["value"] for pair in container.get("env", ())},
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if ended.returncode:
            self._forget(artifacts, outputs)
            return TaskRun("FAILED", log=ended.stdout)
        answer = self._answer(pod / "kfp_outputs" / "output_metadata.json")
        run = TaskRun("SUCCEEDED", log=ended.stdout)
        for name in declared.get("parameters", {}):
            written = pod / "outputs" / name
            run.parameters[name] = answer.get("parameterValues", {}).get(
                name, written.read_text() if written.exists() else None
            )
        for name, artifact in outputs.items():
            told = answer.get("artifacts", {}).get(name, {}).get("artifacts", [{}])[0]
            uri = told.get("uri") or artifact["uri"]
            metadata = {**artifact["metadata"], **told.get("metadata", {})}
            metadata.setdefault("display_name", name)
            metadata.setdefault("store_session_info", "{}")
            self._upload(uri)
            run.artifacts[name] = {"name": artifact["name"], "uri": uri, "metadata": metadata}
        self._forget(artifacts, outputs)
        return run

    @staticmethod
    def _answer(path: Path) -> dict[str, Any]:
        if not path.exists():
            return {}
        # protojson refuses unknown fields, and so does this.
        message = json_format.Parse(path.read_text(), pipeline_spec_pb2.ExecutorOutput())
        answer: dict[str, Any] = json_format.MessageToDict(message)
        return answer

    def _stored(self, uri: str) -> Path:
        return self.store / uri.replace("://", "/")

    def _download(self, uri: str) -> None:
        stored, path = self._stored(uri), mounted(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        if stored.is_dir():
            shutil.copytree(stored, path, dirs_exist_ok=True)
        elif stored.exists():
            shutil.copyfile(stored, path)

    def _upload(self, uri: str) -> None:
        stored, path = self._stored(uri), mounted(uri)
        stored.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, stored, dirs_exist_ok=True)
        elif path.exists():
            shutil.copyfile(path, stored)

    def _forget(self, *sides: Mapping[str, Any]) -> None:
        """A pod's own files end with it: the next one has only what was uploaded."""
        for side in sides:
            for artifact in side.values():
                path = mounted(artifact["uri"])
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)


def mounted(uri: str) -> Path:
    """launcher_v2.go, LocalPathForURI."""
    for scheme, mount in MOUNT_OF_SCHEME.items():
        if uri.startswith(scheme):
            return Path(mount + uri[len(scheme) :])
    raise ValueError(f"unsupported storage scheme: {uri}")


def upstream(task: Mapping[str, Any]) -> set[str]:
    """The tasks that one waits for."""
    sources = [
        source
        for side in ("parameters", "artifacts")
        for source in task.get("inputs", {}).get(side, {}).values()
    ]
    return set(task.get("dependentTasks", ())) | {
        source[kind]["producerTask"]
        for source in sources
        for kind in ("taskOutputParameter", "taskOutputArtifact")
        if kind in source
    }


def defaults(component: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a component gives itself."""
    declared = component.get("inputDefinitions", {}).get("parameters", {})
    return {name: one["defaultValue"] for name, one in declared.items() if "defaultValue" in one}


def as_go_writes(value: Any) -> Any:
    """A protobuf struct has doubles only, and protojson writes 200.0 as 200."""
    if isinstance(value, dict):
        return {name: as_go_writes(one) for name, one in value.items()}
    if isinstance(value, list):
        return [as_go_writes(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def filled(word: str, executor_input: Mapping[str, Any]) -> str:
    """launcher_v2.go, getPlaceholders."""
    word = word.replace("{{$}}", json.dumps(executor_input))
    known: dict[str, str] = {}
    for name, value in executor_input["inputs"]["parameterValues"].items():
        known[f"inputs.parameters['{name}']"] = value if isinstance(value, str) else json.dumps(value)
    for name, one in executor_input["outputs"]["parameters"].items():
        known[f"outputs.parameters['{name}'].output_file"] = one["outputFile"]
    for side in ("inputs", "outputs"):
        for name, listed in executor_input[side]["artifacts"].items():
            uri = listed["artifacts"][0]["uri"]
            known[f"{side}.artifacts['{name}'].uri"] = uri
            known[f"{side}.artifacts['{name}'].path"] = str(mounted(uri))
    for place, text in known.items():
        word = word.replace("{{$." + place + "}}", text)
    return word
