"""Puts the gate, all its tasks, into a pipeline that TFX compiled."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from model_load_test.components.errors import InputError
from model_load_test.components.image import load_test_image
from model_load_test.components.protocols.endpoint import ENDPOINT_SCHEMES, check_endpoints
from model_load_test.pipelines.tfx.compiled import (
    CompiledPipeline,
    check_compiled,
    compile_pipeline,
    nearest,
    read_compiled,
)

BLESSING_INPUT: Final = "infra_blessing"
"""Pusher's input that decides whether it pushes."""

BLESSING_TYPE: Final = {"instanceSchema": "title: tfx.InfraBlessing\ntype: object\n"}
_BLESSING_TITLE: Final = "tfx.InfraBlessing"
_BLESS_TASK: Final = "bless"
_MODEL_TASK: Final = "find-saved-model"
_MODEL_PARAMETER: Final = "candidate_model"
"""Parameter of a gate that deploys the model itself: its URI."""
_INPUTS_SPEC_FLAG: Final = "--json_serialized_inputs_spec_args"


def insert_gate(
    tfx_ir: Path | str | Mapping[str, Any],
    *,
    after: str = "Trainer",
    before: str = "Pusher",
    gate: Any = None,
    name: str = "load-test-gate",
    model_output: str = "model",
    on_failure: str = "refuse",
    **parameters: Any,
) -> CompiledPipeline:
    """Puts the gate between two tasks of a TFX pipeline, and lets the later one go by its blessing.

    The gate's tasks run once `after` has. Its blessing takes the place of the `infra_blessing` of
    `before`; where that came from InfraValidator, both must say yes.

        insert_gate(
            "taxi.yaml", model_name="taxi",
            candidate_endpoint="grpc://taxi-candidate:8500", baseline_endpoint="grpc://taxi:8500",
        ).write("taxi.yaml")

    Args:
        tfx_ir: The pipeline as `KubeflowV2DagRunner` compiled it, schema 2.1: its file, or its spec.
        after: The task that makes the model.
        before: The task that pushes it.
        gate: A pipeline of KFP with the outputs `verdict` and `passed`, or its compiled YAML;
            `load_test_gate` by default.
        name: Of the gate's task; its helpers' begin with it.
        model_output: Output of `after` with the model, for a gate that takes its URI as
            `candidate_model`.
        on_failure: `refuse`: the run goes on, and Pusher does not push; `break`: the run fails.
        **parameters: Of the gate.

    Returns:
        The pipeline with the gate in it; `tfx_ir` stays as it is.

    Raises:
        InputError: The pipeline is of another schema, a task or parameter does not exist, the
            pushing task takes no InfraBlessing, or the endpoints do not fit together.
    """
    pipeline = read_compiled(tfx_ir, "tfx_ir")
    spec, platform = copy.deepcopy(pipeline.spec), copy.deepcopy(pipeline.platform)
    tasks = _tasks_with(spec, after, before)
    sub = _compiled_gate(gate)
    _refuse_taken(spec, tasks, name)
    validated = _blessing_of(spec, tasks, before)
    if on_failure not in ("refuse", "break"):
        raise InputError("on_failure", on_failure, "choose refuse or break")
    given = {"break_on_failure": on_failure == "break", **parameters}
    _check_parameters(sub, given, parameters)

    component = _merge(spec, platform, sub, f"{name}-")
    gate_inputs = {key: _constant(value) for key, value in given.items()}
    upstream = [after]
    if (
        _MODEL_PARAMETER in _parameters_of(sub)
        and not {_MODEL_PARAMETER, "candidate_endpoint"} & given.keys()
    ):
        finder = f"{name}-{_MODEL_TASK}"
        tasks[finder] = _finder_task(spec, tasks, after, model_output, finder)
        gate_inputs[_MODEL_PARAMETER] = _parameter_from(finder, "uri")
        upstream.append(finder)
    tasks[name] = _task(name, component, {"parameters": gate_inputs}, upstream)

    blesser = f"{name}-{_BLESS_TASK}"
    tasks[blesser] = _bless_task(spec, name, blesser, given, validated)
    pusher = tasks[before]
    pusher.setdefault("inputs", {}).setdefault("artifacts", {})[BLESSING_INPUT] = {
        "taskOutputArtifact": {"producerTask": blesser, "outputArtifactKey": "blessing"}
    }
    pusher["dependentTasks"] = sorted({*pusher.get("dependentTasks", ()), blesser})
    grafted = CompiledPipeline(spec=spec, platform=platform)
    check_compiled(grafted)
    return grafted


