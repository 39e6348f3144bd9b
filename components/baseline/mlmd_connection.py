"""Ways to the ML Metadata service: inside this process on sqlite or MySQL, or over gRPC.

Every way is one function from a method's name and request to its response, so that the store above
is written once.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from model_load_test.components.baseline.store import FIELD, StoreUnavailable
from model_load_test.components.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    Response = TypeVar("Response", bound=Message)

NOT_FOUND: Final = 5
ALREADY_EXISTS: Final = 6
ABORTED: Final = 10

CALL_SECONDS: Final = 10.0
"""Longest wait for one answer of the service."""

_LARGEST_MESSAGE_BYTES: Final = 100 << 20
_TRIES: Final = 10


class MlmdError(RuntimeError):
    """The service refused a call, with the gRPC status code as a number."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"MLMD status {code}: {message}")


class Connection(Protocol):
    """A way to the service."""

    def call(
        self, method: str, request: Message, response_type: type[Response], expected: tuple[int, ...] = ()
    ) -> Response:
        """Calls a method of `ml_metadata.MetadataStoreService`.

        Raises:
            MlmdError: The service answered with one of the `expected` status codes.
            StoreUnavailable: It cannot be reached, did not answer in time, or with another error.
        """

    def close(self) -> None:
        """Ends the connection."""


@dataclass(frozen=True)
class _Connection:
    store: str
    send: Callable[[str, bytes], bytes]
    close: Callable[[], None]

    def call(
        self, method: str, request: Message, response_type: type[Response], expected: tuple[int, ...] = ()
    ) -> Response:
        encoded = request.SerializeToString()
        for attempt in range(_TRIES):
            try:
                return response_type.FromString(self.send(method, encoded))
            except MlmdError as error:
                if error.code in expected:
                    raise
                # Concurrent writers: sqlite's lock and MySQL's deadlocks both come back as ABORTED.
                if error.code != ABORTED:
                    raise StoreUnavailable(self.store, f"{method}: {error}") from error
                reason = error.message
            time.sleep(random.uniform(0.5, 1.0) * min(0.01 * 2**attempt, 1.0))
        raise StoreUnavailable(self.store, f"gave way to other writers {_TRIES} times: {reason}")


def connect_sqlite(path: Path) -> Connection:
    """Opens MLMD on a sqlite file, which is created when missing.

    Raises:
        InputError: The file cannot be written, is not one of MLMD's or of another schema version, or
            ml-metadata is not installed.
        StoreUnavailable: The file stays locked by others.
    """
    from model_load_test.components.baseline.mlmd_protos import metadata_store_pb2

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise InputError(FIELD, str(path), f"choose a file that can be written: {error.strerror}") from error
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    return _embedded(config, f"mlmd+sqlite:{path}")


def connect_mysql(host: str, port: int, database: str, user: str, password_file: str | None) -> Connection:
    """Opens MLMD on a MySQL or MariaDB database, whose tables are created when missing.

    Raises:
        InputError: The password file cannot be read, or ml-metadata is not installed.
        StoreUnavailable: The database does not answer or refuses the user.
    """
    from model_load_test.components.baseline.mlmd_protos import metadata_store_pb2

    config = metadata_store_pb2.ConnectionConfig()
    config.mysql.host = host
    config.mysql.port = port
    config.mysql.database = database
    config.mysql.user = user
    if password_file is not None:
        config.mysql.password = _read_text("password_file", password_file).rstrip("\n")
    return _embedded(config, f"mlmd+mysql://{host}:{port}/{database}")


def connect_grpc(host: str, port: int) -> Connection:
    """Reaches the MLMD service without encryption, as inside a cluster without TLS."""
    import grpc

    target = _target(host, port)
    return _remote(grpc.insecure_channel(target, options=_channel_options()), f"mlmd+grpc://{target}")


def connect_grpc_tls(
    host: str, port: int, authority_file: str | None = None, server_name: str | None = None
) -> Connection:
    """Reaches the MLMD service over TLS.

    Args:
        host: The service's host.
        port: Its port.
        authority_file: PEM file of the certificate authority; the system's authorities when None.
        server_name: Name in the server's certificate, when it is not `host`.

    Raises:
        InputError: The certificate file cannot be read or holds no certificate.
    """
    import grpc

    authority = None
    if authority_file is not None:
        authority = _read_text("ca", authority_file).encode()
        if b"-----BEGIN CERTIFICATE-----" not in authority:
            raise InputError("ca", authority_file, "give a PEM file with the authority's certificate")
    options = _channel_options()
    if server_name is not None:
        options.append(("grpc.ssl_target_name_override", server_name))
    target = _target(host, port)
    channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(authority), options=options)
    return _remote(channel, f"mlmd+grpcs://{target}")


def _embedded(config: Message, store: str) -> Connection:
    try:
        from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as service
    except ImportError as error:
        raise InputError(
            FIELD,
            store,
            f"pip install 'model-load-test[mlmd]' or use a file: store ({error})",
        ) from error
    handle = _open_embedded(service, config, store)
    lock = threading.Lock()

    def send(method: str, request: bytes) -> bytes:
        with lock:
            response, message, code = getattr(service, method)(handle, request)
        if code:
            raise MlmdError(code, message.decode(errors="replace"))
        return bytes(response)

    return _Connection(store, send, lambda: None)


def _open_embedded(service: Any, config: Message, store: str) -> Any:
    # The extension raises a bare RuntimeError for whatever goes wrong while opening. Several
    # processes creating the tables of one new database get in each other's way: try again.
    for attempt in range(_TRIES):
        try:
            return service.CreateMetadataStore(config.SerializeToString(), b"")
        except RuntimeError as error:
            reason = str(error)
        if "not a database" in reason:
            raise InputError(FIELD, store, "name a file of ML Metadata, or one that does not exist yet")
        if "library version" in reason:
            raise InputError(
                FIELD, store, f"migrate the database with ml-metadata, or name another one: {reason}"
            )
        time.sleep(random.uniform(0.5, 1.0) * min(0.01 * 2**attempt, 0.2))
    raise StoreUnavailable(store, reason)


def _remote(channel: Any, store: str) -> Connection:
    import grpc

    def send(method: str, request: bytes) -> bytes:
        remote = channel.unary_unary(f"/ml_metadata.MetadataStoreService/{method}")
        try:
            return bytes(remote(request, timeout=CALL_SECONDS))
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise StoreUnavailable(store, f"{code.name}: {details}") from error
            raise MlmdError(code.value[0], details) from error

    return _Connection(store, send, channel.close)


def _channel_options() -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _LARGEST_MESSAGE_BYTES),
    ]


def _target(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _read_text(field: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(field, path, f"name a readable text file: {error}") from error
