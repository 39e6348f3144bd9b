"""Which API a server speaks, and its status and metadata in each: real servers over gRPC and REST."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.client import (
    ModelNotFound,
    ModelNotReady,
    ServerUnreachable,
    UnexpectedAnswer,
    VersionStatus,
    declared_server_kind,
    detect_api,
    model_metadata,
    model_status,
    parse_api,
    wait_until_ready,
)
from model_load_test.components.protocols.endpoint import Endpoint, parse_endpoint
from model_load_test.components.protocols.signature import (
    NAMELESS,
    SignatureNotFound,
    TensorSpec,
    find_signature,
    parse_tensor_spec,
)
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server


@pytest.fixture(scope="module")
def oip() -> Iterator[EmbeddedServer]:
    with embedded_server("digits", backend="numpy", versions="2,7", api="oip") as running:
        yield running


@pytest.fixture(scope="module")
def seldon() -> Iterator[EmbeddedServer]:
    with embedded_server("digits", backend="numpy", api="seldon") as running:
        yield running


@pytest.fixture(scope="module")
def tf_serving() -> Iterator[EmbeddedServer]:
    with embedded_server("digits", backend="numpy") as running:
        yield running


@pytest.fixture(params=["grpc", "rest"])
def endpoint(request: pytest.FixtureRequest, oip: EmbeddedServer) -> Endpoint:
    return getattr(oip, request.param)


def test_each_api_is_recognised(
    oip: EmbeddedServer, seldon: EmbeddedServer, tf_serving: EmbeddedServer
) -> None:
    for model_name in ("digits", "no such model"):
        assert detect_api(tf_serving.grpc, model_name) == "tf-serving"
        assert detect_api(tf_serving.rest, model_name) == "tf-serving"
        assert detect_api(oip.grpc, model_name) == "oip"
        assert detect_api(oip.rest, model_name) == "oip"
        assert detect_api(seldon.rest, model_name) == "seldon"


def test_what_is_no_model_server_is_said(seldon: EmbeddedServer) -> None:
    with pytest.raises(UnexpectedAnswer, match="no model server over grpc"):
        detect_api(seldon.grpc, "digits")
    with answering({}) as other, pytest.raises(UnexpectedAnswer, match="no model server over http"):
        detect_api(other, "digits")
    with pytest.raises(ServerUnreachable):
        detect_api(Endpoint("http", "127.0.0.1", 1), "digits")


def test_apis_by_name() -> None:
    assert parse_api("auto") is None
    assert parse_api("oip") == "oip"
    with pytest.raises(InputError, match="choose auto, tf-serving, oip, seldon"):
        parse_api("v2")


def test_open_inference_status_and_metadata(endpoint: Endpoint) -> None:
    assert model_status(endpoint, "digits", api="oip") == (VersionStatus("7", "AVAILABLE"),)
    assert wait_until_ready(endpoint, "digits", 5, api="oip")
    signatures = model_metadata(endpoint, "digits", api="oip")
    for name in ("", "serving_default"):
        signature = find_signature(signatures, name, "digits")
        assert signature.inputs == {"images": TensorSpec("float32", (-1, 64))}
        assert signature.outputs["classes"] == TensorSpec("int64", (-1,))
    with pytest.raises(SignatureNotFound, match="knows no signatures"):
        find_signature(signatures, "classify", "digits")
    assert declared_server_kind(endpoint, "digits", api="oip") == "embedded"


@pytest.mark.parametrize("ask", [model_status, model_metadata])
def test_open_inference_without_the_model(endpoint: Endpoint, ask: Callable[..., object]) -> None:
    with pytest.raises(ModelNotFound, match="does not serve it"):
        ask(endpoint, "numbers", api="oip")


def test_the_wrong_api_is_said(
    oip: EmbeddedServer, seldon: EmbeddedServer, tf_serving: EmbeddedServer
) -> None:
    for endpoint in (tf_serving.grpc, tf_serving.rest, seldon.rest):
        with pytest.raises(UnexpectedAnswer, match="Open Inference Protocol"):
            model_status(endpoint, "digits", api="oip")
    for endpoint in (tf_serving.rest, oip.rest):
        with pytest.raises(UnexpectedAnswer, match="not Seldon's prediction API"):
            model_status(endpoint, "digits", api="seldon")
    for endpoint in (oip.grpc, oip.rest):
        with pytest.raises((UnexpectedAnswer, ModelNotFound)):
            model_status(endpoint, "digits")
    with pytest.raises(UnexpectedAnswer, match="give its REST port"):
        model_status(oip.grpc, "digits", api="seldon")


def test_seldon_status_and_metadata(seldon: EmbeddedServer) -> None:
    assert model_status(seldon.rest, "digits", api="seldon") == (VersionStatus("", "AVAILABLE"),)
    signature = model_metadata(seldon.rest, "digits", api="seldon")[NAMELESS]
    assert signature.inputs == {"data": TensorSpec("float64", (-1, 64))}
    assert declared_server_kind(seldon.rest, "digits", api="seldon") == "embedded"


SELDON_V1 = b'{"graphinputs":[{"messagetype":"tensor","schema":{"names":["a","b","c"],"shape":[3]}}]}'
SELDON_V2 = b'{"graphinputs":[{"datatype":"BYTES","name":"input","shape":[1,5]}]}'


@pytest.mark.parametrize(
    ("metadata", "spec", "columns"),
    [
        (SELDON_V1, TensorSpec("float64", (-1, 3)), ("a", "b", "c")),
        (SELDON_V2, TensorSpec("string", (1, 5)), ()),
        (
            b'{"inputs":[{"messagetype":"ndarray","schema":{"shape":[2,2]}}]}',
            TensorSpec("float64", (2, 2)),
            (),
        ),
        (
            b'{"graphinputs":{"messagetype":"tensor","schema":{"names":["a","b"]}}}',
            TensorSpec("float64", (-1, 2)),
            ("a", "b"),
        ),
        (b'{"graphinputs":[{"messagetype":"strData"}]}', None, ()),
        (b'{"graphinputs":[{"datatype":"FP99","name":"x","shape":[1]}]}', None, ()),
        (b"{}", None, ()),
    ],
)
def test_seldon_metadata_of_either_form(
    metadata: bytes, spec: TensorSpec | None, columns: tuple[str, ...]
) -> None:
    with answering({"/api/v1.0/metadata": (200, metadata)}) as endpoint:
        assert detect_api(endpoint, "m") == "seldon"
        signature = model_metadata(endpoint, "m", api="seldon")[NAMELESS]
    assert dict(signature.inputs) == ({} if spec is None else {"data": spec})
    assert signature.columns == columns


def test_seldon_behind_an_ingress_and_not_ready() -> None:
    prefix = "/seldon/models/iris"
    answers = {f"{prefix}/ready": (503, b"warming up"), f"{prefix}/api/v1.0/predictions": (405, b"")}
    with answering(answers) as server:
        endpoint = parse_endpoint(f"{server}{prefix}")
        assert detect_api(endpoint, "iris") == "seldon"
        assert model_status(endpoint, "iris", api="seldon")[0].state == "UNAVAILABLE"
        with pytest.raises(ModelNotReady, match="warming up"):
            wait_until_ready(endpoint, "iris", 0.3, api="seldon")
        assert dict(model_metadata(endpoint, "iris", api="seldon")[NAMELESS].inputs) == {}
    with answering({"/health/ping": (200, b"pong")}) as wrapper:
        assert model_status(wrapper, "iris", api="seldon")[0].state == "AVAILABLE"


def test_open_inference_servers_in_their_own_words() -> None:
    """Answers as Triton and KServe give them."""
    triton = {
        "/v2": (200, b'{"name":"triton","version":"2.50.0","extensions":[]}'),
        "/v2/models/m/ready": (400, b""),
        "/v2/models/m": (400, b"""{"error":"Request for unknown model: 'm' is not found"}"""),
        "/v2/models/loading/ready": (400, b""),
        "/v2/models/loading": (200, b'{"name":"loading","versions":["1"],"inputs":[],"outputs":[]}'),
    }
    with answering(triton) as endpoint:
        assert detect_api(endpoint, "m") == "oip"
        assert declared_server_kind(endpoint, "m", api="oip") == "triton"
        with pytest.raises(ModelNotFound, match="unknown model"):
            model_status(endpoint, "m", api="oip")
        assert model_status(endpoint, "loading", api="oip")[0].state == "UNAVAILABLE"
    kserve = {
        "/v1/models/m": (200, b'{"name":"m","ready":true}'),
        "/v2": (200, b'{"name":"kserve","version":"0.15","extensions":[]}'),
        "/v2/models/m/ready": (200, b'{"name":"m","ready":false}'),
        "/v2/models/m": (200, b'{"name":"m","inputs":[{"name":"x","datatype":"FP32","shape":[-1,4]}]}'),
    }
    with answering(kserve) as endpoint:
        assert detect_api(endpoint, "m") == "oip"
        assert declared_server_kind(endpoint, "m", api="oip") == "kserve"
        assert model_status(endpoint, "m", api="oip")[0].state == "UNAVAILABLE"
        inputs = model_metadata(endpoint, "m", api="oip")[NAMELESS].inputs
        assert dict(inputs) == {"x": TensorSpec("float32", (-1, 4))}
    with answering(
        {"/v2": (200, b'{"name":"mlserver"}'), "/v2/models/m": (200, b'{"inputs":5}')}
    ) as endpoint:
        assert declared_server_kind(endpoint, "m", api="oip") == ""
        with pytest.raises(UnexpectedAnswer):
            model_metadata(endpoint, "m", api="oip")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("float32[?, 28, 28]", TensorSpec("float32", (-1, 28, 28))),
        ("string[...]", TensorSpec("string", None)),
        ("int64[]", TensorSpec("int64", ())),
        ("float64[-1,4]", TensorSpec("float64", (-1, 4))),
    ],
)
def test_tensor_specs_are_read_as_they_are_printed(text: str, spec: TensorSpec) -> None:
    assert parse_tensor_spec(text, "inputs.x") == spec
    assert parse_tensor_spec(str(spec), "inputs.x") == spec


@pytest.mark.parametrize("text", ["", "float32[", "float32[a]", "float31[2]", "float32[2;3]"])
def test_what_is_no_tensor_spec(text: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_tensor_spec(text, "inputs.x")
    assert raised.value.field == "inputs.x"


def test_endpoints_behind_an_ingress() -> None:
    endpoint = parse_endpoint("http://ingress:80/seldon/ns/flowers/")
    assert endpoint.base_path == "/seldon/ns/flowers"
    assert str(endpoint) == "http://ingress:80/seldon/ns/flowers"
    for text in (
        "grpc://h:1/x",
        "http://h:1/v2/models/m/infer",
        "http://h/v1/models/m:predict",
        "http://h/x?y=1",
    ):
        with pytest.raises(InputError):
            parse_endpoint(text)


@contextmanager
def answering(answers: dict[str, tuple[int, bytes]]) -> Iterator[Endpoint]:
    """An HTTP server with fixed answers; 404 to all else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b"404 page not found"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Endpoint("http", "127.0.0.1", server.server_port)
        finally:
            server.shutdown()
            thread.join()
