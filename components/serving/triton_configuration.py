"""Triton's model configuration: what a serving spec wants of it, put into the model's own config.pbtxt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.parameters import refuse_unknown

CONFIGURATION_FILE: Final = "config.pbtxt"
INSTANCE_KINDS: Final = ("KIND_AUTO", "KIND_CPU", "KIND_GPU", "KIND_MODEL")

_FIELDS: Final = ("max_batch_size", "dynamic_batching", "instance_group")
_BATCHING: Final = ("preferred_batch_size", "max_queue_delay_microseconds", "preserve_ordering")
_GROUP: Final = ("count", "kind", "gpus")
_TOKEN: Final = re.compile(
    r"""\s+ | \#[^\n]*                                # between the words
    | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*'       # text
    | [A-Za-z_][\w./]* | [-+]?[\w.]+ | [][{}<>:,;]    # names, numbers, brackets and separators
    """,
    re.VERBOSE,
)


class TritonConfigurationError(InputError):
    """A model configuration that Triton would not take."""


def configuration_text(wanted: Mapping[str, Any]) -> str:
    """The fields of a ModelConfig as text.

    Args:
        wanted: `max_batch_size`, `dynamic_batching` (`preferred_batch_size`,
            `max_queue_delay_microseconds`, `preserve_ordering`) and `instance_group`, a list of groups
            of `count`, `kind` and `gpus`.

    Raises:
        TritonConfigurationError: A field is unknown or out of range, or they do not fit together.
    """
    _refuse(wanted, _FIELDS, "model_configuration")
    lines = []
    largest = wanted.get("max_batch_size")
    if largest is not None:
        lines.append(f"max_batch_size: {_number('max_batch_size', largest)}")
    if wanted.get("dynamic_batching") is not None:
        lines.append(_dynamic_batching(wanted["dynamic_batching"], largest))
    if wanted.get("instance_group") is not None:
        lines.append(_instance_groups(wanted["instance_group"]))
    return "\n".join(lines) + "\n"


def with_fields(configuration: str, fields: str) -> str:
    """A config.pbtxt in which these fields stand in the place of its own.

    Args:
        configuration: The model's own; may be empty, since Triton completes what is missing.
        fields: As `configuration_text` writes them.

    Raises:
        TritonConfigurationError: The model's own is no text of a ModelConfig.
    """
    replaced = {name for name, _ in _top_level(fields)}
    kept = [text for name, text in _top_level(configuration) if name not in replaced]
    return "\n".join([*kept, fields.strip()]) + "\n"


def _dynamic_batching(wanted: object, largest: object) -> str:
    if not isinstance(wanted, Mapping):
        raise _wrong(
            "dynamic_batching", wanted, 'give an object such as {"max_queue_delay_microseconds": 100}'
        )
    _refuse(wanted, _BATCHING, "model_configuration.dynamic_batching")
    if largest is not None and _number("max_batch_size", largest) < 1:
        raise _wrong(
            "max_batch_size", largest, "dynamic batching needs 1 or more: 0 says the model has no batches"
        )
    inside = []
    sizes = wanted.get("preferred_batch_size") or ()
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        raise _wrong("dynamic_batching.preferred_batch_size", sizes, "give a list of sizes")
    for size in sizes:
        _number("dynamic_batching.preferred_batch_size", size, least=1)
        if largest is not None and size > largest:
            raise _wrong(
                "dynamic_batching.preferred_batch_size",
                list(sizes),
                f"none may exceed max_batch_size, {largest}",
            )
    if sizes:
        inside.append(f"  preferred_batch_size: [ {', '.join(str(int(size)) for size in sizes)} ]")
    if "max_queue_delay_microseconds" in wanted:
        delay = _number(
            "dynamic_batching.max_queue_delay_microseconds", wanted["max_queue_delay_microseconds"]
        )
        inside.append(f"  max_queue_delay_microseconds: {delay}")
    if "preserve_ordering" in wanted:
        if not isinstance(wanted["preserve_ordering"], bool):
            raise _wrong(
                "dynamic_batching.preserve_ordering", wanted["preserve_ordering"], "give true or false"
            )
        inside.append(f"  preserve_ordering: {str(wanted['preserve_ordering']).lower()}")
    return "\n".join(["dynamic_batching {", *inside, "}"])


def _instance_groups(wanted: object) -> str:
    if not isinstance(wanted, Sequence) or isinstance(wanted, str) or not wanted:
        raise _wrong(
            "instance_group", wanted, 'give a list of groups such as [{"count": 2, "kind": "KIND_CPU"}]'
        )
    groups = []
    for group in wanted:
        if not isinstance(group, Mapping):
            raise _wrong("instance_group", wanted, "each group is an object")
        _refuse(group, _GROUP, "model_configuration.instance_group")
        inside = [f"count: {_number('instance_group.count', group.get('count', 1), least=1)}"]
        kind = group.get("kind", "KIND_AUTO")
        if kind not in INSTANCE_KINDS:
            raise _wrong("instance_group.kind", kind, f"choose one of {', '.join(INSTANCE_KINDS)}")
        inside.append(f"kind: {kind}")
        if group.get("gpus"):
            if kind == "KIND_CPU":
                raise _wrong("instance_group.gpus", group["gpus"], "a group of KIND_CPU has none")
            numbers = ", ".join(str(_number("instance_group.gpus", gpu)) for gpu in group["gpus"])
            inside.append(f"gpus: [ {numbers} ]")
        groups.append(f"  {{ {' '.join(inside)} }}")
    return "\n".join(["instance_group [", ",\n".join(groups), "]"])


def _top_level(text: str) -> list[tuple[str, str]]:
    """The fields of a message in text form: the name and the whole text of each."""
    fields: list[tuple[str, str]] = []
    name, start, depth, place = "", 0, 0, 0
    valued = False
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise _wrong(CONFIGURATION_FILE, text[place : place + 40], "it is no text of a ModelConfig")
        word, before, place = token[0], place, token.end()
        if word.isspace() or word.startswith("#"):
            continue
        if depth == 0 and valued and word not in "[{<:,;]}>":
            fields.append((name, text[start:before].strip().rstrip(",;")))
            name, valued = "", False
        if depth == 0 and not name:
            name, start = word, before
            continue
        depth += (word in "[{<") - (word in "]}>")
        if depth < 0:
            raise _wrong(
                CONFIGURATION_FILE, text[before : before + 40], "a bracket is closed that was not opened"
            )
        valued = valued or word not in ":[{<"
    if depth:
        raise _wrong(CONFIGURATION_FILE, text[start : start + 40], "a bracket is not closed")
    if name:
        fields.append((name, text[start:].strip().rstrip(",;")))
    return fields


def _refuse(values: Mapping[str, Any], known: Sequence[str], path: str) -> None:
    refuse_unknown(path, values, known, TritonConfigurationError, prefix=f"{path}.")


def _number(field: str, value: object, *, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < least:
        raise _wrong(field, value, f"give a whole number from {least}")
    return int(value)


def _wrong(field: str, value: object, remedy: str) -> TritonConfigurationError:
    return TritonConfigurationError(f"model_configuration.{field}", value, remedy)
