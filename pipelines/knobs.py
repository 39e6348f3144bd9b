"""A pipeline's inputs put together from those of others, so that no knob is written down twice."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, get_type_hints


def own_knobs(function: Callable[..., Any], without: Collection[str] = ()) -> tuple[inspect.Parameter, ...]:
    """The parameters of a pipeline function, with their types resolved."""
    types = get_type_hints(function)
    return tuple(
        parameter.replace(annotation=types[name])
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in without
    )


def described(*functions: Callable[..., Any]) -> str:
    """A docstring with the first function's text and the arguments of all; the first to describe one does."""
    summary, _ = _split(inspect.getdoc(functions[0]) or "")
    texts: dict[str, str] = {}
    for function in functions:
        _, arguments = _split(inspect.getdoc(function) or "")
        texts = {**arguments, **texts}
    lines = "\n".join(f"    {name}: {text}" for name, text in texts.items())
    returns = "Returns:\n    The verdict as text, and whether the pipeline may go on."
    return f"{summary}\n\nArgs:\n{lines}\n\n{returns}\n"


def combined(
    function: Callable[..., Any], knobs: Sequence[inspect.Parameter], returns: Any, documentation: str
) -> Callable[..., Any]:
    """The function, with these parameters to whoever asks for its signature; required ones come first."""
    names = [knob.name for knob in knobs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two parts of a pipeline have inputs of one name: {sorted(twice)}")
    if any(
        one.default is inspect.Parameter.empty and before.default is not inspect.Parameter.empty
        for before, one in itertools.pairwise(knobs)
    ):
        raise ValueError("a required input stands behind one with a default")
    function.__signature__ = inspect.Signature(list(knobs), return_annotation=returns)  # type: ignore[attr-defined]  # inspect reads it
    function.__annotations__ = {knob.name: knob.annotation for knob in knobs} | {"return": returns}
    function.__doc__ = documentation
    return function


def checked(pipeline: Any, check: Callable[[Mapping[str, Any]], None]) -> Any:
    """The pipeline, which has its inputs checked where it is put into another one or is run.

    Args:
        pipeline: A pipeline of KFP.
        check: Called with the inputs that are known then. What comes from a task or from an input of
            the other pipeline is known only when that runs, and left out.
    """

    def call(self: Any, *args: Any, **inputs: Any) -> Any:
        check({name: value for name, value in inputs.items() if _is_known(value)})
        return super(kind, self).__call__(*args, **inputs)

    kind = type(pipeline)
    pipeline.__class__ = type(f"Checked{kind.__name__}", (kind,), {"__call__": call})
    return pipeline


def _is_known(value: object) -> bool:
    """Whether it is a constant, neither an output of a task nor a text with one in it."""
    return isinstance(value, (str, bool, int, float, list, dict)) and "{{" not in str(value)


def described_once(spec: dict[str, Any]) -> dict[str, Any]:
    """A compiled pipeline whose inputs are described at the root only, where a user sees them.

    What is handed through three sub-DAGs to a component would be described five times: 55 KB of 190.
    """
    for component in spec["components"].values():
        for side in ("inputDefinitions", "outputDefinitions"):
            for kind in component.get(side, {}).values():
                for described in kind.values():
                    described.pop("description", None)
    return spec


def _split(documentation: str) -> tuple[str, dict[str, str]]:
    """The text before `Args:`, and the description of each argument with its line breaks gone."""
    before, _, rest = documentation.partition("Args:\n")
    section = re.split(r"\n(?=\S)", rest, maxsplit=1)[0]
    arguments: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            name = start[1]
            arguments[name] = start[2]
        elif name and line.strip():
            arguments[name] += f" {line.strip()}"
    return before.strip(), arguments
