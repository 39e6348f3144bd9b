"""From the start of a task's container to its first line of work; exit 1 above 1.5 s of CPU time.

python tests/benchmarks/component_start.py [--image localhost/model-load-test/load-test:0.1.0]

Every lightweight component of the compiled pipelines is started by the very command that KFP would
run, with a line put behind the imports of its function that says the time and ends. With --image it is
done in a container of that image, on a read-only root, as in a pod; the container's own start is KFP's
and Kubernetes' part, and not counted.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

WANTED_SECONDS = 1.5
REFERENCE = "(numpy and pyarrow only)"
"""Tells how busy the machine is: 0.25 s on a free core of the machine of README.md."""
RUNS = 3
GOLDEN = Path(__file__).resolve().parent.parent / "compile" / "golden"
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")
DRIVER = """
import json, os, resource, subprocess, sys, time
def used():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
os.environ["PATH"] = os.path.dirname(sys.executable) + ":" + os.environ["PATH"]
for name, command in json.load(sys.stdin).items():
    found = []
    for _ in range(RUNS + 1):
        before, start = used(), time.time_ns()
        done = subprocess.run(command, capture_output=True, text=True)
        said = [line for line in done.stdout.splitlines() if line.startswith("FIRST LINE ")]
        if not said:
            sys.exit(f"{name} did not come to its first line: {done.stderr[-2000:]}")
        found.append((used() - before, (int(said[0].split()[2]) - start) / 1e9))
    print(json.dumps([name, *min(found[1:])]), flush=True)
"""
TELL = "import os as _os, time as _t; print('FIRST LINE', _t.time_ns(), flush=True); _os._exit(0)"
EXAMPLES = {
    "STRING": "x",
    "NUMBER_INTEGER": 1,
    "NUMBER_DOUBLE": 1.0,
    "BOOLEAN": True,
    "LIST": [],
    "STRUCT": {},
}


def commands() -> dict[str, list[str]]:
    """By component the command that KFP would run for it, which ends at the first line of work."""
    found = {REFERENCE: ["python3", "-c", f"import numpy, pyarrow; {TELL}"]}
    for path in sorted(GOLDEN.glob("*.yaml")):
        spec = next(yaml.safe_load_all(path.read_text()))
        for name, component in spec["components"].items():
            executor = spec["deploymentSpec"]["executors"].get(component.get("executorLabel", ""), {})
            container = executor.get("container", {})
            if "--function_to_execute" in container.get("args", []):
                found[name.removeprefix("comp-")] = command_of(component, container)
    return found


def command_of(component: dict[str, Any], container: dict[str, Any]) -> list[str]:
    """The component's command with its inputs made up."""
    *shell, source = container["command"]
    executor_input = json.dumps(made_up_input(component))
    arguments = [executor_input if word == "{{$}}" else word for word in container["args"]]
    return [*shell, told_after_imports(source), *arguments]


def told_after_imports(source: str) -> str:
    """The component's source with `TELL` behind the last import at the top of its function."""
    (function,) = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    last = [node for node in function.body if isinstance(node, (ast.Import, ast.ImportFrom))][-1]
    lines = source.splitlines()
    lines.insert(last.end_lineno or last.lineno, f"    {TELL}")
    return "\n".join(lines) + "\n"


def made_up_input(component: dict[str, Any]) -> dict[str, Any]:
    """An executor input that the component's function can be called with."""
    inputs, outputs = component.get("inputDefinitions", {}), component.get("outputDefinitions", {})
    return {
        "inputs": {
            "parameterValues": {
                name: told.get("defaultValue", EXAMPLES[told["parameterType"]])
                for name, told in inputs.get("parameters", {}).items()
            },
            "artifacts": made_up_artifacts(inputs),
        },
        "outputs": {
            "parameters": {
                name: {"outputFile": f"/tmp/component-start/{name}"} for name in outputs.get("parameters", {})
            },
            "artifacts": made_up_artifacts(outputs),
            "outputFile": "/tmp/component-start/output.json",
        },
    }


def made_up_artifacts(definitions: dict[str, Any]) -> dict[str, Any]:
    """One artifact for each that is declared."""
    return {
        name: {
            "artifacts": [
                {
                    "name": name,
                    "type": told["artifactType"],
                    "uri": f"/tmp/component-start/{name}",
                    "metadata": {},
                }
            ]
        }
        for name, told in definitions.get("artifacts", {}).items()
    }


def main() -> int:
    """Measures every component and prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--image", default="", help="measure in a container of this image")
    image = parser.parse_args().image
    place = ["docker", "run", "--rm", "--interactive", *HARDENED, "--entrypoint", "python3", image]
    python = place if image else [sys.executable]
    done = subprocess.run(
        [*python, "-c", DRIVER.replace("RUNS", str(RUNS))],
        input=json.dumps(commands()),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    measured = [json.loads(line) for line in done.stdout.splitlines()]
    print("| component | CPU s to its first line | wall s | wanted on a free core |")
    print("|---|---|---|---|")
    for name, cpu_seconds, wall_seconds in sorted(measured, key=lambda row: -row[1]):
        print(f"| {name} | {cpu_seconds:.2f} | {wall_seconds:.2f} | {WANTED_SECONDS} |")
    return 0 if max(cpu_seconds for _, cpu_seconds, _ in measured) <= WANTED_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
