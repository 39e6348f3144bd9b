"""Removes what a run has deployed, and never anything else."""

from __future__ import annotations

import time

from model_load_test.components.cluster.connection import Cluster
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.cluster.removal import Removal, kinds_planned, remove
from model_load_test.components.serving.backends import BASE_KINDS


def teardown(cluster: Cluster, identity: RunIdentity, *, deadline_seconds: float = 120.0) -> Removal:
    """Removes everything that the run's task has deployed, and returns when it is gone.

    What is reused bears none of our labels, and so cannot be among it. Without anything to remove
    nothing happens: a run that failed before it deployed is torn down like any other.

    Args:
        cluster: Where.
        identity: The run, and the task that deployed.
        deadline_seconds: How long to wait for the objects to be gone.

    Raises:
        ClusterError: Some are still there at the deadline, or the API server stays away.
    """
    started = time.monotonic()
    kinds = kinds_planned(cluster, identity.selector, BASE_KINDS)
    removal = remove(cluster, identity.selector, kinds=kinds, deadline_seconds=deadline_seconds)
    print(f"removed {len(removal.removed)} objects in {time.monotonic() - started:.1f} s", flush=True)
    return removal
