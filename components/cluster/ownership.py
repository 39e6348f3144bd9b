"""Who owns what we create, so that nothing outlives its run whatever becomes of us.

One *anchor* owns everything that a run's task creates: a Job of zero pods, complete at once, which
the cluster's own TTL controller deletes when the deadline is over, and with it, through owner
references, all the rest. It is made first and lists what is to come, so it is also where a retried
task, a teardown or the broom finds out what there may be. The anchor in turn belongs to the
workflow, where one is found: what a deleted workflow made goes with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from model_load_test.components.cluster.connection import Cluster
from model_load_test.components.cluster.failures import ClusterError, ClusterUnreachable
from model_load_test.components.cluster.kinds import JOB, POD, Kind
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.cluster.names import object_name
from model_load_test.components.cluster.rights import Right, right
from model_load_test.components.errors import InputError

PLANNED: Final = "model-load-test/planned"
"""Annotation of an anchor: the objects that are to be created, as JSON."""

ANCHOR_PART: Final = "anchor"
ANCHOR_RIGHTS: Final[tuple[Right, ...]] = (
    right(JOB, "get", "list", "create", "patch", "delete"),
    right(POD, "get", "list"),
)
MAX_DEADLINE_SECONDS: Final = 7 * 86400

_LEAVING_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.25


def owner_reference(thing: Mapping[str, Any]) -> dict[str, Any]:
    """The reference by which other objects name `thing` as their owner."""
    return {
        "apiVersion": thing["apiVersion"],
        "kind": thing["kind"],
        "name": thing["metadata"]["name"],
        "uid": thing["metadata"]["uid"],
    }


def owned_by(manifest: Mapping[str, Any], *owners: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with these owner references."""
    return {
        **manifest,
        "metadata": {**manifest["metadata"], "ownerReferences": [dict(one) for one in owners]},
    }


def workflow_owner(cluster: Cluster, environment: Mapping[str, str] | None = None) -> dict[str, Any] | None:
    """The owner of the pod this task runs in: the workflow. None where there is no such thing to be seen.

    Not the pod itself: workflows may delete a task's pod as soon as it ends, and what it deployed
    would go with it before the next task could use it.

    Args:
        cluster: Where the pod is.
        environment: Instead of the process's own, for tests.
    """
    known = os.environ if environment is None else environment
    name = known.get("KFP_POD_NAME", "")
    if not name:
        return None
    try:
        pod = cluster.get(POD, name)
    except ClusterUnreachable:
        raise
    except ClusterError:
        return None
    owners = pod["metadata"].get("ownerReferences", []) if pod else []
    return {field: owners[0][field] for field in ("apiVersion", "kind", "name", "uid")} if owners else None


def create_anchor(
    cluster: Cluster,
    identity: RunIdentity,
    *,
    deadline_seconds: int,
    planned: Iterable[tuple[Kind, str]],
    image: str,
    owner: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Makes the anchor of a run's task, or finds the one that an earlier try made.

    Args:
        cluster: Where.
        identity: The run and the task.
        deadline_seconds: After which the anchor and all it owns are deleted.
        planned: What is to be created, by kind and name.
        image: For the pod template; no pod is ever made of it.
        owner: Owner reference of the workflow.

    Returns:
        The owner reference that everything else is to have.

    Raises:
        ClusterError: It is refused.
    """
    if not 0 < deadline_seconds <= MAX_DEADLINE_SECONDS:
        raise InputError("deadline_seconds", deadline_seconds, f"give 1 to {MAX_DEADLINE_SECONDS} seconds")
    name = anchor_name(identity)
    _wait_while_leaving(cluster, name)
    manifest = {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": {
            "name": name,
            "labels": identity.labels(ANCHOR_PART),
            "annotations": {PLANNED: _planned_text(planned)},
        },
        "spec": {
            "completions": 0,
            "parallelism": 0,
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": deadline_seconds,
            "template": {
                "metadata": {"labels": identity.labels(ANCHOR_PART)},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "none", "image": image}]},
            },
        },
    }
    return owner_reference(cluster.apply(owned_by(manifest, owner) if owner else manifest))


def anchor_name(identity: RunIdentity) -> str:
    """The anchor's name."""
    return object_name("mlt-anchor", identity.run, identity.task)


def planned_objects(anchor: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an anchor says was to be created: kind and name."""
    text = anchor["metadata"].get("annotations", {}).get(PLANNED, "[]")
    return [(kind, name) for kind, name in msgspec.json.decode(text, type=list[tuple[str, str]])]


def _planned_text(planned: Iterable[tuple[Kind, str]]) -> str:
    return msgspec.json.encode([(kind.kind, name) for kind, name in planned]).decode()


def _wait_while_leaving(cluster: Cluster, name: str) -> None:
    """An anchor that an earlier try has had deleted must be gone, lest the new objects go with it."""
    deadline = time.monotonic() + _LEAVING_SECONDS
    while (anchor := cluster.get(JOB, name)) and anchor["metadata"].get("deletionTimestamp"):
        if time.monotonic() > deadline:
            raise ClusterError(
                "name", name, f"it is still being deleted after {_LEAVING_SECONDS:.0f} s; see what it owns"
            )
        time.sleep(_POLL_SECONDS)
