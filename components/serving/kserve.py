"""KServe: an InferenceService, and how to tell that it is up.

Deployed without Knative ("RawDeployment") and without autoscaling, so that as many replicas as were
asked for are measured, and no queue proxy is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from model_load_test.components.cluster.kinds import INFERENCE_SERVICE
from model_load_test.components.cluster.pods import NO_SIDECAR
from model_load_test.components.serving.arm import DeployedArm
from model_load_test.components.serving.model_uri import ModelUriError
from model_load_test.components.serving.server_pod import with_arrangement
from model_load_test.components.serving.spec import ServingSpec, ServingSpecError

PREDICTOR_LABEL: Final = "serving.kserve.io/inferenceservice"
_GRPC_PORT: Final = 9000
_NAMED_BY_FLAG: Final = ("tensorflow", "sklearn", "xgboost", "lightgbm", "paddle", "pmml", "huggingface")
"""Formats whose servers take `--model_name`."""


def manifests(arm: DeployedArm, spec: ServingSpec) -> list[dict[str, Any]]:
    """Everything of one arm."""
    if arm.model.sha256:
        raise ModelUriError("model", str(arm.model), "KServe loads the model itself and verifies no checksum")
    model: dict[str, Any] = {
        "modelFormat": {"name": spec.model_format},
        "storageUri": storage_uri(arm),
        "args": [*_name_flags(spec), *spec.flags],
        "env": [dict(one) for one in spec.environment],
        "resources": {part: dict(amounts) for part, amounts in spec.resources.items()},
        "image": spec.image,
        "runtime": spec.runtime,
    }
    if spec.protocol == "grpc":
        model["ports"] = [{"name": "h2c", "protocol": "TCP", "containerPort": _GRPC_PORT}]
    if arm.storage.secret:
        model["storage"] = {"key": arm.storage.secret}
    predictor = spec.placement.on(
        {
            "minReplicas": spec.replicas,
            "maxReplicas": spec.replicas,
            "serviceAccountName": spec.service_account,
            "terminationGracePeriodSeconds": spec.grace_seconds,
            "imagePullSecrets": [{"name": name} for name in spec.image_pull_secrets],
            "model": {name: value for name, value in model.items() if value},
            "labels": dict(arm.labels),
        }
    )
    predictor["affinity"] = with_arrangement(predictor.get("affinity", {}), arm, spec)
    return [
        {
            "apiVersion": INFERENCE_SERVICE.api_version,
            "kind": INFERENCE_SERVICE.kind,
            "metadata": {
                "name": arm.name,
                "labels": dict(arm.labels),
                "annotations": {
                    "serving.kserve.io/deploymentMode": "RawDeployment",
                    "serving.kserve.io/autoscalerClass": "none",
                    **NO_SIDECAR,
                    **spec.annotations,
                },
            },
            "spec": {"predictor": {name: value for name, value in predictor.items() if value}},
        }
    ]


def served_name(arm: DeployedArm, spec: ServingSpec) -> str:
    """The name by which the server knows the model: KServe's own is the InferenceService's."""
    return spec.model_name if _name_flags(spec) else arm.name


def _name_flags(spec: ServingSpec) -> list[str]:
    """What comes later wins: both arms know their model by one name, so that they can be sent the same."""
    return [f"--model_name={spec.model_name}"] if spec.model_format in _NAMED_BY_FLAG else []


def storage_uri(arm: DeployedArm) -> str:
    """The model's URI as KServe reads it.

    Raises:
        ServingSpecError: KServe has no scheme for it.
    """
    if arm.model.scheme == "minio":
        if not arm.storage.secret:
            raise ServingSpecError(
                "storage.secret",
                "",
                "KServe reads MinIO as s3://; name an entry of its storage-config Secret",
            )
        return str(arm.model).replace("minio://", "s3://", 1)
    return str(arm.model)


def failure(thing: Mapping[str, Any]) -> str:
    """Why the InferenceService cannot come up, as KServe says; empty while it may."""
    status = thing.get("status", {})
    told = status.get("modelStatus", {})
    info = told.get("lastFailureInfo", {})
    if told.get("transitionStatus") in ("InvalidSpec", "BlockedByFailedLoad"):
        return f"{told['transitionStatus']}: {info.get('reason', '')} {info.get('message', '')}".strip()
    return ""


def is_ready(thing: Mapping[str, Any]) -> bool:
    """Whether KServe calls it ready, and for this very spec."""
    status = thing.get("status", {})
    current = status.get("observedGeneration", 0) >= thing["metadata"].get("generation", 0)
    conditions = status.get("conditions", [])
    return current and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def url(thing: Mapping[str, Any]) -> str:
    """The address inside of the cluster, else the one outside; empty while there is none."""
    status = thing.get("status", {})
    inside = status.get("address", {}).get("url")
    components = status.get("components", {}).get("predictor", {})
    return str(inside or components.get("address", {}).get("url") or status.get("url") or "")


def grpc_port(thing: Mapping[str, Any]) -> int:
    """The port of its gRPC service."""
    model = thing.get("spec", {}).get("predictor", {}).get("model", {})
    for port in model.get("ports", []):
        if port.get("name") in ("h2c", "grpc", "grpc-port"):
            return int(port["containerPort"])
    return _GRPC_PORT
