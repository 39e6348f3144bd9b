"""The servers of the TFX component: live ones, or its own for as long as the load test takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from model_load_test.components.tfx.artifacts import TaskArtifact
from model_load_test.components.tfx.gate import Servers
from model_load_test.components.tfx.settings import Settings


@contextmanager
def served(settings: Settings, model: TaskArtifact, validated: TaskArtifact | None) -> Iterator[Servers]:
    """The servers to load while the block runs.

    Raises:
        InputError: They cannot be had.
    """
    yield Servers(
        candidate=settings.candidate_endpoint,
        baseline=settings.baseline_endpoint,
        kind=settings.server.get("server_kind", "unknown"),
        image=settings.server.get("server_image", ""),
        flags=tuple(settings.server.get("server_flags", ())),
        replicas=int(settings.server.get("replicas", 1)),
    )
