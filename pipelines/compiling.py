"""Writes the pipelines as YAML: those named `vertex` for Vertex AI, the others to upload to Kubeflow.

python -m model_load_test.pipelines.compiling FOLDER [--ttl-seconds N] [--deadline-seconds N]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from kfp import compiler, dsl

from model_load_test.components.errors import InputError
from model_load_test.pipelines.capacity_search.pipeline import capacity_search
from model_load_test.pipelines.deploy_and_gate.pipeline import deploy_and_gate
from model_load_test.pipelines.knobs import described_once
from model_load_test.pipelines.load_test_gate.pipeline import load_test_gate
from model_load_test.pipelines.serving_sweep.pipeline import serving_sweep

_FOR_KUBEFLOW: Final = {
    "kubeflow.yaml": load_test_gate,
    "deploy_and_gate.yaml": deploy_and_gate,
    "capacity_search.yaml": capacity_search,
    "serving_sweep.yaml": serving_sweep,
}
_FOR_VERTEX: Final = {
    "vertex.yaml": ("load_test_gate.vertex", "load_test_gate_on_vertex"),
    "vertex_deploy_and_gate.yaml": ("vertex_deploy_and_gate.pipeline", "vertex_deploy_and_gate"),
}
_GCPC: Final = "google_cloud_pipeline_components"
"""What pipelines for Vertex AI are made with, and no others."""
_LINE_CHARACTERS: Final = 10_000
"""A component's source is one text; folded and indented it is a tenth longer."""


def compile_all(folder: Path, ttl_seconds: int = 0, deadline_seconds: int = 0) -> list[Path]:
    """Compiles every pipeline into `folder` and returns the files written.

    Those for Vertex AI need Google's components and are left out without them.

    Args:
        folder: Made where it is missing.
        ttl_seconds: For Kubeflow: how long after its end a run's Workflow, and with it the logs of its
            pods, is kept; 0 leaves that to the cluster.
        deadline_seconds: For Kubeflow: after which a run is ended by force; 0 for never.

    Raises:
        InputError: The installed kfp cannot set these.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, pipeline in _FOR_KUBEFLOW.items():
        written.append(folder / name)
        compiler.Compiler().compile(_configured(pipeline, ttl_seconds, deadline_seconds), str(written[-1]))
        written[-1].write_text(_described_once(written[-1].read_text()))
    return [*written, *_compile_for_vertex(folder)]


def _compile_for_vertex(folder: Path) -> list[Path]:
    if importlib.util.find_spec(_GCPC) is None:
        names = ", ".join(_FOR_VERTEX)
        print(f"not compiled: {names}; pip install 'model-load-test[vertex]' for them", file=sys.stderr)
        return []
    for name, (module, pipeline) in _FOR_VERTEX.items():
        written = getattr(importlib.import_module(f"{__package__}.{module}"), pipeline)
        (folder / name).write_text(vertex_document(written))
    return [folder / name for name in _FOR_VERTEX]


def _configured(pipeline: Any, ttl_seconds: int, deadline_seconds: int) -> Any:
    """The pipeline with KFP's settings for whole runs; they hold for the root only, not for a sub-DAG."""
    wanted = {"ttl_seconds_after_finished": ttl_seconds, "active_deadline_seconds": deadline_seconds}
    wanted = {name: seconds for name, seconds in wanted.items() if seconds}
    if not wanted:
        return pipeline
    try:
        config = dsl.PipelineConfig(**wanted)
    except (TypeError, ValueError) as error:
        raise InputError(
            ", ".join(wanted),
            list(wanted.values()),
            f"give seconds, and compile with kfp 2.17 or newer ({error})",
        ) from None
    decorate = dsl.pipeline(
        name=pipeline.name, description=pipeline.description or "", pipeline_config=config
    )
    return decorate(pipeline.pipeline_func)


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
    spec = merged(_described_at_the_root(specs[0]))
    return yaml.safe_dump(spec, sort_keys=True, width=_LINE_CHARACTERS)


def merged(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with one of all components and executors that are equal.

    kfp writes a pipeline that is used twice down twice, with all that it is made of.
    """
    components, executors = spec["components"], spec["deploymentSpec"]["executors"]
    while True:
        labels = _merge(executors)
        for component in components.values():
            if "executorLabel" in component:
                label = component["executorLabel"]
                component["executorLabel"] = labels.get(label, label)
        names = _merge(components)
        for dag in (spec["root"], *components.values()):
            for task in dag.get("dag", {}).get("tasks", {}).values():
                name = task["componentRef"]["name"]
                task["componentRef"]["name"] = names.get(name, name)
        if not names:
            return spec


def _merge(table: dict[str, Any]) -> dict[str, str]:
    """Keeps the first of entries that are equal; returns which name another one now has."""
    first: dict[str, str] = {}
    renamed = {}
    for name, entry in list(table.items()):
        kept = first.setdefault(json.dumps(entry, sort_keys=True), name)
        if kept != name:
            renamed[name] = kept
            del table[name]
    return renamed


def _described_at_the_root(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with the descriptions of its own inputs alone: Google's components have pages of them."""
    for component in spec["components"].values():
        for side in ("inputDefinitions", "outputDefinitions"):
            for definitions in component.get(side, {}).values():
                for one in definitions.values():
                    one.pop("description", None)
    return spec


def main(arguments: Sequence[str] | None = None) -> int:
    """Compiles into the folder that is named, and prints what was written."""
    parser = argparse.ArgumentParser(prog="python -m model_load_test.pipelines.compiling")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--ttl-seconds", type=int, default=0, help="how long Kubeflow keeps a finished run's pods"
    )
    parser.add_argument("--deadline-seconds", type=int, default=0, help="after which Kubeflow ends a run")
    given = parser.parse_args(arguments)
    try:
        written = compile_all(given.folder, given.ttl_seconds, given.deadline_seconds)
    except InputError as error:
        parser.error(str(error))
    print(*written, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
