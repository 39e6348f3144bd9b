"""A task of a compiled TFX pipeline as a component of the KFP SDK."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from model_load_test.components.errors import InputError
from model_load_test.pipelines.tfx.compiled import (
    SCHEMA_VERSION,
    CompiledPipeline,
    check_compiled,
    nearest,
    read_compiled,
)
from model_load_test.pipelines.tfx.entrypoint import kubeflow_entrypoint

_ANY_ARTIFACT: Final = {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}
"""The SDK knows no types of TFX; the entrypoint gives them back to the executor."""

_OUTPUT_TYPES_VARIABLE: Final = "TFX_OUTPUT_ARTIFACTS"


def tfx_task_as_component(tfx_ir: Path | str | Mapping[str, Any], task: str) -> Any:
    """Takes one task out of a TFX pipeline, to be used in a pipeline of the KFP SDK.

        push = tfx_task_as_component("taxi.yaml", "Pusher")

        @dsl.pipeline
        def train_and_push():
            ...
            push(model=trained.outputs["model"], infra_blessing=blessed.outputs["blessing"])

    Args:
        tfx_ir: The pipeline as `KubeflowV2DagRunner` compiled it, schema 2.1: its file, or its spec.
        task: The task's name.

    Returns:
        A component: its artifacts are inputs and outputs, its execution properties parameters with
        the values of the TFX pipeline as defaults.

    Raises:
        InputError: The pipeline is of another schema, has no such task, or the task runs no executor.
    """
    from kfp import components

    return components.load_component_from_text(single_task(tfx_ir, task).text())


def single_task(tfx_ir: Path | str | Mapping[str, Any], task: str) -> CompiledPipeline:
    """The pipeline of that one task, its inputs and outputs those of the task.

    Raises:
        InputError: As for `tfx_task_as_component`.
    """
    spec = read_compiled(tfx_ir, "tfx_ir").spec
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec["components"].values() if "dag" in c)]
    tasks = {name: found for dag in dags for name, found in dag["tasks"].items()}
    if task not in tasks:
        raise InputError("task", task, f"no such task in the pipeline; {nearest(task, tasks)}")
    name = tasks[task]["componentRef"]["name"]
    component = copy.deepcopy(spec["components"][name])
    executor = copy.deepcopy(spec["deploymentSpec"]["executors"].get(component.get("executorLabel"), {}))
    if "container" not in executor:
        raise InputError("task", task, "name a task with an executor; importers and resolvers are KFP's own")
    artifacts = {
        side: component.get(side, {}).get("artifacts", {})
        for side in ("inputDefinitions", "outputDefinitions")
    }
    container = executor["container"]
    container["command"] = kubeflow_entrypoint()
    container["env"] = [
        *container.get("env", ()),
        {"name": _OUTPUT_TYPES_VARIABLE, "value": json.dumps(artifacts["outputDefinitions"], sort_keys=True)},
    ]
    for declared in artifacts.values():
        for definition in declared.values():
            definition["artifactType"] = dict(_ANY_ARTIFACT)
    parameters = component.get("inputDefinitions", {}).get("parameters", {})
    for key, source in tasks[task].get("inputs", {}).get("parameters", {}).items():
        if "constant" in source.get("runtimeValue", {}):
            parameters[key].update(defaultValue=source["runtimeValue"]["constant"], isOptional=True)
    wired = set(tasks[task].get("inputs", {}).get("artifacts", {}))
    for key, definition in artifacts["inputDefinitions"].items():
        if key not in wired:
            definition["isOptional"] = True
    root = {side: copy.deepcopy(component[side]) for side in artifacts if side in component}
    root["dag"] = {
        "tasks": {
            task: {
                "taskInfo": {"name": task},
                "componentRef": {"name": name},
                "cachingOptions": {},
                "inputs": {
                    "artifacts": {
                        key: {"componentInputArtifact": key} for key in artifacts["inputDefinitions"]
                    },
                    "parameters": {key: {"componentInputParameter": key} for key in parameters},
                },
            }
        },
        "outputs": {
            "artifacts": {
                key: {"artifactSelectors": [{"producerSubtask": task, "outputArtifactKey": key}]}
                for key in artifacts["outputDefinitions"]
            }
        },
    }
    taken = CompiledPipeline(
        spec={
            "pipelineInfo": {"name": task.lower().replace("_", "-")},
            "schemaVersion": SCHEMA_VERSION,
            "sdkVersion": spec["sdkVersion"],
            "components": {name: component},
            "deploymentSpec": {"executors": {component["executorLabel"]: executor}},
            "root": root,
        }
    )
    check_compiled(taken)
    return taken
