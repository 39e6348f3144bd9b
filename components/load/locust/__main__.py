"""One Locust run: `python -m model_load_test.components.load.locust --protocol=grpc --target=... ...`."""

import importlib
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Runs the plan on the command line; 0 when it ran to its end, 2 when something given cannot be used."""
    for name in [name for name in os.environ if name.startswith("LOCUST_")]:
        del os.environ[name]  # the plan alone says what is run
    importlib.import_module("locust")  # first: what it patches must not have been imported before
    from pathlib import Path

    from model_load_test.components.errors import InputError
    from model_load_test.components.load.locust.master import WORKER_WORD, WorkersMissing, lead
    from model_load_test.components.load.locust.plan import parse_plan
    from model_load_test.components.load.locust.worker import run_alone, run_led

    try:
        if arguments[:1] == [WORKER_WORD]:
            run_led(parse_plan(arguments[2:]), Path(arguments[1]))
            return 0
        plan = parse_plan(arguments)
        if plan.workers > 1:
            lead(plan)
        else:
            run_alone(plan)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except WorkersMissing as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Shutting down in the usual way waits for sockets that a peer may never drain.
    os._exit(code)
