"""Fixtures for tests on a cluster. A folder's conftest.py imports those it uses:

    sys.path.insert(0, str(Path(__file__).parent.parent / "cluster"))
    from cluster_fixtures import deploy_server, images, kube, namespace

A test runs only where someone has said so: KUBECONFIG names the cluster, and MODEL_LOAD_TEST_CLUSTER
says what may be done to it: `shared` (namespaces of our own) or `disposable` (nodes tainted, drained and
stopped too). `make test-cluster` sets it. `sample` is for CI: on a disposable cluster the tests marked
`sampled`, some minutes of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster_api import RESTRICTED_CONTAINER, RESTRICTED_POD, Kube, Manifest, connect, wait_for

from model_load_test.components.version import __version__

LEAK_SECONDS = 15.0
"""What an object of a run may take to be gone after its test: a pod's grace period, and collection."""
IMAGE_SECONDS = 120.0
SERVER_SECONDS = 90.0


@dataclass(frozen=True)
class Images:
    """The images on the nodes."""

    load_test: str
    embedded_server: str


@dataclass(frozen=True)
class Server:
    """A model server in the cluster, of known behaviour."""

    name: str
    namespace: str

    @property
    def host(self) -> str:
        """Its name in the cluster's DNS."""
        return f"{self.name}.{self.namespace}.svc"

    @property
    def grpc(self) -> str:
        """Its gRPC endpoint."""
        return f"grpc://{self.host}:8500"

    @property
    def rest(self) -> str:
        """Its REST endpoint."""
        return f"http://{self.host}:8501"


def mark_as_cluster_tests(items: list[pytest.Item], folder: Path) -> None:
    """Marks the tests of a folder, and leaves those out that CI has no time for."""
    for item in items:
        if item.path.is_relative_to(folder):
            item.add_marker(pytest.mark.cluster)
            if _allowed() == "sample" and not item.get_closest_marker("sampled"):
                item.add_marker(pytest.mark.skip(reason="not in CI's sample: `make test-cluster` runs it"))


def _allowed() -> str:
    return os.environ.get("MODEL_LOAD_TEST_CLUSTER", "")


@pytest.fixture(scope="session")
def kube() -> Kube:
    """The cluster that may be used."""
    kubeconfig = os.environ.get("KUBECONFIG", "")
    if not kubeconfig or _allowed() not in ("shared", "disposable", "sample"):
        pytest.skip("no cluster to test on: set KUBECONFIG and run `make test-cluster`")
    return connect(kubeconfig)


@pytest.fixture(scope="session")
def disposable_cluster(kube: Kube) -> Kube:
    """A cluster whose nodes may be tainted, drained and stopped."""
    if _allowed() == "shared":
        pytest.skip("it does things to nodes: `make test-cluster CLUSTER=disposable` allows that")
    return kube


@pytest.fixture(scope="session")
def images(kube: Kube) -> Images:
    """Both images, tried on every node."""
    found = Images(
        os.environ.get("MODEL_LOAD_TEST_IMAGE") or f"localhost/model-load-test/load-test:{__version__}",
        os.environ.get("MODEL_LOAD_TEST_SERVER_IMAGE")
        or f"localhost/model-load-test/embedded-server:{__version__}",
    )
    space = _create_namespace(kube)
    try:
        for node in kube.nodes():
            pod = restricted_pod(f"images-{node['metadata']['name']}", found.load_test, ["true"])
            pod["spec"]["nodeName"] = node["metadata"]["name"]
            other = {**pod["spec"]["containers"][0], "name": "other", "image": found.embedded_server}
            pod["spec"]["containers"].append(other)
            kube.create(pod, namespace=space)
        wait_for(
            "a start of both images on every node", IMAGE_SECONDS, lambda: _all_started(kube.pods(space))
        )
    finally:
        kube.delete(f"/api/v1/namespaces/{space}")
    return found


def _all_started(pods: list[Manifest]) -> bool:
    for pod in pods:
        for status in pod["status"].get("containerStatuses", []):
            waiting = status["state"].get("waiting", {}).get("reason", "")
            if waiting in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"):
                node = pod["spec"]["nodeName"]
                pytest.fail(f"{node} has no image {status['image']}: tests/cluster/images.sh puts it there")
    return bool(pods) and all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in pods)


