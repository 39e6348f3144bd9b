"""The contract between KFP's launcher and a task's container: what `{{$}}` says, and the answer to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from model_load_test.components.errors import InputError

_MOUNTS: Final[Mapping[str, str]] = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}
"""Where the launcher keeps the objects of a store."""


@dataclass(frozen=True)
class TaskArtifact:
    """One artifact of a task."""

    name: str
    uri: str
    path: Path
    """Where it lies in this container."""
    metadata: Mapping[str, Any]


@dataclass
class ExecutorTask:
    """What a task was given, and what it answers."""

    parameters: Mapping[str, Any]
    inputs: Mapping[str, TaskArtifact]
    outputs: Mapping[str, TaskArtifact]
    output_files: Mapping[str, Path]
    """Where the values of output parameters belong."""
    executor_output: Path
    _metadata: dict[str, tuple[Mapping[str, Any], str]] = field(default_factory=dict)

    def get(self, name: str, default: Any) -> Any:
        """A parameter, or the default where it was not given or is empty of its kind.

        Raises:
            InputError: It is of another type than the default.
        """
        value: Any = self.parameters.get(name)
        if value is None:
            return default
        if isinstance(default, bool) != isinstance(value, bool) or not isinstance(value, _types(default)):
            raise InputError(
                name, value, f"give a {type(default).__name__}, as the component's interface says"
            )
        if isinstance(default, int) and not isinstance(default, bool):
            return round(self.parameters[name])  # KFP's structs hold doubles only
        return value

    def set_output(self, name: str, value: str | float | bool | list[Any] | dict[str, Any]) -> None:
        """Writes the value of an output parameter; one that nobody asked for is left out."""
        path = self.output_files.get(name)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")

    def set_metadata(self, name: str, metadata: Mapping[str, Any], uri: str = "") -> None:
        """Keeps the metadata of an output artifact until `finish`.

        Args:
            name: The artifact's, as an output.
            metadata: What is to be known of it.
            uri: Where it is, if not where KFP wants it: it was there before, or is no file.
        """
        self._metadata[name] = (metadata, uri)

    def finish(self) -> None:
        """Writes the answer: the metadata of the output artifacts."""
        answer = {
            "artifacts": {
                name: {"artifacts": [{"name": one.name, "uri": uri or one.uri, "metadata": dict(metadata)}]}
                for name, (metadata, uri) in self._metadata.items()
                if (one := self.outputs.get(name)) is not None
            }
        }
        self.executor_output.parent.mkdir(parents=True, exist_ok=True)
        self.executor_output.write_text(json.dumps(answer, allow_nan=False), encoding="utf-8")


def parse_executor_input(text: str) -> ExecutorTask:
    """Parses the JSON that stands for `{{$}}`.

    Raises:
        InputError: It is no executor input.
    """
    try:
        document = json.loads(text)
        inputs, outputs = document.get("inputs", {}), document["outputs"]
        return ExecutorTask(
            parameters=inputs.get("parameterValues", {}),
            inputs=_artifacts(inputs),
            outputs=_artifacts(outputs),
            output_files={
                name: Path(one["outputFile"]) for name, one in outputs.get("parameters", {}).items()
            },
            executor_output=Path(outputs["outputFile"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError("executor input", text, f"let KFP put it in for {{{{$}}}} ({error})") from None


def local_path(uri: str) -> Path:
    """Where the launcher shows what lies at a URI; a URI without a store is a path already."""
    for scheme, mount in _MOUNTS.items():
        if uri.startswith(scheme):
            return Path(mount + uri.removeprefix(scheme))
    return Path(uri)


def _artifacts(side: Mapping[str, Any]) -> dict[str, TaskArtifact]:
    return {
        name: _artifact(listed["artifacts"][0])
        for name, listed in side.get("artifacts", {}).items()
        if listed.get("artifacts")
    }


def _artifact(values: Mapping[str, Any]) -> TaskArtifact:
    uri = str(values.get("uri", ""))
    path = Path(values.get("customPath") or local_path(uri))
    return TaskArtifact(values.get("name", ""), uri, path, values.get("metadata") or {})


def _types(default: Any) -> tuple[type, ...]:
    return (int, float) if isinstance(default, (int, float)) else (type(default),)
