"""Waits for what comes up in pods, and does not wait for what cannot."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from model_load_test.components.cluster.connection import Cluster, happened
from model_load_test.components.cluster.diagnosis import (
    HOPELESS,
    Trouble,
    is_scaling_up,
    maker_troubles,
    pod_troubles,
)
from model_load_test.components.cluster.failures import ClusterError, ClusterUnreachable, MissingRight
from model_load_test.components.cluster.kinds import NODE, POD, Kind

Answer = TypeVar("Answer")

POLL_SECONDS: Final = 0.5
_EVENTS_EVERY_SECONDS: Final = 2.0
_LOG_LINES: Final = 30
_SHOWN_EVENTS: Final = 8


class DidNotComeUp(ClusterError):
    """What was deployed cannot run, or did not in time; the error has its events and its log."""

    def __init__(self, what: str, why: str, evidence: str, troubles: Sequence[Trouble] = ()) -> None:
        self.troubles = tuple(troubles)
        super().__init__("deployment", what, f"{why}\n{evidence}".rstrip())


@dataclass(frozen=True)
class Patience:
    """How long each kind of trouble may last before we give up on it."""

    unschedulable_seconds: float = 40.0
    """A cluster autoscaler that is adding a node is waited for; so is its node, until the deadline."""
    image_seconds: float = 20.0
    refused_seconds: float = 15.0
    crashes: int = 2
    """Restarts after which a container that ends with an error will not mend."""


@dataclass
class PodWatch:
    """The pods of a selector while they are waited for: what troubles them, and since when."""

    cluster: Cluster
    selector: str
    makers: tuple[tuple[Kind, str], ...] = ()
    """What makes the pods (Deployment, Job), by kind and name: it tells of pods that are refused."""
    patience: Patience = field(default_factory=Patience)
    _first_seen: dict[tuple[str, str], float] = field(default_factory=dict)
    _events: list[dict[str, Any]] = field(default_factory=list)
    _events_at: float = float("-inf")
    _nodes: list[dict[str, Any]] | None = None
    _asked_for_nodes: bool = False

    def pods(self) -> list[dict[str, Any]]:
        """The pods, without those that are being deleted."""
        found = self.cluster.list(POD, self.selector)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def hopeless(self, pods: Sequence[Mapping[str, Any]]) -> list[Trouble]:
        """The troubles that have lasted longer than our patience."""
        now = time.monotonic()
        if now - self._events_at > _EVENTS_EVERY_SECONDS:
            self._events, self._events_at = self.events(pods), now
        unscheduled = any(_is_unschedulable(pod) for pod in pods)
        troubles = pod_troubles(pods, self._events, self._all_nodes() if unscheduled else None)
        if not pods:
            made_by = [maker for kind, name in self.makers if (maker := self.cluster.get(kind, name))]
            troubles += maker_troubles(made_by)
        present = {(one.cause, one.subject) for one in troubles}
        self._first_seen = {key: at for key, at in self._first_seen.items() if key in present}
        for key in present:
            self._first_seen.setdefault(key, now)
        return [
            one for one in troubles if self._is_hopeless(one, now - self._first_seen[one.cause, one.subject])
        ]

    def events(self, pods: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The events about the pods and their makers, oldest first; none where they may not be read."""
        names = [pod["metadata"]["name"] for pod in pods] + [name for _, name in self.makers]
        try:
            told = [event for name in dict.fromkeys(names) for event in self.cluster.events(name)]
        except MissingRight:
            return []
        return sorted(told, key=happened)

    def evidence(self) -> str:
        """The pods' state, the newest events and the end of each container's log."""
        try:
            pods = self.pods()
            events = self.events(pods)
        except ClusterUnreachable as error:
            return str(error)
        lines = [f"pod {pod['metadata']['name']}: {_state(pod)}" for pod in pods] or ["there is no pod"]
        lines += [
            f"event {event.get('reason')} of {event['involvedObject'].get('name')}: {event.get('message')}"
            for event in events[-_SHOWN_EVENTS:]
        ]
        for pod in pods:
            lines += self._logs(pod)
        return "\n".join(lines)

    def _logs(self, pod: Mapping[str, Any]) -> list[str]:
        name, lines = pod["metadata"]["name"], []
        for status in (
            *pod.get("status", {}).get("initContainerStatuses", []),
            *pod.get("status", {}).get("containerStatuses", []),
        ):
            try:
                # After a restart the newest container has said little; the one before says why it ended.
                restarted = "waiting" in status.get("state", {}) and status.get("restartCount", 0) > 0
                text = self.cluster.log(
                    name, status["name"], tail_lines=_LOG_LINES, previous=restarted
                ) or self.cluster.log(name, status["name"], tail_lines=_LOG_LINES)
            except ClusterError as error:
                text = str(error)
            if text.strip():
                lines += [f"log of {name}/{status['name']}:", *(f"  {line}" for line in text.splitlines())]
        return lines

    def _is_hopeless(self, trouble: Trouble, lasted_seconds: float) -> bool:
        if trouble.cause in HOPELESS:
            return lasted_seconds >= POLL_SECONDS
        if trouble.cause == "unschedulable":
            lasted = max(lasted_seconds, trouble.since_seconds)
            return lasted >= self.patience.unschedulable_seconds and not is_scaling_up(self._events)
        if trouble.cause in ("image", "volume"):
            return lasted_seconds >= self.patience.image_seconds
        if trouble.cause == "refused":
            return lasted_seconds >= self.patience.refused_seconds
        return trouble.restarts >= self.patience.crashes

    def _all_nodes(self) -> list[dict[str, Any]] | None:
        if not self._asked_for_nodes:
            self._asked_for_nodes = True
            try:
                self._nodes = self.cluster.list(NODE)
            except MissingRight:
                self._nodes = None
        return self._nodes


