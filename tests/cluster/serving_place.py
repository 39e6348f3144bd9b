"""A namespace with models in it, for tests that deploy servers."""

from __future__ import annotations

import base64
import io
import tarfile
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from cluster_api import Kube, wait_for
from cluster_fixtures import Images, restricted_pod

from model_load_test.components.cluster.connection import Cluster, connect
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.serving.deploy import Deployment
from model_load_test.components.serving.model_uri import parse_model_uri
from model_load_test.components.serving.spec import parse_serving_spec


def packed_model(content: bytes) -> bytes:
    """An archive with the files of a SavedModel, as far as a loader looks at them."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo("digits/1/saved_model.pb")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@dataclass(frozen=True)
class Place:
    """A namespace with models in it, and who may work there."""

    cluster: Cluster
    images: Images
    models: str

    def deployment(self, run: str = "", task: str = "deploy", **spec: Any) -> Deployment:
        """Two arms of the embedded server."""
        given = {"kind": "embedded", "image": self.images.embedded_server, "model_name": "digits", **spec}
        return Deployment(
            identity=RunIdentity(run or f"run-{uuid.uuid4().hex[:6]}", task),
            spec=parse_serving_spec({"ready_seconds": 90, "grace_seconds": 1, **given}),
            models={
                "candidate": parse_model_uri(f"{self.models}/new.tar.gz"),
                "baseline": parse_model_uri(f"{self.models}/old.tar.gz"),
            },
            loader_image=self.images.load_test,
        )


@pytest.fixture
def place(kube: Kube, namespace: str, images: Images) -> Place:
    """The namespace, with a web server that has two models."""
    return place_in(kube, namespace, images)


def place_in(kube: Kube, namespace: str, images: Images) -> Place:
    files = {
        "new.tar.gz": packed_model(b"new"),
        "old.tar.gz": packed_model(b"old"),
        "none.tar.gz": packed_none(),
    }
    web = restricted_pod(
        "models", images.load_test, ["python3", "-m", "http.server", "8000", "-d", "/models"]
    )
    web["metadata"]["labels"] = {"app": "models"}
    web["spec"]["volumes"].append({"name": "models", "configMap": {"name": "models"}})
    (container,) = web["spec"]["containers"]
    container["volumeMounts"].append({"name": "models", "mountPath": "/models"})
    container["readinessProbe"] = {"tcpSocket": {"port": 8000}, "periodSeconds": 1}
    kube.create(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "models"},
            "binaryData": {name: base64.b64encode(content).decode() for name, content in files.items()},
        },
        web,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "models"},
            "spec": {"selector": {"app": "models"}, "ports": [{"port": 8000}]},
        },
        namespace=namespace,
    )
    path = f"/api/v1/namespaces/{namespace}/pods/models"
    wait_for("the web server with the models", 60, lambda: is_ready(kube.get(path)))
    return Place(connect(namespace), images, f"http://models.{namespace}.svc:8000")


def packed_none() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("digits/readme.txt"), io.BytesIO())
    return packed.getvalue()


def is_ready(pod: dict[str, Any] | None) -> bool:
    conditions = (pod or {}).get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
