import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from model_load_test.components.baseline.fingerprint import Fingerprint, fingerprint_hash
from model_load_test.components.baseline.key import BaselineKey, load_spec_hash
from model_load_test.components.baseline.record import Record
from model_load_test.components.baseline.store import open_store

FIXTURES = Path(__file__).with_name("fixtures")
SPEC = {"rate_rps": 200.0, "mode": "duet", "looks": [15, 30, 60]}
FINGERPRINT = Fingerprint(server_kind="tf-serving", server_image="sha256:ab", node_type="n2-standard-8")


@contextlib.contextmanager
def running(command):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextlib.contextmanager
def listening(script, *arguments):
    """A script of this folder that prints its port once it listens."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
    with running(command) as process:
        line = process.stdout.readline()
        assert line.strip(), f"{script} did not start"
        yield int(line), process


@contextlib.contextmanager
def mlmd_service(database, *tls, port=0):
    pytest.importorskip("ml_metadata", reason="the MLMD service runs on the ml-metadata wheel")
    with listening("mlmd_service.py", port, database, *tls) as started:
        yield started


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate and is not installed")
    folder = tmp_path_factory.mktemp("tls")
    return make_certificate(folder)


def make_certificate(folder):
    certificate, private_key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=mlmd"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    command += ["-keyout", str(private_key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, private_key


@pytest.fixture(scope="session")
def grpc_uri(tmp_path_factory):
    with mlmd_service(tmp_path_factory.mktemp("grpc") / "mlmd.db") as (port, _):
        yield f"mlmd+grpc://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def grpcs_uri(tmp_path_factory, certificate):
    with mlmd_service(tmp_path_factory.mktemp("grpcs") / "mlmd.db", *certificate) as (port, _):
        yield f"mlmd+grpcs://127.0.0.1:{port}?ca={certificate[0]}"


@pytest.fixture(scope="session")
def sqlite_uri(tmp_path_factory):
    pytest.importorskip("ml_metadata", reason="MLMD on sqlite needs the ml-metadata wheel")
    return f"mlmd+sqlite://{tmp_path_factory.mktemp('sqlite')}/mlmd.db"


@pytest.fixture(scope="session")
def mysql_uri(tmp_path_factory):
    pytest.importorskip("ml_metadata", reason="MLMD on MySQL needs the ml-metadata wheel")
    server = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if server is None or shutil.which("mariadb-install-db") is None:
        pytest.skip("MariaDB (mariadbd, mariadb-install-db) is not installed")
    folder = tmp_path_factory.mktemp("mariadb")
    data, port = folder / "data", free_port()
    as_root = ["--user=root"] if os.geteuid() == 0 else []
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db", *as_root]
    install += ["--auth-root-authentication-method=normal"]
    subprocess.run(install, check=True, capture_output=True)
    # The socket stands in a short path of its own: its length is limited.
    command = [server, "--no-defaults", f"--datadir={data}", f"--socket={data}/s", f"--port={port}"]
    command += ["--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=2", *as_root]
    with running(command):
        wait_until_listening(port)
        (folder / "password").write_text("")
        yield f"mlmd+mysql://root@127.0.0.1:{port}/mlmd?password_file={folder / 'password'}"


@pytest.fixture(scope="session")
def file_uri(tmp_path_factory):
    return f"file://{tmp_path_factory.mktemp('files')}/baselines"


@pytest.fixture(scope="session")
def memory_uri():
    """Fsspec's store in memory: it writes whole objects and has no rename, as a bucket does."""
    return f"memory://{uuid.uuid4().hex}/baselines"


@pytest.fixture(scope="session")
def s3_uri():
    pytest.importorskip("s3fs", reason="s3: needs s3fs")
    moto = pytest.importorskip("moto.server", reason="the local S3 server is moto's")
    import boto3

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"
    changes = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changes.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="baselines")
        yield "s3://baselines/runs"
    server.stop()


@pytest.fixture(scope="session")
def start_fake_kfp():
    """Starts a fake of KFP's API server, held against a published definition."""
    pytest.importorskip("jsonschema", reason="the fake API server checks by jsonschema")
    with contextlib.ExitStack() as stack:

        def start(definition, *namespace):
            file = FIXTURES / f"{definition}.swagger.json"
            port, _ = stack.enter_context(listening("fake_kfp_server.py", 0, file, *namespace))
            return f"kfp://127.0.0.1:{port}"

        yield start


@pytest.fixture(scope="session")
def fake_kfp_uri(start_fake_kfp):
    return f"{start_fake_kfp('kfp-native-artifacts')}?run_id=11111111-run"


@pytest.fixture(scope="session")
def fake_vertex_uri():
    """A fake of Vertex's MetadataService on its generated protos."""
    pytest.importorskip("google.cloud.aiplatform_v1", reason="vertex: needs google-cloud-aiplatform")
    with listening("fake_vertex_service.py", 0) as (port, _):
        yield f"vertex://my-project/europe-west4?stand_in=127.0.0.1:{port}"


STORES = ("sqlite", "grpc", "grpcs", "mysql", "file", "memory", "s3", "fake_kfp", "fake_vertex")


@pytest.fixture(params=STORES)
def store_uri(request):
    return request.getfixturevalue(f"{request.param}_uri")


@pytest.fixture
def store(store_uri):
    with contextlib.closing(open_store(store_uri)) as opened:
        yield opened


@pytest.fixture(params=("sqlite", "grpc", "mysql"))
def mlmd_uri(request):
    return request.getfixturevalue(f"{request.param}_uri")


@pytest.fixture
def key():
    """A key of its own for each test: the stores live as long as the session."""
    return make_key()


def make_key(**changes):
    fields = {
        "namespace": f"team-{uuid.uuid4().hex[:8]}",
        "model_name": "resnet",
        "load_spec_hash": load_spec_hash(SPEC),
        "fingerprint_hash": fingerprint_hash(FINGERPRINT),
    }
    return BaselineKey(**{**fields, **changes})


@pytest.fixture
def make_record(key):
    def make(number, **changes):
        fields = {
            "run_id": f"run-{number}",
            "key": key,
            "metrics": {"candidate_p95_ms": 10.5 + number, "error_rate": 0.0},
            "fingerprint": FINGERPRINT,
            "load_spec": SPEC,
            "verdict": "PASS",
            "created_at_ns": 1_760_000_000_000_000_000 + number * 3_600_000_000_000,
            "artifact_uri": f"s3://bucket/run-{number}/metrics",
            "model_version": str(number),
        }
        return Record(**{**fields, **changes})

    return make


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_listening(port, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on port {port}")


@pytest.fixture
def unused_port():
    return free_port()


@pytest.fixture
def start_mlmd_service():
    """Starts the service, again if need be; everything started ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(database, port=0):
            return stack.enter_context(mlmd_service(database, port=port))

        yield start


@pytest.fixture
def other_certificate(tmp_path):
    return make_certificate(tmp_path)[0]
