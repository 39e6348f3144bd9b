"""Runs the task `run_load_job` on a cluster as Kubeflow would: by its executor input, with its Role only.

Beside the task run a container that keeps the pod, and with it the results, when the task has ended,
and one that stands between the task and the API server, to take that away.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes
import yaml
from cluster_api import RESTRICTED_CONTAINER, RUN_LABEL, Kube, Manifest, wait_for
from cluster_fixtures import Server, restricted_pod
from kubernetes.stream import stream

from model_load_test.components.results.table import Results, read_results

FEATURES = Path(__file__).parents[2] / "manifests" / "features"
ACCOUNT = "model-load-test"
WORK = "/scratch"
KEEPER_PORT = 8080
PROXY_PORT = 6444
END_SECONDS = 150.0
LOADING_SECONDS = 90.0

QUICK: Mapping[str, Any] = {
    "model_name": "digits",
    "mode": "auto",
    "rate_rps": 60.0,
    "block_seconds": 0.5,
    "looks": [200],
    "warmup_seconds": 0.5,
    "timeout_seconds": 2.0,
    "generators": 2,
    "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}},
    "keep_off_servers": "preferred",
    "margins": {"mean": 3.0, "p50": 3.0, "p95": 5.0, "p99": 9.0},
}
"""A load that no busy test machine is troubled by; it would last for minutes if nothing ended it."""

MAKE_PAYLOAD = """\
import sys
from pathlib import Path
from model_load_test.components.payload.make import make_payload
from model_load_test.components.protocols.endpoint import parse_endpoint
make_payload(parse_endpoint(sys.argv[1]), model_name="digits", out_dir=Path(sys.argv[2]), requests=50)
"""

KEEP = f"""\
import http.server, functools
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="{WORK}")
http.server.ThreadingHTTPServer(("", {KEEPER_PORT}), handler).serve_forever()
"""

PROXY = f"""\
import asyncio, os, pathlib
away, host = pathlib.Path("{WORK}/api-away"), os.environ["KUBERNETES_SERVICE_HOST"]
port = int(os.environ["KUBERNETES_SERVICE_PORT"])
async def pump(reader, writer):
    try:
        while not away.exists():
            try:
                data = await asyncio.wait_for(reader.read(65536), 0.5)
            except asyncio.TimeoutError:
                continue
            if not data:
                break
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
async def connected(reader, writer):
    if away.exists():
        writer.transport.abort()
        return
    there = await asyncio.open_connection(host, port)
    await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))
async def main():
    server = await asyncio.start_server(connected, "127.0.0.1", {PROXY_PORT})
    await server.serve_forever()
asyncio.run(main())
"""


@dataclass(frozen=True)
class LoadJobRun:
    """One pod that runs `run_load_job`."""

    kube: Kube
    namespace: str
    name: str
    run_id: str

    @property
    def path(self) -> str:
        """The pod's path in the API."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    def log(self) -> str:
        """What the task has said."""
        return self.kube.log(self.namespace, self.name, container="main")

    def wait_until_loading(self) -> None:
        """Returns when some pairs have been measured and more are being so."""
        wait_for(f"load by {self.name}", LOADING_SECONDS, lambda: self._measures() or self._ended())
        assert not self._ended(), f"it ended before it loaded:\n{self.log()}"

    def _measures(self) -> bool:
        return re.search(r"(pair|block) \d+ of", self.log()) is not None

    def generators(self) -> list[Manifest]:
        """The generators' pods."""
        selector = f"{RUN_LABEL}={self.run_id},app.kubernetes.io/component=generator"
        return self.kube.pods(self.namespace, selector)

    def end(self, seconds: float = END_SECONDS) -> int:
        """The task's exit code, once it has ended."""
        ended = wait_for(f"the end of {self.name}", seconds, self._ended)
        print(self.log())
        return int(ended["exitCode"])

    def results(self, folder: Path) -> Results:
        """The rows the task has written."""
        file = folder / f"{self.name}.parquet"
        file.write_bytes(self.kube.read(f"{self.path}:{KEEPER_PORT}/proxy/results"))
        return read_results(file)

    def objects(self) -> list[str]:
        """Everything in the namespace that belongs to the run."""
        return self.kube.objects_of_runs(self.namespace, self.run_id)

    def execute(self, container: str, *command: str) -> str:
        """Runs a command in one of the pod's containers."""
        return execute(self.kube, self.namespace, self.name, container, *command)

    def _ended(self) -> Manifest | None:
        statuses = (self.kube.get(self.path) or {}).get("status", {}).get("containerStatuses", [])
        for status in statuses:
            if status["name"] == "main" and "terminated" in status["state"]:
                terminated: Manifest = status["state"]["terminated"]
                return terminated
        return None


