"""Baselines in Vertex ML Metadata.

As in MLMD a context for each key holds the passing runs, and another one all of them; a run is an
artifact with an id made of key and run, which the service keeps unique. Contexts and artifacts have
schemas of our own: among `system.` ones they would stand in the console's experiments.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.baseline.record import Record, decode_record, encode_record
from model_load_test.components.baseline.store import StoreUnavailable
from model_load_test.components.errors import InputError

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.services.metadata_service import MetadataServiceClient

CALL_SECONDS: Final = 15.0
"""Longest wait for one answer of the service."""

_BASELINE: Final = "baseline"
_HISTORY: Final = "history"
_CONTEXT_SCHEMAS: Final = {_BASELINE: "modelloadtest.Baseline", _HISTORY: "modelloadtest.History"}
_RECORD_SCHEMA: Final = "modelloadtest.Record"
_SCHEMA_VERSION: Final = "0.0.1"

_RECORD_FIELD: Final = "model_load_test_record"
_KEY_FIELD: Final = "model_load_test_key"
_PROMOTED_FIELD: Final = "promoted_run_id"
_PROMOTED_AT_FIELD: Final = "promoted_at_ns"
_LARGEST_PAGE: Final = 1000
_DISPLAY_CHARACTERS: Final = 128
_TRIES: Final = 10

_log = logging.getLogger(__name__)


class VertexStore:
    """A `BaselineStore` on Vertex ML Metadata.

    Args:
        client: The service's client.
        parent: Resource name of the metadata store.
        uri: The store's URI, for errors.
    """

    def __init__(self, client: MetadataServiceClient, parent: str, uri: str) -> None:
        from google.api_core import exceptions

        self._client = client
        self._parent = parent
        self._uri = uri
        self._errors = exceptions

    def latest(self, key: BaselineKey, n: int = 20) -> list[Record]:
        """See `BaselineStore.latest`."""
        passing = (record for record in self._records(_BASELINE, key, n) if record.passing)
        return list(islice(passing, n))

    def history(self, key: BaselineKey, n: int | None = None) -> list[Record]:
        """See `BaselineStore.history`."""
        return list(islice(self._records(_HISTORY, key, n or _LARGEST_PAGE), n))

    def find(self, key: BaselineKey, run_id: str) -> Record | None:
        """See `BaselineStore.find`."""
        artifact = self._artifact(key, run_id)
        promoted, _ = _promotion(self._context(_BASELINE, key))
        return _read(artifact, key, promoted) if artifact is not None else None

    def promoted(self, key: BaselineKey) -> Record | None:
        """See `BaselineStore.promoted`."""
        run_id, _ = _promotion(self._context(_BASELINE, key))
        artifact = self._artifact(key, run_id) if run_id else None
        return _read(artifact, key, run_id) if artifact is not None else None

    def record(self, key: BaselineKey, record: Record, artifact_id: int | None = None) -> None:
        """See `BaselineStore.record`."""
        if record.key != key:
            raise InputError("record.key", record.key.name, f"record it under its own key, not {key.name}")
        kept = msgspec.structs.replace(
            record, artifact_id=artifact_id or record.artifact_id, promoted_at_ns=0
        )
        # The contexts first: with them come the schemas.
        contexts = {_HISTORY: self._ensure_context(_HISTORY, key)}
        if record.passing:
            contexts[_BASELINE] = self._ensure_context(_BASELINE, key)
        artifact, passing = self._put_record(key, kept)
        for kind, context in contexts.items():
            if kind == _HISTORY or passing:
                request = {"context": context.name, "artifacts": [artifact]}
                self._call(self._client.add_context_artifacts_and_executions, request)

    def promote(self, key: BaselineKey, run_id: str, at_ns: int) -> None:
        """See `BaselineStore.promote`."""
        artifact = self._artifact(key, run_id)
        record = _read(artifact, key, "") if artifact is not None else None
        if record is None:
            raise InputError("run_id", run_id, f"name a run that {key.name} has")
        if not record.passing:
            raise InputError("run_id", run_id, f"its verdict is {record.verdict}; promote a passing run")
        promoted = _metadata(msgspec.structs.replace(record, promoted_at_ns=at_ns))
        change = {"name": artifact.name, "metadata": promoted}
        request: dict[str, Any] = {"artifact": change, "update_mask": {"paths": ["metadata"]}}
        self._call(self._client.update_artifact, request)
        for _ in range(_TRIES):
            context = self._ensure_context(_BASELINE, key)
            if at_ns < _promotion(context)[1]:
                return
            metadata = {**dict(context.metadata), _PROMOTED_FIELD: run_id, _PROMOTED_AT_FIELD: str(at_ns)}
            # With the tag of what was read: a later promotion by someone else is not overwritten.
            change = {"name": context.name, "etag": context.etag, "metadata": metadata}
            request = {"context": change, "update_mask": {"paths": ["metadata"]}}
            conflicts = (self._errors.Aborted, self._errors.FailedPrecondition)
            if self._call(self._client.update_context, request, conflicts) is not None:
                return
        raise StoreUnavailable(self._uri, f"gave way to other promotions {_TRIES} times")

    def forget(self, key: BaselineKey, run_ids: Collection[str]) -> list[str]:
        """See `BaselineStore.forget`."""
        kept, _ = _promotion(self._context(_BASELINE, key))
        forgotten = []
        for run_id in run_ids:
            artifact = self._artifact(key, run_id) if run_id != kept else None
            if artifact is None:
                continue
            operation = self._call(self._client.delete_artifact, {"name": artifact.name}, self._not_found)
            if operation is not None:
                self._wait(operation)
                forgotten.append(run_id)
        return forgotten

    def list_keys(self) -> list[BaselineKey]:
        """See `BaselineStore.list_keys`."""
        found = []
        request = {
            "parent": self._parent,
            "filter": f'schema_title = "{_CONTEXT_SCHEMAS[_HISTORY]}"',
            "page_size": _LARGEST_PAGE,
        }
        for context in self._paged(self._client.list_contexts, request):
            try:
                text = _text(context.metadata, _KEY_FIELD)
                found.append(msgspec.json.decode(text, type=BaselineKey))
            except (msgspec.MsgspecError, InputError) as error:
                _log.warning("skipped context %s: it names no key: %s", context.name, error)
        return found

    def close(self) -> None:
        """See `BaselineStore.close`."""
        self._client.transport.close()

    @property
    def _not_found(self) -> tuple[type[Exception], ...]:
        return (self._errors.NotFound,)

    def _records(self, kind: str, key: BaselineKey, n: int) -> Iterator[Record]:
        context = self._context(kind, key)
        if context is None:
            return
        of_promotion = context if kind == _BASELINE else self._context(_BASELINE, key)
        run_id, _ = _promotion(of_promotion)
        request = {
            "parent": self._parent,
            # The name as the service spells it: with the project's number.
            "filter": f'in_context("{context.name}")',
            "order_by": "create_time desc",
            "page_size": min(max(n, 1), _LARGEST_PAGE),
        }
        for artifact in self._paged(self._client.list_artifacts, request):
            record = _read(artifact, key, run_id)
            if record is not None:
                yield record

    def _context(self, kind: str, key: BaselineKey) -> Any:
        request = {"name": f"{self._parent}/contexts/{_context_id(kind, key)}"}
        return self._call(self._client.get_context, request, self._not_found)

    def _ensure_context(self, kind: str, key: BaselineKey) -> Any:
        context = self._context(kind, key)
        if context is not None:
            return context
        self._ensure_schemas()
        request = {
            "parent": self._parent,
            "context_id": _context_id(kind, key),
            "context": {
                "display_name": key.name[-_DISPLAY_CHARACTERS:],
                "schema_title": _CONTEXT_SCHEMAS[kind],
                "schema_version": _SCHEMA_VERSION,
                "metadata": {_KEY_FIELD: msgspec.json.encode(key).decode()},
            },
        }
        created = self._call(self._client.create_context, request, (self._errors.AlreadyExists,))
        # Another writer may have been first.
        return created if created is not None else self._context(kind, key)

    def _ensure_schemas(self) -> None:
        titles = dict.fromkeys(_CONTEXT_SCHEMAS.values(), "CONTEXT_TYPE")
        for title, kind in {**titles, _RECORD_SCHEMA: "ARTIFACT_TYPE"}.items():
            request = {
                "parent": self._parent,
                "metadata_schema_id": f"mlt1-{title.lower().replace('.', '-')}",
                "metadata_schema": {
                    "schema": f"title: {title}\ntype: object\n",
                    "schema_version": _SCHEMA_VERSION,
                    "schema_type": kind,
                },
            }
            self._call(self._client.create_metadata_schema, request, (self._errors.AlreadyExists,))

    def _put_record(self, key: BaselineKey, record: Record) -> tuple[str, bool]:
        """Returns the artifact's resource name, and whether the run as the store has it now passed."""
        request = {
            "parent": self._parent,
            "artifact_id": _artifact_id(key, record.run_id),
            "artifact": {
                "display_name": f"{key.model_name} {record.run_id}"[:_DISPLAY_CHARACTERS],
                "uri": record.artifact_uri,
                "state": "LIVE",
                "schema_title": _RECORD_SCHEMA,
                "schema_version": _SCHEMA_VERSION,
                "metadata": _metadata(record),
            },
        }
        created = self._call(self._client.create_artifact, request, (self._errors.AlreadyExists,))
        if created is not None:
            return created.name, record.passing
        present = self._artifact(key, record.run_id)
        if present is None:
            raise StoreUnavailable(self._uri, f"run {record.run_id} is there and not there; try again")
        kept = _read(present, key, "")
        return present.name, kept is not None and kept.passing

    def _artifact(self, key: BaselineKey, run_id: str) -> Any:
        request = {"name": f"{self._parent}/artifacts/{_artifact_id(key, run_id)}"}
        return self._call(self._client.get_artifact, request, self._not_found)

    def _paged(self, method: Callable[..., Any], request: dict[str, Any]) -> Iterator[Any]:
        try:
            yield from self._call(method, request)
        except self._errors.GoogleAPIError as error:
            self._unavailable(error)

    def _wait(self, operation: Any) -> None:
        try:
            operation.result(timeout=CALL_SECONDS)
        except self._errors.GoogleAPIError as error:
            self._unavailable(error)

    def _call(
        self, method: Callable[..., Any], request: dict[str, Any], expected: tuple[type[Exception], ...] = ()
    ) -> Any:
        """Calls the service; None when it answers with an expected error."""
        from google.auth.exceptions import GoogleAuthError

        try:
            return method(request=request, timeout=CALL_SECONDS, retry=None)
        except expected:
            return None
        except (self._errors.GoogleAPIError, GoogleAuthError) as error:
            self._unavailable(error)

    def _unavailable(self, error: Exception) -> NoReturn:
        raise StoreUnavailable(self._uri, f"{type(error).__name__}: {error}") from error


