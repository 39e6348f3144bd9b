"""A real MLServer in an environment of its own, for the Open Inference Protocol."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.client import wait_until_ready
from model_load_test.components.protocols.endpoint import Endpoint

MLSERVER = "mlserver==1.7.1"
INSTALL_SECONDS = 280
START_SECONDS = 120

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
