"""Baselines in KFP's own artifacts, for the servers that have replaced ML Metadata by them.

The artifact API creates and lists; it changes and deletes nothing. So everything is an artifact that
says something once, of the type `Artifact`, and a name says what:

    mlt1.key                  a key of the store
    mlt1.baseline.<key>       the record of a passing run
    mlt1.history.<key>        the record of another run
    mlt1.promoted.<key>       a run was made the reference
    mlt1.forgotten.<key>      a record counts no more

Artifacts are ordered by their number: the time of measuring, or of the promotion. (Their time of
creation has whole seconds only.) The URI names key and run: by a URI alone the server finds artifacts
through an index, all others it filters within the namespace. Names and URIs hold no character that a
URL would quote: the server unquotes a filter once more than it was quoted.

Written against the branch of KFP that brings the artifact API, July 2026; the release may differ.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.baseline.kfp_api import KfpApi, NotServed
from model_load_test.components.baseline.record import Record, decode_record, encode_record
from model_load_test.components.baseline.store import FIELD
from model_load_test.components.errors import InputError

_PREFIX: Final = "mlt1"
_KEY: Final = f"{_PREFIX}.key"
_BASELINE: Final = "baseline"
_HISTORY: Final = "history"
_PROMOTED: Final = "promoted"
_FORGOTTEN: Final = "forgotten"

_RECORD_FIELD: Final = "model_load_test_record"
_KEY_FIELD: Final = "model_load_test_key"
_RUN_FIELD: Final = "run_id"
_AT_FIELD: Final = "promoted_at_ns"
_FORGETS_FIELD: Final = "artifact_id"
_GENERATION_FIELD: Final = "generation"

_PRODUCER_KEY: Final = "model_load_test"
_LARGEST_PAGE: Final = 200
_NS_PER_SECOND: Final = 1_000_000_000

_log = logging.getLogger(__name__)

Artifact = dict[str, Any]
Predicate = dict[str, Any]


class Place(NamedTuple):
    """The task that new artifacts belong to: the API makes none outside of a run."""

    run_id: str
    task_id: str = ""
    """The first task of the run when empty."""


class KfpStore:
    """A `BaselineStore` on KFP's artifact API.

    Args:
        api: The way to the server.
        uri: The store's URI, for errors.
        namespace: Kubernetes namespace of the artifacts; empty on a server for a single user.
        place: Where to write; None for reading only.
    """

    def __init__(self, api: KfpApi, uri: str, *, namespace: str, place: Place | None) -> None:
        self._api = api
        self._uri = uri
        self._namespace = namespace
        self._place = place
        self._known_keys: set[BaselineKey] = set()

    def latest(self, key: BaselineKey, n: int = 20) -> list[Record]:
        """See `BaselineStore.latest`."""
        passing = (record for record in self._records(key, (_BASELINE,), n) if record.passing)
        return list(islice(passing, n))

    def history(self, key: BaselineKey, n: int | None = None) -> list[Record]:
        """See `BaselineStore.history`."""
        return list(islice(self._records(key, (_BASELINE, _HISTORY), n or _LARGEST_PAGE), n))

    def find(self, key: BaselineKey, run_id: str) -> Record | None:
        """See `BaselineStore.find`."""
        return self._found(key, run_id, self._promotions(key))

    def promoted(self, key: BaselineKey) -> Record | None:
        """See `BaselineStore.promoted`."""
        promotions = self._promotions(key)
        newest = next(iter(promotions), None)
        return self._found(key, newest, promotions) if newest is not None else None

    def record(self, key: BaselineKey, record: Record, artifact_id: int | None = None) -> None:
        """See `BaselineStore.record`."""
        if record.key != key:
            raise InputError("record.key", record.key.name, f"record it under its own key, not {key.name}")
        self._ensure_key(key)
        alive, forgotten = self._of_run(key, record.run_id)
        if not alive:
            kept = msgspec.structs.replace(
                record, artifact_id=artifact_id or record.artifact_id, promoted_at_ns=0
            )
            self._create(
                name=_name(_BASELINE if kept.passing else _HISTORY, key),
                key=key,
                run_id=record.run_id,
                at_ns=kept.created_at_ns,
                metadata={_RECORD_FIELD: encode_record(kept).decode(), _GENERATION_FIELD: len(forgotten)},
            )
            # Writers of one run at the same time see each other here, if not before, and agree.
            alive, _ = self._of_run(key, record.run_id)
        for doubled in alive[1:]:
            self._forget_artifact(key, record.run_id, doubled)

    def promote(self, key: BaselineKey, run_id: str, at_ns: int) -> None:
        """See `BaselineStore.promote`."""
        record = self._found(key, run_id, {})
        if record is None:
            raise InputError("run_id", run_id, f"name a run that {key.name} has")
        if not record.passing:
            raise InputError("run_id", run_id, f"its verdict is {record.verdict}; promote a passing run")
        # A whole number of nanoseconds is more than a JSON number of the API holds.
        metadata = {_RUN_FIELD: run_id, _AT_FIELD: str(at_ns)}
        self._create(name=_name(_PROMOTED, key), key=key, run_id=run_id, at_ns=at_ns, metadata=metadata)

    def forget(self, key: BaselineKey, run_ids: Collection[str]) -> list[str]:
        """See `BaselineStore.forget`. The API deletes nothing: the record is marked as forgotten."""
        kept = next(iter(self._promotions(key)), None)
        forgotten = []
        for run_id in run_ids:
            alive = self._of_run(key, run_id)[0] if run_id != kept else []
            for artifact in alive:
                self._forget_artifact(key, run_id, artifact)
            if alive:
                forgotten.append(run_id)
        return forgotten

    def list_keys(self) -> list[BaselineKey]:
        """See `BaselineStore.list_keys`."""
        found: dict[BaselineKey, None] = {}
        for artifact in self._listed([_equals("name", _KEY)], self._namespace, _LARGEST_PAGE):
            try:
                found[msgspec.json.decode(_text(artifact, _KEY_FIELD), type=BaselineKey)] = None
            except (msgspec.MsgspecError, InputError) as error:
                _log.warning("skipped artifact %s: it names no key: %s", artifact.get("artifact_id"), error)
        return list(found)

    def close(self) -> None:
        """See `BaselineStore.close`."""
        self._api.close()

    def _records(self, key: BaselineKey, kinds: Sequence[str], n: int) -> Iterator[Record]:
        promotions = self._promotions(key)
        seen: set[str] = set()
        named = _is_in("name", [_name(kind, key) for kind in kinds])
        for page in self._pages([named], self._namespace_of(key), min(n, _LARGEST_PAGE)):
            forgotten = self._forgotten(key, min(map(_number, page)))
            for artifact in page:
                if artifact.get("artifact_id") in forgotten:
                    continue
                record = _read(artifact, key, promotions)
                if record is not None and record.run_id not in seen:
                    seen.add(record.run_id)
                    yield record

    def _found(self, key: BaselineKey, run_id: str, promotions: Mapping[str, int]) -> Record | None:
        readable = (_read(artifact, key, promotions) for artifact in self._of_run(key, run_id)[0])
        return next((record for record in readable if record is not None and record.run_id == run_id), None)

    def _of_run(self, key: BaselineKey, run_id: str) -> tuple[list[Artifact], set[str]]:
        """The records of a run that count, the first one first, and the ids of those that do not."""
        artifacts = list(self._listed([_equals("uri", _uri(key, run_id))], self._namespace_of(key), None))
        forgotten = {
            _text(artifact, _FORGETS_FIELD)
            for artifact in artifacts
            if artifact.get("name") == _name(_FORGOTTEN, key)
        }
        records = (_name(_BASELINE, key), _name(_HISTORY, key))
        alive = [
            artifact
            for artifact in artifacts
            if artifact.get("name") in records and artifact.get("artifact_id") not in forgotten
        ]
        return sorted(
            alive, key=lambda one: (one.get("created_at", ""), one.get("artifact_id", ""))
        ), forgotten

    def _forgotten(self, key: BaselineKey, since: float) -> set[str]:
        """Ids of the records forgotten among those measured since then."""
        named = _equals("name", _name(_FORGOTTEN, key))
        young = {"key": "number_value", "operation": "GREATER_THAN_EQUALS", "long_value": str(int(since))}
        artifacts = self._listed([named, young], self._namespace_of(key), _LARGEST_PAGE)
        return {_text(artifact, _FORGETS_FIELD) for artifact in artifacts}

    def _promotions(self, key: BaselineKey) -> dict[str, int]:
        """Time of the last promotion by run, the newest first."""
        found = []
        named = _equals("name", _name(_PROMOTED, key))
        for artifact in self._listed([named], self._namespace_of(key), _LARGEST_PAGE):
            at_ns, run_id = _text(artifact, _AT_FIELD), _text(artifact, _RUN_FIELD)
            if at_ns.isdecimal() and run_id:
                found.append((int(at_ns), run_id))
        times: dict[str, int] = {}
        for promoted_at_ns, run_id in sorted(found, reverse=True):
            times.setdefault(run_id, promoted_at_ns)
        return times

    def _ensure_key(self, key: BaselineKey) -> None:
        if key not in self._known_keys:
            metadata = {_KEY_FIELD: msgspec.json.encode(key).decode()}
            self._create(name=_KEY, key=key, run_id="", at_ns=0, metadata=metadata)
            self._known_keys.add(key)

    def _forget_artifact(self, key: BaselineKey, run_id: str, artifact: Artifact) -> None:
        metadata = {_FORGETS_FIELD: artifact["artifact_id"]}
        at_ns = round(_number(artifact) * _NS_PER_SECOND)
        self._create(name=_name(_FORGOTTEN, key), key=key, run_id=run_id, at_ns=at_ns, metadata=metadata)

    def _create(
        self, *, name: str, key: BaselineKey, run_id: str, at_ns: int, metadata: Mapping[str, object]
    ) -> None:
        place = self._resolved_place()
        artifact = {
            "name": name,
            "type": "Artifact",
            "uri": _uri(key, run_id),
            "description": f"{key.name} {run_id}".strip(),
            "number_value": at_ns / _NS_PER_SECOND,
            "metadata": metadata,
            # A server for a single user wants the field, and ignores it.
            "namespace": self._namespace_of(key),
        }
        self._api.post(
            "/artifacts",
            {
                "artifact": artifact,
                "run_id": place.run_id,
                "task_id": place.task_id,
                "producer_key": _PRODUCER_KEY,
                # What is said twice is the same artifact, whoever was first.
                "reuse_if_exists": True,
            },
        )

    def _resolved_place(self) -> Place:
        if self._place is None:
            raise InputError(
                FIELD,
                self._uri,
                "KFP keeps artifacts by run: add ?run_id=ID of a run that they may belong to",
            )
        if not self._place.task_id:
            try:
                tasks = self._api.get(f"/runs/{self._place.run_id}/tasks", {"page_size": 1}).get("tasks", [])
            except NotServed:
                tasks = []
            if not tasks:
                raise InputError("run_id", self._place.run_id, "name a run of this server that has tasks")
            self._place = Place(self._place.run_id, tasks[0]["task_id"])
        return self._place

    def _namespace_of(self, key: BaselineKey) -> str:
        return self._namespace or key.namespace

    def _listed(
        self, predicates: list[Predicate], namespace: str, page_size: int | None
    ) -> Iterator[Artifact]:
        for page in self._pages(predicates, namespace, page_size):
            yield from page

    def _pages(
        self, predicates: list[Predicate], namespace: str, page_size: int | None
    ) -> Iterator[list[Artifact]]:
        asked: dict[str, object] = {
            "namespace": namespace,
            "filter": json.dumps({"predicates": predicates}, separators=(",", ":")),
            "sort_by": "number_value desc",
        }
        if page_size is not None:
            asked["page_size"] = max(1, page_size)
        while True:
            answer = self._api.get("/artifacts", asked)
            if answer.get("artifacts"):
                yield answer["artifacts"]
            if not answer.get("next_page_token"):
                return
            asked["page_token"] = answer["next_page_token"]


def serves_artifacts(api: KfpApi, namespace: str) -> bool:
    """Whether the server has the artifact API; one of KFP 2.18 and before does not.

    Raises:
        InputError: The server says that the namespace is wrong or missing.
        StoreUnavailable: The server does not answer.
    """
    try:
        api.get("/artifacts", {"namespace": namespace, "page_size": 1})
    except NotServed:
        return False
    return True


def _name(kind: str, key: BaselineKey) -> str:
    return f"{_PREFIX}.{kind}.{key.digest}"


def _uri(key: BaselineKey, run_id: str) -> str:
    run = hashlib.sha256(run_id.encode()).hexdigest()[:32] if run_id else "key"
    return f"model-load-test:{key.digest}/{run}"


def _equals(field: str, value: str) -> Predicate:
    return {"key": field, "operation": "EQUALS", "string_value": value}


def _is_in(field: str, values: list[str]) -> Predicate:
    return {"key": field, "operation": "IN", "string_values": {"values": values}}


def _number(artifact: Artifact) -> float:
    value = artifact.get("number_value")
    return float(value) if isinstance(value, (int, float)) else 0.0


def _text(artifact: Artifact, field: str) -> str:
    metadata = artifact.get("metadata")
    value = metadata.get(field) if isinstance(metadata, dict) else None
    return value if isinstance(value, str) else ""


def _read(artifact: Artifact, key: BaselineKey, promotions: Mapping[str, int]) -> Record | None:
    try:
        record = decode_record(_text(artifact, _RECORD_FIELD))
    except InputError as error:
        _log.warning("skipped artifact %s under %s: %s", artifact.get("artifact_id"), key.name, error)
        return None
    if record.key != key:
        _log.warning(
            "skipped artifact %s under %s: it is of another key", artifact.get("artifact_id"), key.name
        )
        return None
    return msgspec.structs.replace(
        record,
        promoted_at_ns=promotions.get(record.run_id, 0),
        promoted=record.run_id == next(iter(promotions), None),
    )