def wait_for(
    check: Callable[[list[dict[str, Any]]], Answer | None],
    watch: PodWatch,
    *,
    what: str,
    deadline_seconds: float,
) -> Answer:
    """Waits until `check`, given the pods, answers something else than None.

    Args:
        check: Asked about twice a second.
        watch: Of the pods that are to come up.
        what: Such as `the model server mlt-candidate`, for log and error.
        deadline_seconds: How long to wait at most.

    Raises:
        DidNotComeUp: The deadline is over, or a pod can never run.
    """
    started = last_said = time.monotonic()
    while True:
        pods = watch.pods()
        answer = check(pods)
        if answer is not None:
            return answer
        hopeless = watch.hopeless(pods)
        waited = time.monotonic() - started
        if hopeless:
            why = "; ".join(dict.fromkeys(str(one) for one in hopeless))
            raise DidNotComeUp(what, f"cannot run: {why}", watch.evidence(), hopeless)
        if waited > deadline_seconds:
            raise DidNotComeUp(what, f"is not ready after {waited:.0f} s", watch.evidence())
        if time.monotonic() - last_said > 10.0:
            states = "; ".join(f"{pod['metadata']['name']} {_state(pod)}" for pod in pods) or "no pod yet"
            print(f"waiting for {what}, {waited:.0f} s: {states}", file=sys.stderr, flush=True)
            last_said = time.monotonic()
        time.sleep(POLL_SECONDS)


def pod_is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether all containers of a pod are ready."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _is_unschedulable(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one.get("reason") == "Unschedulable" for one in conditions)


def _state(pod: Mapping[str, Any]) -> str:
    status = pod.get("status", {})
    told = [str(status.get("phase", "unknown"))]
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        ((state, detail),) = list(container.get("state", {}).items())[:1] or [("unknown", {})]
        reason = f" ({detail['reason']})" if detail.get("reason") else ""
        told.append(f"{container['name']} {state}{reason}")
    return ", ".join(told)
