"""A test's view of a cluster: the plain API, apart from the code under test."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

import kubernetes
from kubernetes.client.exceptions import ApiException

Manifest = dict[str, Any]
Value = TypeVar("Value")

RUN_LABEL = "model-load-test/run"
"""On everything a run creates, by this project's own contract."""
POLL_SECONDS = 0.25

RESTRICTED_POD: Mapping[str, Any] = {
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
"""What the restricted Pod Security profile asks for, and a read-only root besides."""


@dataclass(frozen=True)
class Kube:
    """One cluster."""

    api: Any

    def get(self, path: str, **query: str) -> Any:
        """The JSON at a path of the API; None where there is nothing."""
        try:
            return json.loads(self.read(path, **query))
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def read(self, path: str, **query: str) -> bytes:
        """The bytes at a path of the API, such as a log or what a pod's own server answers."""
        return bytes(self._call("GET", path, None, query).data)

    def create(self, *manifests: Manifest, namespace: str = "") -> None:
        """Creates objects, in order."""
        for manifest in manifests:
            self._call("POST", collection(manifest, namespace), manifest)

    def patch(self, path: str, change: Any) -> None:
        """Changes an object by a JSON merge patch."""
        self._call("PATCH", path, change, content_type="application/merge-patch+json")

    def delete(self, path: str, **options: Any) -> None:
        """Deletes an object; that there is none is no error."""
        try:
            self._call("DELETE", path, {"propagationPolicy": "Background", **options})
        except ApiException as error:
            if error.status != 404:
                raise

    def items(self, path: str, selector: str = "") -> list[Manifest]:
        """The objects of a collection."""
        found = self.get(path, **({"labelSelector": selector} if selector else {}))
        return list(found["items"]) if found else []

    def pods(self, namespace: str, selector: str = "") -> list[Manifest]:
        """The pods of a namespace."""
        return self.items(f"/api/v1/namespaces/{namespace}/pods", selector)

    def nodes(self) -> list[Manifest]:
        """The nodes that pods may be put on."""
        return [node for node in self.items("/api/v1/nodes") if not node["spec"].get("unschedulable")]

    def log(self, namespace: str, pod: str, **query: str) -> str:
        """A pod's log, or why there is none."""
        try:
            return self.read(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", **query).decode(
                errors="replace"
            )
        except ApiException as error:
            return f"(no log: {error.reason})"

    def objects_of_runs(self, namespace: str, run: str = "") -> list[str]:
        """Every object in a namespace, of whatever kind, that carries the label of a run."""
        selector = f"{RUN_LABEL}={run}" if run else RUN_LABEL
        return [
            f"{resource}/{item['metadata']['name']}"
            for root, resource in self._namespaced_resources()
            for item in self.items(f"{root}/namespaces/{namespace}/{resource}", selector)
        ]

    def _namespaced_resources(self) -> Iterable[tuple[str, str]]:
        """Where every listable kind is, except what others write about our objects."""
        groups = [
            f"/apis/{group['preferredVersion']['groupVersion']}" for group in self.get("/apis")["groups"]
        ]
        for root in ("/api/v1", *groups):
            for resource in (self.get(root) or {}).get("resources", []):
                listable = resource["namespaced"] and "list" in resource["verbs"]
                if listable and resource["name"] not in ("events", "endpoints", "endpointslices"):
                    yield root, resource["name"]

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        return self.api.call_api(
            f"{path}?{urlencode(query)}" if query else path,
            method,
            header_params={"Accept": "application/json, */*", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=(5, 60),
            _return_http_data_only=True,
        )


def connect(kubeconfig: str) -> Kube:
    """Connects to the cluster of a kubeconfig file's current context."""
    configuration = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(kubeconfig, client_configuration=configuration)
    return Kube(kubernetes.client.ApiClient(configuration))


def collection(manifest: Manifest, namespace: str) -> str:
    """The path under which an object is created."""
    version, kind = manifest["apiVersion"], manifest["kind"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    name = kind.lower()
    plural = f"{name[:-1]}ies" if name.endswith("y") else f"{name}es" if name.endswith("s") else f"{name}s"
    space = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{space}/{plural}"


def wait_for(what: str, seconds: float, probe: Callable[[], Value | None]) -> Value:
    """Waits until `probe` returns something true and returns that.

    Raises:
        AssertionError: It did not in time.
    """
    end = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        time.sleep(POLL_SECONDS)
