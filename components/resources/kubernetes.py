"""Pods by metrics.k8s.io, the API behind `kubectl top`: looked at while the load runs, for it keeps no past.

It tells the average of a window (15 s by default) that ended at a time it names. Windows that follow each
other give back the counter they were made of; that is how CPU time is read here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from model_load_test.components.cluster.connection import Cluster
from model_load_test.components.cluster.failures import ClusterError
from model_load_test.components.cluster.kinds import POD, Kind
from model_load_test.components.cluster.rights import Right, right
from model_load_test.components.resources.http_get import DoesNotAnswer
from model_load_test.components.resources.sampling import Look, Observed

POD_METRICS: Final = Kind("metrics.k8s.io/v1beta1", "PodMetrics", "pods")

RIGHTS: Final[tuple[Right, ...]] = (right(POD_METRICS, "list"), right(POD, "list"))
"""What reading pods' use needs in their namespace."""

PATIENCE_SECONDS: Final = 2.0
"""A look waits no longer for an API server that is away."""


def pods_look(arm: str, cluster: Cluster, selector: str) -> Look:
    """A look at the pods that a label selector finds.

    Args:
        arm: Whose they are.
        cluster: The connection, to their namespace.
        selector: Label selector, such as `app=digits,version=8`.
    """
    return _PodsLook(arm, cluster, selector)


@dataclass
class _PodsLook:
    arm: str
    cluster: Cluster
    selector: str
    _cpu: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By pod, the end of its last window and the CPU time up to then."""

    def __call__(self) -> list[Observed]:
        try:
            pods = self.cluster.list(POD, self.selector)
            told = self.cluster.list(POD_METRICS, self.selector)
        except ClusterError as error:
            raise DoesNotAnswer(str(error)) from None
        at_ns = time.time_ns()
        ready = float(sum(_is_ready(pod) for pod in pods))
        seen = [Observed("replicas", "gauge", self.arm, "", "kubernetes", ready, at_ns)]
        for one in told:
            seen += self._of_pod(one)
        if not told:
            why = "metrics.k8s.io tells nothing of them (is metrics-server installed?)" if pods else "no pods"
            raise DoesNotAnswer(f"{why}: {self.selector} in {self.cluster.namespace}")
        return seen

    def _of_pod(self, told: dict[str, Any]) -> list[Observed]:
        from kubernetes.utils.quantity import parse_quantity

        name = told["metadata"]["name"]
        ends_ns = _nanoseconds(told["timestamp"])
        usages = [container["usage"] for container in told.get("containers", ())]
        cores = float(sum(parse_quantity(usage["cpu"]) for usage in usages))
        memory_bytes = float(sum(parse_quantity(usage["memory"]) for usage in usages))
        before_ns, spent_seconds = self._cpu.get(name, (ends_ns, 0.0))
        if ends_ns > before_ns:
            spent_seconds += cores * (ends_ns - before_ns) / 1e9
        self._cpu[name] = (ends_ns, spent_seconds)
        return [
            Observed("cpu_seconds", "counter", self.arm, name, "kubernetes", spent_seconds, ends_ns),
            Observed("memory_bytes", "gauge", self.arm, name, "kubernetes", memory_bytes, ends_ns),
        ]


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    leaving = "deletionTimestamp" in pod["metadata"]
    return not leaving and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _nanoseconds(text: str) -> int:
    """A time of the API's JSON."""
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1e9)
