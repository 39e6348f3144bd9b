"""A task's contract with KFP's launcher: what `{{$}}` says, and the file that answers it.

The launcher downloads input artifacts to, and uploads output artifacts from, paths that follow from their
URIs; Vertex AI mounts its buckets at the same place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from model_load_test.components.errors import InputError

MOUNTS: Final[dict[str, str]] = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}
"""Where the launcher keeps the objects of a store; KFP's `LocalPathForURI`."""


@dataclass(frozen=True)
class TaskArtifact:
    """One artifact of a task."""

    name: str
    uri: str
    metadata: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """Where it lies in this container."""
        return mounted_path(self.uri)


@dataclass(frozen=True)
class Task:
    """What a task was given, and where its answer belongs."""

    inputs: Mapping[str, TaskArtifact]
    outputs: Mapping[str, TaskArtifact]
    parameters: Mapping[str, Any]
    output_file: Path
    output_parameters: Mapping[str, Path] = field(default_factory=dict)
    """Files that output parameters are written to."""


def mounted_path(uri: str) -> Path:
    """The path in this container of an artifact's URI; a URI without a scheme is a path already.

    Raises:
        InputError: The launcher mounts no such store.
    """
    for scheme, mount in MOUNTS.items():
        if uri.startswith(scheme):
            return Path(mount + uri.removeprefix(scheme))
    if "://" in uri:
        raise InputError("uri", uri, f"keep artifacts in a store of KFP: {', '.join(MOUNTS)}")
    return Path(uri)


def parse_task(executor_input: str) -> Task:
    """Parses the JSON that stands for `{{$}}`.

    Raises:
        InputError: It is no executor input.
    """
    try:
        document = json.loads(executor_input)
        inputs, outputs = document.get("inputs", {}), document["outputs"]
        return Task(
            inputs=_artifacts(inputs),
            outputs=_artifacts(outputs),
            parameters=inputs.get("parameterValues", {}),
            output_file=Path(outputs["outputFile"]),
            output_parameters={
                name: Path(one["outputFile"]) for name, one in outputs.get("parameters", {}).items()
            },
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError("executor input", executor_input, f"let KFP put it in for {{{{$}}}} ({error})") from None


def write_executor_output(task: Task, metadata: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the answer: the metadata of the task's output artifacts, by output.

    Only what the launcher's strict reader knows is written.
    """
    answer = {
        "artifacts": {
            name: {"artifacts": [{"name": artifact.name, "uri": artifact.uri, "metadata": dict(values)}]}
            for name, values in metadata.items()
            for artifact in (task.outputs[name],)
        }
    }
    task.output_file.parent.mkdir(parents=True, exist_ok=True)
    task.output_file.write_text(json.dumps(answer, allow_nan=False), encoding="utf-8")


def _artifacts(side: Mapping[str, Any]) -> dict[str, TaskArtifact]:
    # An optional input that was not given is an empty list, or is missing.
    return {
        name: _artifact(listed["artifacts"][0])
        for name, listed in side.get("artifacts", {}).items()
        if listed.get("artifacts")
    }


def _artifact(values: Mapping[str, Any]) -> TaskArtifact:
    metadata = dict(values.get("metadata", {}))
    # Backends before schema 2.1 keep them typed: {"blessed": {"intValue": "1"}}.
    for typed in (values.get("properties", {}), values.get("customProperties", {})):
        for name, value in typed.items():
            metadata.setdefault(name, _typed_value(value))
    return TaskArtifact(name=values.get("name", ""), uri=values["uri"], metadata=metadata)


def _typed_value(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    return int(content) if kind == "intValue" else content
