"""Locust runs without Locust's start: a process that has imported it forks one for each run.

To import Locust takes more than a second of a core; a load test starts its generators anew for each
block. The command line of a run stays the same with and without a fork server: it hands its words
and its output over to one and waits, or runs by itself where there is none.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

SERVE_WORD: Final = "forkserver"
"""First and only word of the server's command line; its standard input is the listening socket."""

_BACKLOG: Final = 64
_STOP_SECONDS: Final = 5.0
_BUSY_POLL_SECONDS: Final = 0.01
_IDLE_POLL_SECONDS: Final = 0.5
_NUMBER: Final = struct.Struct("!i")
_DESCRIPTORS: Final = 2
_TAKEN: Final = b"+"


@contextlib.contextmanager
def fork_server() -> Iterator[Path]:
    """Starts a fork server that lives as long as the block.

    Yields:
        Its socket. One may connect at once; what is asked for runs when the server is ready.
    """
    folder = Path(tempfile.mkdtemp(prefix="locust-"))
    path = folder / "s"
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(_BACKLOG)
            process = subprocess.Popen(
                [sys.executable, "-m", __package__, SERVE_WORD],
                stdin=listener.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        try:
            yield path
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def delegate(path: Path, arguments: Sequence[str]) -> int | None:
    """Has a fork server run `arguments`, with this process' output, and waits for the end.

    SIGINT and SIGTERM are passed on. If this process is killed, so is what it asked for.

    Returns:
        The exit code; None where no fork server took the words.
    """
    server = socket.socket(socket.AF_UNIX)
    with server:
        try:
            server.connect(str(path))
            words = json.dumps(list(arguments)).encode()
            descriptors = array.array("i", [1, 2])
            server.sendmsg(
                [_NUMBER.pack(len(words)), words],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)],
            )

            def pass_on(number: int, _frame: FrameType | None) -> None:
                with contextlib.suppress(OSError):
                    server.send(bytes([number]))

            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, pass_on)
            if _receive(server, len(_TAKEN)) is None:
                return None
        except OSError:
            return None
        code = _receive(server, _NUMBER.size)
        return _NUMBER.unpack(code)[0] if code else 1


def serve(run: Callable[[Sequence[str]], int], prepare: Callable[[], Any]) -> None:
    """Forks a process for each run asked for, until this process' parent ends.

    Args:
        run: Called in the forked process with the words; returns the exit code.
        prepare: Called once before the first fork; imports what every run needs.
    """
    plain = _Plain(os.fork, os.waitpid, select.select, socket.socket)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to us all; clients pass theirs on
    parent = os.getppid()
    listener = plain.socket(fileno=0)
    prepare()
    gc.collect()
    gc.freeze()  # or every fork would copy all of it at its first collection
    clients: dict[int, Any] = {}
    while os.getppid() == parent:
        patience_seconds = _BUSY_POLL_SECONDS if clients else _IDLE_POLL_SECONDS
        ready, _, _ = plain.select([listener, *clients.values()], [], [], patience_seconds)
        for pid in [pid for pid, client in clients.items() if client in ready]:
            _obey(clients[pid], pid)
        for pid in list(clients):
            ended, status = plain.wait(pid, os.WNOHANG)
            if ended:
                _tell(clients[pid], _NUMBER.pack(os.waitstatus_to_exitcode(status)))
                clients.pop(pid).close()
        if listener in ready:
            _start(plain, listener, clients, run)
    for pid in clients:
        os.kill(pid, signal.SIGKILL)


class _Plain(NamedTuple):
    """The system's own functions, taken before what the server imports patches them."""

    fork: Callable[[], int]
    wait: Callable[[int, int], tuple[int, int]]
    select: Callable[..., Any]
    socket: Callable[..., Any]


def _start(
    plain: _Plain, listener: Any, clients: dict[int, Any], run: Callable[[Sequence[str]], int]
) -> None:
    descriptor, _ = listener._accept()  # accept() itself would make a patched socket
    client = plain.socket(fileno=descriptor)
    asked = _read_request(client)
    if asked is None:
        client.close()
        return
    words, outputs = asked
    pid = plain.fork()
    if pid == 0:
        for other in (listener, client, *clients.values()):
            other.close()
        for output, number in zip(outputs, (1, 2), strict=True):
            os.dup2(output, number)
        os._exit(run(words))
    for output in outputs:
        os.close(output)
    clients[pid] = client
    _tell(client, _TAKEN)


def _read_request(client: Any) -> tuple[list[str], list[int]] | None:
    """The words and the two outputs a client sent; None where it broke off."""
    room = socket.CMSG_LEN(_DESCRIPTORS * array.array("i").itemsize)
    try:
        start, ancillary, _, _ = client.recvmsg(_NUMBER.size, room)
        content = _receive(client, _NUMBER.unpack(start)[0]) if len(start) == _NUMBER.size else None
    except OSError:
        return None
    descriptors = array.array("i")
    for _level, _kind, data in ancillary:
        descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    if content is None or len(descriptors) != _DESCRIPTORS:
        return None
    return json.loads(content), list(descriptors)


def _obey(client: Any, pid: int) -> None:
    """Passes on the signals that a client sent; a client that is gone wants its run ended."""
    try:
        numbers = client.recv(16)
    except OSError:
        numbers = b""
    with contextlib.suppress(ProcessLookupError):
        for number in numbers or [signal.SIGKILL]:
            os.kill(pid, number)


def _tell(client: Any, message: bytes) -> None:
    with contextlib.suppress(OSError):
        client.send(message)


def _receive(connection: Any, count: int) -> bytes | None:
    """Exactly `count` bytes; None where the other side broke off."""
    received = b""
    while len(received) < count:
        part = connection.recv(count - len(received))
        if not part:
            return None
        received += part
    return received
