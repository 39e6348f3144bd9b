"""Writes the pipelines as YAML: `vertex.yaml` for Vertex AI, the others to upload to Kubeflow.

python -m model_load_test.pipelines.compiling FOLDER
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml
from kfp import compiler

from model_load_test.components.errors import InputError
from model_load_test.pipelines.capacity_search.pipeline import capacity_search
from model_load_test.pipelines.deploy_and_gate.pipeline import deploy_and_gate
from model_load_test.pipelines.knobs import described_once
from model_load_test.pipelines.load_test_gate.pipeline import load_test_gate
from model_load_test.pipelines.load_test_gate.vertex import load_test_gate_on_vertex

_FOR_KUBEFLOW: Final = {
    "kubeflow.yaml": load_test_gate,
    "deploy_and_gate.yaml": deploy_and_gate,
    "capacity_search.yaml": capacity_search,
}


def compile_all(folder: Path) -> list[Path]:
    """Compiles every pipeline into `folder` and returns the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, pipeline in _FOR_KUBEFLOW.items():
        written.append(folder / name)
        compiler.Compiler().compile(pipeline, str(written[-1]))
        written[-1].write_text(_described_once(written[-1].read_text()))
    vertex = folder / "vertex.yaml"
    vertex.write_text(vertex_document(load_test_gate_on_vertex))
    return [*written, vertex]


def _described_once(text: str) -> str:
    comments = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    spec, *platforms = yaml.safe_load_all(text)
    return comments + yaml.safe_dump_all([described_once(spec), *platforms], sort_keys=True)


def vertex_document(pipeline: Any) -> str:
    """Compiles `pipeline` for Vertex AI, which reads one YAML document and no Kubernetes settings."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(compiled))
        documents = list(yaml.safe_load_all(compiled.read_text()))
    specs = [document for document in documents if "pipelineInfo" in document]
    if len(specs) != 1:
        raise InputError("pipeline", len(specs), "a compiled pipeline holds exactly one pipeline spec")
    return yaml.safe_dump(_without_requests(specs[0]), sort_keys=True)


def _without_requests(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec without what pods ask for, and what kfp hands to tasks for that alone.

    Vertex AI chooses machines by limits, and knows no input that its component does not declare.
    """
    for executor in spec["deploymentSpec"]["executors"].values():
        executor["container"].pop("resources", None)
    for dag in (spec["root"], *spec["components"].values()):
        for task in dag.get("dag", {}).get("tasks", {}).values():
            declared = spec["components"][task["componentRef"]["name"]].get("inputDefinitions", {})
            given = task.get("inputs", {}).get("parameters", {})
            for name in set(given) - set(declared.get("parameters", {})):
                del given[name]
    return spec


if __name__ == "__main__":
    for path in compile_all(Path(sys.argv[1])):
        print(path)
