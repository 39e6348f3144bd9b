"""The pod of a model server that we deploy ourselves: model loader, server, volumes, security, probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from model_load_test.components.cluster.kinds import DEPLOYMENT, SERVICE
from model_load_test.components.cluster.labels import ARM, RUN, TASK
from model_load_test.components.cluster.pods import (
    CONTAINER_SECURITY,
    NO_SIDECAR,
    POD_SECURITY,
    SCRATCH_MOUNT,
    SCRATCH_VOLUME,
)
from model_load_test.components.serving.arm import DeployedArm
from model_load_test.components.serving.model_loading import CLAIM_MOUNT, Layout
from model_load_test.components.serving.model_uri import Storage, parse_model_uri
from model_load_test.components.serving.spec import ServingSpec
from model_load_test.components.serving.triton_configuration import configuration_text

SERVER: Final = "server"
LOADER: Final = "model"
"""Names of the two containers."""

MODELS: Final = "/models"
"""Where the loader puts the model's folder."""

_GOOGLE_KEY_FOLDER: Final = "/storage-secret"
_STARTUP_PERIOD_SECONDS: Final = 1


def deployment(
    arm: DeployedArm,
    spec: ServingSpec,
    container: Mapping[str, Any],
    *,
    layout: Layout,
    volumes: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The Deployment of one arm.

    Args:
        arm: Whose.
        spec: How.
        container: The server's container, without what every server's has.
        layout: How the server wants the model.
        volumes: Further volumes that the container mounts.
    """
    pod_spec: dict[str, Any] = {
        "securityContext": dict(POD_SECURITY),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": spec.grace_seconds,
        "initContainers": [_loader(arm, spec, layout)],
        "containers": [_server(spec, container)],
        "volumes": [{"name": "models", "emptyDir": {}}, dict(SCRATCH_VOLUME), *volumes, *_sources(arm, spec)],
    }
    if spec.service_account:
        pod_spec["serviceAccountName"] = spec.service_account
        # An identity that the provider exchanges for the bucket's is told apart by the token.
        pod_spec["automountServiceAccountToken"] = True
    if spec.image_pull_secrets:
        pod_spec["imagePullSecrets"] = [{"name": name} for name in spec.image_pull_secrets]
    pod_spec = spec.placement.on(pod_spec)
    pod_spec["affinity"] = with_arrangement(pod_spec.get("affinity", {}), arm, spec)
    if not pod_spec["affinity"]:
        del pod_spec["affinity"]
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": {"name": arm.name, "labels": dict(arm.labels)},
        "spec": {
            "replicas": spec.replicas,
            "selector": {"matchLabels": dict(arm.labels)},
            # Two generations of a server side by side would share the load, and be measured as one.
            "strategy": {"type": "Recreate"},
            "template": {
                "metadata": {
                    "labels": {**arm.labels, **NO_SIDECAR},
                    "annotations": {**NO_SIDECAR, **spec.annotations},
                },
                "spec": pod_spec,
            },
        },
    }


def service(arm: DeployedArm, ports: Mapping[str, int]) -> dict[str, Any]:
    """The Service of one arm: a port by the name of each protocol."""
    return {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.kind,
        "metadata": {"name": arm.name, "labels": dict(arm.labels)},
        "spec": {
            "selector": dict(arm.labels),
            "ports": [
                {"name": name, "port": port, "targetPort": port, "protocol": "TCP", "appProtocol": name}
                for name, port in ports.items()
            ],
        },
    }


def startup_probe(spec: ServingSpec, probe: Mapping[str, Any]) -> dict[str, Any]:
    """Asks every second until the server is up, and then no more: probes would be measured too."""
    return {
        **probe,
        "periodSeconds": _STARTUP_PERIOD_SECONDS,
        "timeoutSeconds": 5,
        "failureThreshold": max(1, int(spec.ready_seconds) // _STARTUP_PERIOD_SECONDS),
    }


def with_arrangement(affinity: Mapping[str, Any], arm: DeployedArm, spec: ServingSpec) -> dict[str, Any]:
    """The affinity with what puts candidate and baseline apart, or together."""
    if spec.arrangement == "any":
        return dict(affinity)
    kind = "podAntiAffinity" if spec.arrangement == "apart" else "podAffinity"
    both = {name: arm.labels[name] for name in (RUN, TASK)}
    selector: dict[str, Any] = {"matchLabels": both}
    if spec.arrangement == "apart":
        # Replicas of one arm may share a node; the two arms may not.
        selector["matchExpressions"] = [{"key": ARM, "operator": "NotIn", "values": [arm.arm]}]
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}
    rules = "requiredDuringSchedulingIgnoredDuringExecution"
    own = affinity.get(kind, {})
    return {**affinity, kind: {**own, rules: [*own.get(rules, []), term]}}


def _server(spec: ServingSpec, container: Mapping[str, Any]) -> dict[str, Any]:
    mounts = [{"name": "models", "mountPath": MODELS, "readOnly": True}, dict(SCRATCH_MOUNT)]
    complete = {
        "name": SERVER,
        "image": spec.server_image,
        "imagePullPolicy": spec.image_pull_policy,
        "securityContext": dict(CONTAINER_SECURITY),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **container,
        "env": [*container.get("env", []), *(dict(one) for one in spec.environment)],
        "volumeMounts": [*mounts, *container.get("volumeMounts", [])],
    }
    if spec.resources:
        complete["resources"] = {part: dict(amounts) for part, amounts in spec.resources.items()}
    return complete


def _loader(arm: DeployedArm, spec: ServingSpec, layout: Layout) -> dict[str, Any]:
    uri = f"{arm.model}#sha256={arm.model.sha256}" if arm.model.sha256 else str(arm.model)
    arguments = ["--uri", uri, "--into", f"{MODELS}/{spec.model_name}", "--layout", layout]
    if spec.warmup:
        arguments += ["--warmup", spec.warmup]
    if spec.model_configuration:
        arguments += ["--configuration", configuration_text(spec.model_configuration)]
    mounts: list[dict[str, Any]] = [{"name": "models", "mountPath": MODELS}, dict(SCRATCH_MOUNT)]
    if "pvc" in _schemes(arm, spec):
        mounts.append({"name": "claim", "mountPath": str(CLAIM_MOUNT), "readOnly": True})
    environment = storage_environment(arm.storage, _schemes(arm, spec))
    if any(one["name"] == "GOOGLE_APPLICATION_CREDENTIALS" for one in environment):
        mounts.append({"name": "storage-secret", "mountPath": _GOOGLE_KEY_FOLDER, "readOnly": True})
    loader = {
        "name": LOADER,
        "image": arm.loader_image,
        "imagePullPolicy": spec.image_pull_policy,
        "command": ["python3", "-m", "model_load_test.components.serving.model_loading"],
        "args": arguments,
        "env": [{"name": "HOME", "value": "/tmp"}, *environment],
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": mounts,
    }
    if spec.resources:
        # A quota on limits counts init containers too; they run before the server, and not beside it.
        loader["resources"] = {part: dict(amounts) for part, amounts in spec.resources.items()}
    return loader


def storage_environment(storage: Storage, schemes: set[str]) -> list[dict[str, Any]]:
    """The loader's environment: whose credentials are used is said by name, the Secret stays where it is."""
    environment: list[dict[str, Any]] = []
    if schemes & {"s3", "minio"}:
        if storage.endpoint:
            environment.append({"name": "AWS_ENDPOINT_URL", "value": storage.endpoint})
        if storage.region:
            environment.append({"name": "AWS_DEFAULT_REGION", "value": storage.region})
        if storage.secret:
            environment += [
                _from_secret("AWS_ACCESS_KEY_ID", storage.secret, storage.access_key),
                _from_secret("AWS_SECRET_ACCESS_KEY", storage.secret, storage.secret_key),
            ]
    if "gs" in schemes and storage.secret:
        path = f"{_GOOGLE_KEY_FOLDER}/{storage.token_key}"
        environment.append({"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": path})
    return environment


def _from_secret(name: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _schemes(arm: DeployedArm, spec: ServingSpec) -> set[str]:
    schemes = {arm.model.scheme}
    return schemes | {parse_model_uri(spec.warmup, "warmup").scheme} if spec.warmup else schemes


def _sources(arm: DeployedArm, spec: ServingSpec) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = []
    schemes = _schemes(arm, spec)
    if "pvc" in schemes:
        claim = arm.model.place if arm.model.scheme == "pvc" else parse_model_uri(spec.warmup).place
        volumes.append({"name": "claim", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    if "gs" in schemes and arm.storage.secret:
        volumes.append({"name": "storage-secret", "secret": {"secretName": arm.storage.secret}})
    return volumes
