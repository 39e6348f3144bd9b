"""Deploys candidate and baseline side by side, as equals, and leaves nothing behind when it cannot."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from model_load_test.components.cluster.connection import Cluster
from model_load_test.components.cluster.failures import ClusterError
from model_load_test.components.cluster.interruption import Interrupted, interruptible
from model_load_test.components.cluster.kinds import JOB, Kind, kind_of
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.cluster.ownership import (
    anchor_name,
    create_anchor,
    owned_by,
    workflow_owner,
)
from model_load_test.components.cluster.reference import read_reference, write_reference
from model_load_test.components.errors import InputError
from model_load_test.components.serving.arm import Arm, DeployedArm
from model_load_test.components.serving.backends import BACKENDS, served_name
from model_load_test.components.serving.model_uri import ModelUri, Storage
from model_load_test.components.serving.readiness import ServedArm, wait_until_served
from model_load_test.components.serving.spec import ServingSpec
from model_load_test.components.serving.teardown import teardown

_STOPPED_WAIT_SECONDS: Final = 20.0
_FAILED_WAIT_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Deployment:
    """What is to be deployed."""

    identity: RunIdentity
    spec: ServingSpec
    models: Mapping[Arm, ModelUri]
    loader_image: str
    storage: Storage = field(default_factory=Storage)
    deadline_seconds: int = 7200
    """After which the cluster removes everything by itself."""

    @property
    def arms(self) -> tuple[DeployedArm, ...]:
        """The arms, the candidate first."""
        return tuple(
            DeployedArm(arm, self.identity, model, self.storage, self.loader_image)
            for arm, model in sorted(self.models.items(), reverse=True)
        )


def deploy(
    cluster: Cluster, wanted: Deployment, *, reference_path: Path | None = None
) -> dict[str, ServedArm]:
    """Deploys every arm of `wanted` and waits until each has its model available.

    What is about to be created is written down first, in the file and in the anchor. Called again
    with the same identity (a retried task) it takes up what is there. When it fails, or is told to
    stop, it removes what it made.

    Args:
        cluster: Where.
        wanted: What.
        reference_path: File for the resource reference; none for the anchor's list alone.

    Returns:
        The arms, by name.

    Raises:
        MissingRight: The ServiceAccount lacks a right; nothing was created.
        DidNotComeUp: A server cannot run or load its model; the error has its log and events.
        ClusterError: The cluster refuses an object, or stays away.
        InputError: The arms turned out not to be equals.
        Interrupted: The task was told to stop.
    """
    backend = BACKENDS[wanted.spec.kind]
    refuse_two_names(wanted)
    manifests = planned_manifests(wanted)
    objects = [(kind_of(one), str(one["metadata"]["name"])) for one in manifests]
    cluster = cluster.needing(backend.rights)
    cluster.require_rights()
    started = time.monotonic()
    with interruptible():
        try:
            _write_down(cluster, wanted, objects, reference_path)
            owner = create_anchor(
                cluster,
                wanted.identity,
                deadline_seconds=wanted.deadline_seconds,
                planned=objects,
                image=wanted.loader_image,
                owner=workflow_owner(cluster),
            )
            for manifest in manifests:
                cluster.apply(owned_by(manifest, owner))
            served = wait_until_served(cluster, wanted.arms, wanted.spec)
            refuse_unequal(served)
        except BaseException as error:
            _clean_up(cluster, wanted.identity, error)
            raise
    for arm, one in served.items():
        nodes = ", ".join(one.nodes) or "unknown"
        print(f"{arm}: {one.endpoint}, image {one.image or 'unknown'}, nodes {nodes}")
    print(f"ready after {time.monotonic() - started:.1f} s", flush=True)
    return served


def planned_manifests(wanted: Deployment) -> list[dict[str, Any]]:
    """The manifests of all arms, in the order of creation.

    Raises:
        InputError: There is nothing to deploy, or the kind of server cannot do what is asked.
    """
    if not wanted.models:
        raise InputError("candidate_model", "", "give a model to deploy, or an endpoint to reuse")
    backend = BACKENDS[wanted.spec.kind]
    return [manifest for arm in wanted.arms for manifest in backend.manifests(arm, wanted.spec)]


def refuse_two_names(wanted: Deployment) -> None:
    """Refuses arms whose servers would know the model by two names.

    Raises:
        InputError: One set of requests could not be sent to both.
    """
    names = {served_name(arm, wanted.spec) for arm in wanted.arms}
    if len(names) > 1:
        raise InputError(
            "baseline_model",
            str(wanted.models["baseline"]),
            f"servers of kind {wanted.spec.kind} for {wanted.spec.model_format} name the model after each "
            "arm, and the same requests cannot be sent to both; deploy the candidate alone and compare with "
            "recorded runs, or choose another kind",
        )


def refuse_unequal(served: Mapping[str, ServedArm]) -> None:
    """Refuses arms that do not run the same image, on machines of the same type.

    Raises:
        InputError: They differ: what would be measured is not the models.
    """
    for field_name, remedy in (
        ("image", "a tag has changed its content between two nodes; name the image by its digest"),
        ("node_types", "choose nodes of one type with node_selector"),
    ):
        values = {arm: getattr(one, field_name) for arm, one in served.items() if getattr(one, field_name)}
        if len(set(values.values())) > 1:
            told = "; ".join(f"{arm}: {value}" for arm, value in values.items())
            raise InputError(field_name, told, f"candidate and baseline are no equals; {remedy}")


def _write_down(
    cluster: Cluster, wanted: Deployment, objects: list[tuple[Kind, str]], path: Path | None
) -> None:
    if path is None:
        return
    earlier = read_reference(path)
    if earlier is not None and earlier.identity == wanted.identity:
        print(f"taking up what an earlier try began: {len(earlier.objects)} objects", file=sys.stderr)
    planned = [(JOB, anchor_name(wanted.identity)), *objects]
    write_reference(path, cluster.namespace, wanted.identity, planned)


def _clean_up(cluster: Cluster, identity: RunIdentity, error: BaseException) -> None:
    print(f"removing what was deployed, after: {type(error).__name__}", file=sys.stderr, flush=True)
    # What is told to stop is killed before long; everything has been deleted when we begin to wait.
    wait_seconds = _STOPPED_WAIT_SECONDS if isinstance(error, Interrupted) else _FAILED_WAIT_SECONDS
    try:
        teardown(cluster, identity, deadline_seconds=wait_seconds)
    except ClusterError as failure:
        print(
            f"it could not all be removed ({failure}); the cluster does so at the deadline, or "
            f"`model-load-test cleanup --run {identity.run}` now",
            file=sys.stderr,
            flush=True,
        )
