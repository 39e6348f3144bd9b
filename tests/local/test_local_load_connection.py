"""Real generators through a front that speaks TLS, wants a client certificate and a token."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import trustme

from model_load_test.components.errors import InputError
from model_load_test.components.load.connection import parse_connection_options
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.run import LoadTest, StopDecision, run_load_test
from model_load_test.components.protocols.endpoint import parse_endpoint
from model_load_test.components.results.table import write_results
from model_load_test.components.serving.embedded.process import EmbeddedServer

CANARY = "canary-5e1f0c7b9a2d4e86"
SERVER_NAME = "models.example"

MakePayload = Callable[[str], Path]
Start = Callable[..., EmbeddedServer]


@dataclass(frozen=True)
class Certificates:
    """Of one test's own authority."""

    server: trustme.LeafCert
    authority: trustme.CA
    files: dict[str, str]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    authority = trustme.CA()
    client = authority.issue_cert("load-test.example")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "tls.crt"))
    client.private_key_pem.write_to_path(str(tmp_path / "tls.key"))
    (tmp_path / "token").write_text(CANARY + "\n")
    return Certificates(
        authority.issue_cert(SERVER_NAME),
        authority,
        {
            "ca_file": str(tmp_path / "ca.crt"),
            "certificate_file": str(tmp_path / "tls.crt"),
            "key_file": str(tmp_path / "tls.key"),
            "token_file": str(tmp_path / "token"),
            "server_name": SERVER_NAME,
        },
    )


@dataclass
class Front:
    """What stands before the model server, and what it saw."""

    endpoint: str
    refused: int = 0
    predicting: set[int] = field(default_factory=set)
    """Ports from which predictions were asked for: one a connection."""
    hosts: set[str] = field(default_factory=set)
    protocols: set[str] = field(default_factory=set)


class _Forward(grpc.GenericRpcHandler):
    """Passes each call on as bytes, if it brings the token."""

    def __init__(self, channel: Any, front: Front) -> None:
        self._channel = channel
        self._front = front

    def service(self, details: Any) -> Any:
        call = self._channel.unary_unary(details.method)

        def handle(request: bytes, context: Any) -> bytes:
            if dict(context.invocation_metadata()).get("authorization") != f"Bearer {CANARY}":
                self._front.refused += 1
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
            try:
                answer: bytes
                answer, known = call.with_call(request, timeout=20)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            context.set_trailing_metadata(tuple(known.trailing_metadata() or ()))
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)


@contextmanager
def grpc_front(server: EmbeddedServer, certificates: Certificates) -> Iterator[Front]:
    credentials = grpc.ssl_server_credentials(
        [(certificates.server.private_key_pem.bytes(), certificates.server.cert_chain_pems[0].bytes())],
        root_certificates=certificates.authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    with grpc.insecure_channel(server.grpc.address) as channel:
        front = Front("")
        peer = grpc.server(ThreadPoolExecutor(16), handlers=[_Forward(channel, front)])
        front.endpoint = f"grpcs://127.0.0.1:{peer.add_secure_port('127.0.0.1:0', credentials)}"
        peer.start()
        try:
            yield front
        finally:
            peer.stop(0).wait()


@contextmanager
def http_front(server: EmbeddedServer, certificates: Certificates | None) -> Iterator[Front]:
    """A reverse proxy over HTTP/1.1; with certificates over TLS, and then it wants the token too."""
    from aiohttp import ClientSession, web

    front = Front("")
    session_key = web.AppKey("session", ClientSession)
    context = None
    if certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificates.server.configure_cert(context)
        certificates.authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED

    async def forward(request: web.Request) -> web.Response:
        if request.method == "POST":
            assert request.transport is not None
            front.predicting.add(request.transport.get_extra_info("peername")[1])
            front.hosts.add(request.host)
        front.protocols.add(f"{request.version.major}.{request.version.minor}")
        if certificates and request.headers.get("Authorization") != f"Bearer {CANARY}":
            front.refused += 1
            return web.json_response({"error": "no token"}, status=401)
        url = f"{server.rest}{request.path_qs}"
        async with request.app[session_key].request(
            request.method, url, data=await request.read(), headers={"Content-Type": "application/json"}
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.startswith("model-load")}
            return web.Response(
                status=answer.status, body=await answer.read(), headers=kept, content_type="application/json"
            )

    async def session(app: web.Application) -> Any:
        app[session_key] = ClientSession()
        yield
        await app[session_key].close()

    async def serve(listening: socket.socket, started: threading.Event, over: asyncio.Event) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", forward)
        app.cleanup_ctx.append(session)
        runner = web.AppRunner(app)
        await runner.setup()
        made = runner.server
        assert made is not None
        site = await asyncio.get_running_loop().create_server(made, sock=listening, ssl=context)
        started.set()
        await over.wait()
        site.close()
        await runner.cleanup()

    listening = socket.create_server(("127.0.0.1", 0))
    front.endpoint = f"http{'s' if certificates else ''}://127.0.0.1:{listening.getsockname()[1]}"
    started, loop, over = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(listening, started, over)))
    thread.start()
    try:
        assert started.wait(20)
        yield front
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def planned(endpoint: str, payload: Path, tmp_path: Path, options: dict[str, Any], **values: Any) -> LoadTest:
    return prepare(
        candidate_endpoint=endpoint,
        baseline_endpoint="",
        model_name="digits",
        signature_name="serving_default",
        payload_path=payload,
        mode="single",
        spec_values={
            "rate_rps": 40,
            "block_seconds": 1.0,
            "looks": (1,),
            "warmup_seconds": 0.0,
            "timeout_seconds": 10.0,
            **values,
        },
        work_path=tmp_path / "work",
        connection=options,
    )


