"""Asking a server for status and metadata, over gRPC and REST, and what goes wrong with it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.client import (
    ModelNotFound,
    ServerUnreachable,
    UnexpectedAnswer,
    VersionStatus,
    model_metadata,
    model_status,
    wait_until_ready,
)
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.protocols.signature import (
    SignatureNotFound,
    TensorSpec,
    find_signature,
)
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server

PROTOCOLS = ("grpc", "rest")


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with embedded_server("digits", backend="numpy", versions="2,7") as running:
        yield running


@pytest.fixture(params=PROTOCOLS)
def endpoint(request: pytest.FixtureRequest, server: EmbeddedServer) -> Endpoint:
    return getattr(server, request.param)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_status_lists_all_versions(endpoint: Endpoint) -> None:
    assert model_status(endpoint, "digits") == (
        VersionStatus(2, "AVAILABLE"),
        VersionStatus(7, "AVAILABLE"),
    )


def test_metadata_gives_the_signatures(endpoint: Endpoint) -> None:
    (signature,) = model_metadata(endpoint, "digits").values()
    assert signature.name == "serving_default"
    assert signature.method_name == "tensorflow/serving/predict"
    assert signature.inputs == {"images": TensorSpec("float32", (-1, 64))}
    assert signature.outputs == {
        "classes": TensorSpec("int64", (-1,)),
        "scores": TensorSpec("float32", (-1, 10)),
    }


@pytest.mark.parametrize("ask", [model_status, model_metadata])
def test_an_unknown_model_is_named_with_what_the_server_said(endpoint: Endpoint, ask) -> None:
    with pytest.raises(ModelNotFound) as raised:
        ask(endpoint, "numbers")
    assert raised.value.field == "model_name"
    assert raised.value.value == "numbers"
    assert str(endpoint) in raised.value.remedy


@pytest.mark.parametrize("ask", [model_status, model_metadata])
def test_no_name_is_no_model(endpoint: Endpoint, ask) -> None:
    with pytest.raises(InputError, match="give the name the model is served by"):
        ask(endpoint, "")


def test_rest_names_the_models_the_server_has_answered_for(server: EmbeddedServer) -> None:
    model_status(server.rest, "digits")
    with pytest.raises(ModelNotFound, match="it serves: digits"):
        model_status(server.rest, "numbers")


def test_an_unknown_signature_is_answered_with_those_there_are(endpoint: Endpoint) -> None:
    with pytest.raises(SignatureNotFound, match="it has: serving_default"):
        find_signature(model_metadata(endpoint, "digits"), "serving", "digits")


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_closed_port(scheme: str) -> None:
    endpoint = Endpoint(scheme, "127.0.0.1", closed_port())
    with pytest.raises(ServerUnreachable, match="check host, port") as raised:
        model_status(endpoint, "digits", timeout_seconds=2)
    assert raised.value.value == str(endpoint)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_port_that_never_answers(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = Endpoint(scheme, "127.0.0.1", silent.getsockname()[1])
        with pytest.raises(ServerUnreachable):
            model_status(endpoint, "digits", timeout_seconds=0.5)


def test_a_name_that_does_not_resolve() -> None:
    for scheme in ("grpc", "http"):
        with pytest.raises(ServerUnreachable):
            model_status(Endpoint(scheme, "no-such-host.invalid", 1), "digits", timeout_seconds=3)


def test_the_ports_mixed_up(server: EmbeddedServer) -> None:
    with pytest.raises((UnexpectedAnswer, ServerUnreachable)):
        model_status(replace(server.rest, scheme="grpc"), "digits", timeout_seconds=2)
    with pytest.raises((UnexpectedAnswer, ServerUnreachable)):
        model_status(replace(server.grpc, scheme="http"), "digits", timeout_seconds=2)


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"[1]", b'{"hello": 1}', b'{"model_version_status": 3}']
)
def test_another_http_server(body: bytes) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            endpoint = Endpoint("http", "127.0.0.1", other.server_port)
            with pytest.raises(UnexpectedAnswer, match="not TF Serving"):
                model_metadata(endpoint, "digits")
            with pytest.raises(UnexpectedAnswer, match="not TF Serving"):
                model_status(endpoint, "digits")
        finally:
            other.shutdown()
            thread.join()


def test_a_proxy_in_the_environment_is_not_asked(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "grpc_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert model_status(endpoint, "digits")


def test_waiting_for_a_server_that_is_there(endpoint: Endpoint) -> None:
    assert [one.version for one in wait_until_ready(endpoint, "digits", 5)] == [2, 7]


def test_waiting_ends_at_the_deadline_with_the_last_reason(server: EmbeddedServer) -> None:
    with pytest.raises(ServerUnreachable):
        wait_until_ready(Endpoint("grpc", "127.0.0.1", closed_port()), "digits", 0.4)
    with pytest.raises(ModelNotFound):
        wait_until_ready(server.grpc, "numbers", 0.4)