@pytest.fixture(scope="session")
def compiled_pipelines(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with `kubeflow.yaml` and the others, compiled for the images on the nodes."""
    folder = tmp_path_factory.mktemp("compiled")
    subprocess.run(
        [sys.executable, "-m", "model_load_test.pipelines.compiling", str(folder)],
        env={**os.environ, "MODEL_LOAD_TEST_IMAGE": images.load_test},
        check=True,
    )
    return folder


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    """A namespace of the test's own, under the restricted profile; nothing of a run may be left in it."""
    name = _create_namespace(kube)
    left: list[str] = []

    def nothing_left() -> bool:
        left[:] = kube.objects_of_runs(name)
        return not left

    try:
        yield name
        try:
            wait_for("removal of a run's objects", LEAK_SECONDS, nothing_left)
        except AssertionError:
            pytest.fail(f"left behind after {LEAK_SECONDS:g} s: {', '.join(left)}")
    finally:
        print(describe(kube, name))
        kube.delete(f"/api/v1/namespaces/{name}")


def _create_namespace(kube: Kube) -> str:
    name = f"mlt-test-{uuid.uuid4().hex[:8]}"
    labels = {"app.kubernetes.io/managed-by": "model-load-test-tests"}
    for mode in ("enforce", "warn"):
        labels[f"pod-security.kubernetes.io/{mode}"] = "restricted"
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    wait_for("creation of the default ServiceAccount", 30.0, lambda: kube.get(account))
    return name


@pytest.fixture
def deploy_server(kube: Kube, namespace: str, images: Images) -> Callable[..., Server]:
    """Starts embedded servers, ready when it returns; `delay_ms`, `error_rate` ... make them worse."""

    def deploy(name: str, *, model_name: str = "digits", ready: bool = True, **options: Any) -> Server:
        server = Server(name, namespace)
        kube.create(*server_manifests(name, images.embedded_server, model_name, options), namespace=namespace)
        if ready:
            path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
            wait_for(
                f"readiness of {name}",
                SERVER_SECONDS,
                lambda: kube.get(path)["status"].get("readyReplicas"),
            )
        return server

    return deploy


def server_manifests(name: str, image: str, model_name: str, options: dict[str, Any]) -> list[Manifest]:
    """A Deployment of one embedded server, and its Service."""
    arguments = [f"--{option.replace('_', '-')}={value}" for option, value in options.items()]
    pod = restricted_pod(name, image, None)["spec"]
    (container,) = pod["containers"]
    container |= {
        "args": arguments,
        "env": [{"name": "BACKEND", "value": "numpy"}, {"name": "MODEL_NAME", "value": model_name}],
        "ports": [{"containerPort": 8500}, {"containerPort": 8501}],
        "readinessProbe": {
            "httpGet": {"path": f"/v1/models/{model_name}", "port": 8501},
            "periodSeconds": 1,
        },
    }
    ports = [
        {"name": "grpc", "port": 8500, "targetPort": 8500},
        {"name": "http", "port": 8501, "targetPort": 8501},
    ]
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {**pod, "restartPolicy": "Always"},
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": ports},
        },
    ]


def restricted_pod(name: str, image: str, command: list[str] | None) -> Manifest:
    """A pod that the restricted profile lets in; only its /tmp can be written."""
    container: Manifest = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": dict(RESTRICTED_CONTAINER),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    if command is not None:
        container["command"] = command
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "securityContext": dict(RESTRICTED_POD),
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def describe(kube: Kube, namespace: str) -> str:
    """What a person would ask kubectl first when a test has failed."""
    lines = [f"namespace {namespace}:"]
    for pod in kube.pods(namespace):
        name, status = pod["metadata"]["name"], pod["status"]
        lines.append(f"- pod {name} on {pod['spec'].get('nodeName')}: {status['phase']}")
        lines += [f"    {line}" for line in kube.log(namespace, name, tailLines="15").splitlines()]
    for event in kube.items(f"/api/v1/namespaces/{namespace}/events"):
        if event.get("type") != "Normal":
            lines.append(f"- event {event['involvedObject'].get('name')}: {event.get('message')}")
    return "\n".join(lines)
