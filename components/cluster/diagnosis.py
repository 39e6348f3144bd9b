"""Why pods do not come up, in words that name the taint, the label, the image or the quota."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final, Literal

Cause = Literal[
    "unschedulable", "image", "configuration", "refused", "crashed", "out-of-memory", "evicted", "volume"
]

HOPELESS: Final[frozenset[Cause]] = frozenset(("configuration",))
"""Causes that no waiting mends."""

_IMAGE_REASONS: Final = frozenset(
    ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
)
_CONFIGURATION_REASONS: Final = frozenset(
    ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError")
)
_VOLUME_EVENTS: Final = frozenset(
    ("FailedMount", "FailedAttachVolume", "FailedBinding", "ProvisioningFailed")
)
_SCALING_EVENT: Final = "TriggeredScaleUp"
_TAINT_IN_MESSAGE: Final = re.compile(r"untolerated taint(?:\(s\))? (\{[^}]*\})")
_SHOWN_NODES: Final = 5
_BAD_INPUT: Final = 2
"""Exit code of our own commands for input that cannot be used; trying again changes nothing."""


@dataclass(frozen=True)
class Trouble:
    """Something that keeps a pod from running."""

    cause: Cause
    subject: str
    """The pod, or what was to make it."""
    message: str
    restarts: int = 0
    since_seconds: float = 0.0
    """How long it has been so; 0 where the cluster does not tell."""

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}"


def pod_troubles(
    pods: Iterable[Mapping[str, Any]],
    events: Iterable[Mapping[str, Any]] = (),
    nodes: Sequence[Mapping[str, Any]] | None = None,
    *,
    now: datetime | None = None,
) -> list[Trouble]:
    """What keeps each of the pods from running; empty when nothing does, or nothing is known yet.

    Args:
        pods: The pods.
        events: Events about them and about what was to make them.
        nodes: All nodes, to say what is wrong with each; None where they may not be listed.
        now: For tests.
    """
    moment = now or datetime.now(timezone.utc)
    told = list(events)
    troubles = [one for pod in pods for one in _troubles_of(pod, told, nodes, moment)]
    return troubles + _refusals(told)


def maker_troubles(makers: Iterable[Mapping[str, Any]]) -> list[Trouble]:
    """What keeps a Deployment or Job from making its pods: quota, policy, webhook, ServiceAccount."""
    return [
        Trouble("refused", f"{maker['kind']} {maker['metadata']['name']}", condition.get("message", ""))
        for maker in makers
        for condition in maker.get("status", {}).get("conditions", [])
        if condition["status"] == "True" and condition["type"] in ("ReplicaFailure", "FailureTarget")
    ]


def is_scaling_up(events: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a cluster autoscaler has said that a node is on its way."""
    return any(event.get("reason") == _SCALING_EVENT for event in events)


def explain_unschedulable(
    pod: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]] | None, scheduler_says: str
) -> str:
    """Which taint, label or resource keeps a pod from every node.

    Args:
        pod: A pod that no node takes.
        nodes: All nodes; None where they may not be listed.
        scheduler_says: The message of the pod's `PodScheduled` condition.
    """
    spec = pod["spec"]
    asked = ", ".join(f"{name}={value}" for name, value in sorted(spec.get("nodeSelector", {}).items()))
    if nodes is None:
        taints = ", ".join(sorted(set(_TAINT_IN_MESSAGE.findall(scheduler_says))))
        parts = [scheduler_says]
        if taints:
            parts.append(f"tolerate {taints}, or choose other nodes")
        if asked and "node affinity/selector" in scheduler_says:
            parts.append(f"its node selector is {asked}: nodes with it are missing, tainted or full")
        if "untolerated taint" in scheduler_says and not taints:
            parts.append("which taint, can be told with the right to list nodes (a ClusterRole)")
        return "; ".join(parts)
    reasons = [_against(spec, node) for node in nodes]
    lines = [f"{node['metadata']['name']} {why}" for node, why in zip(nodes, reasons, strict=True) if why]
    if asked and all(not _has_labels(node, spec.get("nodeSelector", {})) for node in nodes):
        return f"no node has the label {asked} that node_selector asks for (scheduler: {scheduler_says})"
    if not lines:
        return scheduler_says
    shown = "; ".join(lines[:_SHOWN_NODES]) + ("; ..." if len(lines) > _SHOWN_NODES else "")
    return f"{shown} (scheduler: {scheduler_says})"


