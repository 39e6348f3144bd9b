"""Writes the pipelines as YAML: `kubeflow.yaml` to upload, `vertex.yaml` for Vertex AI.

python -m model_load_test.pipelines.compiling FOLDER
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler

from model_load_test.components.errors import InputError
from model_load_test.pipelines.load_test_gate.pipeline import load_test_gate
from model_load_test.pipelines.load_test_gate.vertex import load_test_gate_on_vertex


def compile_all(folder: Path) -> list[Path]:
    """Compiles every pipeline into `folder` and returns the files written."""
    folder.mkdir(parents=True, exist_ok=True)
    kubeflow = folder / "kubeflow.yaml"
    compiler.Compiler().compile(load_test_gate, str(kubeflow))
    vertex = folder / "vertex.yaml"
    vertex.write_text(vertex_document(load_test_gate_on_vertex))
    return [kubeflow, vertex]


def vertex_document(pipeline: Any) -> str:
    """Compiles `pipeline` for Vertex AI, which reads one YAML document and no Kubernetes settings."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(compiled))
        documents = list(yaml.safe_load_all(compiled.read_text()))
    specs = [document for document in documents if "pipelineInfo" in document]
    if len(specs) != 1:
        raise InputError("pipeline", len(specs), "a compiled pipeline holds exactly one pipeline spec")
    return yaml.safe_dump(specs[0], sort_keys=True)


if __name__ == "__main__":
    for path in compile_all(Path(sys.argv[1])):
        print(path)
