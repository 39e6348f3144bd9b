"""Starts the embedded server as a process of its own, and stops it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.client import Api
from model_load_test.components.protocols.endpoint import Endpoint

_STOP_SECONDS: Final = 10.0
_SHOWN_LOG_CHARACTERS: Final = 2000


class ServerDidNotStart(InputError):
    """The embedded server ended, or was not ready in time; the error has the end of its log."""


@dataclass(frozen=True)
class EmbeddedServer:
    """A running embedded server."""

    grpc: Endpoint
    rest: Endpoint
    pid: int


@contextmanager
def embedded_server(
    model_name: str,
    model_base_path: Path | str | None = None,
    *,
    backend: str = "saved-model",
    callable_place: str = "",
    versions: str = "latest",
    labels: Mapping[str, int] | None = None,
    api: Api = "tf-serving",
    host: str = "127.0.0.1",
    port: int = 0,
    rest_api_port: int = 0,
    delay_ms: float = 0.0,
    error_rate: float = 0.0,
    hang_after_requests: int | None = None,
    fault_seed: int = 0,
    compute_ms: float = 0.0,
    compute_threads: int = 0,
    flags: Sequence[str] = (),
    start_timeout_seconds: float = 120.0,
) -> Iterator[EmbeddedServer]:
    """Runs an embedded server for as long as the block takes.

    Args:
        model_name: Name the model is served by.
        model_base_path: Folder of version folders, each a SavedModel; none for the numpy backend.
        backend: saved-model, or numpy: no TensorFlow, ready within a second or so.
        callable_place: MODULE:NAME of a NumpyModel, for the numpy backend.
        versions: latest, all, or numbers such as "1,3".
        labels: Versions by label.
        api: What it speaks: tf-serving, oip (Open Inference v2), or seldon over REST alone.
        host: Address to listen on.
        port: gRPC port; 0 for any that is free.
        rest_api_port: REST port; 0 for any that is free.
        delay_ms: Added to every inference request.
        error_rate: Share of inference requests that fail.
        hang_after_requests: Answer that many inference requests, then none.
        fault_seed: Of the choice of failing requests.
        compute_ms: Added to every run of the model.
        compute_threads: So many requests compute at once, the others queue; 0 for all.
        flags: Further flags of tensorflow_model_server that it honours, such as `--enable_batching=true`.
        start_timeout_seconds: How long loading may take.

    Yields:
        The server, its model available.

    Raises:
        ServerDidNotStart: It ended or was not ready in time.
    """
    options: dict[str, object] = {
        "model-name": model_name,
        "model-base-path": model_base_path,
        "backend": backend,
        "callable": callable_place or None,
        "versions": versions,
        "api": api,
        "host": host,
        "port": port,
        "rest-api-port": rest_api_port,
        "delay-ms": delay_ms,
        "error-rate": error_rate,
        "hang-after-requests": hang_after_requests,
        "fault-seed": fault_seed,
        "compute-ms": compute_ms,
        "compute-threads": compute_threads,
    }
    command = [sys.executable, "-m", __package__, "--exit-with-parent"]
    command += [f"--{name}={value}" for name, value in options.items() if value is not None]
    command += flags
    command += [f"--label={label}={version}" for label, version in (labels or {}).items()]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        try:
            ready = _ready_line(process, start_timeout_seconds, log, command)
            yield EmbeddedServer(
                grpc=Endpoint("grpc", host, ready["grpc_port"]),
                rest=Endpoint("http", host, ready["rest_port"]),
                pid=process.pid,
            )
        finally:
            _stop(process)


def _ready_line(
    process: subprocess.Popen[bytes], timeout_seconds: float, log: IO[bytes], command: Sequence[str]
) -> dict[str, Any]:
    assert process.stdout is not None
    # Only killing the process ends a blocking read of its output.
    too_slow = threading.Event()

    def give_up() -> None:
        too_slow.set()
        process.kill()

    timer = threading.Timer(timeout_seconds, give_up)
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    try:
        ready: dict[str, Any] = json.loads(line)
    except ValueError:
        process.wait()
        log.seek(0)
        said = log.read().decode(errors="replace").strip()[-_SHOWN_LOG_CHARACTERS:]
        what = f"not ready within {timeout_seconds:g} s" if too_slow.is_set() else "it ended"
        raise ServerDidNotStart(
            "embedded server", " ".join(command[3:]), f"{what}; it said: {said or 'nothing'}"
        ) from None
    return ready


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
