"""vegeta over HTTP/2 to the embedded server behind nghttpx, a proxy that many put before their models."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pytest
import trustme

from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.run import StopDecision, run_load_test
from model_load_test.components.serving.embedded.process import EmbeddedServer

SERVER_NAME = "models.example"

pytestmark = [
    pytest.mark.skipif(
        shutil.which("vegeta") is None, reason="vegeta is not on PATH (`make tools` says why)"
    ),
    pytest.mark.skipif(
        shutil.which("nghttpx") is None, reason="nghttpx is not on PATH (Debian: nghttp2-proxy)"
    ),
]


@dataclass(frozen=True)
class Seen:
    """A line of the proxy's access log."""

    protocol: str
    client_port: int
    status: int
    method: str


@dataclass(frozen=True)
class Front:
    """The proxy."""

    address: str
    log: Path

    def predictions(self) -> list[Seen]:
        """Requests for predictions, in the order of their answers."""
        seen = []
        for line in self.log.read_text().splitlines():
            protocol, port, status, method = line.split()
            seen.append(Seen(protocol, int(port), int(status), method))
        return [one for one in seen if one.method == "POST"]


@contextmanager
def nghttpx(server: EmbeddedServer, folder: Path, certificate: trustme.LeafCert | None) -> Iterator[Front]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    host, _, backend_port = server.rest.address.removeprefix("http://").rpartition(":")
    log = folder / "access.log"
    words = [
        "nghttpx",
        "--conf=/dev/null",
        "--workers=1",
        f"--backend={host},{backend_port}",
        f"--frontend=127.0.0.1,{port}{'' if certificate else ';no-tls'}",
        f"--accesslog-file={log}",
        "--accesslog-format=$alpn $remote_port $status $method",
    ]
    if certificate:
        certificate.private_key_pem.write_to_path(str(folder / "server.key"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "server.crt"))
        words += [str(folder / "server.key"), str(folder / "server.crt")]
    with (folder / "nghttpx.log").open("wb") as errors, subprocess.Popen(words, stderr=errors) as process:
        try:
            _wait_until_listening(port, process, folder / "nghttpx.log")
            yield Front(f"http{'s' if certificate else ''}://127.0.0.1:{port}", log)
        finally:
            process.terminate()


def _wait_until_listening(port: int, process: subprocess.Popen[bytes], errors: Path) -> None:
    end = time.monotonic() + 20
    while True:
        assert process.poll() is None and time.monotonic() < end, errors.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)


@pytest.mark.parametrize("encrypted", [True, False], ids=["h2 over TLS", "h2c"])
@pytest.mark.parametrize("http_version", ["2", "1.1"])
def test_a_run_speaks_the_version_that_it_was_told(
    http_version: str,
    encrypted: bool,
    payload: Callable[[str], Path],
    tmp_path: Path,
    start_server: Callable[..., EmbeddedServer],
) -> None:
    """Answers take 30 ms, so that with HTTP/2 several are on their way in one connection."""
    server, authority = start_server(delay_ms=30), trustme.CA()
    requests = payload(str(server.rest))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    connection = {"ca_file": str(tmp_path / "ca.crt"), "server_name": SERVER_NAME} if encrypted else {}
    certificate = authority.issue_cert(SERVER_NAME) if encrypted else None
    with nghttpx(server, tmp_path, certificate) as front:
        test = prepare(
            candidate_endpoint=front.address,
            baseline_endpoint="",
            model_name="digits",
            signature_name="serving_default",
            payload_path=requests,
            mode="single",
            spec_values={
                "rate_rps": 80,
                "block_seconds": 1.0,
                "looks": (1,),
                "warmup_seconds": 0.0,
                "timeout_seconds": 10.0,
                "http_version": http_version,
            },
            work_path=tmp_path / "work",
            connection=connection,
        )
        tried = len(front.predictions())
        table, metadata = run_load_test(
            test, lambda _table: StopDecision(False, "go on"), progress=lambda _update: None
        )
        loaded = front.predictions()[tried:]
    assert table.num_rows >= 80
    assert pc.all(table["ok"]).as_py(), table["error"].unique()
    assert not [check for check in metadata.checks if check["consequence"] == "INVALID"]
    assert len(loaded) >= table.num_rows, "every request came through the proxy"
    assert {one.status for one in loaded} == {200}
    connections = {one.client_port for one in loaded}
    if http_version == "2":
        assert {one.protocol for one in loaded} == {"h2" if encrypted else "h2c"}
        assert len(connections) <= 2, "one connection for each of vegeta's processes"
    else:
        assert {one.protocol for one in loaded} == {"http/1.1"}
        assert len(connections) >= 2, "answers of 30 ms at 80 a second need several"
