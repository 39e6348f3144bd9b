"""The TFX component's task: load the model's server, judge it, bless the model or do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from model_load_test.components.gate.policy import may_continue
from model_load_test.components.gate.spec import parse_gate_spec
from model_load_test.components.report.metrics import metrics
from model_load_test.components.tfx.artifacts import Task, TaskArtifact, write_executor_output
from model_load_test.components.tfx.blessing import has_model, is_blessed, write_blessing
from model_load_test.components.tfx.gate import run_gate
from model_load_test.components.tfx.serving import served
from model_load_test.components.tfx.settings import settings_of_parameters

SUMMARY_FILE: Final = "report.md"
BREAK_ON_FAILURE: Final = "break_on_failure"
"""Parameter of the task beside those of `Settings`: 1 ends the task with an error when it does not bless."""


def run_task(task: Task) -> bool:
    """Runs the gate and writes the blessing, the metrics and the report.

    A model that InfraValidator did not bless is not loaded, and not blessed.

    Args:
        task: With the inputs `model`, and optionally `examples` and `infra_blessing`, the outputs
            `blessing`, `metrics` and `report`, and the parameters of `Settings`.

    Returns:
        Whether the run goes on: always, unless it shall break where the model is not blessed.

    Raises:
        InputError: Something given cannot be used.
    """
    settings = settings_of_parameters(task.parameters)
    policies = parse_gate_spec(settings.gate_spec)
    validated = task.inputs.get("infra_blessing")
    report_folder = task.outputs["report"].path
    if validated is not None and not is_blessed(validated.metadata):
        blessed, reason = False, f"FAIL: InfraValidator did not bless the model ({validated.uri}); it was not loaded"
        numbers: Mapping[str, float] = {"gate_passed": 0.0}
        report_folder.mkdir(parents=True, exist_ok=True)
        (report_folder / SUMMARY_FILE).write_text(f"# {reason}\n", encoding="utf-8")
    else:
        examples = task.inputs["examples"].path if "examples" in task.inputs else None
        with served(settings, task.inputs["model"], validated) as servers:
            report = run_gate(settings, servers, examples, report_folder)
        blessed, reason = may_continue(report.verdict, policies)
        numbers = metrics(report)
    print(reason, flush=True)
    write_executor_output(
        task,
        {
            "blessing": write_blessing(
                task.outputs["blessing"].path, blessed, reason, _stamped_folder(validated)
            ),
            "metrics": numbers,
            "report": {"reason": reason},
        },
    )
    return blessed or not task.parameters.get(BREAK_ON_FAILURE)


def _stamped_folder(validated: TaskArtifact | None) -> Path | None:
    """The blessing that carries a model with its warm-up requests, which Pusher may want to push."""
    return validated.path if validated is not None and has_model(validated.metadata) else None
