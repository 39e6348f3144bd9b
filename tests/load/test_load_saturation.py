from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from model_load_test.components.load.saturation import SaturationWatch, connect_seconds, ephemeral_ports
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.results.table import SCHEMA, RunMetadata
from model_load_test.components.results.validity import validate

MARK = "mark-of-the-generator"
BURN = f"{MARK!r}\nimport time\nend = time.process_time() + 60\nwhile time.process_time() < end: pass"
IDLE = "import time; time.sleep(60)"


def is_generator(words: Sequence[str]) -> bool:
    return any(MARK in word for word in words)


def test_only_generators_among_the_children_are_counted() -> None:
    burning = subprocess.Popen([sys.executable, "-c", BURN])
    idle = subprocess.Popen([sys.executable, "-c", IDLE])
    try:
        with SaturationWatch(is_generator, every_seconds=0.2) as watch:
            time.sleep(1.5)
    finally:
        for process in (burning, idle):
            process.kill()
            process.wait()
    numbers = watch.summary()
    # on a busy machine it gets less than it wants, and waits for the rest
    assert numbers["generator_process_peak"] > 0.05
    assert numbers["generator_process_wanted"] > 0.8
    assert numbers["generator_process_wanted"] >= numbers["generator_process_peak"]
    assert 0 < numbers["generator_cores"] <= 1.3


def test_other_children_are_no_generators() -> None:
    idle = subprocess.Popen([sys.executable, "-c", IDLE])
    try:
        with SaturationWatch(is_generator, every_seconds=0.05) as watch:
            time.sleep(0.5)
    finally:
        idle.kill()
        idle.wait()
    assert "generator_cores" not in watch.summary()


def test_a_watch_tells_its_own_cost_and_what_the_machine_did() -> None:
    with SaturationWatch(is_generator, every_seconds=0.05) as watch:
        time.sleep(0.6)
    numbers = watch.summary()
    assert numbers["watch_samples"] >= 2
    assert 0 < numbers["watch_cpu_share"] < 1
    assert 0 <= numbers["node_busy_share"] <= 1
    assert "generator_cores" not in numbers, "there was none"
    if sys.platform == "linux":
        assert numbers["sockets_peak"] >= 0
        assert numbers["ports_share"] == pytest.approx(
            numbers["sockets_peak"] / (ephemeral_ports() or 0), abs=1e-6
        )
        assert numbers["runnable_per_core_peak"] >= numbers["runnable_per_core"]


def test_a_watch_tells_its_totals_before_its_end_too() -> None:
    """The generators of a Job are asked after each block."""
    with SaturationWatch(is_generator, every_seconds=0.05) as watch:
        time.sleep(0.2)
        told = watch.summary()
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as sender,
            server.accept()[0] as receiver,
        ):
            for _ in range(50):
                sender.sendall(bytes(20_000))
                receiver.recv(20_000, socket.MSG_WAITALL)
        later = watch.summary()
    assert {"link_bytes_per_second", "node_busy_share"} <= told.keys()
    assert later["link_bytes_per_second"] > max(told["link_bytes_per_second"], 1e5)
    if sys.platform == "linux":
        assert 0 <= later["resent_share"] <= 1


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux only")
def test_the_watch_stands_back_for_the_generators_alone() -> None:
    """The run's own threads and what they start keep their place."""
    looked = threading.Event()

    def is_generator_then_tell(words: Sequence[str]) -> bool:
        looked.set()
        return is_generator(words)

    before = os.getpriority(os.PRIO_PROCESS, 0)
    idle = subprocess.Popen([sys.executable, "-c", IDLE])
    try:
        with SaturationWatch(is_generator_then_tell, every_seconds=0.05):
            assert looked.wait(30)
            (thread,) = (one for one in threading.enumerate() if one.name == "saturation")
            assert os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) == 19
            assert os.getpriority(os.PRIO_PROCESS, 0) == before
    finally:
        idle.kill()
        idle.wait()


def test_the_way_to_the_server_is_measured_by_connecting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = Endpoint("grpc", "127.0.0.1", server.getsockname()[1])
        with SaturationWatch(is_generator, {"candidate": endpoint}, every_seconds=0.05) as watch:
            time.sleep(0.2)
    assert watch.summary()["connect_ms_candidate"] > 0
    assert connect_seconds(Endpoint("grpc", "127.0.0.1", 9)) is None


@pytest.mark.parametrize(
    ("name", "number", "code"),
    [
        ("runnable_per_core", 2.5, "run-queue"),
        ("ports_share", 0.85, "ports-short"),
        ("descriptors_share", 0.9, "descriptors-short"),
        ("resent_share", 0.02, "segments-resent"),
    ],
)
def test_what_ran_short_is_a_warning_with_its_number(name: str, number: float, code: str) -> None:
    def codes(value: float) -> list[str]:
        metadata = RunMetadata(host={"saturation": {name: value}})
        return [
            check.code for check in validate(SCHEMA.empty_table(), metadata) if check.consequence == "WARNING"
        ]

    assert codes(number) == [code]
    assert codes(number / 10) == []
