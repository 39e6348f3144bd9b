"""Writes the README of every room and pipeline from the interfaces themselves.

python -m model_load_test.pipelines.describing
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import docstring_parser

from model_load_test import components, pipelines

COMPONENTS: Final = Path(inspect.getfile(components)).parent
PIPELINES: Final = Path(inspect.getfile(pipelines)).parent
_REMARK: Final = "<!-- Written by `make describe` from the interface and its docstring. -->"
_ARTIFACT_PREFIXES: Final = ("system.", "google.")


def rooms() -> dict[str, list[str]]:
    """The components of every room that has some, in the order of the sub-DAG."""
    found: dict[str, list[str]] = {}
    for name in components.__all__:
        module = interface_of(getattr(components, name)).__module__
        room = module.removeprefix(f"{components.__name__}.").split(".")[0]
        found.setdefault(room, []).append(name)
    return found


def interface_of(component: Any) -> Any:
    """The function that a component was written as; kfp keeps a container component's under another name."""
    return getattr(component, "python_func", None) or component.pipeline_func


def readmes() -> dict[Path, str]:
    """The text of every README that is written from an interface, by its path."""
    texts = {COMPONENTS / room / "README.md": room_readme(room, names) for room, names in rooms().items()}
    for name in pipelines.__all__:
        texts[PIPELINES / name / "README.md"] = pipeline_readme(name)
    return texts


def room_readme(room: str, names: Iterable[str]) -> str:
    """The README of a room: its components, what goes in and what comes out, and an example."""
    package = importlib.import_module(f"model_load_test.components.{room}")
    sections = [f"# {room}", _REMARK, inspect.getdoc(package) or ""]
    for name in names:
        component = getattr(components, name)
        sections += _interface(f"`{name}`", component, interface_of(component))
    example = COMPONENTS / room / "example_pipelines.py"
    sections += ["## Example", f"```python\n{_without_docstring(example.read_text())}```"]
    return _joined(sections)


def pipeline_readme(name: str) -> str:
    """The README of a pipeline."""
    pipeline = getattr(pipelines, name)
    title, *rest = _interface(f"`{name}`", pipeline, pipeline.pipeline_func)
    return _joined([title.removeprefix("#"), _REMARK, *rest])


def _interface(title: str, component: Any, function: Any) -> list[str]:
    docstring = docstring_parser.parse(inspect.getdoc(function) or "")
    told = {parameter.arg_name: parameter.description or "" for parameter in docstring.params}
    inputs: Mapping[str, Any] = component.component_spec.inputs or {}
    outputs: Mapping[str, Any] = component.component_spec.outputs or {}
    artifacts = {name: found for name, found in inputs.items() if _is_artifact(found.type)}
    parameters = {name: found for name, found in inputs.items() if name not in artifacts}
    returned = docstring.returns.description or "" if docstring.returns else ""
    sections = [f"## {title}", _prose(docstring)]
    if artifacts:
        rows = [(f"`{name}`", _kind(found.type), told.get(name, "")) for name, found in artifacts.items()]
        sections += ["**Artifacts in**", _table(("artifact", "type", "what it is"), rows)]
    if parameters:
        rows_of_parameters = [
            (f"`{name}`", _kind(found.type), _default(found), told.get(name, ""))
            for name, found in parameters.items()
        ]
        sections += [
            "**Parameters**",
            _table(("parameter", "type", "default", "what it is"), rows_of_parameters),
        ]
    if outputs:
        rows = [(f"`{name}`", _kind(found.type), told.get(name, returned)) for name, found in outputs.items()]
        sections += ["**Outputs**", _table(("output", "type", "what it is"), rows)]
    return sections


def _prose(docstring: docstring_parser.Docstring) -> str:
    return "\n\n".join(filter(None, (docstring.short_description, docstring.long_description)))


def _is_artifact(kind: str) -> bool:
    return kind.startswith(_ARTIFACT_PREFIXES)


def _kind(kind: str) -> str:
    if _is_artifact(kind):
        return kind.split(".", 1)[1].split("@", maxsplit=1)[0]
    return kind.replace("typing.", "").replace("str", "string").lower() if "[" in kind else kind.lower()


def _default(found: Any) -> str:
    return f"`{json.dumps(found.default)}`" if found.optional else "required"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(_cell(value) for value in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _without_docstring(source: str) -> str:
    return source.split('"""', 2)[2].lstrip() if source.startswith('"""') else source


def _joined(sections: Iterable[str]) -> str:
    return "\n\n".join(filter(None, sections)) + "\n"


def main() -> int:
    """Writes every README that is not as it should be."""
    for path, text in readmes().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(COMPONENTS.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
