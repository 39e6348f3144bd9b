"""The user classes that send a payload set: REST by FastHttpUser, gRPC by grpcio.

Only a Locust process may call these functions: they import Locust, which patches the process. A
user's own locustfile needs none of them.
"""

from __future__ import annotations

import base64
import contextlib
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from model_load_test.components.errors import InputError
from model_load_test.components.load.locust.pace import REQUEST_BYTES_KEY
from model_load_test.components.load.locust.plan import Plan
from model_load_test.components.payload.manifest import read_manifest, read_messages
from model_load_test.components.protocols.endpoint import parse_endpoint

_CHANNEL_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)
"""A proxy from the environment would stand in between; and each channel is a connection of its own."""


_CONNECT_SECONDS: Final = 2.0
_GHZ_BRACES: Final = "{{`{{`}}"
"""How two braces are written in a file that ghz takes for a template."""


class HttpRequest(NamedTuple):
    """One request of a target file."""

    method: str
    path: str
    """Path and query; the endpoint says where they are sent."""
    headers: dict[str, str]
    body: bytes


class _Target(msgspec.Struct):
    """One line of vegeta's JSON target file."""

    method: str
    url: str
    body: str = ""
    header: dict[str, list[str]] = {}


def user_class(plan: Plan) -> Any:
    """The class of users that send the requests of `plan`.

    Raises:
        InputError: The requests or a file of the connection cannot be read.
    """
    if plan.protocol == "grpc":
        folder = Path(plan.source)
        metadata = read_metadata(Path(plan.metadata_file)) if plan.metadata_file else {}
        return _grpc_user(plan, read_manifest(folder).method, read_messages(folder), metadata)
    return _rest_user(plan, read_targets(Path(plan.source)))


def read_targets(path: Path) -> list[HttpRequest]:
    """The requests of a vegeta target file, in order.

    Raises:
        InputError: The file cannot be read, is no target file, or is empty.
    """
    try:
        targets = msgspec.json.Decoder(_Target).decode_lines(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise InputError("source", path.name, f"give a target file in vegeta's JSON ({error})") from None
    if not targets:
        raise InputError("source", path.name, "it holds no request; make the payload anew")
    return [_request(target) for target in targets]


def _request(target: _Target) -> HttpRequest:
    url = urlsplit(target.url)
    return HttpRequest(
        method=target.method,
        path=url._replace(scheme="", netloc="").geturl(),
        headers={"Host": url.netloc, **{name: ", ".join(value) for name, value in target.header.items()}},
        body=base64.b64decode(target.body),
    )


def read_metadata(path: Path) -> dict[str, str]:
    """What is sent along with every call, from ghz's metadata file; the error never shows it.

    Raises:
        InputError: The file cannot be read or is no JSON object of texts.
    """
    try:
        values = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        raise InputError("metadata_file", path.name, "give a JSON object of names to texts") from None
    return {name.lower(): value.replace(_GHZ_BRACES, "{{") for name, value in values.items()}


def _rest_user(plan: Plan, requests: Sequence[HttpRequest]) -> Any:
    import gevent
    from geventhttpclient.client import HTTPClientPool
    from locust import FastHttpUser, task

    closing = {} if plan.keep_alive else {"Connection": "close"}
    prepared = [
        request._replace(headers={"Accept-Encoding": "gzip", **request.headers, **closing})
        for request in requests
    ]
    pool_arguments: dict[str, Any] = {
        "concurrency": plan.max_connections or plan.users,
        "connection_timeout": plan.timeout_seconds,
        "network_timeout": plan.timeout_seconds,
    }
    if plan.target.startswith("https:"):
        pool_arguments["ssl_context_factory"] = lambda **_: _ssl_context(plan)
        pool_arguments["ssl_options"] = {
            "server_hostname": plan.server_name or parse_endpoint(plan.target).host
        }
    shared_pool = HTTPClientPool(**pool_arguments)

    class RestUser(FastHttpUser):  # type: ignore[misc]  # locust is not typed here
        """Posts the target file's requests; all users share the connections, as Go's client does."""

        host = plan.target
        client_pool = shared_pool
        insecure = False

        @task  # type: ignore[untyped-decorator]
        def send(self) -> None:
            """One request, bounded as a whole by the timeout."""
            request = prepared[self.model_load_test_turn.number % len(prepared)]
            whole = gevent.Timeout.start_new(plan.timeout_seconds)
            try:
                self.client.request(
                    request.method,
                    request.path,
                    data=request.body,
                    headers=dict(request.headers),
                    allow_redirects=False,
                    context={REQUEST_BYTES_KEY: len(request.body)},
                )
            except gevent.Timeout as late:
                if late is not whole:
                    raise
            finally:
                whole.close()

    return RestUser


def _ssl_context(plan: Plan) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=plan.ca_file or None)
    if plan.certificate_file:
        context.load_cert_chain(plan.certificate_file, plan.key_file or None)
    return context


def _grpc_user(plan: Plan, method: str, messages: Sequence[bytes], metadata: dict[str, str]) -> Any:
    import grpc
    import grpc.experimental.gevent
    from locust import User, task

    grpc.experimental.gevent.init_gevent()
    channels = [_channel(plan) for _ in range(plan.connections)]
    for channel in channels:
        _connect(channel)
    calls = [channel.unary_unary(method) for channel in channels]
    sent_along = tuple(metadata.items())

    class GrpcUser(User):  # type: ignore[misc]  # locust is not typed here
        """Calls the payload's method with its messages; all users share the plan's connections."""

        @task  # type: ignore[untyped-decorator]
        def send(self) -> None:
            """One call."""
            number = self.model_load_test_turn.number
            message = messages[number % len(messages)]
            call = calls[number % len(calls)]
            exception, answer = None, b""
            start_time, started = time.time(), time.perf_counter()
            try:
                answer = call(message, timeout=plan.timeout_seconds, metadata=sent_along)
            except grpc.RpcError as error:
                exception = error
            self.environment.events.request.fire(
                request_type="grpc",
                name=method,
                response_time=1e3 * (time.perf_counter() - started),
                response_length=len(answer),
                exception=exception,
                context={**self.context(), REQUEST_BYTES_KEY: len(message)},
                start_time=start_time,
            )

    return GrpcUser


def _channel(plan: Plan) -> Any:
    import grpc

    endpoint = parse_endpoint(plan.target)
    options: tuple[tuple[str, object], ...] = _CHANNEL_OPTIONS
    if not endpoint.secure:
        return grpc.insecure_channel(endpoint.address, options)
    if plan.server_name:
        options = (*options, ("grpc.ssl_target_name_override", plan.server_name))
    credentials = grpc.ssl_channel_credentials(
        *(
            Path(file).read_bytes() if file else None
            for file in (plan.ca_file, plan.key_file, plan.certificate_file)
        )
    )
    return grpc.secure_channel(endpoint.address, credentials, options)


def _connect(channel: Any) -> None:
    """Opens the connection before the load begins; a server that is not there fails the requests."""
    import grpc

    with contextlib.suppress(grpc.FutureTimeoutError):
        grpc.channel_ready_future(channel).result(timeout=_CONNECT_SECONDS)
