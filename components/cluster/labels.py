"""Whose an object is: the run and the task, as labels on everything we create."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from model_load_test.components.cluster.names import label_value
from model_load_test.components.errors import InputError

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
PART: Final = "app.kubernetes.io/component"
"""What an object is for: `server`, `generator`, `anchor` ..."""
RUN: Final = "model-load-test/run"
TASK: Final = "model-load-test/task"
ARM: Final = "model-load-test/arm"
"""candidate or baseline, on what belongs to one of them."""
MANAGER: Final = "model-load-test"

ALL_OURS: Final = f"{MANAGED_BY}={MANAGER}"
"""Selects what any run of ours has created."""


@dataclass(frozen=True)
class RunIdentity:
    """One run and, in it, one task or group of tasks that create and remove things together."""

    run: str
    task: str

    def __post_init__(self) -> None:
        for field in ("run", "task"):
            if not getattr(self, field):
                raise InputError(
                    field, "", "give the pipeline run's id and the task's, or any text that is unique"
                )

    def labels(self, part: str, arm: str = "") -> dict[str, str]:
        """The labels of an object of this run."""
        labels = {
            MANAGED_BY: MANAGER,
            PART: part,
            RUN: label_value(self.run),
            TASK: label_value(self.task),
        }
        return {**labels, ARM: arm} if arm else labels

    @property
    def selector(self) -> str:
        """Selects what this run and task have created."""
        return f"{ALL_OURS},{RUN}={label_value(self.run)},{TASK}={label_value(self.task)}"


def run_selector(run: str) -> str:
    """Selects what all tasks of a run have created."""
    return f"{ALL_OURS},{RUN}={label_value(run)}"


def selector_of(labels: Mapping[str, str]) -> str:
    """The selector that asks for exactly these labels."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def with_labels(manifest: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """The manifest with these labels added to its own."""
    metadata = manifest.get("metadata", {})
    return {**manifest, "metadata": {**metadata, "labels": {**metadata.get("labels", {}), **labels}}}