def _context_id(kind: str, key: BaselineKey) -> str:
    return f"mlt1-{kind}-{key.digest}"


def _artifact_id(key: BaselineKey, run_id: str) -> str:
    return f"mlt1-{key.digest}-{hashlib.sha256(run_id.encode()).hexdigest()[:32]}"


def _metadata(record: Record) -> dict[str, Any]:
    """The numbers for a person and for filters, and the record whole."""
    return {**record.metrics, _RECORD_FIELD: encode_record(record).decode()}


def _promotion(context: Any) -> tuple[str, int]:
    """The promoted run's id and the time of its promotion; empty and 0 when there is none."""
    if context is None:
        return "", 0
    at_ns = _text(context.metadata, _PROMOTED_AT_FIELD)
    return _text(context.metadata, _PROMOTED_FIELD), int(at_ns) if at_ns.isdecimal() else 0


def _text(metadata: Any, field: str) -> str:
    value = metadata.get(field, "") if metadata else ""
    return value if isinstance(value, str) else ""


def _read(artifact: Any, key: BaselineKey, promoted_run_id: str) -> Record | None:
    try:
        record = decode_record(_text(artifact.metadata, _RECORD_FIELD))
    except InputError as error:
        _log.warning("skipped artifact %s under %s: %s", artifact.name, key.name, error)
        return None
    if record.key != key:
        _log.warning("skipped artifact %s under %s: it is of another key", artifact.name, key.name)
        return None
    return msgspec.structs.replace(record, promoted=record.run_id == promoted_run_id)
