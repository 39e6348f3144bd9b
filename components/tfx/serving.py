"""The servers of the TFX component: live ones, or its own for as long as the load test takes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from model_load_test.components.cluster.connection import connect
from model_load_test.components.cluster.interruption import interruptible
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.executor import local_path
from model_load_test.components.serving.deploy import Deployment, deploy
from model_load_test.components.serving.model_uri import parse_model_uri, parse_storage
from model_load_test.components.serving.spec import parse_serving_spec
from model_load_test.components.serving.teardown import teardown
from model_load_test.components.tfx.gate import Servers
from model_load_test.components.tfx.settings import Settings

_TASK: Final = "tfx"
"""Names what a run deploys for its TFX tasks; a retried task finds it again."""


@dataclass(frozen=True)
class Run:
    """The pipeline run that deploys."""

    id: str
    loader_image: str
    """Image of the container that loads the model; it has this package."""


@contextmanager
def served(
    settings: Settings, candidate: str, session_info: Mapping[str, Any], run: Run
) -> Iterator[Servers]:
    """The servers to load while the block runs; those started here end with it.

    Args:
        settings: Say which.
        candidate: URI of the SavedModel to serve; empty where a live server has it.
        session_info: How to get at its store.
        run: The pipeline run.

    Raises:
        InputError: They cannot be had.
    """
    if settings.candidate_endpoint:
        yield _live(settings)
        return
    models = {"candidate": candidate}
    if settings.baseline_model:
        models["baseline"] = settings.baseline_model
    if "embedded" in settings.serving_spec:
        with _embedded(settings, models) as servers:
            yield servers
    else:
        with _deployed(settings, models, session_info, run) as servers:
            yield servers


def deployment_of(
    serving_spec: Mapping[str, Any],
    models: Mapping[Any, str],
    session_info: Mapping[str, Any],
    run: Run,
) -> Deployment:
    """What is to be deployed for these models.

    Raises:
        InputError: The spec or a URI cannot be used.
    """
    uris = {arm: parse_model_uri(uri, f"{arm}_model") for arm, uri in models.items()}
    return Deployment(
        identity=RunIdentity(run.id, _TASK),
        spec=parse_serving_spec(serving_spec),
        models=uris,
        loader_image=run.loader_image,
        storage=parse_storage(session_info, uris["candidate"]),
    )


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
def _deployed(
    settings: Settings, models: Mapping[str, str], session_info: Mapping[str, Any], run: Run
) -> Iterator[Servers]:
    wanted = deployment_of(settings.serving_spec, models, session_info, run)
    cluster = connect("")
    with interruptible():
        try:
            arms = deploy(cluster, wanted)
            candidate, baseline = arms["candidate"], arms.get("baseline")
            yield Servers(
                candidate=str(candidate.endpoint),
                baseline=str(baseline.endpoint) if baseline else settings.baseline_endpoint,
                kind=candidate.server_kind,
                image=candidate.image,
                flags=candidate.flags,
                replicas=candidate.replicas,
                own=True,
            )
        finally:
            teardown(cluster, wanted.identity)


@contextmanager
def _embedded(settings: Settings, models: Mapping[str, str]) -> Iterator[Servers]:
    from model_load_test.components.serving.embedded.process import embedded_server

    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="served-models-")))
        endpoints = {"baseline": settings.baseline_endpoint}
        for arm, uri in models.items():
            version = base / arm / "1"
            version.parent.mkdir()
            version.symlink_to(local_path(uri).resolve(), target_is_directory=True)
            options = settings.serving_spec["embedded"]
            server = stack.enter_context(embedded_server(settings.model_name, version.parent, **options))
            endpoints[arm] = str(server.grpc)
        yield Servers(candidate=endpoints["candidate"], baseline=endpoints["baseline"], kind="embedded")
