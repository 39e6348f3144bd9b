"""`auto`: what is found in which surroundings."""

import subprocess
import sys

import pytest

from model_load_test.components.baseline.discovery import discover_store
from model_load_test.components.baseline.lookup import find_baseline
from model_load_test.components.baseline.recording import read_record_file, record_run
from model_load_test.components.baseline.store import open_store
from model_load_test.components.baseline.surroundings import Surroundings, here
from model_load_test.components.errors import InputError

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
# As the compilers of KFP 2.17 and of the branch without MLMD write them.
LAUNCHER_217 = [
    *["/kfp-launcher/launch", "--pipeline_name", "gate", "--run_id", "run-uid", "--execution_id", "42"],
    *["--executor_input", '{"inputs":{"parameterValues":{"x":"--mlmd_server_address"}}}'],
    *["--mlmd_server_address", "metadata-grpc-service.kubeflow.svc.cluster.local"],
    *["--mlmd_server_port", "8080", "--ml_pipeline_server_address", "ml-pipeline.kubeflow"],
    *["--metadata_tls_enabled=false", "--ca_cert_path", "", "--"],
]
LAUNCHER_TLS = [
    *["/kfp-launcher/launch", "--run_id=r", "--mlmd_server_address=metadata.ns", "--mlmd_server_port=8443"],
    *["--metadata_tls_enabled=true", "--ca_cert_path=/kfp certs/ca.crt", "--"],
]
LAUNCHER_NATIVE = [
    *["/kfp-launcher/launch", "-run_id", "run-uid", "-task_id", "task-uid"],
    *["-ml_pipeline_server_address", "ml-pipeline.kubeflow", "-ml_pipeline_server_port", "8887", "--"],
]


@pytest.fixture
def under(tmp_path):
    """The surroundings of a process that runs under a launcher: real processes, their real /proc."""

    def start(arguments):
        code = "from model_load_test.components.baseline.surroundings import here; import json; "
        code += "print(json.dumps(dict(here().launcher)))"
        # The stand-in for the launcher takes its arguments and starts the user's command through a shell.
        starter = "import subprocess, sys; sys.exit(subprocess.call(['sh', '-c', sys.argv[-1] + '; true']))"
        command = [sys.executable, "-c", starter, *arguments, f'{sys.executable} -c "{code}"']
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        import json

        return json.loads(output)

    return start


def nothing_resolves(host):
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows other processes under /proc")
def test_the_launchers_flags_are_read_from_its_command_line(under):
    flags = under(LAUNCHER_217)
    assert flags["mlmd_server_address"] == "metadata-grpc-service.kubeflow.svc.cluster.local"
    assert (flags["mlmd_server_port"], flags["run_id"]) == ("8080", "run-uid")
    assert "ca_cert_path" not in flags
    assert under(LAUNCHER_TLS)["ca_cert_path"] == "/kfp certs/ca.crt"
    assert under(LAUNCHER_NATIVE)["task_id"] == "task-uid"
    assert under(["--surprise", "--run_id", "x"]) == {}


def test_here_is_no_launcher(tmp_path):
    assert here().launcher == {}
    assert here(tmp_path / "nowhere").launcher == {}, "as on a system without /proc"


@pytest.mark.parametrize(
    ("environment", "launcher", "uri"),
    [
        ({"MODEL_LOAD_TEST_BASELINE_STORE": "file:///x", "CLOUD_ML_PROJECT_ID": "1"}, {}, "file:///x"),
        ({"CLOUD_ML_PROJECT_ID": "12", "CLOUD_ML_REGION": "europe-west4"}, {}, "vertex://12/europe-west4"),
        ({"METADATA_GRPC_SERVICE_HOST": "m.kubeflow"}, {}, "mlmd+grpc://m.kubeflow:8080"),
        (
            {"METADATA_GRPC_SERVICE_HOST": "fd00::1", "METADATA_GRPC_SERVICE_PORT": "81"},
            {},
            "mlmd+grpc://[fd00::1]:81",
        ),
        (
            POD,
            {"run_id": "r", "mlmd_server_address": "m.ns", "mlmd_server_port": "8080"},
            "mlmd+grpc://m.ns:8080",
        ),
        (
            POD,
            {"mlmd_server_address": "m.ns", "metadata_tls_enabled": "true", "ca_cert_path": "/a b/ca.crt"},
            "mlmd+grpcs://m.ns:8080?ca=/a%20b/ca.crt",
        ),
        (POD, {"run_id": "r", "ml_pipeline_server_address": "ml-pipeline.ns"}, "kfp://ml-pipeline.ns:8888"),
        (
            POD,
            {"ml_pipeline_server_address": "p", "ml_pipeline_tls_enabled": "true", "ca_cert_path": "/ca"},
            "kfp://p:8888?tls=true&ca=/ca",
        ),
        (
            {**POD, "METADATA_GRPC_SERVICE_SERVICE_HOST": "10.1.1.1"},
            {},
            "mlmd+grpc://metadata-grpc-service:8080",
        ),
        ({**POD, "ML_PIPELINE_SERVICE_HOST": "10.1.1.1"}, {}, "kfp://ml-pipeline:8888"),
        (POD, {}, ""),
        ({}, {}, ""),
    ],
)
def test_the_more_explicit_source_goes_first(environment, launcher, uri):
    found = discover_store(Surroundings(environment=environment, launcher=launcher), nothing_resolves)
    assert found.uri == uri
    assert found.reason


def test_the_clusters_dns_is_asked_last():
    around = Surroundings(environment=POD)
    assert discover_store(around, lambda host: True).uri == "mlmd+grpc://metadata-grpc-service.kubeflow:8080"
    found = discover_store(around, lambda host: host.startswith("ml-pipeline"))
    assert found.uri == "kfp://ml-pipeline.kubeflow:8888"


@pytest.fixture
def nowhere(monkeypatch):
    for variable in (
        "MODEL_LOAD_TEST_BASELINE_STORE",
        "CLOUD_ML_PROJECT_ID",
        "METADATA_GRPC_SERVICE_HOST",
        "KUBERNETES_SERVICE_HOST",
    ):
        monkeypatch.delenv(variable, raising=False)


def test_auto_without_a_store_here_is_no_baseline_and_loses_nothing(nowhere, key, make_record, tmp_path):
    found = find_baseline("auto", key)
    assert (found.history, found.store_answered) == ((), True)
    assert "this is no pod" in found.reason
    recorded = record_run("auto", make_record(1), tmp_path)
    assert not recorded.recorded
    assert read_record_file(tmp_path) == make_record(1)
    with pytest.raises(InputError, match="this is no pod"):
        open_store("auto")


def test_auto_finds_what_was_recorded_by_auto(nowhere, monkeypatch, key, make_record, tmp_path):
    monkeypatch.setenv("MODEL_LOAD_TEST_BASELINE_STORE", f"file://{tmp_path}/baselines")
    assert record_run("auto", make_record(1), tmp_path / "run").recorded
    assert find_baseline("auto", key).history == (make_record(1),)
