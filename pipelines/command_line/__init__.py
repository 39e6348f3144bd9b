"""The `model-load-test` command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from model_load_test.components.errors import InputError
from model_load_test.components.version import __version__

SUBCOMMANDS = {
    "summarize": "what a generator's report or our results table says, told the truth about",
    "compare": "the difference between two reports, with its uncertainty where one is known",
    "judge": "the gate's verdict on a results table, again or with other margins",
    "calibrate": "how much two servers of yours that are identical differ, and what can be seen beyond that",
    "capacity": "the highest load at which objectives hold, with its uncertainty and its limit",
    "sweep": "which serving parameters are best, each configuration measured beside the reference",
    "resources": "what a run's servers were busy with: tables and a page",
    "baseline": "recorded runs: list, show, compare and forget them",
    "cleanup": "remove what runs have left in a Kubernetes namespace or on Vertex AI",
    "demo": "the whole job on this machine: train, serve, load, judge, report, record",
}
BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit code; 2 on bad input, with one clear line.

    Only the module of the subcommand asked for is imported: `summarize` must not wait for scipy.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="model-load-test", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="subcommand", required=True)
    asked_for = next((word for word in words if not word.startswith("-")), "")
    for name, purpose in SUBCOMMANDS.items():
        if name == asked_for:
            module = importlib.import_module(f"model_load_test.pipelines.command_line.{name}")
            module.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=purpose)
    parsed = parser.parse_args(words)
    try:
        return int(module.run(parsed))
    except InputError as error:
        print(f"model-load-test {asked_for}: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        sys.stderr.close()
        return 1


if __name__ == "__main__":
    sys.exit(main())