def never_stop(_table: object) -> StopDecision:
    return StopDecision(False, "go on")


class ProcessWatch:
    """Reads the command line and environment of every process while it lives."""

    def __init__(self) -> None:
        self.seen = b""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> ProcessWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        texts: set[bytes] = set()
        while not self._over.wait(0.05):
            for name in ("cmdline", "environ"):
                for path in Path("/proc").glob(f"[0-9]*/{name}"):
                    try:
                        texts.add(path.read_bytes())
                    except OSError:
                        continue
        self.seen = b"\n".join(texts)


@pytest.mark.parametrize(
    ("protocol", "tool"), [("grpc", "ghz"), ("http", "vegeta"), ("grpc", "locust"), ("http", "locust")]
)
def test_tls_with_own_ca_client_certificate_name_and_token(
    protocol: str,
    tool: str,
    payload: MakePayload,
    tmp_path: Path,
    start_server: Start,
    certificates: Certificates,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """And the token is seen nowhere: no command line, log, table, metadata or file is left with it."""
    installed = importlib.util.find_spec(tool) if tool == "locust" else shutil.which(tool)
    if installed is None:
        pytest.skip(f"{tool} is not installed (`make environment tools` says why)")
    server = start_server()
    requests = payload(str(server.grpc if protocol == "grpc" else server.rest))
    front_of = grpc_front if protocol == "grpc" else http_front
    with front_of(server, certificates) as front, ProcessWatch() as watch:
        test = planned(front.endpoint, requests, tmp_path, certificates.files, tool=tool)
        table, metadata = run_load_test(test, never_stop)
    assert table.num_rows >= 40
    assert pc.all(table["ok"]).as_py(), table["error"].unique()
    assert not [check for check in metadata.checks if check["consequence"] == "INVALID"]
    assert not front.refused
    assert metadata.load_spec["encrypted"] is True
    assert tool.encode() in watch.seen, "the generator was seen"
    assert CANARY.encode() not in watch.seen
    out, err = capfd.readouterr()
    assert "load test: single" in out
    assert CANARY not in out + err + repr(test) + json.dumps(metadata.load_spec) + " ".join(metadata.command)
    write_results(tmp_path / "results.parquet", table, metadata)
    assert CANARY.encode() not in (tmp_path / "results.parquet").read_bytes()
    assert CANARY not in str(pq.read_schema(tmp_path / "results.parquet").metadata)
    assert CANARY not in "".join(map(str, table.to_pylist()))
    left = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    assert not left, "the work folder is empty again"


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("ca_file", "name the CA"),
        ("certificate_file", "needs both"),
        ("server_name", None),
        ("token_file", None),
    ],
)
def test_what_is_missing_is_found_before_any_load(
    missing: str,
    said: str | None,
    protocol: str,
    payload: MakePayload,
    tmp_path: Path,
    start_server: Start,
    certificates: Certificates,
) -> None:
    server = start_server()
    requests = payload(str(server.grpc if protocol == "grpc" else server.rest))
    front_of = grpc_front if protocol == "grpc" else http_front
    options = {name: value for name, value in certificates.files.items() if name != missing}
    with front_of(server, certificates) as front, pytest.raises(InputError, match=said):
        planned(front.endpoint, requests, tmp_path, options)
    assert not (tmp_path / "work").exists()


