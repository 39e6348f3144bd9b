"""Real servers in environments of their own: MLServer for Open Inference, Seldon Core 1's model wrapper."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.client import wait_until_ready
from model_load_test.components.protocols.endpoint import Endpoint

MLSERVER = "mlserver==1.7.1"
INSTALL_SECONDS = 280
START_SECONDS = 120

SELDON = ("seldon-core==1.18.2", "setuptools<81", "grpcio-reflection<1.63", "grpcio<1.63", "protobuf<5")

RUNTIME = '''
"""Sends back what it understood of each input; refuses what is called forbidden."""

from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
from mlserver.errors import MLServerError
from mlserver.types import InferenceResponse


class Echo(MLModel):
    async def load(self):
        return True

    async def predict(self, payload):
        outputs = []
        for tensor in payload.inputs:
            if tensor.name == "forbidden":
                raise MLServerError("this input is forbidden", 400)
            if tensor.datatype == "BYTES":
                encoded = getattr(tensor.parameters, "content_type", None) == "base64"
                values = Base64Codec.decode_input(tensor) if encoded else list(tensor.data)
                values = [value if isinstance(value, bytes) else value.encode() for value in values]
                out = StringCodec.encode_output(tensor.name + "_hex", [value.hex() for value in values])
            else:
                out = NumpyCodec.encode_output(tensor.name, NumpyCodec.decode_input(tensor))
            outputs.append(out)
        return InferenceResponse(model_name=self.name, outputs=outputs)
'''

ALL_DATATYPES = (
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP32",
    "FP64",
    "BYTES",
)
MODELS = {
    "digits": [{"name": "images", "datatype": "FP32", "shape": [-1, 64]}],
    "every_type": [
        {"name": datatype.lower(), "datatype": datatype, "shape": [-1, 3]} for datatype in ALL_DATATYPES
    ],
    "tokens": [
        {"name": "ids", "datatype": "INT64", "shape": [-1, -1]},
        {"name": "mask", "datatype": "INT64", "shape": [-1, -1]},
    ],
    "pictures": [{"name": "picture", "datatype": "BYTES", "shape": [-1]}],
    "picky": [{"name": "forbidden", "datatype": "FP32", "shape": [-1, 2]}],
    "silent": None,
}


SELDON_MODELS = '''
"""Models for Seldon's wrapper: they send back what they understood."""

import numpy as np


class Echo:
    def predict(self, X, names, meta=None):
        if len(names) not in (0, X.shape[-1]):
            raise ValueError("names do not fit")
        return X


class Iris(Echo):
    def init_metadata(self):
        inputs = [{"messagetype": "tensor", "schema": {"names": ["a", "b", "c"], "shape": [3]}}]
        return {"name": "iris", "versions": ["v1"], "platform": "test", "inputs": inputs, "outputs": inputs}

    def predict(self, X, names, meta=None):
        if np.asarray(X).shape[1:] != (3,):
            raise ValueError("three columns are wanted")
        return X
'''


@dataclass(frozen=True)
class MLServer:
    """A running MLServer."""

    grpc: Endpoint
    rest: Endpoint
    python: Path


@pytest.fixture(scope="session")
def mlserver_python(repository: Path) -> Path:
    """The Python of an environment with MLServer in it."""
    return environment(repository, "mlserver", MLSERVER)


@pytest.fixture(scope="session")
def mlserver(mlserver_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLServer]:
    """MLServer with some models that send back what they understood."""
    folder = tmp_path_factory.mktemp("mlserver")
    http, grpc, metrics = free_ports(3)
    settings = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    for name, inputs in MODELS.items():
        (folder / name).mkdir()
        (folder / name / "runtime.py").write_text(RUNTIME)
        model = {"name": name, "implementation": "runtime.Echo", "inputs": inputs}
        (folder / name / "model-settings.json").write_text(
            json.dumps({key: value for key, value in model.items() if value is not None})
        )
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [mlserver_python.with_name("mlserver"), "start", str(folder)],
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": ""},
    )
    server = MLServer(
        Endpoint("grpc", "127.0.0.1", grpc), Endpoint("http", "127.0.0.1", http), mlserver_python
    )
    try:
        for endpoint in (server.rest, server.grpc):
            wait_until_ready(
                endpoint, "silent", START_SECONDS, api="oip", keep_waiting=lambda: process.poll() is None
            )
        yield server
    except InputError as error:
        pytest.fail(f"{MLSERVER} did not start ({error}): {(folder / 'log').read_text()[-2000:]}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


@pytest.fixture(scope="session")
def seldon_wrapper(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Endpoint]]:
    """Starts models in Seldon Core 1's own Python wrapper, each a process."""
    python = environment(repository, "seldon", *SELDON)
    started: dict[str, tuple[Endpoint, subprocess.Popen[bytes]]] = {}

    def start(model: str) -> Endpoint:
        if model in started:
            return started[model][0]
        folder = tmp_path_factory.mktemp("seldon")
        (folder / f"{model}.py").write_text(SELDON_MODELS)
        http, grpc, metrics = free_ports(3)
        process = subprocess.Popen(
            [python.with_name("seldon-core-microservice"), model, "--service-type", "MODEL"],
            cwd=folder,
            stdout=(folder / "log").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(http),
                "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": str(grpc),
                "PREDICTIVE_UNIT_METRICS_SERVICE_PORT": str(metrics),
                # its generated messages are of an older protobuf
                "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
                "PYTHONPATH": str(folder),
            },
        )
        endpoint = Endpoint("http", "127.0.0.1", http)
        started[model] = (endpoint, process)
        try:
            wait_until_ready(
                endpoint, model, START_SECONDS, api="seldon", keep_waiting=lambda: process.poll() is None
            )
        except InputError as error:
            pytest.fail(f"{SELDON[0]} did not start ({error}): {(folder / 'log').read_text()[-2000:]}")
        return endpoint

    yield start
    for _, process in started.values():
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def environment(repository: Path, name: str, *requirements: str) -> Path:
    """Makes `build/<name>`, once; skips where it cannot be made."""
    folder = repository / "build" / name
    python = folder / "bin" / "python"
    installed = folder / "installed"
    wanted = "\n".join(requirements)
    if installed.exists() and installed.read_text() == wanted:
        return python
    uv = repository / ".tools" / "uv" / "bin" / "uv"
    if not uv.exists():
        pytest.skip("uv is not at .tools/uv (run `make environment`)")
    if sys.version_info >= (3, 13):
        pytest.skip(f"{wanted} has no build for this Python")
    deadline = time.monotonic() + INSTALL_SECONDS
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder],
        [uv, "pip", "install", "--quiet", "--python", python, *requirements],
    ):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=deadline - time.monotonic()
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"{wanted} could not be installed within {INSTALL_SECONDS} s")
        if done.returncode:
            pytest.skip(f"{wanted} could not be installed: {done.stderr.strip()[-300:]}")
    installed.write_text(wanted)
    return python


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
