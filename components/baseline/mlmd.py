"""Baselines in ML Metadata.

A context of the type `model_load_test.Baseline` for each key holds the passing runs only, and one of
the type `model_load_test.History` all of them. So a lookup is two indexed queries: the context by its
name, then its artifacts newest first and limited. Reading artifacts by type takes a minute where this
takes milliseconds, and `filter_query` is gone from ml-metadata 1.21.

A run is one artifact of the schemaless type `model_load_test.Record`, named by key and run id (MLMD
keeps names unique, so that a retry cannot double a run), with its numbers as custom properties for a
person and the record as JSON for us. The Metrics artifact that KFP wrote is linked to the same
contexts and left as it is: a text property on it would stand in KFP's table of metrics.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Final

import msgspec

from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.baseline.mlmd_connection import (
    ALREADY_EXISTS,
    NOT_FOUND,
    Connection,
    MlmdError,
)
from model_load_test.components.baseline.mlmd_protos import metadata_store_pb2 as pb
from model_load_test.components.baseline.mlmd_protos import metadata_store_service_pb2 as service
from model_load_test.components.baseline.record import Record, decode_record, encode_record
from model_load_test.components.baseline.store import StoreUnavailable
from model_load_test.components.errors import InputError

BASELINE_TYPE: Final = "model_load_test.Baseline"
HISTORY_TYPE: Final = "model_load_test.History"
RECORD_TYPE: Final = "model_load_test.Record"

_RECORD_PROPERTY: Final = "model_load_test_record"
_KEY_PROPERTY: Final = "model_load_test_key"
_PROMOTED_PROPERTY: Final = "promoted_run_id"
_PROMOTED_AT_PROPERTY: Final = "promoted_at_ns"
_LARGEST_PAGE: Final = 100

_log = logging.getLogger(__name__)


class MlmdStore:
    """A `BaselineStore` on MLMD, whichever way it is reached."""

    def __init__(self, connection: Connection, uri: str) -> None:
        self._connection = connection
        self._call = connection.call
        self._uri = uri

    def latest(self, key: BaselineKey, n: int = 20) -> list[Record]:
        """See `BaselineStore.latest`."""
        passing = (record for record in self._records(BASELINE_TYPE, key, n) if record.passing)
        return list(islice(passing, n))

    def history(self, key: BaselineKey, n: int | None = None) -> list[Record]:
        """See `BaselineStore.history`."""
        return list(islice(self._records(HISTORY_TYPE, key, n or _LARGEST_PAGE), n))

    def find(self, key: BaselineKey, run_id: str) -> Record | None:
        """See `BaselineStore.find`."""
        artifact = self._artifact(key, run_id)
        promoted, _ = _promotion(self._context(BASELINE_TYPE, key))
        return _read(artifact, key, promoted) if artifact is not None else None

    def promoted(self, key: BaselineKey) -> Record | None:
        """See `BaselineStore.promoted`."""
        run_id, _ = _promotion(self._context(BASELINE_TYPE, key))
        artifact = self._artifact(key, run_id) if run_id else None
        return _read(artifact, key, run_id) if artifact is not None else None

    def record(self, key: BaselineKey, record: Record, artifact_id: int | None = None) -> None:
        """See `BaselineStore.record`."""
        if record.key != key:
            raise InputError("record.key", record.key.name, f"record it under its own key, not {key.name}")
        if artifact_id:
            self._refuse_unknown(artifact_id)
            record = msgspec.structs.replace(record, artifact_id=artifact_id)
        own_id, passing = self._put_record(key, msgspec.structs.replace(record, promoted_at_ns=0))
        members = (own_id, artifact_id) if artifact_id else (own_id,)
        types = (HISTORY_TYPE, BASELINE_TYPE) if passing else (HISTORY_TYPE,)
        request = service.PutAttributionsAndAssociationsRequest()
        for context_id in (self._ensure_context(type_name, key).id for type_name in types):
            for member in members:
                request.attributions.add(artifact_id=member, context_id=context_id)
        self._call("PutAttributionsAndAssociations", request, service.PutAttributionsAndAssociationsResponse)

    def promote(self, key: BaselineKey, run_id: str, at_ns: int) -> None:
        """See `BaselineStore.promote`."""
        artifact = self._artifact(key, run_id)
        record = _read(artifact, key, "") if artifact is not None else None
        if artifact is None or record is None:
            raise InputError("run_id", run_id, f"name a run that {key.name} has")
        if not record.passing:
            raise InputError("run_id", run_id, f"its verdict is {record.verdict}; promote a passing run")
        promoted = msgspec.structs.replace(record, promoted_at_ns=at_ns)
        artifact.custom_properties[_RECORD_PROPERTY].string_value = encode_record(promoted).decode()
        self._put_artifact(artifact)
        context = self._ensure_context(BASELINE_TYPE, key)
        if at_ns < _promotion(context)[1]:
            return
        context.custom_properties[_PROMOTED_PROPERTY].string_value = run_id
        context.custom_properties[_PROMOTED_AT_PROPERTY].int_value = at_ns
        self._call("PutContexts", service.PutContextsRequest(contexts=[context]), service.PutContextsResponse)

    def forget(self, key: BaselineKey, run_ids: Collection[str]) -> list[str]:
        """See `BaselineStore.forget`. MLMD deletes nothing: the record is emptied and marked deleted."""
        kept, _ = _promotion(self._context(BASELINE_TYPE, key))
        forgotten = []
        for run_id in run_ids:
            artifact = self._artifact(key, run_id) if run_id != kept else None
            if artifact is not None:
                artifact.state = pb.Artifact.DELETED
                artifact.custom_properties.clear()
                self._put_artifact(artifact)
                forgotten.append(run_id)
        return forgotten

    def list_keys(self) -> list[BaselineKey]:
        """See `BaselineStore.list_keys`."""
        found = []
        request = service.GetContextsByTypeRequest(type_name=HISTORY_TYPE)
        request.options.max_result_size = _LARGEST_PAGE
        while True:
            response = self._call("GetContextsByType", request, service.GetContextsByTypeResponse)
            for context in response.contexts:
                try:
                    text = context.custom_properties[_KEY_PROPERTY].string_value
                    found.append(msgspec.json.decode(text, type=BaselineKey))
                except msgspec.MsgspecError as error:
                    _log.warning("skipped context %d: it names no key: %s", context.id, error)
            if not response.next_page_token:
                return found
            request.options.next_page_token = response.next_page_token

    def close(self) -> None:
        """See `BaselineStore.close`."""
        self._connection.close()

    def _records(self, type_name: str, key: BaselineKey, n: int) -> Iterator[Record]:
        context = self._context(type_name, key)
        if context is None:
            return
        of_promotion = context if type_name == BASELINE_TYPE else self._context(BASELINE_TYPE, key)
        run_id, _ = _promotion(of_promotion)
        for artifact in self._artifacts(context.id, n):
            record = _read(artifact, key, run_id)
            if record is not None:
                yield record

    def _artifacts(self, context_id: int, n: int) -> Iterator[pb.Artifact]:
        request = service.GetArtifactsByContextRequest(context_id=context_id)
        # A run that KFP measured is two artifacts in the context: its Metrics, and our record.
        request.options.max_result_size = min(max(2 * n, 1), _LARGEST_PAGE)
        # By creation time, pages lose artifacts that concurrent writers created out of the order of
        # their ids: MLMD goes on with "earlier, and of a smaller id".
        request.options.order_by_field.field = pb.ListOperationOptions.OrderByField.ID
        request.options.order_by_field.is_asc = False
        while True:
            response = self._call("GetArtifactsByContext", request, service.GetArtifactsByContextResponse)
            yield from response.artifacts
            if not response.next_page_token:
                return
            request.options.next_page_token = response.next_page_token

    def _context(self, type_name: str, key: BaselineKey) -> pb.Context | None:
        request = service.GetContextByTypeAndNameRequest(type_name=type_name, context_name=key.name)
        response = self._call("GetContextByTypeAndName", request, service.GetContextByTypeAndNameResponse)
        # The service says "not found" by an empty answer.
        return response.context if response.context.id else None

    def _ensure_context(self, type_name: str, key: BaselineKey) -> pb.Context:
        context = self._context(type_name, key)
        if context is not None:
            return context
        put_type = service.PutContextTypeRequest(context_type=pb.ContextType(name=type_name))
        type_id = self._call("PutContextType", put_type, service.PutContextTypeResponse).type_id
        context = pb.Context(type_id=type_id, name=key.name)
        context.custom_properties[_KEY_PROPERTY].string_value = msgspec.json.encode(key).decode()
        request = service.PutContextsRequest(contexts=[context])
        try:
            response = self._call("PutContexts", request, service.PutContextsResponse, (ALREADY_EXISTS,))
        except MlmdError:
            # Another writer was first.
            return self._ensure_context(type_name, key)
        context.id = response.context_ids[0]
        return context

    def _put_record(self, key: BaselineKey, record: Record) -> tuple[int, bool]:
        """Returns the artifact's id, and whether the run as the store has it now passed."""
        artifact = pb.Artifact(
            type_id=self._record_type_id(), name=_artifact_name(key, record.run_id), state=pb.Artifact.LIVE
        )
        artifact.uri = record.artifact_uri
        for name, value in record.metrics.items():
            artifact.custom_properties[name].double_value = value
        artifact.custom_properties[_RECORD_PROPERTY].string_value = encode_record(record).decode()
        try:
            return self._put_artifact(artifact, expected=(ALREADY_EXISTS,)), record.passing
        except MlmdError:
            # A retry, or another writer of the same run.
            present = self._named_artifact(key, record.run_id)
        if present is None:
            raise StoreUnavailable(self._uri, f"run {record.run_id} is there and not there; try again")
        if present.state == pb.Artifact.DELETED:
            artifact.id = present.id
            return self._put_artifact(artifact), record.passing
        kept = _read(present, key, "")
        return present.id, kept is not None and kept.passing

    def _put_artifact(self, artifact: pb.Artifact, expected: tuple[int, ...] = ()) -> int:
        request = service.PutArtifactsRequest(artifacts=[artifact])
        response = self._call("PutArtifacts", request, service.PutArtifactsResponse, expected)
        return int(response.artifact_ids[0])

    def _record_type_id(self) -> int:
        asked = service.GetArtifactTypeRequest(type_name=RECORD_TYPE)
        try:
            found = self._call("GetArtifactType", asked, service.GetArtifactTypeResponse, (NOT_FOUND,))
        except MlmdError:
            request = service.PutArtifactTypeRequest(artifact_type=pb.ArtifactType(name=RECORD_TYPE))
            return self._call("PutArtifactType", request, service.PutArtifactTypeResponse).type_id
        return found.artifact_type.id

    def _artifact(self, key: BaselineKey, run_id: str) -> pb.Artifact | None:
        artifact = self._named_artifact(key, run_id)
        return artifact if artifact is not None and artifact.state != pb.Artifact.DELETED else None

    def _named_artifact(self, key: BaselineKey, run_id: str) -> pb.Artifact | None:
        request = service.GetArtifactByTypeAndNameRequest(
            type_name=RECORD_TYPE, artifact_name=_artifact_name(key, run_id)
        )
        response = self._call("GetArtifactByTypeAndName", request, service.GetArtifactByTypeAndNameResponse)
        return response.artifact if response.artifact.id else None

    def _refuse_unknown(self, artifact_id: int) -> None:
        request = service.GetArtifactsByIDRequest(artifact_ids=[artifact_id])
        if not self._call("GetArtifactsByID", request, service.GetArtifactsByIDResponse).artifacts:
            raise InputError("artifact_id", artifact_id, f"give the id of an artifact in {self._uri}")


