"""Runs of a key that is not quite the same, with what differs said in words."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, cast

from model_load_test.components.baseline.fingerprint import (
    Fingerprint,
    explain_difference,
    explain_spec_difference,
)
from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.baseline.record import Record
from model_load_test.components.baseline.store import BaselineStore
from model_load_test.components.errors import InputError

Match = Literal["exact", "spec", "model"]
MATCHES: Final = ("exact", "spec", "model")


class Circumstances(NamedTuple):
    """What a run was measured under, beside its key's hashes of it."""

    fingerprint: Fingerprint
    load_spec: dict[str, Any]


def check_match(match: str) -> Match:
    """The match as one of the three.

    Raises:
        InputError: It is none of `exact`, `spec` and `model`.
    """
    if match not in MATCHES:
        raise InputError("match", match, "use exact, spec (other machines too) or model (other loads too)")
    return cast(Match, match)


def nearest_key(
    store: BaselineStore, key: BaselineKey, circumstances: Circumstances, match: Match
) -> tuple[BaselineKey, list[str]]:
    """The key itself when it has a passing run, else the one with the fewest differences that has.

    Never one of another server kind: an embedded server says nothing about a real one.

    Args:
        store: Where the runs are.
        key: The key wished for.
        circumstances: What the key's hashes stand for.
        match: `exact` admits no other key, `spec` those with the same load spec, `model` all of the
            model in its namespace.

    Returns:
        The key, and its differences in words; the key wished for when there is none.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    if match == "exact" or store.latest(key, 1):
        return key, []
    newest = [
        record
        for other in store.list_keys()
        if (other.namespace, other.model_name) == (key.namespace, key.model_name)
        if match == "model" or other.load_spec_hash == key.load_spec_hash
        for record in store.latest(other, 1)
        if record.fingerprint.server_kind == circumstances.fingerprint.server_kind
    ]
    if not newest:
        return key, []
    nearest = min(
        newest, key=lambda record: (len(_differences(circumstances, record)), -record.created_at_ns)
    )
    return nearest.key, _differences(circumstances, nearest)


def _differences(circumstances: Circumstances, record: Record) -> list[str]:
    return explain_spec_difference(circumstances.load_spec, record.load_spec) + explain_difference(
        circumstances.fingerprint, record.fingerprint
    )
