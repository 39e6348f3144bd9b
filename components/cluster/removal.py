"""Removes what was created for a run, and sees it gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from model_load_test.components.cluster.connection import Cluster
from model_load_test.components.cluster.failures import ClusterError, MissingRight
from model_load_test.components.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    INFERENCE_SERVICE,
    JOB,
    POD,
    SECRET,
    SELDON_DEPLOYMENT,
    SELDON_MODEL,
    SERVICE,
    VOLUME_CLAIM,
    Kind,
)
from model_load_test.components.cluster.labels import PART, RUN, TASK
from model_load_test.components.cluster.ownership import ANCHOR_PART, planned_objects

REMOVABLE: Final[tuple[Kind, ...]] = (
    INFERENCE_SERVICE,
    SELDON_DEPLOYMENT,
    SELDON_MODEL,
    DEPLOYMENT,
    POD,
    SERVICE,
    CONFIG_MAP,
    SECRET,
    VOLUME_CLAIM,
    JOB,
)
"""In the order of removal: what others own last, so that an interrupted removal can be taken up again."""

_POLL_SECONDS: Final = 0.25


@dataclass(frozen=True)
class Found:
    """An object of ours."""

    kind: Kind
    name: str
    run: str
    task: str
    created: datetime
    controlled: bool = False
    """A controller made it, and will remove it when its own object is gone."""

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.name} of run {self.run}"


@dataclass(frozen=True)
class Removal:
    """What a removal did."""

    removed: tuple[Found, ...]
    unseen: tuple[Kind, ...] = ()
    """Kinds that we may not list; whether there are objects of them is unknown."""


def find_objects(
    cluster: Cluster, selector: str, kinds: Sequence[Kind] = REMOVABLE
) -> tuple[list[Found], list[Kind]]:
    """The objects a selector matches, and the kinds that may not be listed."""
    found: list[Found] = []
    unseen: list[Kind] = []
    for kind in kinds:
        try:
            found += [_found(kind, one) for one in cluster.list(kind, selector)]
        except MissingRight:
            unseen.append(kind)
    return found, unseen


def remove(
    cluster: Cluster,
    selector: str,
    *,
    kinds: Sequence[Kind] = REMOVABLE,
    keep: Callable[[Found], bool] = lambda _: False,
    deadline_seconds: float = 120.0,
    dry_run: bool = False,
) -> Removal:
    """Deletes what a selector matches, and returns when it is gone.

    Args:
        cluster: Where.
        selector: Of the objects; it must name us, never everything.
        kinds: What to look for.
        keep: Says of an object that it stays.
        deadline_seconds: How long to wait for the objects to be gone.
        dry_run: Only say what would go.

    Raises:
        MissingRight: Objects that were found may not be deleted.
        ClusterError: Some are still there at the deadline.
    """
    found, unseen = find_objects(cluster, selector, kinds)
    leaving = [one for one in found if not keep(one)]
    if dry_run or not leaving:
        return Removal(tuple(leaving), tuple(unseen))
    for one in leaving:
        # A pod deleted before its ReplicaSet is gone would be replaced.
        if not one.controlled:
            cluster.delete(one.kind, one.name)
    _wait_until_gone(cluster, selector, leaving, kinds, keep, deadline_seconds)
    return Removal(tuple(leaving), tuple(unseen))


def kinds_planned(cluster: Cluster, selector: str, base: Sequence[Kind]) -> tuple[Kind, ...]:
    """`base` and the kinds that the anchors a selector matches say were to be created."""
    planned = {
        kind
        for job in cluster.list(JOB, f"{selector},{PART}={ANCHOR_PART}")
        for kind, _ in planned_objects(job)
    }
    return tuple(kind for kind in REMOVABLE if kind in base or kind.kind in planned)


def older_than(seconds: float, now: datetime | None = None) -> Callable[[Found], bool]:
    """Says of an object whether it was created less than `seconds` ago, and so is to be kept."""
    moment = now or datetime.now(timezone.utc)
    return lambda one: (moment - one.created).total_seconds() < seconds


def _wait_until_gone(
    cluster: Cluster,
    selector: str,
    leaving: Iterable[Found],
    kinds: Sequence[Kind],
    keep: Callable[[Found], bool],
    deadline_seconds: float,
) -> None:
    asked_for = {kind: [one for one in leaving if one.kind == kind] for kind in kinds}
    waited_for = [kind for kind in kinds if asked_for[kind] or kind is POD]
    deadline = time.monotonic() + deadline_seconds
    while True:
        there, _ = find_objects(cluster, selector, waited_for)
        left = [one for one in there if not keep(one)]
        if not left:
            return
        if time.monotonic() > deadline:
            names = ", ".join(str(one) for one in left[:5])
            raise ClusterError(
                "selector",
                selector,
                f"after {deadline_seconds:.0f} s there are still {len(left)} objects: {names}; "
                "see their finalizers and nodes",
            )
        waited_for = [kind for kind in waited_for if any(one.kind == kind for one in left)]
        time.sleep(_POLL_SECONDS)


def _found(kind: Kind, thing: dict[str, Any]) -> Found:
    labels = thing["metadata"].get("labels", {})
    created = datetime.fromisoformat(thing["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
    controlled = any(owner.get("controller") for owner in thing["metadata"].get("ownerReferences", []))
    return Found(
        kind, thing["metadata"]["name"], labels.get(RUN, ""), labels.get(TASK, ""), created, controlled
    )