def _artifact_name(key: BaselineKey, run_id: str) -> str:
    return f"{key.name}/{hashlib.sha256(run_id.encode()).hexdigest()[:32]}"


def _promotion(context: pb.Context | None) -> tuple[str, int]:
    """The promoted run's id and the time of its promotion; empty and 0 when there is none."""
    if context is None:
        return "", 0
    known = context.custom_properties
    return known[_PROMOTED_PROPERTY].string_value, known[_PROMOTED_AT_PROPERTY].int_value


def _read(artifact: pb.Artifact, key: BaselineKey, promoted_run_id: str) -> Record | None:
    if artifact.state == pb.Artifact.DELETED:
        return None
    if artifact.name == "" and _RECORD_PROPERTY not in artifact.custom_properties:
        # The Metrics artifact that KFP or TFX wrote; its numbers are in the record beside it.
        return None
    try:
        record = decode_record(artifact.custom_properties[_RECORD_PROPERTY].string_value)
    except InputError as error:
        _log.warning("skipped artifact %d under %s: %s", artifact.id, key.name, error)
        return None
    if record.key != key:
        _log.warning("skipped artifact %d under %s: it is of another key", artifact.id, key.name)
        return None
    return msgspec.structs.replace(record, promoted=record.run_id == promoted_run_id)
