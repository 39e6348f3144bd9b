"""Carrying baselines from one store to another, for the day the first one goes."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.baseline.store import BaselineStore


class Copied(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy did to one key."""

    key: BaselineKey
    copied: int
    """Runs that the target did not have."""
    present: int
    """Runs that it had."""


def copy_baselines(
    source: BaselineStore, target: BaselineStore, keys: Collection[BaselineKey] | None = None
) -> list[Copied]:
    """Copies runs and promotions, oldest first, and changes nothing that the target has already.

    The ids of MLMD artifacts are kept as a note: the target has no such artifacts.

    Args:
        source: Where the runs are.
        target: Where they shall be too.
        keys: Only these keys; every key of the source when None.

    Raises:
        StoreUnavailable: A store stopped answering. The copy can be started again.
    """
    return [_copy_key(source, target, key) for key in (source.list_keys() if keys is None else keys)]


def _copy_key(source: BaselineStore, target: BaselineStore, key: BaselineKey) -> Copied:
    runs = source.history(key)
    present = {record.run_id for record in target.history(key)}
    missing = [record for record in reversed(runs) if record.run_id not in present]
    for record in missing:
        target.record(key, record)
    reference = target.promoted(key)
    promoted_until_ns = reference.promoted_at_ns if reference else 0
    promotions = sorted(
        (record for record in runs if record.promoted_at_ns), key=lambda run: run.promoted_at_ns
    )
    for record in promotions:
        if record.promoted_at_ns > promoted_until_ns:
            target.promote(key, record.run_id, record.promoted_at_ns)
    return Copied(key=key, copied=len(missing), present=len(runs) - len(missing))
