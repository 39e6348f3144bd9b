"""Waits until an arm is served: pods ready, every version of the model available, the endpoint answering."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from model_load_test.components.cluster.connection import Cluster
from model_load_test.components.cluster.failures import MissingRight
from model_load_test.components.cluster.kinds import DEPLOYMENT, NODE, Kind
from model_load_test.components.cluster.waiting import DidNotComeUp, PodWatch, pod_is_ready, wait_for
from model_load_test.components.errors import InputError
from model_load_test.components.protocols.client import (
    ModelNotFound,
    ServerUnreachable,
    UnexpectedAnswer,
    VersionStatus,
    declared_server_kind,
    model_status,
)
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.serving.arm import DeployedArm
from model_load_test.components.serving.backends import (
    BACKENDS,
    api_of,
    endpoint_of,
    served_name,
)
from model_load_test.components.serving.model_loading import LoadedModel
from model_load_test.components.serving.server_pod import LOADER
from model_load_test.components.serving.spec import ServingSpec

_STATUS_TIMEOUT_SECONDS: Final = 2.0
_NODE_TYPE: Final = "node.kubernetes.io/instance-type"


@dataclass(frozen=True)
class ServedArm:
    """A model server that has its model available, and what can be said of it."""

    endpoint: Endpoint
    model_name: str
    """The name by which the server knows the model."""
    server_kind: str
    image: str = ""
    """The server's image with the digest that its nodes run; empty where pods cannot be seen."""
    flags: tuple[str, ...] = ()
    replicas: int = 1
    nodes: tuple[str, ...] = ()
    node_types: tuple[str, ...] = ()
    versions: tuple[VersionStatus, ...] = ()
    model_sha256: str = ""
    """Of the model's files, where we loaded it."""


