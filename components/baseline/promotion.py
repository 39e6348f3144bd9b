"""Making a run the reference, once it has been asked for or the model has been pushed."""

from __future__ import annotations

import logging

import msgspec

from model_load_test.components.baseline.discovery import resolve_store
from model_load_test.components.baseline.lookup import ask_store
from model_load_test.components.baseline.record import Record
from model_load_test.components.baseline.store import BaselineStore, StoreUnavailable
from model_load_test.components.errors import InputError

_log = logging.getLogger(__name__)


class Promoted(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a run is the reference of its key now."""

    promoted: bool
    reason: str
    """One sentence for a person."""


def promote_run(
    store_uri: str,
    record: Record,
    *,
    at_ns: int,
    time_limit_seconds: float = 30.0,
    on_store_error: str = "fail",
) -> Promoted:
    """Makes a passing run the reference of its key; a run that the store has missed is recorded first.

    A run that did not pass is never promoted, and that is no error: the task that asks for it runs
    whatever the verdict was.

    Args:
        store_uri: See `store.open_store`; empty for none, as is `auto` where the place has none.
        record: The run, as it lies beside its artifacts.
        at_ns: Unix time of the promotion; an earlier one than the store's changes nothing.
        time_limit_seconds: A store that is down or slow is asked again until then.
        on_store_error: Afterwards: `warn` goes on without, `fail` raises.

    Raises:
        InputError: The URI or the policy cannot be used.
        StoreUnavailable: The store did not answer, and `on_store_error` is `fail`.
    """
    if on_store_error not in ("warn", "fail"):
        raise InputError("on_store_error", on_store_error, "use warn or fail")
    if not record.passing:
        return Promoted(
            promoted=False, reason=f"run {record.run_id} is {record.verdict}; it stays unpromoted"
        )
    resolved = resolve_store(store_uri)
    if not resolved.uri:
        return Promoted(promoted=False, reason=f"no baseline store: {resolved.reason}")

    def promote(store: BaselineStore) -> Record | None:
        store.record(record.key, record)
        store.promote(record.key, record.run_id, at_ns)
        return store.promoted(record.key)

    try:
        reference = ask_store(resolved.uri, promote, time_limit_seconds)
    except StoreUnavailable as error:
        if on_store_error == "fail":
            raise
        _log.warning("%s; run %s stays unpromoted", error, record.run_id)
        return Promoted(promoted=False, reason=f"{error}; run {record.run_id} stays unpromoted")
    if reference is None or reference.run_id != record.run_id:
        kept = reference.run_id if reference else "no run"
        return Promoted(promoted=False, reason=f"{kept} was promoted later and stays the reference")
    return Promoted(promoted=True, reason=f"run {record.run_id} is the reference of {record.key.name}")
