"""The kinds of objects we touch, and where the API keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from model_load_test.components.errors import InputError


@dataclass(frozen=True)
class Kind:
    """One kind of object of the Kubernetes API."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group as RBAC spells it; empty for the core."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str, name: str = "") -> str:
        """The URL path of the collection, or of one object in it."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        space = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{root}{space}/{self.plural}" + (f"/{name}" if name else "")


POD: Final = Kind("v1", "Pod", "pods")
SERVICE: Final = Kind("v1", "Service", "services")
CONFIG_MAP: Final = Kind("v1", "ConfigMap", "configmaps")
EVENT: Final = Kind("v1", "Event", "events")
SECRET: Final = Kind("v1", "Secret", "secrets")
VOLUME_CLAIM: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
NODE: Final = Kind("v1", "Node", "nodes", namespaced=False)
DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
REPLICA_SET: Final = Kind("apps/v1", "ReplicaSet", "replicasets")
JOB: Final = Kind("batch/v1", "Job", "jobs")
INGRESS: Final = Kind("networking.k8s.io/v1", "Ingress", "ingresses")
INFERENCE_SERVICE: Final = Kind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
SELDON_DEPLOYMENT: Final = Kind("machinelearning.seldon.io/v1", "SeldonDeployment", "seldondeployments")
SELDON_MODEL: Final = Kind("mlops.seldon.io/v1alpha1", "Model", "models")

KINDS: Final = (
    POD,
    SERVICE,
    CONFIG_MAP,
    EVENT,
    SECRET,
    VOLUME_CLAIM,
    NODE,
    DEPLOYMENT,
    REPLICA_SET,
    JOB,
    INGRESS,
    INFERENCE_SERVICE,
    SELDON_DEPLOYMENT,
    SELDON_MODEL,
)


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """The kind of a manifest.

    Raises:
        InputError: We do not know it.
    """
    for kind in KINDS:
        if (kind.api_version, kind.kind) == (manifest.get("apiVersion"), manifest.get("kind")):
            return kind
    raise InputError(
        "kind",
        f"{manifest.get('apiVersion')} {manifest.get('kind')}",
        f"use one of {', '.join(f'{kind.api_version} {kind.kind}' for kind in KINDS)}",
    )
