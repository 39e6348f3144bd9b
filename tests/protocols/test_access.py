"""Servers behind TLS, client certificates and tokens, asked over gRPC and HTTP."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.protocols import open_inference as oip
from model_load_test.components.protocols.access import Access
from model_load_test.components.protocols.client import ServerUnreachable, model_status
from model_load_test.components.protocols.endpoint import Endpoint

trustme = pytest.importorskip("trustme", reason="trustme is not installed")

TOKEN = "canary-7f3a"
NAME = "models.example"


@dataclass(frozen=True)
class Certificates:
    ca: Path
    client_chain: Path
    client_key: Path
    server_chain: Path
    server_key: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca"))
    for who, certificate in (
        ("server", authority.issue_cert(NAME)),
        ("client", authority.issue_cert("tester")),
    ):
        certificate.private_key_pem.write_to_path(str(folder / f"{who}.key"))
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(str(folder / f"{who}.chain"), append=True)
    return Certificates(
        folder / "ca",
        folder / "client.chain",
        folder / "client.key",
        folder / "server.chain",
        folder / "server.key",
    )


@pytest.fixture(scope="module")
def https(certificates: Certificates) -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = (
                self.headers["Authorization"] == f"Bearer {TOKEN}" and self.headers["Host"] == "m.example"
            )
            body = json.dumps({"name": "m", "ready": True} if allowed else {"error": "who are you?"}).encode()
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server_chain, certificates.server_key)
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Endpoint("https", "127.0.0.1", server.server_port)
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def grpcs(certificates: Certificates) -> Iterator[Endpoint]:
    def ready(_request: Any, context: Any) -> Any:
        if dict(context.invocation_metadata()).get("authorization") != f"Bearer {TOKEN}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        return oip.ModelReadyResponse(ready=True)

    def metadata(_request: Any, _context: Any) -> Any:
        return oip.ModelMetadataResponse(name="m", versions=["3"])

    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        for name, answer, request in (
            ("ModelReady", ready, oip.ModelReadyRequest),
            ("ModelMetadata", metadata, oip.ModelMetadataRequest),
        )
    }
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(oip.INFERENCE_SERVICE, handlers),))
    credentials = grpc.ssl_server_credentials(
        [(certificates.server_key.read_bytes(), certificates.server_chain.read_bytes())],
        root_certificates=certificates.ca.read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield Endpoint("grpcs", "127.0.0.1", port)
    server.stop(None)


@pytest.fixture(params=["https", "grpcs"])
def endpoint(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def access(certificates: Certificates) -> Access:
    return Access(
        ca_file=certificates.ca,
        certificate_file=certificates.client_chain,
        key_file=certificates.client_key,
        server_name=NAME,
        headers={"Authorization": f"Bearer {TOKEN}", "Host": "m.example"},
    )


def status(endpoint: Endpoint, access: Access) -> str:
    # gRPC takes the host from the channel, not from a header
    headers = dict(access.headers)
    if endpoint.protocol == "grpc":
        headers.pop("Host", None)
    reached = replace(endpoint, access=replace(access, headers=headers))
    return model_status(reached, "m", 5, api="oip")[0].state


def test_a_server_that_wants_everything_is_asked(endpoint: Endpoint, access: Access) -> None:
    assert status(endpoint, access) == "AVAILABLE"


@pytest.mark.parametrize("missing", ["ca_file", "certificate_file", "server_name"])
def test_what_is_missing_keeps_us_out(endpoint: Endpoint, access: Access, missing: str) -> None:
    without = {"ca_file": None, "server_name": ""}.get(missing)
    changed = replace(access, **{missing: without})
    if missing == "certificate_file":
        changed = replace(changed, key_file=None)
    with pytest.raises(ServerUnreachable):
        status(endpoint, changed)


def test_without_the_token_the_server_says_so(endpoint: Endpoint, access: Access) -> None:
    with pytest.raises(InputError, match="who are you"):
        status(endpoint, replace(access, headers={"Host": "m.example"}))


def test_no_secret_is_printed(endpoint: Endpoint, access: Access) -> None:
    reached = replace(endpoint, access=access)
    for text in (str(reached), repr(reached), repr(access)):
        assert TOKEN not in text
    assert reached == endpoint, "two ways to reach it are one server"


def test_files_that_cannot_be_used(access: Access, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    for scheme in ("https", "grpcs"):
        broken = Endpoint(scheme, "127.0.0.1", 1, access=replace(access, ca_file=tmp_path / "missing.pem"))
        with pytest.raises(InputError) as raised:
            model_status(broken, "m", 1, api="oip")
        assert raised.value.field == "ca_file"
    broken = Endpoint("https", "127.0.0.1", 1, access=replace(access, ca_file=tmp_path / "no.pem"))
    with pytest.raises(InputError, match="give a readable PEM file"):
        model_status(broken, "m", 1, api="oip")
