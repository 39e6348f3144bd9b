"""A CA and a token out of a Kubernetes secret: in the task's own pod, and in the generators of a load Job."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import trustme
from cluster_api import Kube, wait_for
from cluster_fixtures import Images, Server, restricted_pod
from kfp_steps import pipeline_runner
from load_job_pods import ACCOUNT, QUICK, grant

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

CANARY = "canary-3b9d27c4f1a860e5"
SECRET = "model-load-test-connection"
"""What the pipeline mounts by default."""
MOUNTED = "/var/run/secrets/model-load-test"
FRONT = Path(__file__).with_name("tls_front.py")


def create_secret(kube: Kube, namespace: str, name: str, **content: bytes) -> None:
    data = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in content.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
    kube.create(secret, namespace=namespace)


def start_front(kube: Kube, namespace: str, image: str, server: Server) -> str:
    """Starts the front of a server, with its secrets, and returns its endpoint."""
    host = f"front.{namespace}.svc"
    authority = trustme.CA()
    certificate = authority.issue_cert(host)
    create_secret(
        kube,
        namespace,
        "front",
        tls_crt=certificate.cert_chain_pems[0].bytes(),
        tls_key=certificate.private_key_pem.bytes(),
    )
    create_secret(kube, namespace, SECRET, ca_crt=authority.cert_pem.bytes(), token=f"{CANARY}\n".encode())
    pod = restricted_pod(
        "front", image, ["python3", "-c", FRONT.read_text(), server.grpc.removeprefix("grpc://")]
    )
    pod["metadata"]["labels"] = {"app": "front"}
    pod["spec"]["volumes"].append({"name": "certificates", "secret": {"secretName": "front"}})
    (container,) = pod["spec"]["containers"]
    container["volumeMounts"].append({"name": "certificates", "mountPath": "/certificates"})
    container["env"] = [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "token"}}},
    ]
    container["readinessProbe"] = {"tcpSocket": {"port": 8443}, "periodSeconds": 1}
    ports = [{"name": "grpc", "port": 8443, "targetPort": 8443}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "front"},
        "spec": {"selector": {"app": "front"}, "ports": ports},
    }
    kube.create(pod, service, namespace=namespace)
    path = f"/api/v1/namespaces/{namespace}/pods/front"
    wait_for("readiness of the front", 60, lambda: is_ready(kube.get(path)))
    return f"grpcs://{host}:8443"


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@pytest.mark.parametrize("generators", [1, 2])
def test_ca_and_token_of_a_secret_are_used_and_seen_nowhere(
    generators: int,
    kube: Kube,
    namespace: str,
    images: Images,
    deploy_server: Callable[..., Server],
    compiled_pipelines: Path,
) -> None:
    grant(kube, namespace, "load-job")
    endpoint = start_front(kube, namespace, images.embedded_server, deploy_server("candidate", delay_ms=5))
    pods = {
        "keep_off_servers": "preferred",
        "resources": QUICK["resources"],
        "secrets": {MOUNTED: SECRET},
    }
    with pipeline_runner(kube, namespace, images.load_test) as runner:
        run = runner.run(
            compiled_pipelines / "kubeflow.yaml",
            {
                "candidate_endpoint": endpoint,
                "model_name": "digits",
                "rate_rps": 40.0,
                "block_seconds": 0.5,
                "looks": [2],
                "warmup_seconds": 0.5,
                "payload_requests": 20,
                "connection": {"ca_file": f"{MOUNTED}/ca.crt", "token_file": f"{MOUNTED}/token"},
                "generators": generators,
                "generator_pods": pods if generators > 1 else {},
            },
            service_account=ACCOUNT,
        )
        logs = "\n".join(f"{name}: {step.state}\n{step.log[-2000:]}" for name, step in run.steps.items())
        assert run.succeeded, logs
        results = run.artifact("run-load-test", "results")
        page = run.artifact("write-report", "page")
        report = run.artifact("compare-to-baseline", "report")
    rows = pq.read_table(io.BytesIO(results))
    assert rows.num_rows >= 40
    assert pc.all(rows["ok"]).as_py(), rows["error"].unique()
    assert set(rows["worker"].to_pylist()) == set(range(generators))
    told = "".join(step.log + json.dumps(step.spec) for step in run.steps.values())
    events = json.dumps(kube.items(f"/api/v1/namespaces/{namespace}/events"))
    for one in (
        results,
        page,
        report,
        told.encode(),
        str(rows.to_pylist()).encode(),
        events.encode(),
    ):
        assert CANARY.encode() not in one
