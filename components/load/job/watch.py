"""Watches the pods of a run: those of the generators, and those of the servers they load."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from model_load_test.components.cluster.connection import Cluster
from model_load_test.components.cluster.diagnosis import pod_troubles, tolerates
from model_load_test.components.cluster.failures import ClusterError, MissingRight
from model_load_test.components.cluster.kinds import JOB, NODE, POD, SERVICE
from model_load_test.components.cluster.labels import selector_of
from model_load_test.components.cluster.placement import Placement
from model_load_test.components.cluster.waiting import Patience, PodWatch
from model_load_test.components.errors import InputError
from model_load_test.components.load.job.agreement import Agreement, Spoiled
from model_load_test.components.load.job.manifest import Servers
from model_load_test.components.load.schedule import Arm
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.results.checks import Check

_POLL_SECONDS: Final = 1.0
_INDEX: Final = "batch.kubernetes.io/job-completion-index"


@dataclass
class GeneratorWatch:
    """Tells the agreement of generators that cannot start, or will bring no more rows."""

    cluster: Cluster
    job: str
    selector: str
    agreement: Agreement
    _seen: dict[str, int] = field(default_factory=dict)
    """Generators by the name of their pod, once it was there."""
    _told: set[str] = field(default_factory=set)
    _starting: PodWatch = field(init=False)

    def __post_init__(self) -> None:
        # A generator is never started again: the first crash is the last.
        patience = Patience(crashes=0)
        self._starting = PodWatch(self.cluster, self.selector, ((JOB, self.job),), patience)

    def look(self) -> None:
        """Looks once."""
        pods = self.cluster.list(POD, self.selector)
        if len(self.agreement.greetings) < self.agreement.generators:
            for trouble in self._starting.hopeless([pod for pod in pods if not _is_leaving(pod)]):
                self._tell(f"{trouble.subject}/{trouble.cause}", "generator-not-started", str(trouble))
        present = {pod["metadata"]["name"]: pod for pod in pods}
        for name, pod in present.items():
            index = int(pod["metadata"].get("annotations", {}).get(_INDEX, -1))
            self._seen[name] = index
            if pod.get("status", {}).get("phase") == "Failed":
                why = f"Generator {index} failed: {_end_of(pod)}."
                self._tell(f"{name}/failed", "generator-failed", why, index)
            elif _is_leaving(pod):
                why = f"The pod of generator {index} ({name}) is being deleted{_disruption(pod)}."
                self._tell(f"{name}/leaving", "generator-lost", why)
        for name, index in self._seen.items():
            if name not in present:
                self._tell(
                    f"{name}/gone", "generator-lost", f"The pod of generator {index} ({name}) is gone.", index
                )

    def _tell(self, key: str, code: str, detail: str, index: int | None = None) -> None:
        if key not in self._told:
            self._told.add(key)
            self.agreement.spoil(Spoiled(code, detail, index))


@dataclass
class ServerWatch:
    """Tells the agreement when a server's pod ends, is deleted or is started again."""

    cluster: Cluster
    servers: Servers
    agreement: Agreement
    nodes: set[str] = field(default_factory=set)
    """Where the servers run."""
    _restarts: dict[str, dict[str, int]] | None = None
    _told: bool = False

    def look(self) -> None:
        """Looks once; the first look says what there is."""
        cluster = replace(self.cluster, namespace=self.servers.namespace)
        pods = [
            pod
            for pod in cluster.list(POD, selector_of(self.servers.labels))
            if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
            or (self._restarts is not None and pod["metadata"]["name"] in self._restarts)
        ]
        found = {pod["metadata"]["name"]: _restarts(pod) for pod in pods}
        if self._restarts is None:
            self._restarts = {pod["metadata"]["name"]: _restarts(pod) for pod in pods if not _is_leaving(pod)}
            self.nodes = {node for pod in pods if (node := pod["spec"].get("nodeName"))}
            return
        for name, before in self._restarts.items():
            if name not in found:
                self._tell(f"The server's pod {name} was deleted while it was loaded.")
            elif found[name] != before:
                pod = next(pod for pod in pods if pod["metadata"]["name"] == name)
                self._tell(f"The server's pod {name} was started again while it was loaded: {_end_of(pod)}.")
        for pod in pods:
            name = pod["metadata"]["name"]
            if name in self._restarts and _is_leaving(pod):
                self._tell(f"The server's pod {name} is being deleted while it is loaded{_disruption(pod)}.")
            elif name in self._restarts and pod.get("status", {}).get("phase") == "Failed":
                self._tell(f"The server's pod {name} failed while it was loaded: {_end_of(pod)}.")

    def _tell(self, detail: str) -> None:
        if not self._told:
            self._told = True
            self.agreement.spoil(Spoiled("server-changed", detail))


