"""From a measured run to its key and record: what is looked up under, and what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from model_load_test.components.baseline.fingerprint import fingerprint_hash, parse_fingerprint
from model_load_test.components.baseline.key import BaselineKey, load_spec_hash
from model_load_test.components.baseline.lookup import ask_store
from model_load_test.components.baseline.record import PASSING_VERDICTS, Record
from model_load_test.components.baseline.store import StoreUnavailable
from model_load_test.components.results.table import RunMetadata

STORE_TIME_LIMIT_SECONDS: Final = 30.0


def key_of_run(metadata: RunMetadata, namespace: str, model_name: str) -> BaselineKey:
    """The key under which comparable runs of a model are kept.

    Raises:
        InputError: The results carry no fingerprint, or a name is blank.
    """
    return BaselineKey(
        namespace=namespace,
        model_name=model_name,
        load_spec_hash=load_spec_hash(metadata.load_spec),
        fingerprint_hash=fingerprint_hash(parse_fingerprint(metadata.fingerprint)),
    )


def record_of_run(
    metadata: RunMetadata,
    key: BaselineKey,
    metrics: Mapping[str, float],
    verdict: str,
    *,
    model_version: str = "",
    artifact_uri: str = "",
) -> Record:
    """The record of a run; its id is the moment it began, which no other run of the key shares."""
    return Record(
        run_id=f"{metadata.started_at_ns}",
        key=key,
        metrics=dict(metrics),
        fingerprint=parse_fingerprint(metadata.fingerprint),
        load_spec=metadata.load_spec,
        verdict=verdict,
        created_at_ns=metadata.started_at_ns,
        artifact_uri=artifact_uri,
        model_version=model_version,
    )


def store_run(store_uri: str, record: Record, artifact_id: int | None = None) -> str:
    """Stores a run that later ones may be compared with, and says in one sentence what was done.

    A store that does not answer is reported, never raised: what was measured is in the artifacts
    and can be recorded later.

    Args:
        store_uri: See `store.open_store`; empty for none.
        record: The run.
        artifact_id: MLMD id of the Metrics artifact that KFP has recorded already.

    Raises:
        InputError: The URI cannot be used.
    """
    if not store_uri:
        return "not recorded: no baseline store was named"
    if record.verdict not in PASSING_VERDICTS:
        return f"not recorded: the verdict is {record.verdict}, and only passing runs become baselines"
    try:
        ask_store(
            store_uri, lambda store: store.record(record.key, record, artifact_id), STORE_TIME_LIMIT_SECONDS
        )
    except StoreUnavailable as error:
        return f"NOT recorded: {error}; the report holds the run, record it later"
    return f"recorded under {record.key.name}"
