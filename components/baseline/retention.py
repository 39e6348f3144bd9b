"""Which old runs may go."""

from __future__ import annotations

from collections.abc import Sequence

from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.baseline.record import Record
from model_load_test.components.baseline.store import BaselineStore
from model_load_test.components.errors import InputError


def forgettable(records: Sequence[Record], keep: int, measured_before_ns: int) -> list[Record]:
    """The records that are neither promoted, nor among the newest `keep`, nor young.

    Args:
        records: All runs of one key, newest first.
        keep: The newest so many passing runs stay; others count for nothing.
        measured_before_ns: Unix time; runs measured at or after it stay.

    Raises:
        InputError: `keep` is negative.
    """
    if keep < 0:
        raise InputError("keep", keep, "keep 0 runs or more")
    newest = [record.run_id for record in records if record.passing][:keep]
    return [
        record
        for record in records
        if not record.promoted and record.run_id not in newest and record.created_at_ns < measured_before_ns
    ]


def forget_old(
    store: BaselineStore, key: BaselineKey, keep: int, measured_before_ns: int, *, dry_run: bool = False
) -> list[Record]:
    """Forgets the `forgettable` runs of a key and returns them; with `dry_run` only returns them.

    Raises:
        InputError: `keep` is negative.
        StoreUnavailable: The store does not answer.
    """
    chosen = forgettable(store.history(key), keep, measured_before_ns)
    if dry_run:
        return chosen
    removed = set(store.forget(key, [record.run_id for record in chosen]))
    return [record for record in chosen if record.run_id in removed]
