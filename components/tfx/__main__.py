"""What `ModelLoadTest` runs in its pod.

python -m model_load_test.components.tfx EXECUTOR_INPUT
"""

from __future__ import annotations

import sys

from model_load_test.components.errors import InputError
from model_load_test.components.tfx.artifacts import parse_task
from model_load_test.components.tfx.task import run_task


def main() -> int:
    """Runs the task; 0 when it was answered, 1 when the gate breaks the run, 2 when it cannot be run."""
    try:
        return 0 if run_task(parse_task(sys.argv[1])) else 1
    except InputError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2


if __name__ == "__main__":
    sys.exit(main())
