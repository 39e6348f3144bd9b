"""The one interface of every store of baselines, and opening one by its URI."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Collection
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.baseline.record import Record
from model_load_test.components.errors import InputError

AUTO: Final = "auto"
"""The URI of whichever store the place has."""

_CLIENTS: Final = {
    "vertex": "google.cloud.aiplatform_v1.services.metadata_service",
    "s3": "s3fs",
    "gs": "gcsfs",
}

FIELD: Final = "baseline_store"
"""Name of the parameter that holds a store's URI, for errors."""

_EXAMPLES: Final = "use auto, mlmd+grpc://HOST:8080, kfp:, vertex:, mlmd+sqlite:///file.db or file:///folder"


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

        MLMD and Vertex order runs by the time of recording, KFP's artifacts and files by the time of
        measuring.
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

    - `auto`: what the place has, see `discovery.discover_store`,
    - `mlmd+sqlite:///path/file.db`: ML Metadata in one file, created when missing,
    - `mlmd+grpc://host:port`, `mlmd+grpcs://host:port?ca=/path/ca.pem`: the MLMD service of a cluster,
    - `mlmd+mysql://user@host:port/database?password_file=/path`: MLMD's own database,
    - `kfp:`, `kfp://host:port?tls=true&ca=/path/ca.pem&token_file=/path&namespace=NS&run_id=ID`: the
      artifact API of Kubeflow Pipelines, on older servers the ML Metadata beside it,
    - `vertex:`, `vertex://project/location/metadata-store`: Vertex ML Metadata,
    - `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix`: JSON files, by fsspec.

    Raises:
        InputError: The URI cannot be used: unknown scheme, missing part, unwritable path; or `auto`, and
            the place has no store.
        StoreUnavailable: A database or KFP's API server does not answer. (Other services are not asked
            before they are used.)
    """
    if uri == AUTO:
        uri = _discovered(uri)
    parts = urlsplit(uri)
    if parts.password is not None:
        raise InputError(FIELD, f"{parts.scheme}://...", "leave the password out; use password_file=PATH")
    if parts.scheme in ("mlmd+sqlite", "mlmd+grpc", "mlmd+grpcs", "mlmd+mysql"):
        return _open_mlmd(uri, parts)
    if parts.scheme in ("file", "s3", "gs", "memory"):
        from model_load_test.components.baseline.files import open_file_store

        return open_file_store(uri)
    if parts.scheme == "kfp":
        return _open_kfp(uri, parts)
    if parts.scheme == "vertex":
        return _open_vertex(uri, parts)
    remedy = f"unknown scheme {parts.scheme!r}; {_EXAMPLES}" if parts.scheme else f"no scheme; {_EXAMPLES}"
    raise InputError(FIELD, uri, remedy)


def load_client(uri: str) -> None:
    """Imports the client that a store needs, where that takes long: it is no waiting for the store.

    Vertex's is imported with all of its siblings, for ten seconds and more in a fresh container. What
    is not installed is complained of when the store is opened.
    """
    client = _CLIENTS.get(urlsplit(uri).scheme)
    if client is not None:
        with contextlib.suppress(ImportError):
            importlib.import_module(client)


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


def _discovered(uri: str) -> str:
    from model_load_test.components.baseline.discovery import discover_store

    found = discover_store()
    if not found.uri:
        raise InputError(FIELD, uri, f"name a store, for {found.reason}; {_EXAMPLES}")
    return found.uri


def _open_kfp(uri: str, parts: SplitResult) -> BaselineStore:
    from model_load_test.components.baseline.kfp_opening import KfpAddress, open_kfp_store
    from model_load_test.components.baseline.surroundings import here

    options = _options(uri, parts)
    tls = options.pop("tls", "false")
    if tls not in ("true", "false"):
        raise InputError(FIELD, uri, "write tls=true or tls=false")
    host, port = _address(uri, parts) if parts.netloc else ("", None)
    address = KfpAddress(
        host=host,
        port=port,
        path=parts.path,
        tls=tls == "true",
        authority_file=options.pop("ca", None),
        token_file=options.pop("token_file", None),
        namespace=options.pop("namespace", ""),
        run_id=options.pop("run_id", ""),
        task_id=options.pop("task_id", ""),
        mlmd=options.pop("mlmd", ""),
    )
    _refuse_rest(uri, options)
    if address.task_id and not address.run_id:
        raise InputError(FIELD, uri, "name the task's run too: ?run_id=ID&task_id=ID")
    return open_kfp_store(uri, address, here())


def _open_vertex(uri: str, parts: SplitResult) -> BaselineStore:
    from model_load_test.components.baseline.surroundings import here
    from model_load_test.components.baseline.vertex_opening import VertexAddress, open_vertex_store

    options = _options(uri, parts)
    location, _, metadata_store = parts.path.strip("/").partition("/")
    address = VertexAddress(
        project=parts.netloc,
        location=location,
        metadata_store=metadata_store or "default",
        endpoint=options.pop("endpoint", ""),
        stand_in=options.pop("stand_in", ""),
    )
    _refuse_rest(uri, options)
    return open_vertex_store(uri, address, here())


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
