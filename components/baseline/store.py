"""The one interface of every store of baselines, and opening one by its URI."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.baseline.record import Record
from model_load_test.components.errors import InputError

FIELD: Final = "baseline_store"
"""Name of the parameter that holds a store's URI, for errors."""

_EXAMPLES: Final = "use mlmd+sqlite:///path/file.db, mlmd+grpc://HOST:8080 or file:///folder"


class StoreUnavailable(RuntimeError):
    """A store that does not answer now; the same call may succeed later.

    Args:
        store: The store's URI, without secrets.
        reason: What the store or the network said.
    """

    def __init__(self, store: str, reason: str) -> None:
        self.store = store
        self.reason = reason
        super().__init__(f"baseline store {store} does not answer: {reason}")


class BaselineStore(Protocol):
    """Runs by key. Every method may raise `StoreUnavailable`.

    What lies in a store was written by others: an entry that is not a record of this key is skipped
    with a warning in the log.
    """

    def latest(self, key: BaselineKey, n: int = 20) -> list[Record]:
        """The newest passing runs of a key, newest first, at most `n`.

        MLMD orders runs by the time of recording, a file store by the time of measuring.
        """

    def history(self, key: BaselineKey, n: int | None = None) -> list[Record]:
        """The newest runs of a key whatever their verdict, newest first, all unless `n` is given."""

    def find(self, key: BaselineKey, run_id: str) -> Record | None:
        """One run of a key, whatever its verdict."""

    def promoted(self, key: BaselineKey) -> Record | None:
        """The run that was made the reference of its key last."""

    def record(self, key: BaselineKey, record: Record, artifact_id: int | None = None) -> None:
        """Keeps a run. A run id that the key already has changes nothing, so that a retry is safe.

        Args:
            key: The record's key.
            record: The run.
            artifact_id: MLMD id of the run's Metrics artifact, to be linked with the key; only
                stores on MLMD use it.

        Raises:
            InputError: The record is of another key, or the artifact does not exist.
        """

    def promote(self, key: BaselineKey, run_id: str, at_ns: int) -> None:
        """Makes a passing run the reference of its key, unless another one was promoted later.

        Raises:
            InputError: The key has no such run, or the run did not pass.
        """

    def forget(self, key: BaselineKey, run_ids: Collection[str]) -> list[str]:
        """Removes runs, but never the promoted one; returns the ids removed."""

    def list_keys(self) -> list[BaselineKey]:
        """Every key that has runs."""

    def close(self) -> None:
        """Ends the connection."""


def open_store(uri: str) -> BaselineStore:
    """Opens the store that a URI names.

    - `mlmd+sqlite:///path/file.db`: ML Metadata in one file, created when missing,
    - `mlmd+grpc://host:port`, `mlmd+grpcs://host:port?ca=/path/ca.pem`: the MLMD service of a cluster,
    - `mlmd+mysql://user@host:port/database?password_file=/path`: MLMD's own database,
    - `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix`: JSON files, by fsspec.

    Raises:
        InputError: The URI cannot be used: unknown scheme, missing part, unwritable path.
        StoreUnavailable: A database does not answer. (A service is not asked before it is used.)
    """
    parts = urlsplit(uri)
    if parts.password is not None:
        raise InputError(FIELD, f"{parts.scheme}://...", "leave the password out; use password_file=PATH")
    if parts.scheme in ("mlmd+sqlite", "mlmd+grpc", "mlmd+grpcs", "mlmd+mysql"):
        return _open_mlmd(uri, parts)
    if parts.scheme in ("file", "s3", "gs", "memory"):
        from model_load_test.components.baseline.files import open_file_store

        return open_file_store(uri)
    remedy = f"unknown scheme {parts.scheme!r}; {_EXAMPLES}" if parts.scheme else f"no scheme; {_EXAMPLES}"
    raise InputError(FIELD, uri, remedy)


def _open_mlmd(uri: str, parts: SplitResult) -> BaselineStore:
    from model_load_test.components.baseline import mlmd_connection
    from model_load_test.components.baseline.mlmd import MlmdStore

    options = _options(uri, parts)
    if parts.scheme == "mlmd+sqlite":
        _refuse_rest(uri, options)
        if parts.netloc:
            raise InputError(FIELD, uri, "write the path after three slashes: mlmd+sqlite:///path/file.db")
        if not parts.path.strip("/"):
            raise InputError(FIELD, uri, "name a file: mlmd+sqlite:///path/file.db")
        return MlmdStore(mlmd_connection.connect_sqlite(Path(unquote(parts.path))), uri)
    host, port = _address(uri, parts)
    if parts.scheme == "mlmd+mysql":
        password_file = options.pop("password_file", None)
        _refuse_rest(uri, options)
        database = unquote(parts.path.strip("/"))
        if not database or not parts.username:
            raise InputError(FIELD, uri, "name user and database: mlmd+mysql://USER@HOST:3306/DATABASE")
        connection = mlmd_connection.connect_mysql(
            host, port or 3306, database, unquote(parts.username), password_file
        )
        return MlmdStore(connection, uri)
    if port is None:
        raise InputError(FIELD, uri, "add the port, as in metadata-grpc-service.kubeflow:8080")
    if parts.scheme == "mlmd+grpc":
        _refuse_rest(uri, options)
        return MlmdStore(mlmd_connection.connect_grpc(host, port), uri)
    authority, server_name = options.pop("ca", None), options.pop("server_name", None)
    _refuse_rest(uri, options)
    return MlmdStore(mlmd_connection.connect_grpc_tls(host, port, authority, server_name), uri)


def _address(uri: str, parts: SplitResult) -> tuple[str, int | None]:
    try:
        port = parts.port
    except ValueError:
        raise InputError(FIELD, uri, "the port is not a number from 1 to 65535") from None
    if not parts.hostname:
        raise InputError(FIELD, uri, f"the host is missing; {_EXAMPLES}")
    return parts.hostname, port


def _options(uri: str, parts: SplitResult) -> dict[str, str]:
    try:
        given = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise InputError(FIELD, uri, "write options as ?name=value&name=value") from error
    return {name: values[-1] for name, values in given.items()}


def _refuse_rest(uri: str, options: dict[str, str]) -> None:
    if options:
        raise InputError(FIELD, uri, f"unknown option {sorted(options)[0]!r}; see the list of store URIs")
