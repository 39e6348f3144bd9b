"""An API server that answers what a test tells it to, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import kubernetes

from model_load_test.components.cluster.connection import Cluster


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    content_type: str
    body: Any


Answer = tuple[int, Any] | None
"""Status and JSON; None ends the connection without an answer."""


@dataclass
class ApiServer:
    """What it was asked, and what it says next."""

    answers: dict[tuple[str, str], list[Answer] | Callable[[Asked], Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    def says(self, method: str, path: str, *answers: Answer) -> None:
        """The answers to requests of that kind, in order; the last one again and again."""
        self.answers[method, path] = list(answers)

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        known = self.answers.get((asked.method, asked.path), [(404, status("not found"))])
        if callable(known):
            return known(asked)
        return known.pop(0) if len(known) > 1 else known[0]


def status(message: str) -> dict[str, Any]:
    """A Status object, as the API server's errors are."""
    return {"kind": "Status", "status": "Failure", "message": message}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: ApiServer

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        asked = Asked(
            self.command, parts.path, dict(parse_qsl(parts.query)), self.headers.get("Content-Type", ""), body
        )
        answer = self.api.answer(asked)
        if answer is None:
            self.close_connection = True
            return
        code, document = answer
        content = document.encode() if isinstance(document, str) else json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def listening_api_server() -> Iterator[ApiServer]:
    server = ApiServer()
    handler = type("Handler", (_Handler,), {"api": server})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    listening.daemon_threads = True
    server.port = listening.server_address[1]
    thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    listening.shutdown()
    listening.server_close()
    thread.join()


def connect_to(port: int, patience_seconds: float = 1.0) -> Cluster:
    configuration = kubernetes.client.Configuration()
    configuration.host = f"http://127.0.0.1:{port}"
    configuration.retries = False
    return Cluster(kubernetes.client.ApiClient(configuration), "space", patience_seconds)
