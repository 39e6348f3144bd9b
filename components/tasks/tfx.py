"""The bodies of the container tasks in TFX pipelines: the gate, a blessing, validation."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from model_load_test.components.errors import InputError
from model_load_test.components.executor import ExecutorTask, TaskArtifact
from model_load_test.components.gate.policy import may_continue
from model_load_test.components.gate.spec import parse_gate_spec
from model_load_test.components.gate.verdict import Outcome, Verdict
from model_load_test.components.image import load_test_image
from model_load_test.components.tfx.blessing import (
    has_model,
    is_blessed,
    saved_model_uri,
    write_blessing,
)
from model_load_test.components.tfx.settings import BREAK_ON_FAILURE, settings_of_parameters

if TYPE_CHECKING:
    from model_load_test.components.tfx.serving import Run

SUMMARY_FILE: Final = "report.md"

_NOT_VALIDATED: Final = "InfraValidator did not bless the model"
_EXAMPLE_FOLDERS: Final = ("Split-eval", "Split-train")
"""Of TFX's Examples, the ones that no model was trained on first."""


def tfx_gate(task: ExecutorTask) -> None:
    """Loads the model's server, judges it, and writes the blessing, the metrics and the report.

    A model that InfraValidator did not bless is not loaded, and not blessed.

    Raises:
        InputError: Something given cannot be used.
        SystemExit: The model is not blessed, and that shall break the run.
    """
    from model_load_test.components.report.metrics import metrics
    from model_load_test.components.tfx.gate import run_gate
    from model_load_test.components.tfx.serving import served

    settings = settings_of_parameters(task.parameters)
    policies = parse_gate_spec(settings.gate_spec)
    validated = task.inputs.get("infra_blessing")
    report_folder = task.outputs["report"].path
    numbers: Mapping[str, float]
    if validated is not None and not is_blessed(validated.metadata):
        blessed, reason, numbers = False, f"{_NOT_VALIDATED}; it was not loaded", {"gate_passed": 0.0}
        report_folder.mkdir(parents=True, exist_ok=True)
        (report_folder / SUMMARY_FILE).write_text(f"{reason}.\n", encoding="utf-8")
    else:
        model = task.inputs["model"]
        where = saved_model_uri(model, validated) if settings.serving_spec else ""
        with served(settings, where, _session_info(model), _run(task)) as servers:
            report = run_gate(settings, servers, _examples(task), report_folder)
        blessed, reason = may_continue(report.verdict, policies)
        numbers = metrics(report)
    _bless(task, blessed, reason, validated)
    task.set_metadata("metrics", numbers)
    task.set_metadata("report", {"reason": reason})
    if not blessed and task.get(BREAK_ON_FAILURE, 0):
        task.finish()
        sys.exit(1)


def tfx_bless(task: ExecutorTask) -> None:
    """Writes the blessing that follows from the verdict of a gate that ran as tasks of its own.

    Raises:
        InputError: The verdict or a policy is unknown.
    """
    verdict = task.get("verdict", "")
    if verdict not in get_args(Outcome):
        raise InputError("verdict", verdict, f"give one of {', '.join(get_args(Outcome))}")
    policies = parse_gate_spec({name: value for name, value in task.parameters.items() if name != "verdict"})
    answer = Verdict(verdict=cast(Outcome, verdict), reasons=("the gate's report says why",))
    blessed, reason = may_continue(answer, policies)
    validated = task.inputs.get("infra_blessing")
    if validated is not None and not is_blessed(validated.metadata):
        blessed, reason = False, _NOT_VALIDATED
    _bless(task, blessed, reason, validated)


def tfx_find_saved_model(task: ExecutorTask) -> None:
    """Writes the URI of the SavedModel within what TFX's Trainer made.

    Raises:
        InputError: There is none.
    """
    task.set_output("uri", saved_model_uri(task.inputs["model"]))


def tfx_infra_validator(task: ExecutorTask) -> None:
    """InfraValidator's check: loads the model in the server that is to serve it, and sends it requests.

    Raises:
        InputError: The serving or request spec cannot be used, or the server could not be run at all.
    """
    from model_load_test.components.cluster.connection import connect
    from model_load_test.components.serving.bless import validate
    from model_load_test.components.serving.spec import parse_request_spec
    from model_load_test.components.tasks.requests import request_sender
    from model_load_test.components.tfx.serving import deployment_of

    serving, validation = _json(task, "serving_spec"), _json(task, "validation_spec")
    if validation:
        serving["validation_spec"] = validation
    model = task.inputs["model"]
    wanted = deployment_of(serving, {"candidate": saved_model_uri(model)}, _session_info(model), _run(task))
    given = _json(task, "request_spec")
    send = request_sender(parse_request_spec(given), _examples(task)) if given else None
    identity = replace(wanted.identity, task=f"{wanted.identity.task}-validation")
    answer = validate(connect(""), replace(wanted, identity=identity), send)
    _bless(task, answer.blessed, answer.reason, None)


def _run(task: ExecutorTask) -> Run:
    from model_load_test.components.tfx.serving import Run

    return Run(task.get("run_id", ""), task.get("loader_image", "") or load_test_image())


def _bless(task: ExecutorTask, blessed: bool, reason: str, validated: TaskArtifact | None) -> None:
    print(reason, flush=True)
    stamped: Path | None = None
    if validated is not None and has_model(validated.metadata):
        stamped = validated.path
    task.set_metadata("blessing", write_blessing(task.outputs["blessing"].path, blessed, reason, stamped))


def _examples(task: ExecutorTask) -> Path | None:
    given = task.inputs.get("examples")
    if given is None:
        return None
    return next((given.path / name for name in _EXAMPLE_FOLDERS if (given.path / name).is_dir()), given.path)


def _session_info(model: TaskArtifact) -> dict[str, Any]:
    """How KFP's launcher got at the artifact, which it writes beside it."""
    written = model.metadata.get("store_session_info") or "{}"
    info: dict[str, Any] = json.loads(written) if isinstance(written, str) else written
    return info


def _json(task: ExecutorTask, name: str) -> dict[str, Any]:
    text = task.get(name, "")
    try:
        value: dict[str, Any] = json.loads(text or "{}")
    except ValueError as error:
        raise InputError(name, text, f"give JSON ({error})") from None
    return value
