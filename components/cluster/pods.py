"""What every pod of ours has in common: it runs under the restricted Pod Security profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

USER_ID: Final = 65532
"""The user of our images, and the one other images are made to run as."""

POD_SECURITY: Final[Mapping[str, Any]] = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "fsGroup": USER_ID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

NO_SIDECAR: Final[Mapping[str, str]] = {"sidecar.istio.io/inject": "false"}
"""Label and annotation of pods that no service mesh may put a proxy into: it would be measured too."""

SCRATCH_VOLUME: Final[Mapping[str, Any]] = {"name": "scratch", "emptyDir": {}}
SCRATCH_MOUNT: Final[Mapping[str, str]] = {"name": "scratch", "mountPath": "/tmp"}
"""A writable /tmp in a container whose root file system is read-only."""
