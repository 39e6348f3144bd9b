"""Triton Inference Server as Deployment and Service."""

from __future__ import annotations

from typing import Any, Final

from model_load_test.components.serving.arm import DeployedArm
from model_load_test.components.serving.server_pod import MODELS, deployment, service, startup_probe
from model_load_test.components.serving.spec import ServingSpec

HTTP_PORT: Final = 8000
GRPC_PORT: Final = 8001
METRICS_PORT: Final = 8002


def manifests(arm: DeployedArm, spec: ServingSpec) -> list[dict[str, Any]]:
    """Everything of one arm, in the order of creation."""
    container = {
        "command": ["tritonserver"],
        "args": [*server_flags(spec)],
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT},
            {"name": "grpc", "containerPort": GRPC_PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        "startupProbe": startup_probe(spec, {"httpGet": {"path": "/v2/health/live", "port": "http"}}),
        # CUDA and the Python backend share memory under /dev/shm; Kubernetes' own 64 MiB are too few.
        "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],
    }
    volumes = [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}]
    return [
        deployment(arm, spec, container, layout="triton", volumes=volumes),
        service(arm, {"http": HTTP_PORT, "grpc": GRPC_PORT}),
    ]


def server_flags(spec: ServingSpec) -> tuple[str, ...]:
    """Triton's flags: the user's after ours.

    A model that cannot be loaded must not end the server: it is asked for the reason.
    """
    return (f"--model-repository={MODELS}", "--exit-on-error=false", *spec.flags)