def _tasks_with(spec: Mapping[str, Any], after: str, before: str) -> dict[str, Any]:
    """The tasks of the DAG that holds both; TFX puts all into an inner one beside an exit handler."""
    dags = [spec["root"]["dag"], *(c["dag"] for c in spec.get("components", {}).values() if "dag" in c)]
    names = [task for dag in dags for task in dag.get("tasks", {})]
    for field, task in (("after", after), ("before", before)):
        if task not in names:
            raise InputError(field, task, f"no such task in the pipeline; {nearest(task, names)}")
    for dag in dags:
        if after in dag["tasks"] and before in dag["tasks"]:
            tasks: dict[str, Any] = dag["tasks"]
            break
    else:
        raise InputError("before", before, f"name a task in the same part of the pipeline as {after!r}")
    if before in _upstream_of(tasks, after) or before == after:
        raise InputError("before", before, f"it runs before {after!r}; name a task that runs later")
    return tasks


def _upstream_of(tasks: Mapping[str, Any], task: str) -> set[str]:
    found: set[str] = set()
    waiting = [task]
    while waiting:
        current = tasks.get(waiting.pop(), {})
        inputs = current.get("inputs", {})
        direct = set(current.get("dependentTasks", ()))
        direct |= {
            source[kind]["producerTask"]
            for side in ("artifacts", "parameters")
            for source in inputs.get(side, {}).values()
            for kind in ("taskOutputArtifact", "taskOutputParameter")
            if kind in source
        }
        waiting += direct - found
        found |= direct
    return found


def _compiled_gate(gate: Any) -> CompiledPipeline:
    if gate is None:
        from model_load_test.pipelines.load_test_gate.pipeline import load_test_gate

        gate = load_test_gate
    if isinstance(gate, CompiledPipeline):
        sub = gate
    elif isinstance(gate, (str, Path)):
        sub = read_compiled(gate, "gate")
    else:
        sub = compile_pipeline(gate)
    outputs = sub.spec["root"].get("outputDefinitions", {}).get("parameters", {})
    if "verdict" not in outputs:
        raise InputError("gate", sub.spec["pipelineInfo"]["name"], "give a pipeline with the output verdict")
    return sub


def _refuse_taken(spec: Mapping[str, Any], tasks: Mapping[str, Any], name: str) -> None:
    if name in tasks or any(component.startswith(f"{name}-") for component in spec.get("components", {})):
        raise InputError("name", name, "the pipeline has a task of this name already; choose another")


def _blessing_of(spec: Mapping[str, Any], tasks: Mapping[str, Any], before: str) -> dict[str, Any] | None:
    """Where the pushing task's blessing came from so far; makes it take one where it took none."""
    component = spec["components"][tasks[before]["componentRef"]["name"]]
    declared = component.setdefault("inputDefinitions", {}).setdefault("artifacts", {})
    if BLESSING_INPUT in declared:
        title = title_of(declared[BLESSING_INPUT]["artifactType"])
        if title != _BLESSING_TITLE:
            raise InputError(
                f"{before}.{BLESSING_INPUT}", title, f"the input must be of type {_BLESSING_TITLE}"
            )
        source = tasks[before].get("inputs", {}).get("artifacts", {}).get(BLESSING_INPUT)
        return None if source is None else _checked_source(spec, tasks, before, source)
    executor = spec["deploymentSpec"]["executors"][component["executorLabel"]].get("container", {})
    if not any("pusher" in word.lower() for word in executor.get("args", [])[:2]):
        raise InputError("before", before, f"the task takes no {BLESSING_INPUT}; name TFX's Pusher")
    declared[BLESSING_INPUT] = {"artifactType": dict(BLESSING_TYPE)}
    args = executor["args"]
    if _INPUTS_SPEC_FLAG in args:
        place = args.index(_INPUTS_SPEC_FLAG) + 1
        told = json.loads(args[place])
        told.setdefault("artifacts", {})[BLESSING_INPUT] = {"artifactType": dict(BLESSING_TYPE)}
        args[place] = json.dumps(told, sort_keys=True)
    return None


