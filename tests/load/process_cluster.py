"""A cluster played by this machine: a Job's pods are processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from model_load_test.components.cluster.kinds import JOB, NODE, POD, SERVICE, Kind


@dataclass
class ProcessCluster:
    """As much of a cluster as a load Job asks for: its pods are processes of this machine."""

    namespace: str = "here"
    nodes: Mapping[str, Any] = field(default_factory=dict)
    services: Mapping[str, Any] = field(default_factory=dict)
    server_pods: list[dict[str, Any]] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of the generators, beside what the manifest says."""
    jobs: dict[str, Any] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    created: list[dict[str, Any]] = field(default_factory=list)
    client: Any = field(
        default_factory=lambda: SimpleNamespace(configuration=SimpleNamespace(host="https://127.0.0.1:6443"))
    )

    def __post_init__(self) -> None:
        os.environ["MODEL_LOAD_TEST_ADDRESS"] = "127.0.0.1"  # where these pods reach their coordinator

    def needing(self, rights: Any) -> ProcessCluster:
        return self

    def require_rights(self) -> None:
        pass

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self.created.append(manifest)
        self.jobs[manifest["metadata"]["name"]] = manifest
        spec = manifest["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        given = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        for index in range(manifest["spec"]["completions"]):
            environment = {
                **os.environ,
                **given,
                "JOB_COMPLETION_INDEX": str(index),
                "MODEL_LOAD_TEST_NODE": f"node-{index}",
                **self.environment,
            }
            command = [sys.executable, *container["command"][1:]]
            self.processes.append(subprocess.Popen(command, env=environment))
        return manifest

    def get(self, kind: Kind, name: str) -> Any:
        return {JOB: self.jobs, NODE: self.nodes, SERVICE: self.services}.get(kind, {}).get(name)

    def list(self, kind: Kind, selector: str = "", *, fields: str = "") -> Any:
        if kind is JOB:
            return [
                {
                    **job,
                    "metadata": {**job["metadata"], "creationTimestamp": "2026-01-01T00:00:00Z"},
                }
                for job in self.jobs.values()
            ]
        if kind is not POD:
            return []
        if "app=" in selector:
            return self.server_pods
        return [self._pod(index) for index in range(len(self.processes))] if self.jobs else []

    def events(self, name: str) -> list[Any]:
        return []

    def log(self, pod: str, container: str = "", **_: Any) -> str:
        return ""

    def delete(self, kind: Kind, name: str, **_: Any) -> bool:
        for process in self.processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.terminate()
        for process in self.processes:
            process.wait(timeout=20)
        return self.jobs.pop(name, None) is not None

    def _pod(self, index: int) -> dict[str, Any]:
        code = self.processes[index].poll()
        phase = "Running" if code is None else "Failed" if code else "Succeeded"
        ended = {"terminated": {"exitCode": code, "reason": "Error", "message": "last words"}}
        return {
            "metadata": {
                "name": f"pod-{index}",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
                "labels": {},
            },
            "spec": {"nodeName": f"node-{index}"},
            "status": {
                "phase": phase,
                "containerStatuses": [
                    {"name": "generator", "restartCount": 0, "state": ended if code is not None else {}}
                ],
            },
        }