@dataclass(frozen=True)
class LoadJobPods:
    """Starts such pods in one namespace."""

    kube: Kube
    namespace: str
    image: str
    started: list[LoadJobRun] = field(default_factory=list)

    def start(
        self,
        candidate: Server | str,
        baseline: Server | str = "",
        *,
        run_id: str = "",
        owned: bool = True,
        behind_proxy: bool = False,
        results_volume: Manifest | None = None,
        **parameters: Any,
    ) -> LoadJobRun:
        """Starts the task.

        Args:
            candidate: The candidate's server, or an endpoint.
            baseline: The baseline's; empty for none.
            run_id: The pipeline run; a new one by default.
            owned: Whether the task knows its own pod, as in KFP.
            behind_proxy: Whether the API server is reached by the proxy that `api-away` shuts.
            results_volume: Where the results go, instead of the pod's work folder.
            parameters: Of `run_load_job`, over those of `QUICK`.
        """
        run = run_id or f"run-{uuid.uuid4().hex[:10]}"
        name = f"task-{uuid.uuid4().hex[:8]}"
        values = {
            **QUICK,
            "candidate_endpoint": _endpoint(candidate),
            "baseline_endpoint": _endpoint(baseline),
            "generator_image": "" if owned else self.image,
            "run_id": run,
            "task_id": "load",
            **parameters,
        }
        pod = self._pod(name, values, owned=owned, behind_proxy=behind_proxy, results_volume=results_volume)
        self.kube.create(pod, namespace=self.namespace)
        self.started.append(LoadJobRun(self.kube, self.namespace, name, run))
        return self.started[-1]

    def remove(self) -> None:
        """Removes the tasks' pods."""
        for run in self.started:
            self.kube.delete(run.path, gracePeriodSeconds=0)

    def _pod(
        self,
        name: str,
        values: Mapping[str, Any],
        *,
        owned: bool,
        behind_proxy: bool,
        results_volume: Manifest | None,
    ) -> Manifest:
        results = "/results/results" if results_volume else f"{WORK}/results"
        executor_input = {
            "inputs": {
                "parameterValues": dict(values),
                "artifacts": {
                    "payload": {
                        "artifacts": [{"name": "1", "uri": "minio://p", "customPath": f"{WORK}/payload"}]
                    }
                },
            },
            "outputs": {
                "artifacts": {
                    "results": {"artifacts": [{"name": "2", "uri": "minio://r", "customPath": results}]}
                },
                "outputFile": f"{WORK}/executor_output.json",
            },
        }
        script = (
            'python3 -c "$MAKE_PAYLOAD" "$1" /scratch/payload'
            ' && exec python3 -u -m model_load_test.components.tasks run_load_job "$2"'
        )
        command = ["sh", "-c", script, "task", values["candidate_endpoint"], json.dumps(executor_input)]
        pod = restricted_pod(name, self.image, command)
        spec = pod["spec"]
        spec["serviceAccountName"] = ACCOUNT
        spec["volumes"].append({"name": "work", "emptyDir": {}})
        (main,) = spec["containers"]
        main["volumeMounts"].append({"name": "work", "mountPath": WORK})
        main["env"] = [{"name": "MAKE_PAYLOAD", "value": MAKE_PAYLOAD}]
        if owned:
            field_ref = {"fieldRef": {"fieldPath": "metadata.name"}}
            main["env"].append({"name": "KFP_POD_NAME", "valueFrom": field_ref})
        if results_volume:
            spec["volumes"].append({"name": "results", **results_volume})
            main["volumeMounts"].append({"name": "results", "mountPath": "/results"})
        spec["containers"].append(self._side("keeper", KEEP))
        if behind_proxy:
            main["env"] += [
                {"name": "KUBERNETES_SERVICE_HOST", "value": "localhost"},
                {"name": "KUBERNETES_SERVICE_PORT", "value": str(PROXY_PORT)},
            ]
            spec["containers"].append(self._side("proxy", PROXY))
        return pod

    def _side(self, name: str, script: str) -> Manifest:
        return {
            "name": name,
            "image": self.image,
            "command": ["python3", "-u", "-c", script],
            "securityContext": dict(RESTRICTED_CONTAINER),
            "volumeMounts": [{"name": "work", "mountPath": WORK}],
        }


def grant(kube: Kube, namespace: str, *features: str) -> None:
    """Creates the tasks' ServiceAccount in a namespace and gives it the Roles of these features."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}}
    kube.create(account, namespace=namespace)
    for feature in features:
        for document in ("role.yaml", "role-binding.yaml"):
            kube.create(yaml.safe_load((FEATURES / feature / document).read_text()), namespace=namespace)


def execute(kube: Kube, namespace: str, pod: str, container: str, *command: str) -> str:
    """Runs a command in a container and returns what it says."""
    # exec turns the client it is given into one for web sockets, hence one of its own
    client = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(kube.api.configuration))
    said: str = stream(
        client.connect_get_namespaced_pod_exec,
        pod,
        namespace,
        container=container,
        command=list(command),
        stderr=True,
        stdin=False,
        stdout=True,
        tty=False,
    )
    return said


def _endpoint(server: Server | str) -> str:
    return server if isinstance(server, str) else server.grpc