def _checked_source(
    spec: Mapping[str, Any], tasks: Mapping[str, Any], before: str, source: Mapping[str, Any]
) -> dict[str, Any]:
    made = source.get("taskOutputArtifact", {})
    producer = tasks.get(made.get("producerTask"))
    if producer is not None:
        outputs = spec["components"][producer["componentRef"]["name"]]["outputDefinitions"]["artifacts"]
        title = title_of(outputs[made["outputArtifactKey"]]["artifactType"])
        if title != _BLESSING_TITLE:
            raise InputError(
                f"{before}.{BLESSING_INPUT}",
                f"{title} of {made['producerTask']}",
                f"wire an output of type {_BLESSING_TITLE} to it",
            )
    return dict(source)


def title_of(artifact_type: Mapping[str, Any]) -> str:
    """The title of an artifact's type, in either of the two forms of the IR."""
    if "instanceSchema" in artifact_type:
        schema = yaml.safe_load(artifact_type["instanceSchema"]) or {}
        return str(schema.get("title", ""))
    return str(artifact_type.get("schemaTitle", ""))


def _parameters_of(sub: CompiledPipeline) -> Mapping[str, Any]:
    declared: Mapping[str, Any] = sub.spec["root"].get("inputDefinitions", {}).get("parameters", {})
    return declared


_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list, tuple),
    "STRUCT": (dict,),
}


def _check_parameters(sub: CompiledPipeline, given: Mapping[str, Any], by_user: Mapping[str, Any]) -> None:
    declared = _parameters_of(sub)
    for key, value in given.items():
        if key not in declared:
            if key not in by_user:
                raise InputError(
                    "on_failure",
                    "refuse",
                    f"this gate always breaks the run (it has no parameter {key}); use break",
                )
            raise InputError(key, value, f"no such parameter of the gate; {nearest(key, declared)}")
        kinds = _KINDS.get(declared[key]["parameterType"], (object,))
        wrong = isinstance(value, bool) and bool not in kinds and object not in kinds
        if wrong or not isinstance(value, kinds):
            raise InputError(
                key, value, f"give a value of type {' or '.join(kind.__name__ for kind in kinds)}"
            )
    missing = [
        key
        for key, definition in declared.items()
        if key not in given and not definition.get("isOptional") and key != _MODEL_PARAMETER
    ]
    if missing:
        raise InputError(missing[0], None, f"the gate needs {', '.join(missing)}; pass it to insert_gate")
    _check_endpoints(sub, given)


def _check_endpoints(sub: CompiledPipeline, given: Mapping[str, Any]) -> None:
    ends = [given.get(f"{arm}_endpoint", "") for arm in ("candidate", "baseline")]
    if _MODEL_PARAMETER in _parameters_of(sub):
        # A gate that deploys takes the names of services too, and finds out itself what they speak.
        ends = [end if end.startswith(ENDPOINT_SCHEMES) else "" for end in ends]
    check_endpoints(*ends)