def untolerated_taints(spec: Mapping[str, Any], node: Mapping[str, Any]) -> list[str]:
    """The taints of a node that keep a pod of this spec off it, as `key=value:effect`."""
    return [
        f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
        for taint in node.get("spec", {}).get("taints", [])
        if taint["effect"] in ("NoSchedule", "NoExecute")
        and not any(tolerates(one, taint) for one in spec.get("tolerations", []))
    ]


def _troubles_of(
    pod: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    nodes: Sequence[Mapping[str, Any]] | None,
    now: datetime,
) -> list[Trouble]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("reason") in ("Evicted", "Preempting", "NodeLost", "Shutdown", "Terminated"):
        return [Trouble("evicted", name, f"{status['reason']}: {status.get('message', '')}")]
    for condition in status.get("conditions", []):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return [Trouble("evicted", name, f"{condition.get('reason')}: {condition.get('message', '')}")]
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            why = explain_unschedulable(pod, nodes, condition.get("message", ""))
            # The condition's own time moves with nothing but its status; a pod is unschedulable from birth.
            since = _seconds_since(pod["metadata"].get("creationTimestamp"), now)
            return [Trouble("unschedulable", name, f"no node can take it: {why}", since_seconds=since)]
    preparing = status.get("initContainerStatuses", [])
    found = [
        trouble
        for container in (*preparing, *status.get("containerStatuses", []))
        if (trouble := _container_trouble(name, container, preparing=container in preparing)) is not None
    ]
    waiting_for_volume = [
        Trouble("volume", name, event.get("message", ""))
        for event in events
        if event.get("reason") in _VOLUME_EVENTS and event["involvedObject"].get("name") == name
    ]
    if status.get("phase") == "Pending" and not found:
        return waiting_for_volume[-1:]
    return found


def _container_trouble(pod: str, container: Mapping[str, Any], *, preparing: bool) -> Trouble | None:
    name, restarts = container["name"], int(container.get("restartCount", 0))
    waiting = container.get("state", {}).get("waiting", {})
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    reason = waiting.get("reason", "")
    if reason in _IMAGE_REASONS:
        said = waiting.get("message", "")
        return Trouble("image", pod, f"image {container.get('image', '')!r} cannot be had ({reason}): {said}")
    if reason in _CONFIGURATION_REASONS:
        return Trouble("configuration", pod, f"container {name} ({reason}): {waiting.get('message', '')}")
    if ended and ended.get("reason") == "OOMKilled":
        limit = "; raise its memory limit"
        return Trouble(
            "out-of-memory", pod, f"container {name} was killed for lack of memory{limit}", restarts
        )
    if ended and (ended.get("exitCode") or reason == "CrashLoopBackOff"):
        why = f" ({ended['message'].strip()})" if ended.get("message") else ""
        text = f"container {name} ended with exit code {ended.get('exitCode')}{why}"
        if preparing and ended.get("exitCode") == _BAD_INPUT:
            return Trouble("configuration", pod, text)
        return Trouble("crashed", pod, text, restarts)
    return None


def _refusals(events: Iterable[Mapping[str, Any]]) -> list[Trouble]:
    """Pods that could not even be created: quota, policy, webhook, ServiceAccount."""
    newest: dict[str, Trouble] = {}
    for event in events:
        if event.get("reason") == "FailedCreate":
            maker = event["involvedObject"]
            subject = f"{maker.get('kind')} {maker.get('name')}"
            newest[subject] = Trouble("refused", subject, event.get("message", ""))
    return list(newest.values())


def _against(spec: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    reasons = []
    wanted = spec.get("nodeSelector", {})
    labels = node["metadata"].get("labels", {})
    for name, value in sorted(wanted.items()):
        if labels.get(name) != value:
            reasons.append(f"lacks the label {name}={value}")
    taints = untolerated_taints(spec, node)
    if taints:
        reasons.append(f"has the taint {', '.join(taints)} that no toleration tolerates")
    if not any(
        one["type"] == "Ready" and one["status"] == "True"
        for one in node.get("status", {}).get("conditions", [])
    ):
        reasons.append("is not ready")
    return " and ".join(reasons)


def _has_labels(node: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    labels = node["metadata"].get("labels", {})
    return all(labels.get(name) == value for name, value in wanted.items())


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Whether a pod with this toleration may run on a node in spite of this taint."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if not toleration.get("key"):
        return bool(toleration.get("operator") == "Exists")
    if toleration["key"] != taint["key"]:
        return False
    exists = toleration.get("operator", "Equal") == "Exists"
    return bool(exists or toleration.get("value", "") == taint.get("value", ""))


def _seconds_since(text: str | None, now: datetime) -> float:
    return (now - datetime.fromisoformat(text.replace("Z", "+00:00"))).total_seconds() if text else 0.0
