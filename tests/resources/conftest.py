"""Runs whose truth is known, and monitoring systems that behave or do not."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow as pa
import pytest

from model_load_test.components.resources.series import Series
from model_load_test.components.results.table import SCHEMA

START_NS = 1_773_480_000 * 10**9
SECOND = 10**9


def make_table(
    blocks: int = 12, rate_rps: int = 100, arms: tuple[str, ...] = ("candidate", "baseline"), gap: float = 0.0
) -> pa.Table:
    """A duet of blocks of a second, `gap` seconds apart, with two seconds of warm-up before."""
    parts = []
    for arm in arms:
        second = np.repeat(np.arange(-2, blocks), rate_rps)
        inside = np.tile(np.arange(rate_rps) / rate_rps, blocks + 2)
        sent = START_NS + ((second * (1 + gap) + inside) * SECOND).astype(np.int64)
        count = second.size
        parts.append(
            pa.table(
                {
                    "arm": pa.array([arm] * count),
                    "block": second.clip(-1).astype(np.int32),
                    "worker": np.zeros(count, np.int16),
                    "sent_at_ns": sent,
                    "scheduled_at_ns": sent,
                    "latency_ns": np.full(count, 5_000_000) + np.arange(count) % 1000,
                    "ok": np.arange(count) % 50 != 0,
                    "status": pa.array(["OK"] * count),
                    "error": pa.array([""] * count),
                    "request_bytes": np.full(count, 100),
                    "response_bytes": np.full(count, 100),
                }
            ).cast(SCHEMA)
        )
    return pa.concat_tables(parts)


def make_series(
    metric: str = "cpu_seconds",
    arm: str = "candidate",
    every: float = 0.5,
    until: float = 13.0,
    since: float = -3.0,
    value: Callable[[float], float] = lambda seconds: seconds,
    **fields: Any,
) -> Series:
    """A series sampled every so many seconds, whose value is a function of the seconds since block 0."""
    seconds = np.arange(since, until, every)
    defaults: dict[str, Any] = {
        "kind": "counter" if metric == "cpu_seconds" else "gauge",
        "replica": "r1",
        "source": "prometheus",
    }
    return Series(
        metric=metric,
        arm=arm,
        at_ns=START_NS + np.round(seconds * SECOND).astype(np.int64),
        values=np.array([value(one) for one in seconds]),
        **{**defaults, **fields},
    )


@contextmanager
def answering(
    answer: Callable[[str, Mapping[str, list[str]], Mapping[str, str]], tuple[int, Any]],
) -> Iterator[str]:
    """A server on this machine; `answer` gets path, query and headers, and returns status and body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status, body = answer(parts.path, parse_qs(parts.query), dict(self.headers.items()))
            encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(answering(answer))


@pytest.fixture(scope="session")
def table_of() -> Callable[..., pa.Table]:
    return make_table


@pytest.fixture(scope="session")
def series_of() -> Callable[..., Series]:
    return make_series
