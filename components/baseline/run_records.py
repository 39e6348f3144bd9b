"""From a measured run to its key and record: what is looked up under, and what is stored."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from model_load_test.components.baseline.comparable import Circumstances
from model_load_test.components.baseline.fingerprint import fingerprint_hash, parse_fingerprint
from model_load_test.components.baseline.key import BaselineKey, load_spec_hash
from model_load_test.components.baseline.record import Record
from model_load_test.components.results.table import RunMetadata


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


def circumstances_of_run(metadata: RunMetadata) -> Circumstances:
    """What the run was measured under, for a search that admits other circumstances.

    Raises:
        InputError: The results carry no fingerprint.
    """
    return Circumstances(parse_fingerprint(metadata.fingerprint), metadata.load_spec)


def spec_of_run(metadata: RunMetadata, key: BaselineKey) -> tuple[bytes, dict[str, str]]:
    """What the run was: a file for people and programs, and the few texts an artifact is found by.

    Returns:
        JSON with the key, the load spec, the payload and the fingerprint; and the artifact's metadata.
    """
    content = {
        "key": {"name": key.name, **msgspec.to_builtins(key)},
        "load_spec": metadata.load_spec,
        "payload": metadata.payload,
        "fingerprint": metadata.fingerprint,
    }
    metadata_of_artifact = {
        "baseline_key": key.name,
        "load_spec_hash": key.load_spec_hash,
        "fingerprint_hash": key.fingerprint_hash,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n", metadata_of_artifact


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