def _merge(spec: dict[str, Any], platform: dict[str, Any], sub: CompiledPipeline, prefix: str) -> str:
    """Puts a pipeline's components and executors under names of their own; returns its root's."""
    inner = copy.deepcopy(sub.spec)
    root = f"{prefix}{inner['pipelineInfo']['name']}"
    components = {f"{prefix}{key}": value for key, value in inner.get("components", {}).items()}
    components[root] = inner["root"]
    for component in components.values():
        if "executorLabel" in component:
            component["executorLabel"] = prefix + component["executorLabel"]
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["componentRef"]["name"] = prefix + task["componentRef"]["name"]
    spec.setdefault("components", {}).update(components)
    spec["deploymentSpec"]["executors"].update(
        {prefix + key: value for key, value in inner["deploymentSpec"]["executors"].items()}
    )
    for system, settings in sub.platform.get("platforms", {}).items():
        executors = settings.get("deploymentSpec", {}).get("executors", {})
        if executors:
            own = platform.setdefault("platforms", {}).setdefault(system, {}).setdefault("deploymentSpec", {})
            own.setdefault("executors", {}).update(
                {prefix + key: copy.deepcopy(value) for key, value in executors.items()}
            )
    return root


def _bless_task(
    spec: dict[str, Any],
    gate_task: str,
    blesser: str,
    given: Mapping[str, Any],
    validated: Mapping[str, Any] | None,
) -> dict[str, Any]:
    policies = [key for key in ("on_inconclusive", "on_missing_baseline") if key in given]
    definition: dict[str, Any] = {
        "inputDefinitions": {
            "parameters": {key: {"parameterType": "STRING"} for key in ("verdict", *policies)}
        },
        "outputDefinitions": {"artifacts": {"blessing": {"artifactType": dict(BLESSING_TYPE)}}},
    }
    inputs: dict[str, Any] = {
        "parameters": {
            "verdict": _parameter_from(gate_task, "verdict"),
            **{key: _constant(given[key]) for key in policies},
        }
    }
    upstream = [gate_task]
    if validated is not None:
        definition["inputDefinitions"]["artifacts"] = {BLESSING_INPUT: {"artifactType": dict(BLESSING_TYPE)}}
        inputs["artifacts"] = {BLESSING_INPUT: dict(validated)}
        if "taskOutputArtifact" in validated:
            upstream.append(validated["taskOutputArtifact"]["producerTask"])
    _add_component(spec, blesser, definition, "tfx_bless")
    return _task(blesser, blesser, inputs, upstream)


def _finder_task(
    spec: dict[str, Any], tasks: Mapping[str, Any], after: str, model_output: str, finder: str
) -> dict[str, Any]:
    outputs = spec["components"][tasks[after]["componentRef"]["name"]].get("outputDefinitions", {})
    made = outputs.get("artifacts", {})
    if model_output not in made:
        raise InputError("model_output", model_output, f"no output of {after}; {nearest(model_output, made)}")
    definition = {
        "inputDefinitions": {"artifacts": {"model": {"artifactType": made[model_output]["artifactType"]}}},
        "outputDefinitions": {"parameters": {"uri": {"parameterType": "STRING"}}},
    }
    _add_component(spec, finder, definition, "tfx_find_saved_model")
    model = {"taskOutputArtifact": {"producerTask": after, "outputArtifactKey": model_output}}
    return _task(finder, finder, {"artifacts": {"model": model}}, [after])


def _add_component(spec: dict[str, Any], name: str, definition: Mapping[str, Any], task: str) -> None:
    label = f"exec-{name}"
    spec["components"][name] = {"executorLabel": label, **definition}
    spec["deploymentSpec"]["executors"][label] = {
        "container": {
            "image": load_test_image(),
            "command": ["python3", "-u", "-m", "model_load_test.components.tasks", task, "{{$}}"],
        }
    }


def _task(name: str, component: str, inputs: Mapping[str, Any], upstream: Iterable[str]) -> dict[str, Any]:
    return {
        "taskInfo": {"name": name},
        "componentRef": {"name": component},
        "cachingOptions": {},
        "dependentTasks": sorted(set(upstream)),
        "inputs": dict(inputs),
    }


def _constant(value: object) -> dict[str, Any]:
    return {"runtimeValue": {"constant": list(value) if isinstance(value, tuple) else value}}


def _parameter_from(task: str, output: str) -> dict[str, Any]:
    return {"taskOutputParameter": {"producerTask": task, "outputParameterKey": output}}
