"""Runs one container component.

python -m model_load_test.components.tasks NAME EXECUTOR_INPUT
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Final

from model_load_test.components.cluster.interruption import Interrupted
from model_load_test.components.errors import InputError, print_last
from model_load_test.components.executor import parse_executor_input

TASKS: Final = {
    "plan_serving": "serving",
    "deploy_model_server": "serving",
    "validate_model_server": "serving",
    "require_infra_blessing": "serving",
    "teardown_model_server": "serving",
    "plan_vertex_serving": "vertex",
    "create_vertex_endpoint": "vertex",
    "find_vertex_servers": "vertex",
    "teardown_vertex_servers": "vertex",
    "run_load_job": "load",
    "sweep_serving": "sweep",
    "tfx_gate": "tfx",
    "tfx_bless": "tfx",
    "tfx_find_saved_model": "tfx",
    "tfx_infra_validator": "tfx",
}
"""Container components by the module beside this one that has their bodies."""

BAD_INPUT: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the task; 0 when done, 2 with one clear message when it cannot be, 143 when told to stop."""
    name, executor_input = (sys.argv[1:] if arguments is None else arguments)[:2]
    body = getattr(importlib.import_module(f"model_load_test.components.tasks.{TASKS[name]}"), name)
    try:
        task = parse_executor_input(executor_input)
        body(task)
        task.finish()
    except InputError as error:
        print_last(f"{type(error).__name__}: {error}")
        return BAD_INPUT
    except Interrupted as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
