"""Google on this machine: a fake of its services under their real names, with certificates and a key."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMES = (
    "*.googleapis.com",
    "*.prediction.vertexai.goog",
    "*.europe-west4-123456789012.prediction.vertexai.goog",
)


def sibling(name):
    """A module of this folder."""
    known = f"tests_vertex_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, HERE / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[known] = module
        spec.loader.exec_module(module)
    return sys.modules[known]


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    trustme = pytest.importorskip("trustme", reason="a certificate authority: needs trustme")
    made = trustme.CA()
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    made.cert_pem.write_to_path(path)
    return made, path


@pytest.fixture
def google(authority, tmp_path, monkeypatch):
    """The fake, and a process that takes it for Google."""
    pytest.importorskip("google.cloud.aiplatform_v1", reason="vertex: needs google-cloud-aiplatform")
    from model_load_test.components.google_cloud.credentials import google_credentials

    made, ca_path = authority
    fake = sibling("fake_google").Google(made.issue_cert(*NAMES))
    key_path = tmp_path / "key.json"
    key_path.write_text(json.dumps(fake.identity.key_file()))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_path))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_path))
    monkeypatch.setenv("NO_PROXY", "*")
    forget = sibling("google_names").point_google_at(fake.port)
    google_credentials.cache_clear()
    yield fake
    google_credentials.cache_clear()
    forget()
    fake.close()


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def deployed(google):
    """Deploys a model to an endpoint, and says where it is."""

    def deploy(folder="gs://bucket/digits", dedicated=False):
        vertex = google.vertex
        vertex.looks_until_done = 0
        model = vertex.upload_model(
            {
                "model": {
                    "displayName": "m",
                    "containerSpec": {"imageUri": "image:1"},
                    "artifactUri": folder,
                }
            }
        )["response"]["model"]
        made = vertex.create_endpoint({"displayName": "e", "dedicatedEndpointEnabled": dedicated}, {})
        name = made["response"]["name"]
        machine = {"machineType": "n1-standard-4"}
        vertex.deploy_model(
            name,
            {
                "deployedModel": {
                    "model": model,
                    "dedicatedResources": {"machineSpec": machine, "minReplicaCount": 1},
                },
                "trafficSplit": {"0": 100},
            },
        )
        vertex.looks_until_done = 1
        host = vertex.endpoints[name].dedicated_endpoint_dns or "europe-west4-aiplatform.googleapis.com"
        return f"https://{host}/v1/{name}"

    return deploy


@pytest.fixture(name="sibling")
def sibling_fixture():
    return sibling
