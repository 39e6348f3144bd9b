"""Runs a compiled pipeline with KFP's local runner in a process of its own and tells what matters of it.

python -m model_load_test.pipelines.demo.local_run PIPELINE.yaml PIPELINE_ROOT ARGUMENTS_JSON
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

_TASK_STARTS: Final = re.compile(r"Executing task \S*'([\w-]+)'")
_TASK_ENDS: Final = re.compile(r"^\d\d:\d\d:\d\d\.\d+ - \w+ - Task ")
_INDENT: Final = "    "
"""Before each line that a component itself printed."""


def run_locally(pipeline: Path, root: Path, arguments: Mapping[str, Any], log: Path) -> bool:
    """Runs a compiled pipeline; everything it says goes to `log`, what matters also to standard output.

    Returns:
        Whether the run succeeded.
    """
    command = [sys.executable, "-m", __name__, str(pipeline), str(root), json.dumps(dict(arguments))]
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        ) as process,
    ):
        assert process.stdout is not None
        for line in what_matters(_kept(process.stdout, file)):
            print(line, flush=True)
    return process.returncode == 0


def _kept(lines: Iterable[str], file: Any) -> Iterator[str]:
    for line in lines:
        file.write(line)
        file.flush()
        yield line


def what_matters(lines: Iterable[str]) -> Iterator[str]:
    """Of the local runner's log: which task runs, and what the components themselves say."""
    in_task, in_json = False, False
    for line in lines:
        started = _TASK_STARTS.search(line)
        if started:
            yield f"-- {started.group(1)}"
        if "Streamed logs:" in line:
            in_task = True
        elif _TASK_ENDS.match(line):
            in_task = False
        elif "Got executor_input:" in line:
            in_json = True
        elif in_json:
            in_json = line.rstrip() != f"{_INDENT}}}"
        elif in_task and line.startswith(_INDENT) and "[KFP Executor" not in line and line.strip():
            yield line.rstrip()


def main() -> None:
    """Runs the pipeline in this process."""
    from kfp import components, local

    pipeline, root, arguments = sys.argv[1:]
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=root, raise_on_error=True)
    try:
        components.load_component_from_file(pipeline)(**json.loads(arguments))
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
