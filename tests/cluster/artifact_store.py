"""Stands in for a run's object store: files by key over HTTP, in a pod of their own.

    python3 artifact_store.py FOLDER PORT

PUT /KEY stores, GET /KEY answers the bytes, GET /KEY?keys answers the keys that are KEY or below it.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(sys.argv[1])


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def do_PUT(self) -> None:
        """Stores a file."""
        path = self._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(200, b"")

    def do_GET(self) -> None:
        """Answers a file, or which files there are."""
        path = self._path()
        if urlsplit(self.path).query == "keys":
            files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            self._answer(200, json.dumps(sorted(str(file.relative_to(ROOT)) for file in files)).encode())
        elif path.is_file():
            self._answer(200, path.read_bytes())
        else:
            self._answer(404, b"")

    def log_message(self, format: str, *arguments: object) -> None:
        """Keeps the log short."""

    def _path(self) -> Path:
        path = (ROOT / unquote(urlsplit(self.path).path).lstrip("/")).resolve()
        if not path.is_relative_to(ROOT.resolve()):
            raise ValueError(f"outside of the store: {path}")
        return path

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ROOT.mkdir(parents=True, exist_ok=True)
    ThreadingHTTPServer(("0.0.0.0", int(sys.argv[2])), Handler).serve_forever()
