"""Servers that run already: found, checked, and never touched."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "cluster_room"))  # for its stand-in API server

from api_server import ApiServer, connect_to, listening_api_server

from model_load_test.components.cluster.connection import Cluster
from model_load_test.components.errors import InputError
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server
from model_load_test.components.serving.reuse import ReuseError, reuse

SPACE = "/api/v1/namespaces/space"
DIGEST = "sha256:" + "d" * 64


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with embedded_server("digits", backend="numpy") as running:
        yield running


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with listening_api_server() as running:
        yield running


@pytest.fixture
def cluster(api: ApiServer) -> Cluster:
    return connect_to(api.port)


def pod(image_id: str = f"docker-pullable://repo/serving@{DIGEST}") -> dict[str, Any]:
    container = {
        "name": "tf",
        "image": "repo/serving:2",
        "ports": [{"containerPort": 8500}],
        "args": ["--enable_batching=true", "extra"],
    }
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "istio-proxy", "ports": [{}]}, container], "nodeName": "node-1"},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": "tf", "image": "repo/serving:2", "imageID": image_id}],
        },
    }


def service(server: EmbeddedServer) -> dict[str, Any]:
    ports = [
        {"name": "grpc", "port": server.grpc.port},
        {"name": "rest", "port": server.rest.port},
    ]
    return {"spec": {"clusterIP": "127.0.0.1", "ports": ports, "selector": {"app": "digits"}}}


def test_a_plain_url_needs_no_cluster(server: EmbeddedServer) -> None:
    found = reuse(None, str(server.grpc), "digits", signature_name="serving_default", model_version="1")
    assert (found.server_kind, found.image, found.replicas) == ("embedded", "", 1)
    assert [one.state for one in found.versions] == ["AVAILABLE"]


def test_a_service_brings_its_image_flags_and_replicas_for_the_fingerprint(
    server: EmbeddedServer, api: ApiServer, cluster: Cluster
) -> None:
    api.says("GET", f"{SPACE}/services/digits", (200, service(server)))
    api.says("GET", f"{SPACE}/pods", (200, {"items": [pod(), pod()]}))
    api.says(
        "GET",
        "/api/v1/nodes/node-1",
        (200, {"metadata": {"labels": {"node.kubernetes.io/instance-type": "n2"}}}),
    )
    found = reuse(cluster, "service://digits", "digits", protocol="grpc")
    assert found.endpoint.port == server.grpc.port
    assert found.image == f"repo/serving@{DIGEST}"
    assert found.flags == ("--enable_batching=true",)
    assert (found.replicas, found.nodes, found.node_types) == (2, ("node-1",), ("n2",))
    assert {one.method for one in api.asked} == {"GET"}, "what is reused is only looked at"


def test_the_port_of_a_protocol_is_found_by_its_name(
    server: EmbeddedServer, api: ApiServer, cluster: Cluster
) -> None:
    api.says("GET", f"{SPACE}/services/digits", (200, service(server)))
    assert reuse(cluster, "service://digits", "digits", protocol="http").endpoint.port == server.rest.port
    assert reuse(cluster, f"service://digits:{server.grpc.port}", "digits").endpoint.port == server.grpc.port


def test_pods_that_run_different_images_are_no_one_server(
    server: EmbeddedServer, api: ApiServer, cluster: Cluster
) -> None:
    api.says("GET", f"{SPACE}/services/digits", (200, service(server)))
    api.says("GET", f"{SPACE}/pods", (200, {"items": [pod(), pod(f"x@sha256:{'e' * 64}")]}))
    with pytest.raises(InputError, match="different images"):
        reuse(cluster, "service://digits", "digits")


def test_without_rights_to_see_pods_the_endpoint_can_be_loaded_all_the_same(
    server: EmbeddedServer, api: ApiServer, cluster: Cluster
) -> None:
    api.says("GET", f"{SPACE}/services/digits", (200, service(server)))
    refused = (
        'pods is forbidden: User "u" cannot list resource "pods" in API group "" in the namespace "space"'
    )
    api.says("GET", f"{SPACE}/pods", (403, {"message": refused}))
    assert reuse(cluster, "service://digits", "digits").image == ""


def test_an_inference_service_is_taken_by_its_address(
    server: EmbeddedServer, api: ApiServer, cluster: Cluster
) -> None:
    path = "/apis/serving.kserve.io/v1beta1/namespaces/space/inferenceservices/digits"
    ready = {"type": "Ready", "status": "True"}
    thing = {
        "metadata": {"generation": 2},
        "status": {"observedGeneration": 2, "conditions": [ready], "address": {"url": str(server.rest)}},
    }
    api.says("GET", path, (200, thing))
    found = reuse(cluster, "inferenceservice://digits", "digits", protocol="http")
    assert found.endpoint == server.rest
    failed = {
        "modelStatus": {
            "transitionStatus": "BlockedByFailedLoad",
            "lastFailureInfo": {"reason": "ModelLoadFailed", "message": "no such bucket"},
        }
    }
    api.says("GET", path, (200, {"metadata": {"generation": 1}, "status": failed}))
    with pytest.raises(ReuseError, match="no such bucket"):
        reuse(cluster, "inferenceservice://digits", "digits", protocol="http")


def test_an_ingress_is_taken_by_its_one_path(
    server: EmbeddedServer, api: ApiServer, cluster: Cluster
) -> None:
    path = "/apis/networking.k8s.io/v1/namespaces/space/ingresses/digits"
    backend = {"service": {"name": "digits", "port": {"number": 80}}}
    rule = {"host": "", "http": {"paths": [{"path": "/", "backend": backend}]}}
    api.says("GET", path, (200, {"spec": {"rules": [rule, rule]}}))
    with pytest.raises(ReuseError, match="2 paths"):
        reuse(cluster, "ingress://digits", "digits")
    api.says("GET", path, (200, {"spec": {"rules": [rule]}}))
    with pytest.raises(ReuseError, match="neither a host nor an address"):
        reuse(cluster, "ingress://digits", "digits")


@pytest.mark.parametrize(
    ("target", "options", "named"),
    [
        ("digits", {}, "service://NAME"),
        ("service://none", {}, "there is no Service none in namespace space"),
        ("seldondeployment://none.other", {}, "in namespace other"),
        ("grpc://127.0.0.1:{port}", {"model_version": "7"}, "version 1 and not 7"),
        ("grpc://127.0.0.1:{port}", {"signature_name": "nope"}, "nope"),
        ("grpc://127.0.0.1:{port}", {"model_name": "other"}, "other"),
    ],
)
def test_the_wrong_server_is_refused_with_a_reason(
    target: str, options: dict[str, str], named: str, server: EmbeddedServer, cluster: Cluster
) -> None:
    given = {"model_name": "digits", **options}
    with pytest.raises(InputError, match=named):
        reuse(cluster, target.format(port=server.grpc.port), given.pop("model_name"), **given)


def test_without_a_cluster_names_cannot_be_looked_up() -> None:
    with pytest.raises(ReuseError, match="no cluster"):
        reuse(None, "service://digits", "digits")
