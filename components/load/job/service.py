"""The coordinator's HTTP service: generators fetch their plan and payload here, and bring their rows."""

from __future__ import annotations

import hmac
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from model_load_test.components.load.job.agreement import Agreement, Spoiled
from model_load_test.components.load.job.plan import HOLD_SECONDS, Failure, Greeting, Loaded, Plan
from model_load_test.components.load.job.spec import MOST_GENERATORS

_MOST_BYTES: Final = 4 << 30
"""Of one segment's rows: 50 million requests."""
_CHUNK_BYTES: Final = 1 << 20
_IDLE_SECONDS: Final = 120.0


@dataclass(frozen=True)
class PayloadArchive:
    """The payload set as one file to hand out."""

    path: Path
    sha256: str
    bytes: int


def pack_payload(payload: Path, archive: Path) -> PayloadArchive:
    """Packs a payload set into a tar file, the same bytes for the same content."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        member.mode = 0o644 if member.isfile() else 0o755
        return member

    with tarfile.open(archive, "w") as tar:
        for path in sorted(payload.rglob("*")):
            if path.is_file():
                tar.add(path, arcname=str(path.relative_to(payload)), filter=anonymous)
    digest = sha256()
    with archive.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return PayloadArchive(archive, digest.hexdigest(), archive.stat().st_size)


@dataclass(frozen=True)
class Service:
    """A running service."""

    port: int


@contextmanager
def serving(
    agreement: Agreement,
    plan_of: Callable[[int], Plan],
    payload: PayloadArchive,
    token: str,
    *,
    host: str = "0.0.0.0",
    port: int = 0,
) -> Iterator[Service]:
    """Serves the generators while the block runs.

    Args:
        agreement: What is asked and told.
        plan_of: The plan of a generator, by its index.
        payload: What the generators send to the servers.
        token: What a caller must show; whoever does not is none of our generators.
        host: Address to listen on.
        port: Port to listen on; 0 for any.
    """
    handler = type("Handler", (_Handler,), {"answers": _Answers(agreement, plan_of, payload), "token": token})
    server = _Server((host, port), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="coordinator", daemon=True)
    thread.start()
    try:
        yield Service(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 2 * MOST_GENERATORS

    def handle_error(self, request: object, client_address: object) -> None:
        """A generator that hangs up is no defect of ours; its end is told by its pod."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as it was given


@dataclass(frozen=True)
class _Answers:
    agreement: Agreement
    plan_of: Callable[[int], Plan]
    payload: PayloadArchive


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _IDLE_SECONDS
    answers: _Answers
    token: str

    def do_GET(self) -> None:
        """Time, plan, payload, the next order, the sign to stop."""
        path, asked = self._asked()
        agreement = self.answers.agreement
        if path == "/time":
            self._answer(time.time_ns())
        elif not self._may():
            return
        elif path == "/plan":
            self._answer(self.answers.plan_of(asked["index"]))
        elif path == "/payload":
            self._send_payload()
        elif path == "/order":
            self._answer(agreement.order_after(asked["index"], asked["after"], HOLD_SECONDS))
        elif path == "/stop":
            self._answer(agreement.stop_within(HOLD_SECONDS))
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """A generator that is ready, armed, done with a segment, or failed."""
        path, asked = self._asked()
        if not self._may():
            return
        length = int(self.headers.get("Content-Length", 0))
        if length > _MOST_BYTES:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body, agreement = self.rfile.read(length), self.answers.agreement
        try:
            if path == "/ready":
                agreement.greet(self._decoded(body, Greeting))
                self._answer(None)
            elif path == "/armed":
                self._answer(agreement.arm(asked["index"], asked["number"], HOLD_SECONDS))
            elif path == "/rows":
                agreement.load(asked["index"], asked["number"], self._decoded(body, Loaded))
                self._answer(None)
            elif path == "/failed":
                failure = self._decoded(body, Failure)
                detail = f"Generator {failure.index} cannot go on: {failure.message}"
                agreement.spoil(Spoiled("generator-failed", detail, failure.index))
                self._answer(None)
            else:
                self._refuse(HTTPStatus.NOT_FOUND)
        except msgspec.DecodeError:
            self._refuse(HTTPStatus.BAD_REQUEST)
        return None

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the run's own log tells what matters."""

    def _asked(self) -> tuple[str, dict[str, int]]:
        url = urlsplit(self.path)
        numbers = {
            name: int(values[0]) for name, values in parse_qs(url.query).items() if _is_whole(values[0])
        }
        return url.path, {"index": -1, "number": -1, "after": -1, **numbers}

    def _may(self) -> bool:
        shown = self.headers.get("Authorization", "")
        if hmac.compare_digest(shown.encode(), f"Bearer {self.token}".encode()):
            return True
        self._refuse(HTTPStatus.FORBIDDEN)
        return False

    def _decoded(self, body: bytes, kind: Any) -> Any:
        return msgspec.msgpack.decode(body, type=kind)

    def _send_payload(self) -> None:
        payload = self.answers.payload
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(payload.bytes))
        self.end_headers()
        with payload.path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                self.wfile.write(chunk)

    def _answer(self, value: object) -> None:
        body = msgspec.msgpack.encode(value)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        # What was not read of the request would be taken for the next one.
        self.send_header("Connection", "close")
        self.end_headers()


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