@contextmanager
def watching(watches: Sequence[GeneratorWatch | ServerWatch], agreement: Agreement) -> Iterator[None]:
    """Looks at the pods about once a second while the block runs.

    An API server that is away is waited for: the load itself does not need it.
    """
    over = threading.Event()

    def watch() -> None:
        watched = list(watches)
        while not over.wait(_POLL_SECONDS):
            for one in tuple(watched):
                try:
                    one.look()
                except MissingRight as error:
                    watched.remove(one)
                    if isinstance(one, GeneratorWatch):
                        agreement.spoil(Spoiled("generators-unwatched", str(error)))
                except ClusterError as error:
                    print(f"cannot look at the pods, going on: {error}", flush=True)

    thread = threading.Thread(target=watch, name="pods", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(2 * _POLL_SECONDS)


def servers_behind(
    cluster: Cluster, endpoints: Mapping[Arm, Endpoint], avoid: Sequence[Mapping[str, str]]
) -> tuple[list[Servers], list[Check]]:
    """The pods behind the endpoints: those that a Service selects, and those the user named.

    Args:
        cluster: Where Services are looked up.
        endpoints: By arm.
        avoid: Labels of further pods, in the cluster's namespace.

    Returns:
        The pods to keep off and to watch, and findings on what could not be seen.
    """
    found = [Servers(cluster.namespace, dict(labels)) for labels in avoid]
    unseen: list[Check] = []
    for arm, endpoint in endpoints.items():
        name, namespace = _service_name(endpoint.host, cluster.namespace)
        if not name:
            continue
        try:
            service = replace(cluster, namespace=namespace).get(SERVICE, name)
        except MissingRight:
            detail = (
                f"The pods of the {arm} behind {endpoint.host} cannot be seen for want of rights in "
                f"{namespace}: generators may share their nodes, and a restart would not be noticed."
            )
            unseen.append(Check("servers-unseen", detail, "WARNING"))
            continue
        labels = (service or {}).get("spec", {}).get("selector")
        if labels and Servers(namespace, labels) not in found:
            found.append(Servers(namespace, labels))
    return found, unseen


def refuse_unreserved_nodes(cluster: Cluster, nodes: Sequence[str], placement: Placement) -> list[Check]:
    """Refuses nodes that were meant to be the generators' own and are open to everybody.

    Whoever gives tolerations and a node selector means a pool that is reserved by a taint. Where the
    taint is missing, anything may run beside the generators and be measured along.

    Args:
        cluster: Where the nodes are.
        nodes: Names of the nodes that generators run on.
        placement: Of the generators.

    Returns:
        Findings on what could not be seen.

    Raises:
        InputError: A node has no taint that the tolerations tolerate.
    """
    tolerations, selector = placement.tolerations, placement.node_selector
    if not tolerations or not selector:
        return []
    pool = ", ".join(f"{name}={value}" for name, value in sorted(selector.items()))
    for name in nodes:
        try:
            node = cluster.get(NODE, name)
        except MissingRight:
            detail = f"Whether the nodes {pool} are reserved for load was not checked: nodes may not be read."
            return [Check("nodes-unseen", detail, "INFO")]
        taints = (node or {}).get("spec", {}).get("taints", [])
        if not any(tolerates(one, taint) for one in tolerations for taint in taints):
            keys = ", ".join(one.get("key", "any") for one in tolerations)
            raise InputError(
                "tolerations",
                keys,
                f"node {name} of {pool} has no such taint, so that anything may run beside the generators; "
                f"taint it (kubectl taint nodes {name} KEY=VALUE:NoSchedule), or give no tolerations",
            )
    return []


def _service_name(host: str, namespace: str) -> tuple[str, str]:
    """Name and namespace of the Service that a host name means; an empty name for an address or URL."""
    labels = host.rstrip(".").split(".")
    if labels[-1].isdecimal() or ":" in host or host == "localhost":
        return "", ""
    if len(labels) == 1:
        return labels[0], namespace
    if len(labels) == 2 or labels[2] == "svc":
        return labels[0], labels[1]
    return "", ""


def _is_leaving(pod: Mapping[str, Any]) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _restarts(pod: Mapping[str, Any]) -> dict[str, int]:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return {status["name"]: int(status.get("restartCount", 0)) for status in statuses}


def _disruption(pod: Mapping[str, Any]) -> str:
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return f" ({condition.get('reason')}: {condition.get('message', '')})"
    return ""


def _end_of(pod: Mapping[str, Any]) -> str:
    """How a pod and its containers ended: reason, exit code, last words."""
    status = pod.get("status", {})
    ends = [f"{status['reason']} {status.get('message', '')}".strip()] if status.get("reason") else []
    for container in status.get("containerStatuses", []):
        state, last = container.get("state", {}), container.get("lastState", {})
        ended = state.get("terminated") or last.get("terminated")
        if ended:
            said = (ended.get("message") or "").strip()
            ends.append(
                f"container {container['name']} ended with exit code {ended.get('exitCode')}"
                f" ({ended.get('reason', 'no reason given')})" + (f", saying: {said[-300:]}" if said else "")
            )
    return "; ".join(ends or [str(trouble) for trouble in pod_troubles([pod])]) or "no reason given"
