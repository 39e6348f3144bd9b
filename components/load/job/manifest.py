"""The Indexed Job of generators as a manifest: where its pods run, what they may do, when they must end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from model_load_test.components.cluster.kinds import JOB
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.cluster.names import object_name
from model_load_test.components.load.job.spec import JobSpec

GENERATOR_PART: Final = "generator"
"""Value of the label `app.kubernetes.io/component` on the generators."""

COORDINATOR: Final = "MODEL_LOAD_TEST_COORDINATOR"
TOKEN: Final = "MODEL_LOAD_TEST_TOKEN"
INDEX: Final = "JOB_COMPLETION_INDEX"
POD_NAME: Final = "MODEL_LOAD_TEST_POD"
NODE_NAME: Final = "MODEL_LOAD_TEST_NODE"

_USER: Final = 65532
_NODE: Final = "kubernetes.io/hostname"
_GRACE_SECONDS: Final = 30
"""A generator that is told to stop waits for the answers it is owed, then brings its rows."""
_SCRATCH: Final = "/tmp"
"""The pod's own, an emptyDir; all else is read-only."""


@dataclass(frozen=True)
class Servers:
    """The pods that generators are to keep off, by namespace and labels."""

    namespace: str
    labels: Mapping[str, str]


def job_name(identity: RunIdentity) -> str:
    """The name of a run's load Job."""
    return object_name("mlt-load", identity.run, identity.task)


def generator_selector(identity: RunIdentity) -> str:
    """Selects the pods of a run's load Job."""
    return f"{identity.selector},app.kubernetes.io/component={GENERATOR_PART}"


def job_manifest(
    spec: JobSpec,
    identity: RunIdentity,
    *,
    image: str,
    coordinator: str,
    token: str,
    deadline_seconds: float,
    servers: Sequence[Servers] = (),
) -> dict[str, Any]:
    """The Job.

    Args:
        spec: What the user asked for.
        identity: The run and the task; labels and name come from it.
        image: Image of the generators.
        coordinator: `HOST:PORT` that the generators call.
        token: What they show there.
        deadline_seconds: After which the cluster itself ends the generators.
        servers: Whose nodes to keep off.
    """
    labels = identity.labels(GENERATOR_PART)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **(spec.pod or {}),
        "topologySpreadConstraints": _spread(spec, labels),
        "containers": [_container(spec, image, coordinator, token)],
        "volumes": _volumes(spec),
    }
    if spec.service_account:
        pod["serviceAccountName"] = spec.service_account
    placement = replace(spec.placement, affinity=_affinity(spec, servers))
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": {"name": job_name(identity), "labels": labels},
        "spec": {
            "completionMode": "Indexed",
            "completions": spec.generators,
            "parallelism": spec.generators,
            # A generator that is started again would load a block that the others have left behind.
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": round(deadline_seconds),
            "ttlSecondsAfterFinished": spec.ttl_seconds,
            "template": {
                "metadata": {
                    # A sidecar would be measured along, and would keep a finished pod running.
                    "labels": {**labels, "sidecar.istio.io/inject": "false"},
                    "annotations": {
                        "sidecar.istio.io/inject": "false",
                        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                        **(spec.annotations or {}),
                    },
                },
                "spec": placement.on(pod),
            },
        },
    }


def _container(spec: JobSpec, image: str, coordinator: str, token: str) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [{"name": "scratch", "mountPath": _SCRATCH}]
    mounts += [
        {"name": f"secret-{index}", "mountPath": folder, "readOnly": True}
        for index, folder in enumerate(spec.secrets or {})
    ]
    return {
        "name": "generator",
        "image": image,
        "command": ["python3", "-m", "model_load_test.components.load.job.generator"],
        "env": [
            {"name": COORDINATOR, "value": coordinator},
            {"name": TOKEN, "value": token},
            _from_field(POD_NAME, "metadata.name"),
            _from_field(NODE_NAME, "spec.nodeName"),
        ],
        "resources": {part: dict(quantities) for part, quantities in (spec.resources or {}).items()},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # So that the end of the log stands in the pod's status, which needs no right to read logs.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _from_field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _volumes(spec: JobSpec) -> list[dict[str, Any]]:
    secrets = [
        {"name": f"secret-{index}", "secret": {"secretName": secret, "defaultMode": 0o440}}
        for index, secret in enumerate((spec.secrets or {}).values())
    ]
    own = list((spec.pod or {}).get("volumes", []))
    return [{"name": "scratch", "emptyDir": {"sizeLimit": "8Gi"}}, *secrets, *own]


def _spread(spec: JobSpec, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    if spec.spread == "off":
        return []
    return [
        {
            "maxSkew": 1,
            "topologyKey": _NODE,
            "whenUnsatisfiable": "DoNotSchedule" if spec.spread == "required" else "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(labels)},
            # Nodes whose taints keep generators off must not count as places left empty.
            "nodeTaintsPolicy": "Honor",
        }
    ]


def _affinity(spec: JobSpec, servers: Sequence[Servers]) -> dict[str, Any]:
    affinity = {kind: dict(terms) for kind, terms in (spec.placement.affinity or {}).items()}
    if spec.keep_off_servers == "off" or not servers:
        return affinity
    terms: list[dict[str, Any]] = [
        {
            "topologyKey": _NODE,
            "namespaces": [one.namespace],
            "labelSelector": {"matchLabels": dict(one.labels)},
        }
        for one in servers
    ]
    key = f"{spec.keep_off_servers}DuringSchedulingIgnoredDuringExecution"
    if spec.keep_off_servers == "preferred":
        terms = [{"weight": 100, "podAffinityTerm": term} for term in terms]
    apart = affinity.setdefault("podAntiAffinity", {})
    apart[key] = [*apart.get(key, []), *terms]
    return affinity