@dataclass
class _Waiting:
    """What one arm is waited for by."""

    cluster: Cluster
    arm: DeployedArm
    spec: ServingSpec
    watch: PodWatch
    versions: tuple[VersionStatus, ...] = ()
    said_last: list[str] = field(default_factory=list)

    def look(self, pods: Sequence[Mapping[str, Any]]) -> ServedArm | None:
        """The arm, when it is served.

        Raises:
            DidNotComeUp: The server or its controller says that it never will be.
        """
        backend = BACKENDS[self.spec.kind]
        resource = None
        if backend.resource is not None:
            resource = self.cluster.get(backend.resource, self.arm.name)
            if resource is None:
                return None
            failure = backend.failure(resource)
            if failure:
                raise DidNotComeUp(self.arm.name, f"cannot run: {failure}", self.watch.evidence())
            if not backend.is_ready(resource):
                return None
        elif not self._own_pods_are_ready(pods):
            return None
        endpoint = endpoint_of(self.cluster, self.arm, self.spec, resource)
        if endpoint is None:
            return None
        for one in (*self._pod_endpoints(pods), endpoint):
            if not self._has_the_model(one):
                return None
        return self._served(endpoint, pods)

    def _own_pods_are_ready(self, pods: Sequence[Mapping[str, Any]]) -> bool:
        deployment = self.cluster.get(DEPLOYMENT, self.arm.name)
        status = (deployment or {}).get("status", {})
        generation = (deployment or {}).get("metadata", {}).get("generation", 0)
        return (
            status.get("observedGeneration", -1) >= generation
            and status.get("updatedReplicas", 0) == self.spec.replicas
            and len(pods) == self.spec.replicas
            and all(pod_is_ready(pod) for pod in pods)
        )

    def _pod_endpoints(self, pods: Sequence[Mapping[str, Any]]) -> list[Endpoint]:
        """Each replica by itself: one that lacks the model would fail a share of the requests."""
        ports = BACKENDS[self.spec.kind].ports
        if ports is None:
            return []
        port = ports[self.spec.protocol]
        return [Endpoint(self.spec.protocol, pod["status"]["podIP"], port) for pod in pods]

    def _has_the_model(self, endpoint: Endpoint) -> bool:
        name = served_name(self.arm, self.spec)
        try:
            versions = model_status(endpoint, name, _STATUS_TIMEOUT_SECONDS, api=api_of(self.spec))
        except (ServerUnreachable, ModelNotFound, UnexpectedAnswer) as error:
            self.said_last = [str(error)]
            return False
        self.said_last = [_shown(one) for one in versions]
        failed = [one for one in versions if one.error_code not in ("OK", "")]
        if failed:
            why = "; ".join(_shown(one) for one in failed)
            raise DidNotComeUp(self.arm.name, f"the model cannot be loaded: {why}", self.watch.evidence())
        self.versions = versions
        return bool(versions) and all(one.state == "AVAILABLE" for one in versions)

    def _served(self, endpoint: Endpoint, pods: Sequence[Mapping[str, Any]]) -> ServedArm:
        backend = BACKENDS[self.spec.kind]
        name = served_name(self.arm, self.spec)
        container = backend.container or self.spec.model_name
        nodes = tuple(sorted({pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")}))
        loaded = {one.sha256 for pod in pods if (one := _loaded_model(pod)) is not None}
        kind = declared_server_kind(endpoint, name, api=api_of(self.spec)) or self.spec.kind
        return ServedArm(
            endpoint=endpoint,
            model_name=name,
            server_kind="seldon" if kind == "seldon-v2" else kind,
            image=image_of(pods, container),
            flags=backend.flags(self.spec),
            replicas=self.spec.replicas,
            nodes=nodes,
            node_types=node_types(self.cluster, nodes),
            versions=self.versions,
            model_sha256=loaded.pop() if len(loaded) == 1 else "",
        )


def wait_until_served(
    cluster: Cluster, arms: Sequence[DeployedArm], spec: ServingSpec
) -> dict[str, ServedArm]:
    """Waits until all arms are served, together.

    Args:
        cluster: Where they are.
        arms: What was deployed.
        spec: How; its `ready_seconds` are the deadline.

    Raises:
        DidNotComeUp: One of them cannot come up, or has not in time; the error has the server's log,
            its pods' events and what it last said of its model.
        ClusterUnreachable: The API server stays away.
    """
    deadline = time.monotonic() + spec.ready_seconds
    served: dict[str, ServedArm] = {}
    for arm in arms:
        makers: tuple[tuple[Kind, str], ...] = tuple((kind, arm.name) for kind in BACKENDS[spec.kind].kinds)
        watch = PodWatch(cluster, arm.selector, makers)
        waiting = _Waiting(cluster, arm, spec, watch)
        what = f"the {arm.arm}'s model server {arm.name}"
        try:
            left = max(0.0, deadline - time.monotonic())
            served[arm.arm] = wait_for(waiting.look, watch, what=what, deadline_seconds=left)
        except DidNotComeUp as error:
            said = f"{error.remedy}\nthe server said last: {'; '.join(waiting.said_last) or 'nothing'}"
            raise DidNotComeUp(what, said, "", error.troubles) from None
    return served


def image_of(pods: Sequence[Mapping[str, Any]], container: str) -> str:
    """The image that a container of the pods runs, with its digest where the nodes tell it.

    Raises:
        InputError: The pods run different images.
    """
    found: dict[str, str] = {}
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses", []):
            if status["name"] == container:
                digest = str(status.get("imageID", "")).partition("://")[2] or str(status.get("imageID", ""))
                found[digest] = str(status.get("image", ""))
    if len(found) > 1:
        raise InputError(
            "image",
            sorted(found),
            "the pods of one server run different images; name the image by its digest",
        )
    for digest, name in found.items():
        if "@" in digest or not digest:
            return digest or name
        return f"{name}@{digest}" if digest.startswith("sha256:") else digest
    return ""


def node_types(cluster: Cluster, nodes: Sequence[str]) -> tuple[str, ...]:
    """The machine types of nodes; none where they are not known or may not be read."""
    types = set()
    for name in nodes:
        try:
            node = cluster.get(NODE, name)
        except MissingRight:
            return ()
        types.add((node or {}).get("metadata", {}).get("labels", {}).get(_NODE_TYPE, ""))
    return tuple(sorted(types - {""}))


def _loaded_model(pod: Mapping[str, Any]) -> LoadedModel | None:
    for status in pod.get("status", {}).get("initContainerStatuses", []):
        message = status.get("state", {}).get("terminated", {}).get("message", "")
        if status["name"] == LOADER and message:
            try:
                return msgspec.json.decode(message, type=LoadedModel)
            except msgspec.DecodeError:
                return None
    return None


def _shown(version: VersionStatus) -> str:
    because = f" ({version.error_code}: {version.error_message})" if version.error_message else ""
    return f"version {version.version} {version.state}{because}"
