"""One Locust run: `python -m model_load_test.components.load.locust --protocol=grpc --target=... ...`."""

import importlib
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

_FORK_SERVER = "--fork-server="


def main(arguments: Sequence[str]) -> int:
    """Runs the plan on the command line, by a fork server where one is named and answers.

    Returns:
        0 when it ran to its end, 1 when a worker failed, 2 when something given cannot be used.
    """
    from model_load_test.components.load.locust import forkserver

    if list(arguments) == [forkserver.SERVE_WORD]:
        forkserver.serve(_run_forked, _import_locust)
        return 0
    servers = [word for word in arguments if word.startswith(_FORK_SERVER)]
    words = [word for word in arguments if word not in servers]
    for server in servers:
        code = forkserver.delegate(Path(server[len(_FORK_SERVER) :]), words)
        if code is not None:
            return code
    _import_locust()
    return _run(words)


def _import_locust() -> None:
    for name in [name for name in os.environ if name.startswith("LOCUST_")]:
        del os.environ[name]  # the plan alone says what is run
    importlib.import_module("locust")  # first: what it patches must not have been imported before
    importlib.import_module("grpc.experimental.gevent")
    importlib.import_module("model_load_test.components.load.locust.master")
    importlib.import_module("model_load_test.components.load.locust.users")


def _run_forked(words: Sequence[str]) -> int:
    import gevent

    gevent.reinit()
    random.seed()
    return _run(words)


def _run(words: Sequence[str]) -> int:
    from model_load_test.components.errors import InputError
    from model_load_test.components.load.locust.master import WorkersMissing, lead
    from model_load_test.components.load.locust.plan import parse_plan
    from model_load_test.components.load.locust.worker import run_alone

    try:
        plan = parse_plan(words)
        (lead if plan.workers > 1 else run_alone)(plan)
        code = 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except WorkersMissing as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except BaseException:  # noqa: BLE001  # the process is left by os._exit, which shows none
        importlib.import_module("traceback").print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    # Shutting down in the usual way waits for sockets that a peer may never drain.
    os._exit(main(sys.argv[1:]))
