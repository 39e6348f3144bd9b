"""The API server refuses, is away, is busy, or does what it is asked."""

from __future__ import annotations

import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import yaml
from api_server import ApiServer, Asked, connect_to, status

from model_load_test.components.cluster.connection import Cluster, connect
from model_load_test.components.cluster.failures import (
    AlreadyExists,
    ClusterError,
    ClusterUnreachable,
    MissingRight,
    QuotaExceeded,
    Rejected,
)
from model_load_test.components.cluster.kinds import CONFIG_MAP, DEPLOYMENT, JOB, POD
from model_load_test.components.cluster.rights import right
from model_load_test.components.errors import InputError

MAPS = "/api/v1/namespaces/space/configmaps"
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "b"}}
FORBIDDEN = (
    'deployments.apps is forbidden: User "system:serviceaccount:space:pipeline-runner" cannot create '
    'resource "deployments" in API group "apps" in the namespace "space"'
)


def test_applying_is_server_side_and_takes_over_fields(api: ApiServer, cluster: Cluster) -> None:
    api.says("PATCH", f"{MAPS}/one", (200, {**MAP, "uid": "1"}))
    assert cluster.apply(MAP)["uid"] == "1"
    (asked,) = api.asked
    assert asked.content_type == "application/apply-patch+yaml"
    assert asked.query == {"fieldManager": "model-load-test", "force": "true"}
    assert asked.body == MAP


def test_a_dry_run_says_so(api: ApiServer, cluster: Cluster) -> None:
    api.says("PATCH", f"{MAPS}/one", (200, MAP))
    cluster.apply(MAP, dry_run=True)
    assert api.asked[0].query["dryRun"] == "All"


def test_what_is_not_there_is_none_and_of_an_unknown_kind_there_is_nothing(cluster: Cluster) -> None:
    assert cluster.get(POD, "none") is None
    assert cluster.list(DEPLOYMENT, "a=b") == []
    assert cluster.delete(JOB, "none") is False


def test_an_api_server_that_is_away_is_waited_for(api: ApiServer) -> None:
    api.says("GET", f"{MAPS}/one", None, (503, status("starting")), (429, status("slow down")), (200, MAP))
    assert connect_to(api.port, 30.0).get(CONFIG_MAP, "one") == MAP
    assert len(api.asked) == 4


def test_patience_ends_and_the_error_says_what_was_wanted(api: ApiServer) -> None:
    api.says("GET", f"{MAPS}/one", (503, status("etcd is away")))
    with pytest.raises(ClusterUnreachable, match=r"get ConfigMap one.*etcd is away"):
        connect_to(api.port, 0.3).get(CONFIG_MAP, "one")


def test_nobody_listening_is_unreachable_and_no_traceback_of_urllib3() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(ClusterUnreachable):
        connect_to(port, 0.1).get(CONFIG_MAP, "one")


def test_a_create_whose_answer_was_lost_is_not_made_twice(api: ApiServer) -> None:
    api.says("POST", MAPS, None, (409, status('configmaps "one" already exists')))
    api.says("GET", f"{MAPS}/one", (200, {**MAP, "uid": "first"}))
    assert connect_to(api.port, 30.0).create(MAP)["uid"] == "first"


def test_an_object_of_somebody_elses_is_not_taken_for_ours(api: ApiServer, cluster: Cluster) -> None:
    api.says("POST", MAPS, (409, status('configmaps "one" already exists')))
    with pytest.raises(AlreadyExists, match="already exists"):
        cluster.create(MAP)


def test_a_missing_right_is_named_with_the_role_to_apply(api: ApiServer, cluster: Cluster) -> None:
    api.says("PATCH", f"{MAPS}/one", (403, status(FORBIDDEN)))
    needed = (right(DEPLOYMENT, "create", "delete"), right(POD, "get", part="log"))
    with pytest.raises(MissingRight) as caught:
        cluster.needing(needed).apply(MAP)
    assert caught.value.verbs == ("create deployments.apps",)
    assert caught.value.role in str(caught.value)
    role, binding = yaml.safe_load_all(caught.value.role)
    assert role["rules"] == [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create", "delete"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "namespace": "space", "name": "pipeline-runner"}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


def test_all_missing_rights_are_named_before_anything_is_created(api: ApiServer, cluster: Cluster) -> None:
    def review(asked: Asked) -> tuple[int, object]:
        verb = asked.body["spec"]["resourceAttributes"]["verb"]
        return 201, {"status": {"allowed": verb == "get"}}

    api.answers["POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = review
    api.says(
        *("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews"),
        (201, {"status": {"userInfo": {"username": "system:serviceaccount:space:runner"}}}),
    )
    needing = cluster.needing(
        (right(DEPLOYMENT, "get", "create"), right(POD, "get", part="log"), right(JOB, "list"))
    )
    with pytest.raises(MissingRight) as caught:
        needing.require_rights()
    assert caught.value.verbs == ("create deployments.apps", "list jobs.batch")
    asked = [one.body["spec"]["resourceAttributes"] for one in api.asked if "spec" in (one.body or {})]
    assert {"resource": "pods", "subresource": "log"}.items() <= asked[2].items()


def test_a_quota_is_not_mistaken_for_a_missing_right(api: ApiServer, cluster: Cluster) -> None:
    said = 'configmaps "one" is forbidden: exceeded quota: few, requested: count/configmaps=1'
    api.says("PATCH", f"{MAPS}/one", (403, status(said)))
    with pytest.raises(QuotaExceeded, match="exceeded quota: few"):
        cluster.apply(MAP)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (403, 'pods "one" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'),
        (400, 'admission webhook "no.example" denied the request: not on a Saturday'),
        (422, "Deployment is invalid: spec.replicas: Invalid value: -1"),
    ],
)
def test_what_a_policy_refuses_is_shown_as_it_says(
    code: int, said: str, api: ApiServer, cluster: Cluster
) -> None:
    api.says("PATCH", f"{MAPS}/one", (code, status(said)))
    with pytest.raises(Rejected, match="one") as caught:
        cluster.apply(MAP)
    assert said in str(caught.value)
    assert len(api.asked) == 1, "asking again changes nothing"


def test_a_webhook_that_does_not_answer_is_asked_again(api: ApiServer) -> None:
    api.says("PATCH", f"{MAPS}/one", (500, status("failed calling webhook")), (200, MAP))
    assert connect_to(api.port, 30.0).apply(MAP) == MAP


def test_a_certificate_that_is_not_trusted_is_said_at_once() -> None:
    trustme = pytest.importorskip("trustme", reason="trustme is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    cluster = connect_to(server.server_address[1], 60.0)
    cluster.client.configuration.host = f"https://127.0.0.1:{server.server_address[1]}"
    with pytest.raises(ClusterError, match="certificate is not trusted"):
        cluster.get(CONFIG_MAP, "one")
    server.shutdown()
    server.server_close()
    thread.join()


def test_without_any_cluster_the_error_names_what_to_give(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", f"{tmp_path}/none")
    with pytest.raises(InputError, match="KUBECONFIG"):
        connect()
