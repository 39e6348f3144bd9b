"""The load Job's task: executor input in, results out, or one clear message; pods played by processes."""

from __future__ import annotations

import errno
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "load"))  # for its helper; tests are no package

from process_cluster import ProcessCluster

from model_load_test.components.errors import InputError
from model_load_test.components.load.job.spec import FIELDS
from model_load_test.components.payload.make import make_payload
from model_load_test.components.protocols.endpoint import parse_endpoint
from model_load_test.components.resources.files import read_samples
from model_load_test.components.results.table import read_results
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server
from model_load_test.components.tasks import load as task_of_load
from model_load_test.components.tasks.__main__ import main

QUICK: Mapping[str, Any] = {
    "model_name": "digits",
    "rate_rps": 60.0,
    "block_seconds": 0.5,
    "looks": [3.0],
    "warmup_seconds": 0.3,
    "generators": 2.0,
    "run_id": "run",
    "task_id": "load",
}
"""Numbers as KFP's structs hold them."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> ProcessCluster:
    found = ProcessCluster()
    monkeypatch.setattr(task_of_load, "connect", lambda _namespace: found)
    return found


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    if shutil.which("ghz") is None:
        pytest.skip("ghz is not on PATH (`make tools` says why it could not be installed)")
    with embedded_server("digits", backend="numpy") as started:
        yield started


def executor_input(tmp_path: Path, **parameters: Any) -> str:
    def artifact(name: str) -> dict[str, Any]:
        return {"artifacts": [{"name": name, "uri": f"minio://{name}", "customPath": str(tmp_path / name)}]}

    return json.dumps(
        {
            "inputs": {"parameterValues": parameters, "artifacts": {"payload": artifact("payload")}},
            "outputs": {
                "artifacts": {name: artifact(name) for name in ("results", "resource_usage")},
                "outputFile": str(tmp_path / "executor_output.json"),
            },
        }
    )


def make_set(server: EmbeddedServer, tmp_path: Path) -> str:
    endpoint = str(server.grpc)
    make_payload(parse_endpoint(endpoint), model_name="digits", out_dir=tmp_path / "payload", requests=20)
    return endpoint


def test_the_task_writes_the_rows_of_all_generators(
    server: EmbeddedServer, cluster: ProcessCluster, tmp_path: Path
) -> None:
    endpoint = make_set(server, tmp_path)
    watched = {"processes": {"candidate": float(server.pid)}, "every_seconds": 0.1}
    given = executor_input(tmp_path, **QUICK, candidate_endpoint=endpoint, resource_sources=watched)
    assert main(["run_load_job", given]) == 0
    results = read_results(tmp_path / "results")
    assert set(results.table["worker"].to_pylist()) == {0, 1}
    assert results.metadata.load_spec["looks"] == [3]
    assert results.metadata.fingerprint["generator"] == "2 x ghz"
    assert results.metadata.fingerprint["server_kind"] == "embedded"
    assert results.metadata.fingerprint["cpu_cores"] > 0
    assert results.metadata.resources.levels["candidate"]["cpu_cores"].mean > 0
    assert {one.metric for one in read_samples(tmp_path / "resource_usage").series} >= {"cpu_seconds"}
    assert json.loads((tmp_path / "executor_output.json").read_text()) == {"artifacts": {}}
    assert not cluster.jobs


def test_what_was_measured_is_in_the_log_when_it_cannot_be_written(
    server: EmbeddedServer,
    cluster: ProcessCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(task_of_load, "write_results", full)
    endpoint = make_set(server, tmp_path)
    assert main(["run_load_job", executor_input(tmp_path, **QUICK, candidate_endpoint=endpoint)]) == 2
    said = capsys.readouterr()
    assert "No space left on device" in said.err
    assert "Traceback" not in said.err
    (line,) = [line for line in said.out.splitlines() if line.startswith("candidate: ")]
    assert json.loads(line.removeprefix("candidate: "))["requests"] > 0
    assert not cluster.jobs


def test_one_task_of_several_generators_is_the_same_job(
    server: EmbeddedServer, cluster: ProcessCluster, tmp_path: Path
) -> None:
    parameters = {**QUICK, "candidate_endpoint": make_set(server, tmp_path), "generators": 2}
    task_of_load.load_from_pods(
        parameters,
        {"spread": "off"},
        tmp_path / "payload",
        tmp_path / "out" / "results",
        tmp_path / "out" / "resource_usage",
    )
    results = read_results(tmp_path / "out" / "results")
    assert set(results.table["worker"].to_pylist()) == {0, 1}
    (job,) = cluster.created
    assert not job["spec"]["template"]["spec"]["topologySpreadConstraints"]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"tolerations": {"key": "a"}}, "tolerations"),
        ({"generators": 0}, "generators"),
        ({"keep_off_servers": "perhaps"}, "keep_off_servers"),
        ({"run_id": ""}, "run"),
        ({"rate_rps": "many"}, "rate_rps"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_created(
    cluster: ProcessCluster,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    parameters: dict[str, Any],
    said: str,
) -> None:
    given = {**QUICK, "candidate_endpoint": "grpc://127.0.0.1:9", **parameters}
    assert main(["run_load_job", executor_input(tmp_path, **given)]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
    assert not cluster.created


def test_a_misspelt_setting_of_the_pods_is_refused(cluster: ProcessCluster, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"generator_pods.toleration.*tolerations"):
        task_of_load.load_from_pods(QUICK, {"toleration": []}, tmp_path, tmp_path, tmp_path)


def test_every_setting_of_a_job_can_be_given_to_the_task() -> None:
    renamed = {"image", "namespace"}
    assert set(FIELDS) - renamed == set(task_of_load._JOB)
