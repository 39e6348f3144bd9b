"""Which of the earlier runs is the one to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.baseline.record import Record
from model_load_test.components.baseline.store import BaselineStore
from model_load_test.components.errors import InputError

_FORMS: Final = "use latest, promoted, best:METRIC, run:ID or version:LABEL"


def check_reference(policy: str) -> None:
    """Refuses a policy that `choose_reference` does not know, before any load.

    Raises:
        InputError: The policy is unknown, or what follows its colon is missing.
    """
    kind, colon, argument = policy.partition(":")
    if policy in ("latest", "promoted"):
        return
    if kind not in ("best", "run", "version"):
        raise InputError("reference", policy, _FORMS)
    if not colon or not argument.strip():
        raise InputError("reference", policy, f"say which after the colon; {_FORMS}")


def choose_reference(
    store: BaselineStore, key: BaselineKey, history: Sequence[Record], policy: str
) -> Record | None:
    """Chooses the run to compare with; None when there is no such passing run.

    Args:
        store: Asked only when the run may be older than `history`.
        key: The runs' key.
        history: The newest passing runs, newest first.
        policy: `latest`; `promoted`; `best:METRIC`, the one of `history` with the lowest METRIC;
            `run:ID`; `version:LABEL`, the newest of `history` of that model version, such as the one
            in production now.

    Raises:
        InputError: The policy is unknown.
        StoreUnavailable: The store does not answer.
    """
    check_reference(policy)
    kind, _, argument = policy.partition(":")
    if kind == "promoted":
        return store.promoted(key)
    if kind == "run":
        record = store.find(key, argument)
        return record if record is not None and record.passing else None
    candidates = list(history)
    if kind == "best":
        measured = [record for record in history if argument in record.metrics]
        candidates = sorted(measured, key=lambda record: record.metrics[argument])
    elif kind == "version":
        candidates = [record for record in history if record.model_version == argument]
    return candidates[0] if candidates else None


def runs_of_reference(history: Sequence[Record], chosen: Record | None, policy: str) -> list[Record] | None:
    """The runs whose spread a new one is judged by; None for all of them.

    With a reference asked for, a new run is compared with that model and no other: the newest runs
    of the same model version, or none where there is no such reference. The latest run, and one
    whose version nobody recorded, stand for the whole history.
    """
    if policy == "latest" or (chosen is not None and not chosen.model_version):
        return None
    if chosen is None:
        return []
    return [record for record in history if record.model_version == chosen.model_version]
