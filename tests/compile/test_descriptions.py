"""What a user reads beside the code is written from it, and the examples compile."""

import datetime
import importlib
import inspect
from pathlib import Path

import pytest
import yaml
from kfp import compiler
from kfp.dsl.base_component import BaseComponent

from model_load_test.pipelines.describing import COMPONENTS, interface_of, readmes, rooms

ROOMS = rooms()
KEYS = {"name", "stability", "dependencies", "tags", "lastVerified", "links"}


def pipelines_in(module_name: str) -> list[BaseComponent]:
    module = importlib.import_module(module_name)
    return [found for found in vars(module).values() if hasattr(found, "pipeline_func")]


@pytest.mark.parametrize("path", list(readmes()), ids=lambda path: path.parent.name)
def test_the_readme_is_as_its_interface_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == readmes()[path], "run: make describe"


@pytest.mark.parametrize("room", ROOMS)
def test_outputs_are_listed_as_outputs(room: str) -> None:
    text = (COMPONENTS / room / "README.md").read_text(encoding="utf-8")
    assert text.count("**Outputs**") <= len(ROOMS[room])
    inputs = "".join(part.split("**Outputs**")[0] for part in text.split("\n## ")[1:])
    assert "Output[" not in inputs


@pytest.mark.parametrize("room", ROOMS)
def test_the_metadata_holds_what_the_field_asks_for(room: str) -> None:
    found = yaml.safe_load((COMPONENTS / room / "metadata.yaml").read_text())
    assert KEYS - {"links"} <= set(found) <= KEYS
    assert found["name"] == room
    assert found["stability"] in ("experimental", "alpha", "beta", "stable")
    assert found["dependencies"]["kubeflow"] == [{"name": "Pipelines", "version": ">=2.13"}]
    assert isinstance(found["lastVerified"], datetime.datetime)


@pytest.mark.parametrize("room", ROOMS)
def test_the_example_compiles_and_uses_every_component_of_its_room(room: str, tmp_path: Path) -> None:
    examples = pipelines_in(f"model_load_test.components.{room}.example_pipelines")
    assert examples
    compiled = ""
    for number, example in enumerate(examples):
        path = tmp_path / f"{number}.yaml"
        compiler.Compiler().compile(example, str(path))
        compiled += path.read_text()
    for name in ROOMS[room]:
        assert f"comp-{name.replace('_', '-')}" in compiled


def test_every_parameter_and_output_is_described() -> None:
    import docstring_parser

    from model_load_test import components

    for names in ROOMS.values():
        for name in names:
            component = getattr(components, name)
            docstring = docstring_parser.parse(inspect.getdoc(interface_of(component)) or "")
            told = {parameter.arg_name for parameter in docstring.params if parameter.description}
            spec = component.component_spec
            undescribed = set(spec.inputs or {}) - told
            assert not undescribed, f"{name}: {undescribed}"
            artifacts = {o for o, found in (spec.outputs or {}).items() if found.type.startswith("system.")}
            assert artifacts <= told, f"{name}: {artifacts - told}"
            # A container component's output parameters are arguments, and described there.
            assert set(spec.outputs or {}) <= told or docstring.returns, name
