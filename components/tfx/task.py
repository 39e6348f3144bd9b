"""The tasks in TFX pipelines: the gate in one, or a blessing for a gate that ran as tasks of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast, get_args

from model_load_test.components.errors import InputError
from model_load_test.components.gate.policy import may_continue
from model_load_test.components.gate.spec import parse_gate_spec
from model_load_test.components.gate.verdict import Outcome, Verdict
from model_load_test.components.tfx.artifacts import Task, TaskArtifact, write_executor_output
from model_load_test.components.tfx.blessing import (
    has_model,
    is_blessed,
    saved_model_within,
    write_blessing,
)
from model_load_test.components.tfx.settings import BREAK_ON_FAILURE, settings_of_parameters

SUMMARY_FILE: Final = "report.md"
_NOT_VALIDATED: Final = "InfraValidator did not bless the model"


def gate_task(task: Task) -> bool:
    """Loads the model's server, judges it, and writes the blessing, the metrics and the report.

    A model that InfraValidator did not bless is not loaded, and not blessed.

    Args:
        task: With the inputs `model`, and optionally `examples` and `infra_blessing`, the outputs
            `blessing`, `metrics` and `report`, and the parameters of `Settings`.

    Returns:
        Whether the run goes on: always, unless it shall break where the model is not blessed.

    Raises:
        InputError: Something given cannot be used.
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
        examples = task.inputs["examples"].path if "examples" in task.inputs else None
        with served(settings, task.inputs["model"], validated) as servers:
            report = run_gate(settings, servers, examples, report_folder)
        blessed, reason = may_continue(report.verdict, policies)
        numbers = metrics(report)
    _answer(task, blessed, reason, validated, {"metrics": numbers, "report": {"reason": reason}})
    return blessed or not task.parameters.get(BREAK_ON_FAILURE)


def bless_task(task: Task) -> bool:
    """Writes the blessing that follows from the verdict of a gate.

    Args:
        task: With the parameters `verdict` and, where they are not the default, `on_inconclusive`
            and `on_no_baseline`; optionally the input `infra_blessing`, which must say yes too; and
            the output `blessing`.

    Returns:
        True: the blessing decides.

    Raises:
        InputError: The verdict or a policy is unknown.
    """
    verdict = task.parameters.get("verdict")
    if verdict not in get_args(Outcome):
        raise InputError("verdict", verdict, f"give one of {', '.join(get_args(Outcome))}")
    policies = parse_gate_spec({name: value for name, value in task.parameters.items() if name != "verdict"})
    answer = Verdict(verdict=cast(Outcome, verdict), reasons=("the gate's report says why",))
    blessed, reason = may_continue(answer, policies)
    validated = task.inputs.get("infra_blessing")
    if validated is not None and not is_blessed(validated.metadata):
        blessed, reason = False, _NOT_VALIDATED
    _answer(task, blessed, reason, validated, {})
    return True


def find_saved_model_task(task: Task) -> bool:
    """Writes the URI of the SavedModel within the input `model` to the output parameter `uri`.

    Returns:
        True.

    Raises:
        InputError: There is none.
    """
    model = task.inputs["model"]
    task.output_parameters["uri"].parent.mkdir(parents=True, exist_ok=True)
    task.output_parameters["uri"].write_text(saved_model_within(model.uri, model.path), encoding="utf-8")
    return True


def _answer(
    task: Task,
    blessed: bool,
    reason: str,
    validated: TaskArtifact | None,
    others: Mapping[str, Mapping[str, Any]],
) -> None:
    print(reason, flush=True)
    stamped: Path | None = None
    if validated is not None and has_model(validated.metadata):
        stamped = validated.path
    blessing = write_blessing(task.outputs["blessing"].path, blessed, reason, stamped)
    write_executor_output(task, {"blessing": blessing, **others})
