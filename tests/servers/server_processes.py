"""Model servers as processes, each in a Python environment of its own that is made once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.client import Api, wait_until_ready
from model_load_test.components.protocols.endpoint import Endpoint

INSTALL_SECONDS = 280
START_SECONDS = 120


@contextmanager
def served(
    command: Sequence[str | Path],
    folder: Path,
    endpoints: Sequence[Endpoint],
    model_name: str,
    api: Api,
    environment: Mapping[str, str],
) -> Iterator[None]:
    """Runs a server while the block runs, from the moment it has the model on all of its endpoints.

    Args:
        command: The server's; a process group of its own gets it.
        folder: Where it runs and leaves its log.
        endpoints: Where it listens.
        model_name: A model that it has once it is ready.
        api: What it speaks.
        environment: Variables beside this process's own.
    """
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **environment},
        )
    try:
        try:
            for endpoint in endpoints:
                wait_until_ready(
                    endpoint, model_name, START_SECONDS, api=api, keep_waiting=lambda: process.poll() is None
                )
        except InputError as error:
            pytest.fail(f"{command[0]} did not start ({error}): {log.read_text()[-2000:]}")
        yield
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    except ProcessLookupError:
        process.wait()


def environment(repository: Path, name: str, *requirements: str) -> Path:
    """Makes `build/<name>`, once; skips where it cannot be made."""
    folder = repository / "build" / name
    python = folder / "bin" / "python"
    installed = folder / "installed"
    wanted = "\n".join(requirements)
    if installed.exists() and installed.read_text() == wanted:
        return python
    uv = repository / ".tools" / "uv" / "bin" / "uv"
    if not uv.exists():
        pytest.skip("uv is not at .tools/uv (run `make environment`)")
    if sys.version_info >= (3, 13):
        pytest.skip(f"{wanted} has no build for this Python")
    deadline = time.monotonic() + INSTALL_SECONDS
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder],
        [uv, "pip", "install", "--quiet", "--python", python, *requirements],
    ):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=deadline - time.monotonic()
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"{wanted} could not be installed within {INSTALL_SECONDS} s")
        if done.returncode:
            pytest.skip(f"{wanted} could not be installed: {done.stderr.strip()[-300:]}")
    installed.write_text(wanted)
    return python


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
