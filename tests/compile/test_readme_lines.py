"""What README.md and docs/ show fits the interfaces; the lines that add the gate are executed."""

import ast
import importlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, dsl

from model_load_test import components, pipelines
from model_load_test.pipelines.compiling import vertex_document

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
MOST_LINES = 5


def blocks() -> Iterator[tuple[str, str]]:
    """The Python blocks of all pages, by page and line."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text[: found.start()].count("\n") + 1
            yield f"{page.relative_to(REPOSITORY)}:{line}", found[1]


BLOCKS = dict(blocks())


def ours(name: str) -> Any:
    if name in components.__all__:
        return getattr(components, name)
    return getattr(pipelines, name) if name in pipelines.__all__ else None


@pytest.mark.parametrize("place", BLOCKS)
def test_what_is_imported_is_there(place: str) -> None:
    for node in ast.walk(ast.parse(BLOCKS[place])):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("model_load_test"):
            if "components.tfx" in str(node.module):
                pytest.importorskip("tfx", reason="TFX has environments of its own (`make test-tfx`)")
            module = importlib.import_module(str(node.module))
            assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]


@pytest.mark.parametrize("place", BLOCKS)
def test_every_call_fits_the_interface(place: str) -> None:
    for node in ast.walk(ast.parse(BLOCKS[place])):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        called = ours(node.func.id)
        if called is None:
            continue
        inputs = called.component_spec.inputs or {}
        named = {keyword.arg for keyword in node.keywords if keyword.arg}
        assert not named - set(inputs), f"{node.func.id} has no such inputs"
        left_out = any(keyword.arg is None for keyword in node.keywords) or any(
            isinstance(argument, ast.Constant) and argument.value is ... for argument in node.args
        )
        required = {name for name, told in inputs.items() if not told.optional}
        assert left_out or required <= named, f"{node.func.id} needs {required - named}"
        for keyword in node.keywords:
            if keyword.arg and isinstance(keyword.value, ast.Constant) and keyword.value.value is not ...:
                check_type(keyword.arg, inputs[keyword.arg].type, keyword.value.value)


def check_type(name: str, wanted: str, value: object) -> None:
    kinds = {
        "String": str,
        "Integer": int,
        "Float": (int, float),
        "Boolean": bool,
        "List": list,
        "Dict": dict,
    }
    kind = {spelling.upper(): types for spelling, types in kinds.items()}.get(wanted.upper())
    assert kind is None or isinstance(value, kind), f"{name} is {wanted}, {value!r} is not"


def shown(name: str, page: str = "README.md") -> str:
    """The block that stands behind `<!-- executed by tests/compile: NAME -->`."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    found = re.search(rf"<!-- executed by tests/compile: {name} -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found, f"{page} shows no {name}"
    lines = [line for line in found[1].splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES, f"adding the gate takes {len(lines)} lines"
    return found[1]


@dsl.component(base_image="python:3.13-slim")
def push_model() -> None:
    """Stands for a user's own push."""


def test_the_lines_for_kubeflow_put_the_gate_before_the_push(tmp_path: Path) -> None:
    lines = shown("kubeflow")

    @dsl.pipeline(name="a-users-pipeline")
    def pipeline(candidate: str = "grpc://new:8500"):  # type: ignore[no-untyped-def]
        exec(lines, {"candidate": candidate, "push": push_model()})  # the lines are ours

    compiler.Compiler().compile(pipeline, str(tmp_path / "pipeline.yaml"))
    (spec, _) = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    tasks = spec["root"]["dag"]["tasks"]
    assert tasks["push-model"]["dependentTasks"] == ["load-test-gate"]
    assert "enforce-gate" in spec["components"]["comp-load-test-gate"]["dag"]["tasks"]


def test_the_lines_for_vertex_put_the_gate_before_the_push() -> None:
    pytest.importorskip("google_cloud_pipeline_components", reason="the extra `vertex` is not installed")
    lines = shown("vertex")

    @dsl.pipeline(name="a-users-pipeline")
    def pipeline(model_uri: str = "gs://bucket/model"):  # type: ignore[no-untyped-def]
        exec(lines, {"model_uri": model_uri, "push": push_model()})  # the lines are ours

    (spec,) = yaml.safe_load_all(vertex_document(pipeline))
    tasks = spec["root"]["dag"]["tasks"]
    (gate,) = set(tasks) - {"push-model"}
    assert tasks["push-model"]["dependentTasks"] == [gate]
    assert tasks[gate]["inputs"]["parameters"]["candidate_model"] == {"componentInputParameter": "model_uri"}


def test_the_lines_for_tfx_are_those_that_tests_tfx_executes() -> None:
    text = (REPOSITORY / "docs" / "tfx.md").read_text(encoding="utf-8")
    executed = re.findall(r"<!-- executed by tests/tfx: \w+ -->\n(```python\n.*?```)", text, re.DOTALL)
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert any(block in readme for block in executed)


def test_the_lines_for_a_compiled_tfx_pipeline_put_the_gate_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (REPOSITORY / "docs" / "tfx.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- executed by tests/tfx: graft -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found
    shutil.copy(REPOSITORY / "tests" / "tfx" / "fixtures" / "taxi.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(found[1], {})  # the lines are ours
    assert "load-test-gate-bless" in (tmp_path / "taxi.yaml").read_text()


def test_the_checks_of_this_file_find_something() -> None:
    assert len(BLOCKS) > 10
    with pytest.raises(AssertionError, match="rate_rps is Float"):
        check_type("rate_rps", ours("load_test_gate").component_spec.inputs["rate_rps"].type, "200")
