"""What the place a process runs in says by itself: KFP's launcher, the pod's environment, Vertex.

User code in a KFP pod gets neither the address of the metadata service nor its own run's id by its
environment: KFP hands both to its launcher only. But the launcher is the parent of user code, and a
process may read its ancestors' command lines.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

_LAUNCHER_FLAGS: Final = (
    "mlmd_server_address",
    "mlmd_server_port",
    "metadata_tls_enabled",
    "ml_pipeline_server_address",
    "ml_pipeline_tls_enabled",
    "ca_cert_path",
    "run_id",
    "task_id",
)
_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MOST_ANCESTORS: Final = 32


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about the place; empty where there is nothing to know."""

    environment: Mapping[str, str] = {}
    launcher: Mapping[str, str] = {}
    """Flags of the KFP launcher that runs this process; without the ones left empty."""
    namespace: str = ""
    """The pod's namespace."""

    @property
    def in_pod(self) -> bool:
        """Whether Kubernetes runs this process."""
        return "KUBERNETES_SERVICE_HOST" in self.environment


def here(processes: Path = Path("/proc")) -> Surroundings:
    """Looks around this process.

    Args:
        processes: Where the system shows its processes; elsewhere than Linux there is nothing.
    """
    return Surroundings(
        environment=dict(os.environ),
        launcher=_launcher_flags(processes, os.getppid()),
        namespace=_pod_namespace(),
    )


def _launcher_flags(processes: Path, process: int) -> dict[str, str]:
    for _ in range(_MOST_ANCESTORS):
        if process < 1:
            break
        flags = _flags(_arguments(processes / str(process) / "cmdline"))
        if "run_id" in flags and {"mlmd_server_address", "ml_pipeline_server_address"} & flags.keys():
            return flags
        process = _parent(processes / str(process) / "status")
    return {}


def _arguments(command_line: Path) -> list[str]:
    try:
        return command_line.read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _flags(arguments: list[str]) -> dict[str, str]:
    """Go's four ways to write a flag: `-name value`, `--name value`, `-name=value`, `--name=value`."""
    flags = {}
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        found = re.fullmatch(r"--?([a-z_]+)(=.*)?", argument, re.DOTALL)
        if found and found[1] in _LAUNCHER_FLAGS and found[1] not in flags:
            flags[found[1]] = found[2][1:] if found[2] else following
    return {name: value for name, value in flags.items() if value}


def _parent(status: Path) -> int:
    try:
        found = re.search(r"^PPid:\s*(\d+)$", status.read_text(encoding="utf-8", errors="replace"), re.M)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _pod_namespace() -> str:
    try:
        return (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
