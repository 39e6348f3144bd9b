"""The resource reference: a file that says what a task is about to create, written before it does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from model_load_test.components.cluster.kinds import Kind
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.errors import InputError

SCHEMA_VERSION: Final = 1


class ResourceReference(msgspec.Struct, frozen=True):
    """What a task creates, and where: enough to find it again, use it or remove it."""

    namespace: str
    run: str
    task: str
    objects: tuple[tuple[str, str], ...] = ()
    """Kind and name."""
    schema_version: int = SCHEMA_VERSION

    @property
    def identity(self) -> RunIdentity:
        """The run and the task."""
        return RunIdentity(self.run, self.task)


def write_reference(
    path: Path, namespace: str, identity: RunIdentity, objects: Iterable[tuple[Kind, str]]
) -> ResourceReference:
    """Writes the reference at `path`, whole or not at all, and returns it."""
    reference = ResourceReference(
        namespace, identity.run, identity.task, tuple((kind.kind, name) for kind, name in objects)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_bytes(msgspec.json.encode(reference))
    unfinished.replace(path)
    return reference


def read_reference(path: Path) -> ResourceReference | None:
    """Reads the reference that an earlier try may have left at `path`; None where there is none.

    Raises:
        InputError: What is there is no resource reference.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    return parse_reference(text) if text.strip() else None


def parse_reference(text: str | bytes) -> ResourceReference:
    """Parses a resource reference.

    Raises:
        InputError: It is none, or one of a later version.
    """
    try:
        reference = msgspec.json.decode(text, type=ResourceReference)
    except msgspec.DecodeError as error:
        raise InputError(
            "resources", text, f"give the output `resources` of a deploy task: {error}"
        ) from None
    if reference.schema_version > SCHEMA_VERSION:
        raise InputError(
            "resources",
            reference.schema_version,
            f"this release reads versions up to {SCHEMA_VERSION}; upgrade",
        )
    return reference
