"""The servers of the TFX component: live ones, or its own for as long as the load test takes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from model_load_test.components.tfx.artifacts import TaskArtifact, mounted_path
from model_load_test.components.tfx.blessing import STAMPED_MODEL, has_model, saved_model_within
from model_load_test.components.tfx.gate import Servers
from model_load_test.components.tfx.settings import Settings


@contextmanager
def served(settings: Settings, model: TaskArtifact, validated: TaskArtifact | None) -> Iterator[Servers]:
    """The servers to load while the block runs; those started here end with it.

    Args:
        settings: Say which.
        model: The candidate.
        validated: InfraValidator's blessing, which may carry the model with its warm-up requests.

    Raises:
        InputError: They cannot be had.
    """
    if settings.candidate_endpoint:
        yield _live(settings)
        return
    candidate = _saved_model(model, validated)
    with _embedded(settings, settings.serving_spec["embedded"], candidate) as servers:
        yield servers


def _live(settings: Settings) -> Servers:
    server = settings.server
    return Servers(
        candidate=settings.candidate_endpoint,
        baseline=settings.baseline_endpoint,
        kind=server.get("server_kind", "unknown"),
        image=server.get("server_image", ""),
        flags=tuple(server.get("server_flags", ())),
        replicas=int(server.get("replicas", 1)),
    )


@contextmanager
def _embedded(settings: Settings, options: Mapping[str, Any], candidate: str) -> Iterator[Servers]:
    from model_load_test.components.serving.embedded.process import embedded_server

    models = {"candidate": candidate, "baseline": settings.baseline_model}
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="served-models-")))
        endpoints = {"baseline": settings.baseline_endpoint}
        for arm, uri in models.items():
            if uri:
                version = base / arm / "1"
                version.parent.mkdir()
                version.symlink_to(mounted_path(uri).resolve(), target_is_directory=True)
                server = stack.enter_context(embedded_server(settings.model_name, version.parent, **options))
                endpoints[arm] = str(server.grpc)
        yield Servers(candidate=endpoints["candidate"], baseline=endpoints["baseline"], kind="embedded")


def _saved_model(model: TaskArtifact, validated: TaskArtifact | None) -> str:
    if validated is not None and has_model(validated.metadata):
        return f"{validated.uri}/{STAMPED_MODEL}"
    return saved_model_within(model.uri, model.path)
