"""Sends every request of a payload set once, before any load: a refused request measures nothing."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc

from model_load_test.components.payload.manifest import (
    HttpBody,
    PayloadError,
    PayloadManifest,
    read_http_bodies,
    read_manifest,
    read_messages,
)
from model_load_test.components.protocols.connection import (
    ServerUnreachable,
    http_connection,
    open_channel,
)
from model_load_test.components.protocols.endpoint import Endpoint

DEFAULT_TRIAL_SECONDS: Final = 120.0

_SHOWN_ANSWER_CHARACTERS: Final = 300
_IN_FLIGHT: Final = 4
"""Few enough for any server, enough that a slow model does not make the trial long."""
_TRIES: Final = 10
"""A server may fail now and then, which is for the load test to measure; what counts here is an answer."""
_TRIES_IN_VAIN: Final = 2
"""After so many timeouts of one request the server is taken to hang."""
_PAUSE_SECONDS: Final = 0.02
_MOMENTARY_CODES: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
_MOMENTARY_STATUSES: Final = (408, 429, 502, 503, 504)

_Send = Callable[[Any, float], None]
"""Sends one request, with a timeout in seconds; raises `_Unanswered` or `_Refused`."""


class _Unanswered(Exception):
    """No answer this time; another try may have one."""


class _TimedOut(_Unanswered):
    """There was no answer in the time a request has."""


class _Refused(Exception):
    """The server does not take the request."""


def try_payload(
    folder: Path,
    endpoint: Endpoint,
    timeout_seconds: float = 10.0,
    *,
    trial_seconds: float = DEFAULT_TRIAL_SECONDS,
) -> int:
    """Sends each request of the set in `folder` once, a few at a time, until all are answered.

    A request that a server has no answer for at the moment is tried again; one that it refuses is not.

    Args:
        folder: A payload set.
        endpoint: The server to ask, of the set's protocol.
        timeout_seconds: For each request.
        trial_seconds: For all of them.

    Returns:
        How many requests were answered: all of them.

    Raises:
        PayloadError: The set cannot be read, the server refuses one of its requests (the error tells
            which and what it said), or they take longer than `trial_seconds`.
        ServerUnreachable: Nothing answers at the endpoint, or not in time.
    """
    manifest = read_manifest(folder)
    if manifest.protocol != endpoint.protocol:
        raise PayloadError("payload", str(folder), f"it is for {manifest.protocol}; {endpoint} is not")
    requests: Sequence[Any]
    requests = read_messages(folder) if manifest.protocol == "grpc" else read_http_bodies(folder)
    opened = _grpc_sender if manifest.protocol == "grpc" else _http_sender
    with opened(endpoint, manifest) as send:
        trial = _Trial(folder, endpoint, send, timeout_seconds, time.monotonic() + trial_seconds)
        with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="trial") as workers:
            numbers = iter(range(len(requests)))
            lock = threading.Lock()
            running = [workers.submit(trial.run, requests, numbers, lock) for _ in range(_IN_FLIGHT)]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
            finally:
                trial.stopped = True
        answered = sum(future.result() for future in running)
    if answered < manifest.requests:
        raise PayloadError(
            "payload",
            str(folder),
            f"{endpoint} answered {answered} of its {manifest.requests} requests in {trial_seconds:g} s; "
            "make a payload of fewer requests",
        )
    return answered


class _Trial:
    """What the senders of one trial share."""

    def __init__(
        self, folder: Path, endpoint: Endpoint, send: _Send, timeout_seconds: float, deadline: float
    ) -> None:
        self.stopped = False
        self._folder = folder
        self._endpoint = endpoint
        self._send = send
        self._timeout_seconds = timeout_seconds
        self._deadline = deadline

    def run(self, requests: Sequence[Any], numbers: Iterator[int], lock: threading.Lock) -> int:
        """Sends requests, each taken by one sender alone; returns how many of them were answered."""
        answered = 0
        while not self.stopped:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            if not self._answered(number, requests[number]):
                break
            answered += 1
        return answered

    def _answered(self, number: int, request: Any) -> bool:
        """Whether there was time for an answer."""
        timeouts = 0
        for attempt in range(_TRIES):
            left_seconds = self._deadline - time.monotonic()
            if self.stopped or left_seconds <= 0:
                return False
            try:
                self._send(request, min(self._timeout_seconds, left_seconds))
            except _Refused as error:
                raise _refused(self._folder, number, str(error)) from None
            except _Unanswered as error:
                why = str(error)
                timeouts += isinstance(error, _TimedOut)
                if timeouts == _TRIES_IN_VAIN:
                    break
                time.sleep(_PAUSE_SECONDS * attempt)
            else:
                return True
        if time.monotonic() >= self._deadline:
            return False
        raise _unanswered(self._endpoint, number, why)


@contextmanager
def _grpc_sender(endpoint: Endpoint, manifest: PayloadManifest) -> Iterator[_Send]:
    with open_channel(endpoint) as channel:
        call: Callable[..., Any] = channel.unary_unary(manifest.method)

        def send(message: bytes, timeout_seconds: float) -> None:
            try:
                call(message, timeout=timeout_seconds)
            except grpc.RpcError as error:
                code, details = error.code(), error.details()
                raise _failure_of(code)(f"{code.name}: {details}") from None

        yield send


def _failure_of(code: grpc.StatusCode) -> type[Exception]:
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return _TimedOut
    return _Unanswered if code in _MOMENTARY_CODES else _Refused


@contextmanager
def _http_sender(endpoint: Endpoint, manifest: PayloadManifest) -> Iterator[_Send]:
    own = threading.local()
    connections: list[http.client.HTTPConnection] = []
    path = endpoint.base_path + manifest.path

    def send(body: HttpBody, timeout_seconds: float) -> None:
        if not hasattr(own, "connection"):
            own.connection = http_connection(endpoint, timeout_seconds)
            connections.append(own.connection)
        connection: http.client.HTTPConnection = own.connection
        try:
            headers = {**body.headers, **endpoint.access.headers}
            connection.request(manifest.method, path, body.content, headers)
            response = connection.getresponse()
            answer = response.read()
        except TimeoutError:
            connection.close()
            raise _TimedOut(f"nothing in {timeout_seconds:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _Unanswered(str(error) or type(error).__name__) from None
        if response.status != http.client.OK:
            kind = _Unanswered if response.status in _MOMENTARY_STATUSES else _Refused
            raise kind(f"HTTP {response.status}: {_error_text(answer)}")

    try:
        yield send
    finally:
        for connection in connections:
            connection.close()


def _error_text(answer: bytes) -> str:
    """TF Serving's and Open Inference's `error`, Google's `error.message`, Seldon's `status.info`, or all."""
    text = answer.decode(errors="replace")
    try:
        document = json.loads(text)
        error = document["error"] if "error" in document else document["status"]["info"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, TypeError, KeyError):
        return text


def _refused(folder: Path, number: int, said: str) -> PayloadError:
    return PayloadError(
        "payload",
        str(folder),
        f"the server refuses request {number + 1} ({said[:_SHOWN_ANSWER_CHARACTERS]}); make the payload "
        "from this server's signature, or from examples it accepts",
    )


def _unanswered(endpoint: Endpoint, number: int, why: str) -> ServerUnreachable:
    return ServerUnreachable(
        "endpoint", str(endpoint), f"no answer to request {number + 1} ({why}); look at the server's log"
    )
