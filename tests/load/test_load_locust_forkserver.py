"""The fork server with a stand-in for Locust: output, exit codes, signals, and deaths on every side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_load_test.components.load.locust.forkserver import delegate

SERVER = """
import os, signal, sys, time
from model_load_test.components.load.locust.forkserver import serve

prepared = []

def run(words):
    assert prepared == ["once"], "imported before the fork, once"
    if words[0] == "say":
        print(*words[1:], flush=True)
        return int(words[-1])
    if words[0] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    stopped = []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(1))
    print("waiting", os.getpid(), flush=True)
    while not stopped:
        time.sleep(0.01)
    print("stopped", flush=True)
    return 0

serve(run, lambda: prepared.append("once"))
"""
CLIENT = """
import sys
from pathlib import Path
from model_load_test.components.load.locust.forkserver import delegate
code = delegate(Path(sys.argv[1]), sys.argv[2:])
sys.exit(99 if code is None else code)
"""


@contextmanager
def running_server(folder: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    import socket

    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=listener.fileno())
    try:
        yield path, server
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    # a socket's path may have 107 characters
    with running_server(tmp_path_factory.mktemp("f")) as running:
        yield running


def client(path: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(path), *words], stdout=subprocess.PIPE, text=True
    )


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.rsplit(")", 1)[1].split()[0] != "Z"


def wait_until(holds: object, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_runs_side_by_side_have_their_own_output_and_exit_code(server: tuple[Path, object]) -> None:
    clients = [client(server[0], "say", "hello", str(code)) for code in (0, 3, 7)]
    for code, one in zip((0, 3, 7), clients, strict=True):
        out, _ = one.communicate(timeout=60)
        assert (out, one.returncode) == (f"hello {code}\n", code)


def test_an_interruption_reaches_the_run_which_ends_in_its_own_way(server: tuple[Path, object]) -> None:
    one = client(server[0], "wait")
    assert first_line(one).startswith("waiting")
    one.send_signal(signal.SIGINT)
    out, _ = one.communicate(timeout=60)
    assert (out, one.returncode) == ("stopped\n", 0)


def test_a_killed_client_takes_its_run_with_it(server: tuple[Path, object]) -> None:
    one = client(server[0], "wait")
    pid = int(first_line(one).split()[1])
    one.kill()
    one.wait()
    assert wait_until(lambda: not is_alive(pid)), "it would load the server with no one to read its rows"


def test_a_run_that_dies_is_not_a_success(server: tuple[Path, object]) -> None:
    one = client(server[0], "die")
    one.communicate(timeout=60)
    assert one.returncode not in (0, 99)


def test_a_server_that_dies_ends_its_clients_with_an_error(
    server: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    one = client(server[0], "wait")
    pid = int(first_line(one).split()[1])
    server[1].kill()
    server[1].wait()
    try:
        assert one.wait(timeout=60) not in (0, 99)
    finally:
        os.kill(pid, signal.SIGKILL)  # this run does not watch its parent; Locust's do


def test_without_a_server_one_runs_by_oneself(tmp_path: Path) -> None:
    assert delegate(tmp_path / "no-socket", ["say", "0"]) is None
