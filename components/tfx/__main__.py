"""What runs in the pods: the TFX component, and the tasks that a graft puts around the gate.

python -m model_load_test.components.tfx gate|bless|find-saved-model EXECUTOR_INPUT
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from model_load_test.components.errors import InputError
from model_load_test.components.tfx.artifacts import Task, parse_task
from model_load_test.components.tfx.task import bless_task, find_saved_model_task, gate_task

_TASKS: Final[dict[str, Callable[[Task], bool]]] = {
    "gate": gate_task,
    "bless": bless_task,
    "find-saved-model": find_saved_model_task,
}


def main() -> int:
    """Runs a task; 0 when the run goes on, 1 when the gate breaks it, 2 when the task cannot be done."""
    name, executor_input = sys.argv[1:]
    try:
        return 0 if _TASKS[name](parse_task(executor_input)) else 1
    except InputError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2


if __name__ == "__main__":
    sys.exit(main())
