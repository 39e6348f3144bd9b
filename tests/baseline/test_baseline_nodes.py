"""What a pod finds out about its node, against a stand-in for the Kubernetes API on real TLS."""

import json
import logging
import ssl
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import pytest

from model_load_test.components.baseline import fingerprint as fingerprint_module
from model_load_test.components.baseline.fingerprint import collect_fingerprint
from model_load_test.components.baseline.nodes import NodeFacts, node_facts

trustme = pytest.importorskip("trustme", reason="trustme makes the certificates")
pytest.importorskip("kubernetes", reason="node labels are read by the kubernetes client")

LABELS = {
    "node.kubernetes.io/instance-type": "n2-standard-8",
    "cloud.google.com/gke-accelerator": "nvidia-l4",
    "kubernetes.io/os": "linux",
}
POD = {"kind": "Pod", "metadata": {"name": "pod-1"}, "spec": {"nodeName": "node-1", "containers": []}}
NODE = {"kind": "Node", "metadata": {"name": "node-1", "labels": LABELS}}
ANSWERS = {"/api/v1/namespaces/team/pods/pod-1": (200, POD), "/api/v1/nodes/node-1": (200, NODE)}


@pytest.fixture
def service_account(tmp_path):
    (tmp_path / "token").write_text("secret-token")
    (tmp_path / "namespace").write_text("team")
    return tmp_path


@pytest.fixture
def cluster(service_account):
    """Serves answers by path; returns the pod's environment and what was asked."""
    servers = []

    def start(answers, pause_seconds=0.0):
        asked = []
        authority = trustme.CA()
        authority.cert_pem.write_to_path(service_account / "ca.crt")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append((self.path, self.headers["Authorization"]))
                time.sleep(pause_seconds)
                status, body = answers.get(urlsplit(self.path).path, (404, {}))
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        port = str(server.server_address[1])
        pod = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port, "HOSTNAME": "pod-1"}
        return pod, asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_downward_apis_node_is_read_directly(cluster, service_account):
    environment, asked = cluster(ANSWERS)
    facts = node_facts({**environment, "MODEL_LOAD_TEST_NODE_NAME": "node-1"}, service_account)
    assert facts == NodeFacts(node_type="n2-standard-8", accelerator="nvidia-l4")
    assert asked == [("/api/v1/nodes/node-1", "bearer secret-token")]


def test_a_pod_finds_its_node_through_itself(cluster, service_account):
    environment, asked = cluster(ANSWERS)
    assert node_facts(environment, service_account).node_type == "n2-standard-8"
    assert [path for path, _ in asked] == list(ANSWERS)


def test_kfps_pod_name_goes_before_the_host_name(cluster, service_account):
    environment, _ = cluster(ANSWERS)
    environment = {**environment, "HOSTNAME": "other", "KFP_POD_NAME": "pod-1"}
    assert node_facts(environment, service_account).node_type == "n2-standard-8"


def test_a_pod_that_may_not_read_nodes_goes_on_and_says_what_to_allow(cluster, service_account, caplog):
    refused = {"/api/v1/nodes/node-1": (403, {"kind": "Status", "message": "nodes is forbidden"})}
    environment, _ = cluster({**ANSWERS, **refused})
    with caplog.at_level(logging.INFO):
        facts = node_facts(environment, service_account)
    assert (facts.node_type, facts.accelerator) == ("", "")
    assert "403" in facts.reason
    assert "allow get on nodes, or set MODEL_LOAD_TEST_NODE_TYPE" in caplog.text
    assert "secret-token" not in caplog.text


def test_an_api_that_is_slow_costs_no_more_than_the_limit(cluster, service_account):
    environment, _ = cluster(ANSWERS, pause_seconds=20.0)
    started = time.monotonic()
    facts = node_facts(environment, service_account, time_limit_seconds=0.5)
    assert time.monotonic() - started < 18
    assert "does not answer" in facts.reason


def test_an_api_that_is_down_is_no_error(service_account, unused_port):
    (service_account / "ca.crt").write_bytes(trustme.CA().cert_pem.bytes())
    environment = {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(unused_port),
        "HOSTNAME": "pod-1",
    }
    assert "does not answer" in node_facts(environment, service_account).reason


def test_a_stranger_in_place_of_the_api_is_not_believed(cluster, service_account):
    environment, asked = cluster(ANSWERS)
    trustme.CA().cert_pem.write_to_path(service_account / "ca.crt")
    assert "does not answer" in node_facts(environment, service_account).reason
    assert asked == []


def test_without_a_service_account_nothing_is_asked(tmp_path):
    assert node_facts({"KUBERNETES_SERVICE_HOST": "127.0.0.1"}, tmp_path) == NodeFacts()
    assert node_facts({}, tmp_path) == NodeFacts()


def test_a_node_without_labels_tells_nothing(cluster, service_account):
    bare = {"/api/v1/nodes/node-1": (200, {"kind": "Node", "metadata": {"name": "node-1"}})}
    environment, _ = cluster({**ANSWERS, **bare})
    assert node_facts(environment, service_account) == NodeFacts()


@pytest.fixture
def vertex_metadata():
    answer = {"status": 200, "body": b"projects/123/machineTypes/n1-standard-4", "flavor": "Google"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            right = self.path == "/computeMetadata/v1/instance/machine-type"
            right = right and self.headers["Metadata-Flavor"] == "Google"
            self.send_response(answer["status"] if right else 403)
            self.send_header("Metadata-Flavor", answer["flavor"])
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    environment = {"CLOUD_ML_PROJECT_ID": "123", "GCE_METADATA_HOST": f"127.0.0.1:{server.server_address[1]}"}
    yield environment, answer
    server.shutdown()
    server.server_close()


def test_vertex_tells_its_machine_type(vertex_metadata):
    environment, _ = vertex_metadata
    assert node_facts(environment).node_type == "n1-standard-4"


def test_another_server_in_its_place_is_not_believed(vertex_metadata):
    environment, answer = vertex_metadata
    answer["flavor"] = "Other"
    assert node_facts(environment).node_type == ""


def test_what_the_node_says_stands_in_the_fingerprint_unless_the_environment_says_otherwise(monkeypatch):
    asked = []

    def facts(environment):
        asked.append(environment)
        return NodeFacts(node_type="n2-standard-8", accelerator="nvidia-l4")

    monkeypatch.setattr(fingerprint_module, "node_facts", facts)
    fingerprint = collect_fingerprint("kserve", environment={"HOSTNAME": "pod-1"})
    assert (fingerprint.node_type, fingerprint.accelerator) == ("n2-standard-8", "nvidia-l4")
    assert len(asked) == 1
    fingerprint = collect_fingerprint("kserve", environment={"MODEL_LOAD_TEST_NODE_TYPE": "e2-small"})
    assert (fingerprint.node_type, len(asked)) == ("e2-small", 1)
