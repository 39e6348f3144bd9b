"""Every request is sent once before load, and what the server refuses is said."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.manifest import PayloadError
from model_load_test.components.payload.trial import try_payload
from model_load_test.components.protocols.client import ServerUnreachable
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with embedded_server("digits", backend="numpy") as running:
        yield running


@pytest.fixture(scope="module", params=["grpc", "rest"])
def endpoint(request: pytest.FixtureRequest, server: EmbeddedServer) -> Endpoint:
    return getattr(server, request.param)


def test_every_request_is_answered(endpoint: Endpoint, tmp_path: Path) -> None:
    make_payload(endpoint, model_name="digits", out_dir=tmp_path, requests=30)
    assert try_payload(tmp_path, endpoint) == 30


def test_a_refused_request_is_named_with_what_the_server_said(tmp_path: Path, monkeypatch) -> None:
    """The model's signature leaves the width open; only its function knows that it must be 64."""
    (tmp_path / "narrow_model.py").write_text(
        "from model_load_test.components.protocols.signature import Signature, TensorSpec\n"
        "from model_load_test.components.serving.embedded.numpy_backend import NumpyModel, digits\n"
        "signature = Signature('serving_default', 'tensorflow/serving/predict',\n"
        "    {'images': TensorSpec('float32', (-1, -1))}, digits.signature.outputs)\n"
        "model = NumpyModel(signature, digits.function)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with embedded_server("narrow", backend="numpy", callable_place="narrow_model:model") as running:
        for endpoint, code in ((running.grpc, "INVALID_ARGUMENT"), (running.rest, "HTTP 400")):
            make_payload(endpoint, model_name="narrow", out_dir=tmp_path / "set", requests=3)
            with pytest.raises(PayloadError, match=rf"refuses request 1 \({code}: matmul"):
                try_payload(tmp_path / "set", endpoint)


def test_the_wrong_protocol_and_a_server_that_is_gone(server: EmbeddedServer, tmp_path: Path) -> None:
    make_payload(server.grpc, model_name="digits", out_dir=tmp_path, requests=3)
    with pytest.raises(PayloadError, match="it is for grpc"):
        try_payload(tmp_path, server.rest)
    with pytest.raises(ServerUnreachable, match="no answer to request 1"):
        try_payload(tmp_path, Endpoint("grpc", "127.0.0.1", 1))
    make_payload(server.rest, model_name="digits", out_dir=tmp_path, requests=3)
    with pytest.raises(ServerUnreachable, match="no answer to request 1"):
        try_payload(tmp_path, Endpoint("http", "127.0.0.1", 1))


def test_a_request_in_vain_is_sent_twice_and_no_more(tmp_path: Path) -> None:
    never = threading.Event()
    seen: list[str] = []

    class Silent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.path)
            never.wait(20)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as silent:
        thread = threading.Thread(target=silent.serve_forever)
        thread.start()
        try:
            with embedded_server("digits", backend="numpy") as real:
                make_payload(real.rest, model_name="digits", out_dir=tmp_path, requests=1)
            with pytest.raises(ServerUnreachable, match=r"nothing in 0.2 s"):
                try_payload(tmp_path, Endpoint("http", "127.0.0.1", silent.server_port), timeout_seconds=0.2)
        finally:
            never.set()
            silent.shutdown()
            thread.join()
    assert len(seen) == 2


def test_without_tensorflow(tmp_path: Path) -> None:
    """A pod has none: sets are made, records read and requests tried all the same."""
    script = (
        "import sys, struct\n"
        "sys.modules['tensorflow'] = sys.modules['tensorflow_serving'] = None\n"
        "from pathlib import Path\n"
        "import google_crc32c\n"
        "from model_load_test.components.payload.make import make_payload\n"
        "from model_load_test.components.payload.trial import try_payload\n"
        "from model_load_test.components.protocols.endpoint import parse_endpoint\n"
        "from model_load_test.components.protocols.tf_serving import Example\n"
        "def masked(data):\n"
        "    crc = google_crc32c.value(data)\n"
        "    return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)\n"
        "example = Example()\n"
        "example.features.feature['images'].float_list.value.extend([0.5] * 64)\n"
        "data = example.SerializeToString()\n"
        "length = struct.pack('<Q', len(data))\n"
        "folder = Path(sys.argv[2])\n"
        "(folder / 'a.tfrecord').write_bytes(length + masked(length) + data + masked(data))\n"
        "endpoint = parse_endpoint(sys.argv[1])\n"
        "records = folder / 'a.tfrecord'\n"
        "make_payload(endpoint, model_name='digits', out_dir=folder, requests=5, examples=records)\n"
        "print(try_payload(folder, endpoint))\n"
    )
    with embedded_server("digits", backend="numpy") as running:
        command = [sys.executable, "-c", script, str(running.grpc), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "5\n"
