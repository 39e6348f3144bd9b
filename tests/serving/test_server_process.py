"""The server as a process: start, readiness, end, several models, bad input, injected faults."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.protocols import tf_serving
from model_load_test.components.protocols.client import (
    ModelNotReady,
    declared_server_kind,
    model_metadata,
    model_status,
    open_channel,
    wait_until_ready,
)
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.protocols.tensors import to_tensor_proto
from model_load_test.components.serving.embedded.faults import Faults
from model_load_test.components.serving.embedded.grpc_service import generic_handlers
from model_load_test.components.serving.embedded.inference import Inference
from model_load_test.components.serving.embedded.metrics import Metrics
from model_load_test.components.serving.embedded.numpy_backend import digits, load_numpy_model
from model_load_test.components.serving.embedded.process import ServerDidNotStart, embedded_server
from model_load_test.components.serving.embedded.servables import Servables

COMMAND = [sys.executable, "-m", "model_load_test.components.serving.embedded"]
NUMPY = [*COMMAND, "--model-name=digits", "--backend=numpy", "--port=0", "--rest-api-port=0"]


def start(command: list[str], **more: Any) -> tuple[subprocess.Popen[str], dict[str, int]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    assert process.stdout
    return process, json.loads(process.stdout.readline())


def finish(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def predict_many(endpoint: Endpoint, requests: int, timeout_seconds: float = 10) -> list[str]:
    """The status of each of several calls made at once."""
    request = tf_serving.PredictRequest()
    request.model_spec.name = "digits"
    request.inputs["images"].CopyFrom(to_tensor_proto(np.zeros((1, 64), np.float32)))
    with open_channel(endpoint) as channel:
        call = channel.unary_unary(
            tf_serving.PREDICT,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=tf_serving.PredictResponse.FromString,
        )
        answers = [call.future(request, timeout=timeout_seconds) for _ in range(requests)]
        return [answer.code().name for answer in answers]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_announces_itself_once_and_ends_cleanly(tmp_path: Path, number: int) -> None:
    ready_file = tmp_path / "ready.json"
    process, ready = start([*NUMPY, f"--ready-file={ready_file}"])
    assert ready["pid"] == process.pid
    assert json.loads(ready_file.read_text()) == ready
    for endpoint in (
        Endpoint("grpc", "127.0.0.1", ready["grpc_port"]),
        Endpoint("http", "127.0.0.1", ready["rest_port"]),
    ):
        assert [one.state for one in model_status(endpoint, "digits")] == ["AVAILABLE"]
        assert declared_server_kind(endpoint, "digits") == "embedded"
    code, out, err = finish(process, number)
    assert (code, out, err) == (0, "", "")
    assert not ready_file.exists()


def test_options_may_be_spelt_as_tensorflow_model_servers() -> None:
    process, ready = start(
        [*COMMAND, "--model_name=my_model", "--backend=numpy", "--port=0", "--rest_api_port=0"]
    )
    try:
        assert model_status(Endpoint("http", "127.0.0.1", ready["rest_port"]), "my_model")
    finally:
        finish(process)


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from model_load_test.components.serving.embedded.process import embedded_server\n"
        "running = embedded_server('digits', backend='numpy')\n"
        "server = running.__enter__()\n"
        "print(server.pid, flush=True)\n"
        "os._exit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.1)


def test_the_block_stops_the_server_whatever_happens_in_it() -> None:
    with pytest.raises(ZeroDivisionError), embedded_server("digits", backend="numpy") as server:
        _ = 1 / 0
    assert gone(server.pid)


def test_a_server_starts_without_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise ImportError('TensorFlow was imported')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process, _ = start(NUMPY, env=environment)
    assert finish(process)[0] == 0


def test_several_models_by_a_config_file(tmp_path: Path, zoo_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text(
        "model_config_list {\n"
        f'  config {{ name: "one" base_path: "{zoo_path}" model_platform: "tensorflow"\n'
        "    model_version_policy { specific { versions: 1 } }\n"
        '    version_labels { key: "stable" value: 1 } }\n'
        f'  config {{ name: "all" base_path: "{zoo_path}" model_version_policy {{ all {{}} }} }}\n'
        f'  config {{ name: "latest" base_path: "{zoo_path}" }}\n'
        "}\n"
    )
    process, ready = start([*COMMAND, f"--model-config-file={config}", "--port=0", "--rest-api-port=0"])
    try:
        endpoint = Endpoint("grpc", "127.0.0.1", ready["grpc_port"])
        served = {
            name: [one.version for one in model_status(endpoint, name)] for name in ("one", "all", "latest")
        }
        assert served == {"one": [1], "all": [1, 3], "latest": [3]}
        assert "classify" in model_metadata(endpoint, "one")
    finally:
        assert finish(process)[0] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model-base-path=/no/such/folder"], "model_base_path: '/no/such/folder': no such folder"),
        (["--model-base-path=EMPTY"], "no version in it"),
        ([], "model_base_path: None: give the folder"),
        (
            ["--backend=numpy", "--callable=no.such:thing"],
            "callable: 'no.such:thing': write it as MODULE:NAME",
        ),
        (["--backend=numpy", "--callable=os:path"], "name a NumpyModel"),
        (["--backend=numpy", "--label=stable=9"], "label: 'stable=9': label one of the versions served: [1]"),
        (["--backend=numpy", "--error-rate=2"], "error_rate: 2.0: give a share from 0 to 1"),
        (["--backend=numpy", "--delay-ms=-1"], "delay_ms: -1.0: give 0 or more milliseconds"),
        (["--backend=numpy", "--hang-after-requests=-1"], "hang_after_requests: -1"),
        (["--backend=numpy", "--leak-kib=-1"], "leak_kib: -1"),
        (["--backend=numpy", "--port=TAKEN"], "cannot listen there"),
        (["--backend=numpy", "--rest-api-port=TAKEN"], "cannot listen there"),
        (["--model-config-file=/no/such/file"], "model_config_file: '/no/such/file': cannot be read"),
        (["--model-config-file=CONFIG"], "list at least one model"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "config").write_text("model_config_list {}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {
            "TAKEN": str(taken.getsockname()[1]),
            "EMPTY": str(tmp_path),
            "CONFIG": f"{tmp_path}/config",
        }
        given = list(options)
        for word, place in places.items():
            given = [option.replace(word, place) for option in given]
        command = [*COMMAND, "--model-name=m", "--port=0", "--rest-api-port=0", *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert done.stdout == ""
    *logged, last = done.stderr.splitlines()
    assert last.startswith("error: ")
    assert said in last
    assert all("add_port" in line for line in logged), "only gRPC itself may have logged something before"


def test_a_model_that_cannot_be_loaded_ends_the_server_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"no saved model")
    said = r"it ended; it said: error: saved_model: .*cannot be read"
    with pytest.raises(ServerDidNotStart, match=said), embedded_server("broken", tmp_path):
        pytest.fail("it started")


def test_a_server_that_is_not_ready_in_time_is_stopped(zoo_path: Path) -> None:
    late = embedded_server("zoo", zoo_path, start_timeout_seconds=0.2)
    with pytest.raises(ServerDidNotStart, match=r"not ready within 0.2 s"), late:
        pytest.fail("it started")


def test_an_injected_delay_is_added_to_every_request_and_to_nothing_else() -> None:
    with embedded_server("digits", backend="numpy", delay_ms=300) as server:
        started = time.monotonic()
        assert predict_many(server.grpc, 8) == ["OK"] * 8
        took_seconds = time.monotonic() - started
        assert took_seconds >= 0.3
        assert took_seconds < 8 * 0.3, "the requests waited one after the other"
        started = time.monotonic()
        model_status(server.grpc, "digits", timeout_seconds=5)
        model_status(server.rest, "digits", timeout_seconds=5)
        assert time.monotonic() - started < 0.3


def test_injected_errors_have_their_rate_and_are_the_same_for_the_same_seed() -> None:
    with embedded_server("digits", backend="numpy", error_rate=0.25, fault_seed=1) as server:
        counts = Counter(predict_many(server.grpc, 400))
        with open_channel(server.grpc):
            page = _metrics_page(server.rest)
    assert set(counts) == {"OK", "UNAVAILABLE"}
    assert 60 <= counts["UNAVAILABLE"] <= 140
    failed = f'request_count{{model_name="digits",status="UNAVAILABLE"}} {counts["UNAVAILABLE"]}'
    assert failed in page


def test_a_hanging_server_answers_status_and_nothing_else() -> None:
    with embedded_server("digits", backend="numpy", hang_after_requests=2) as server:
        assert predict_many(server.grpc, 2) == ["OK", "OK"]
        assert predict_many(server.grpc, 2, timeout_seconds=0.3) == ["DEADLINE_EXCEEDED"] * 2
        assert model_status(server.grpc, "digits")[0].state == "AVAILABLE"
        pid = server.pid
    assert gone(pid), "requests that hang do not keep the server from ending"


def test_no_faults_are_no_faults() -> None:
    assert not Faults(seed=5)
    assert Faults(delay_ms=1)
    with pytest.raises(InputError, match="delay_ms"):
        Faults(delay_ms=float("nan"))


def _metrics_page(rest: Endpoint) -> str:
    import urllib.request

    with urllib.request.urlopen(f"{rest}/monitoring/prometheus/metrics") as response:
        assert response.headers.get_content_type() == "text/plain"
        return response.read().decode()


def test_the_metrics_have_tf_servings_names_and_add_up() -> None:
    with embedded_server("digits", backend="numpy") as server:
        predict_many(server.grpc, 7)
        page = _metrics_page(server.rest)
    samples = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert samples[':tensorflow:serving:request_count{model_name="digits",status="OK"}'] == "7"
    labels = 'model_name="digits",API="Predict",entrypoint="GRPC"'
    buckets = [
        int(value)
        for name, value in samples.items()
        if name.startswith(f":tensorflow:serving:request_latency_bucket{{{labels},le=")
    ]
    assert len(buckets) == 34
    assert buckets == sorted(buckets)
    assert buckets[-1] == 7
    assert samples[f":tensorflow:serving:request_latency_count{{{labels}}}"] == "7"
    assert float(samples[f":tensorflow:serving:request_latency_sum{{{labels}}}"]) > 0
    assert f':tensorflow:serving:request_latency_bucket{{{labels},le="18"}}' in samples
    assert "# TYPE :tensorflow:serving:request_count counter" in page
    runtime = ':tensorflow:serving:runtime_latency_count{model_name="digits",API="Predict",runtime="TF1"}'
    assert samples[runtime] == "7"


def test_a_client_that_waits_sees_versions_load_and_fail() -> None:
    """It waits for a version still to come, and no longer than until all have failed."""
    servables = Servables()
    servables.expect("digits", [1, 2], {})
    servables.expect("broken", [1], {})

    def fail() -> Any:
        raise OSError("no such file: variables.index")

    def give_up() -> bool:
        raise AssertionError("it waits although nothing is to come")

    async def scenario() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(generic_handlers(Inference(servables, Metrics()), None))
        endpoint = Endpoint("grpc", "127.0.0.1", server.add_insecure_port("127.0.0.1:0"))
        await server.start()

        async def wait(model_name: str, seconds: float, **more: Any) -> list[str]:
            versions = await asyncio.to_thread(wait_until_ready, endpoint, model_name, seconds, **more)
            return [version.state for version in versions]

        with pytest.raises(ModelNotReady, match="version 1 START, version 2 START"):
            await wait("digits", 0.3)
        servables.load("digits", 1, lambda: load_numpy_model(digits))
        with pytest.raises(ModelNotReady, match="version 1 AVAILABLE, version 2 START"):
            await wait("digits", 0.3)
        with pytest.raises(OSError, match="variables"):
            servables.load("digits", 2, fail)
        assert await wait("digits", 5) == ["AVAILABLE", "END"]
        with pytest.raises(OSError, match="variables"):
            servables.load("broken", 1, fail)
        with pytest.raises(ModelNotReady, match=r"version 1 END \(no such file: variables.index\)"):
            await wait("broken", 60, keep_waiting=give_up)
        await server.stop(None)

    asyncio.run(scenario())


def test_a_latency_on_a_limit_lies_in_the_bucket_above() -> None:
    metrics = Metrics()
    metrics.request_took("m", "Predict", "GRPC", 10_000)
    page = metrics.page()
    assert 'le="10"} 0' in page
    assert 'le="18"} 1' in page
