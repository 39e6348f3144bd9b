"""Each verdict on the bottleneck, made to happen with real generators, servers and a real proxy."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from model_load_test.components.load.bottleneck import Bottleneck, bottlenecks_of
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.run import StopDecision, run_load_test
from model_load_test.components.results.table import RunMetadata
from model_load_test.components.serving.embedded.process import EmbeddedServer

Start = Callable[..., EmbeddedServer]
MakePayload = Callable[[str], Path]


def never_stop(_table: pa.Table) -> StopDecision:
    return StopDecision(False, "")


def load(
    server: EmbeddedServer,
    payload: MakePayload,
    tmp_path: Path,
    *,
    endpoint: str = "",
    tells_times: bool = True,
    locustfile: str = "",
    **values: Any,
) -> tuple[Bottleneck, RunMetadata]:
    loaded = endpoint or str(server.grpc)
    test = prepare(
        candidate_endpoint=loaded,
        baseline_endpoint="",
        model_name="digits",
        signature_name="serving_default",
        payload_path=payload(str(server.rest if loaded.startswith("http") else server.grpc)),
        mode="single",
        locustfile=locustfile,
        metrics={"candidate": str(server.rest)} if tells_times else {},
        spec_values={"rate_rps": 40, "block_seconds": 1.0, "looks": (2,), "warmup_seconds": 0.5, **values},
        work_path=tmp_path / "work",
    )
    _, metadata = run_load_test(test, never_stop, progress=print)
    return bottlenecks_of(metadata.host)["candidate"], metadata


@pytest.fixture
def tool() -> str:
    if shutil.which("ghz") is not None:
        return "ghz"
    if importlib.util.find_spec("locust") is None:
        pytest.skip("neither ghz nor locust is installed (`make environment tools` installs them)")
    return "locust"


def test_a_model_that_computes_long_is_the_bottleneck(
    tool: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    found, metadata = load(start_server(compute_ms=120), payload, tmp_path, tool=tool, rate_rps=20)
    assert found.verdict == "server compute", found.detail
    assert found.numbers["server_mean_seconds"] >= 0.12
    assert found.numbers["server_queue_seconds"] < 0.5 * found.numbers["server_mean_seconds"]
    assert found.numbers["client_mean_seconds"] >= found.numbers["server_mean_seconds"]
    watched = metadata.host["saturation"]
    assert watched["watch_samples"] >= 4
    assert watched["connect_ms_candidate"] > 0


def test_a_queue_before_the_only_thread_is_the_bottleneck(
    tool: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    # 40 requests/s of 50 ms each on one thread: twice what it can do, so the queue grows
    server = start_server(compute_ms=50, compute_threads=1)
    found, _ = load(server, payload, tmp_path, tool=tool, timeout_seconds=20.0)
    assert found.verdict == "server queue", found.detail
    assert found.numbers["in_flight"] > 4, "Little's law shows the queue from outside too"


def test_a_proxy_that_delays_is_the_bottleneck(
    tool: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    server = start_server()
    with delaying_proxy(server.grpc.port, delay_seconds=0.15) as port:
        found, _ = load(
            server, payload, tmp_path, endpoint=f"grpc://127.0.0.1:{port}", tool=tool, rate_rps=20
        )
    assert found.verdict == "network or proxy", found.detail
    between = found.numbers["client_mean_seconds"] - found.numbers["server_mean_seconds"]
    assert between >= 0.3, "both ways are delayed"
    assert "a connection opens in" in found.detail, "so that a proxy is told from the way there"


def test_a_generator_without_time_is_the_bottleneck(
    payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    if importlib.util.find_spec("locust") is None:
        pytest.skip("locust is not installed (`make environment` installs it)")
    own = tmp_path / "locustfile.py"
    own.write_text(
        "import time\n"
        "from locust import FastHttpUser, task\n"
        "class Busy(FastHttpUser):\n"
        "    @task\n"
        "    def look(self):\n"
        "        end = time.process_time() + 0.05\n"
        "        while time.process_time() < end:\n"
        "            pass\n"
        "        self.client.get('/v1/models/digits')\n"
    )
    server = start_server()
    found, metadata = load(
        server,
        payload,
        tmp_path,
        endpoint=str(server.rest),
        tool="locust",
        locustfile=str(own),
        looks=(1,),
    )
    assert found.verdict == "generator", found.detail
    assert "a generator process used" in found.detail
    assert "locust-cpu" in [check["code"] for check in metadata.checks]


def test_without_the_servers_own_times_no_one_is_blamed(
    tool: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    found, _ = load(start_server(compute_ms=50), payload, tmp_path, tool=tool, tells_times=False, looks=(1,))
    assert found.verdict == "unknown"
    assert "metrics.candidate" in found.detail, "it says what would help"


@contextmanager
def delaying_proxy(port: int, delay_seconds: float) -> Iterator[int]:
    """A TCP proxy on a port of its own that holds back every byte, in both directions."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while part := await source.read(1 << 16):
            loop.call_later(delay_seconds, target.write, part)
        loop.call_later(delay_seconds, target.close)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, server_writer), pass_on(server_reader, writer))

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(connected, "127.0.0.1", 0)

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