def test_a_token_that_is_wrong_while_loading_fails_the_requests_and_is_not_shown(
    protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start, certificates: Certificates
) -> None:
    server = start_server()
    requests = payload(str(server.grpc if protocol == "grpc" else server.rest))
    front_of = grpc_front if protocol == "grpc" else http_front
    with front_of(server, certificates) as front:
        test = planned(front.endpoint, requests, tmp_path, certificates.files)
        Path(certificates.files["token_file"]).write_text("canary-of-another-day")
        table, metadata = run_load_test(test, never_stop, progress=lambda _update: None)
    assert not pc.any(table["ok"]).as_py()
    assert set(table["status"].to_pylist()) == {"Unauthenticated" if protocol == "grpc" else "401"}
    assert "canary-of-another-day" not in "".join(map(str, table.to_pylist())) + str(metadata)


needs_vegeta = pytest.mark.skipif(
    shutil.which("vegeta") is None, reason="vegeta is not on PATH (`make tools` says why)"
)


@needs_vegeta
@pytest.mark.parametrize("keep_alive", [True, False])
def test_connections_are_kept_or_opened_for_each_request(
    keep_alive: bool, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    server = start_server()
    requests = payload(str(server.rest))
    with http_front(server, None) as front:
        test = planned(front.endpoint, requests, tmp_path, {"host": "digits.team"}, keep_alive=keep_alive)
        front.predicting.clear()
        table, _ = run_load_test(test, never_stop, progress=lambda _update: None)
        opened = len(front.predicting)
    assert pc.all(table["ok"]).as_py()
    assert front.hosts == {"digits.team"}, "the Host by which an ingress finds the model"
    assert front.protocols == {"1.1"}
    assert opened == table.num_rows if not keep_alive else opened < table.num_rows


@needs_vegeta
def test_the_number_of_connections_can_be_limited(
    payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    server = start_server(delay_ms=100)
    requests = payload(str(server.rest))
    with http_front(server, None) as front:
        test = planned(front.endpoint, requests, tmp_path, {}, max_connections=2, timeout_seconds=20.0)
        front.predicting.clear()
        run_load_test(test, never_stop, progress=lambda _update: None)
        assert len(front.predicting) == 2


@contextmanager
def first_bytes(context: ssl.SSLContext | None) -> Iterator[tuple[int, list[bytes]]]:
    """A peer that notes how each connection begins and says no more."""
    listening = socket.create_server(("127.0.0.1", 0))
    begun: list[bytes] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
                if context:
                    connection = context.wrap_socket(connection, server_side=True)
                begun.append(connection.recv(24))
                connection.close()
            except OSError:
                if listening.fileno() < 0:
                    return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1], begun
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


@needs_vegeta
@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.parametrize(("http_version", "begin"), [("2", b"PRI * HTTP/2.0"), ("1.1", b"POST /v1/models")])
def test_http_2_is_negotiated_over_tls_and_spoken_at_once_without(
    http_version: str,
    begin: bytes,
    encrypted: bool,
    payload: MakePayload,
    tmp_path: Path,
    start_server: Start,
    certificates: Certificates,
) -> None:
    server = start_server()
    test = planned(
        str(server.rest),
        payload(str(server.rest)),
        tmp_path,
        {},
        http_version="1.1",
        rate_rps=5,
        timeout_seconds=1.0,
    )
    context = None
    if encrypted:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificates.server.configure_cert(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
    with first_bytes(context) as (port, begun):
        scheme = "https" if encrypted else "http"
        options = {name: certificates.files[name] for name in ("ca_file", "server_name")} if encrypted else {}
        spec = msgspec.structs.replace(test.spec, http_version=http_version)
        run_load_test(
            replace(
                test,
                spec=spec,
                endpoints={"candidate": parse_endpoint(f"{scheme}://127.0.0.1:{port}")},
                connection=parse_connection_options(options),
            ),
            never_stop,
            progress=lambda _update: None,
        )
    sent = [one for one in begun if one and not one.startswith(b"GET /monitoring")]
    assert sent
    assert all(one.startswith(begin) for one in sent), sent
