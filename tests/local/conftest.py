"""Real servers and real generators on this machine."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server

Start = Callable[..., EmbeddedServer]


@pytest.fixture
def start_server() -> Iterator[Start]:
    """Starts numpy-backed servers that end with the test; `delay_ms`, `error_rate` ... make them worse."""
    with ExitStack() as stack:

        def start(**faults: Any) -> EmbeddedServer:
            return stack.enter_context(embedded_server("digits", backend="numpy", **faults))

        yield start


@pytest.fixture
def sigterm() -> Iterator[Callable[[], None]]:
    """Sends this process SIGTERM; where the code under test does not take it, the test ends by it."""

    def end_the_task(*_: object) -> None:
        raise SystemExit("SIGTERM ended the task")

    before = signal.signal(signal.SIGTERM, end_the_task)
    yield lambda: os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(params=["grpc", "http"])
def protocol(request: pytest.FixtureRequest) -> str:
    """Each protocol whose load generator is installed."""
    tool = {"grpc": "ghz", "http": "vegeta"}[request.param]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on PATH (`make tools` says why it could not be installed)")
    return str(request.param)


@pytest.fixture
def payload(tmp_path: Path) -> Callable[[str], Path]:
    """Makes the requests for a server."""
    from model_load_test.components.payload.make import make_payload
    from model_load_test.components.protocols.endpoint import parse_endpoint

    def make(endpoint: str) -> Path:
        folder = tmp_path / "payload"
        make_payload(parse_endpoint(endpoint), model_name="digits", out_dir=folder, requests=50)
        return folder

    return make
