"""Seldon Core: a SeldonDeployment (v1) or a Model (v2), and how to tell that it is up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from model_load_test.components.cluster.kinds import SELDON_DEPLOYMENT, SELDON_MODEL
from model_load_test.components.cluster.pods import NO_SIDECAR
from model_load_test.components.serving.arm import DeployedArm
from model_load_test.components.serving.model_uri import ModelUriError
from model_load_test.components.serving.server_pod import with_arrangement
from model_load_test.components.serving.spec import ServingSpec, ServingSpecError

PREDICTOR: Final = "default"
DEPLOYMENT_LABEL: Final = "seldon-deployment-id"

_IMPLEMENTATIONS: Final[Mapping[str, str]] = {
    "tensorflow": "TENSORFLOW_SERVER",
    "triton": "TRITON_SERVER",
    "sklearn": "SKLEARN_SERVER",
    "xgboost": "XGBOOST_SERVER",
    "mlflow": "MLFLOW_SERVER",
    "huggingface": "HUGGINGFACE_SERVER",
}
_ORCHESTRATOR_PORTS: Final = {"http": 8000, "grpc": 5001}
_BARE_PORTS: Final = {"http": 9000, "grpc": 9500}
"""Of the server's container when no orchestrator stands before it."""
_DEFAULT_MEMORY: Final = "1Gi"


def manifests(arm: DeployedArm, spec: ServingSpec) -> list[dict[str, Any]]:
    """A SeldonDeployment for one arm.

    Raises:
        ServingSpecError: Seldon v1 has no server for the model's format.
    """
    _refuse_checksum(arm)
    if spec.model_format not in _IMPLEMENTATIONS:
        raise ServingSpecError(
            "model_format", spec.model_format, f"Seldon has servers for {', '.join(_IMPLEMENTATIONS)}"
        )
    container: dict[str, Any] = {
        "name": spec.model_name,
        "image": spec.image,
        "args": list(spec.flags),
        "env": [dict(one) for one in spec.environment],
        "resources": {part: dict(amounts) for part, amounts in spec.resources.items()},
    }
    pod_spec = spec.placement.on(
        {
            "containers": [{name: value for name, value in container.items() if value}],
            "terminationGracePeriodSeconds": spec.grace_seconds,
            "imagePullSecrets": [{"name": name} for name in spec.image_pull_secrets],
        }
    )
    pod_spec["affinity"] = with_arrangement(pod_spec.get("affinity", {}), arm, spec)
    graph: dict[str, Any] = {
        "name": spec.model_name,
        "implementation": _IMPLEMENTATIONS[spec.model_format],
        "modelUri": _model_uri(arm),
        "serviceAccountName": spec.service_account,
        "envSecretRefName": arm.storage.secret,
    }
    if spec.model_format == "tensorflow":
        graph["parameters"] = [{"name": "model_name", "type": "STRING", "value": spec.model_name}]
    annotations = {} if spec.orchestrator else {"seldon.io/no-engine": "true"}
    return [
        {
            "apiVersion": SELDON_DEPLOYMENT.api_version,
            "kind": SELDON_DEPLOYMENT.kind,
            "metadata": {"name": arm.name, "labels": dict(arm.labels)},
            "spec": {
                "name": arm.name,
                "protocol": "tensorflow" if spec.model_format == "tensorflow" else "v2",
                "transport": "grpc" if spec.protocol == "grpc" else "rest",
                "annotations": {**annotations, **NO_SIDECAR, **spec.annotations},
                "predictors": [
                    {
                        "name": PREDICTOR,
                        "replicas": spec.replicas,
                        "labels": dict(arm.labels),
                        "annotations": annotations,
                        "graph": {name: value for name, value in graph.items() if value},
                        "componentSpecs": [
                            {"spec": {name: value for name, value in pod_spec.items() if value}}
                        ],
                    }
                ],
            },
        }
    ]


def model_manifests(arm: DeployedArm, spec: ServingSpec) -> list[dict[str, Any]]:
    """A Seldon v2 Model for one arm; which Server runs it is Seldon's choice, or `runtime`'s."""
    _refuse_checksum(arm)
    memory = (spec.resources.get("requests") or spec.resources.get("limits") or {}).get(
        "memory", _DEFAULT_MEMORY
    )
    fields = {
        "storageUri": _model_uri(arm),
        "requirements": [spec.model_format],
        "memory": memory,
        "replicas": spec.replicas,
        "server": spec.runtime,
        "secretName": arm.storage.secret,
    }
    return [
        {
            "apiVersion": SELDON_MODEL.api_version,
            "kind": SELDON_MODEL.kind,
            "metadata": {
                "name": arm.name,
                "labels": dict(arm.labels),
                "annotations": dict(spec.annotations),
            },
            "spec": {name: value for name, value in fields.items() if value},
        }
    ]


def failure(thing: Mapping[str, Any]) -> str:
    """Why a SeldonDeployment cannot come up, as Seldon says; empty while it may."""
    status = thing.get("status", {})
    return str(status.get("description", "no description")) if status.get("state") == "Failed" else ""


def is_ready(thing: Mapping[str, Any]) -> bool:
    """Whether a SeldonDeployment is up."""
    return bool(thing.get("status", {}).get("state") == "Available")


def model_failure(thing: Mapping[str, Any]) -> str:
    """Why a Model cannot come up, as Seldon says; empty while it may."""
    for condition in thing.get("status", {}).get("conditions", []):
        if condition["type"] == "ModelReady" and condition["status"] == "False":
            reason = str(condition.get("reason", ""))
            if "Failed" in reason:
                return f"{reason}: {condition.get('message', '')}"
    return ""


def model_is_ready(thing: Mapping[str, Any]) -> bool:
    """Whether a Model is loaded on a Server."""
    conditions = thing.get("status", {}).get("conditions", [])
    return any(one["type"] == "ModelReady" and one["status"] == "True" for one in conditions)


def host_and_port(arm: DeployedArm, spec: ServingSpec, namespace: str) -> tuple[str, int]:
    """Where a SeldonDeployment's predictor listens inside of the cluster."""
    ports = _ORCHESTRATOR_PORTS if spec.orchestrator else _BARE_PORTS
    return f"{arm.name}-{PREDICTOR}.{namespace}.svc", ports[spec.protocol]


def _model_uri(arm: DeployedArm) -> str:
    """Seldon's loader is rclone: MinIO is S3 there."""
    return str(arm.model).replace("minio://", "s3://", 1)


def _refuse_checksum(arm: DeployedArm) -> None:
    if arm.model.sha256:
        raise ModelUriError("model", str(arm.model), "Seldon loads the model itself and verifies no checksum")
