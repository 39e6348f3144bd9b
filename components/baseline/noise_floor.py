"""The noise floor of an infrastructure: what identical servers differ by there, kept like any run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from model_load_test.components.baseline.discovery import resolve_store
from model_load_test.components.baseline.fingerprint import Fingerprint, fingerprint_hash
from model_load_test.components.baseline.key import BaselineKey, load_spec_hash
from model_load_test.components.baseline.lookup import ask_store
from model_load_test.components.baseline.record import Record
from model_load_test.components.baseline.store import BaselineStore, StoreUnavailable
from model_load_test.components.errors import InputError

LOOKUP_SECONDS: Final = 20.0
"""How long a run waits for its noise floor before it goes on without one."""

NEWEST: Final = 5
"""Calibrations that count: one shows the luck of its deployments only once, an old one an old machine."""

_log = logging.getLogger(__name__)

_PREFIX: Final = "noise_floor_"
_SHAPE: Final = ("protocol", "tool", "mode", "rate_rps", "block_seconds", "connections")
"""What of a load changes its noise; how long it lasts and what exactly it sends does not."""
_UNUSUAL: Final[Mapping[str, Any]] = {
    "concurrency": 0,
    "block_rates_rps": [],
    "http_version": "1.1",
    "keep_alive": True,
    "max_connections": 0,
    "encrypted": False,
}
"""The same, kept only where it is not as usual."""


def noise_floor_key(
    namespace: str, model_name: str, load_spec: Mapping[str, Any], fingerprint: Fingerprint
) -> BaselineKey:
    """Under which the calibrations of one model, infrastructure and shape of load are kept.

    It differs from the key of every run, so that a calibration is never taken for a baseline.

    Args:
        namespace: As for the runs.
        model_name: The model's name on its servers.
        load_spec: `RunMetadata.load_spec` of the calibration, or of the run to be judged.
        fingerprint: The circumstances of the one or the other.

    Raises:
        InputError: The load spec lacks a field, as it does for rows from elsewhere.
    """
    lacking = [field for field in _SHAPE if field not in load_spec]
    if lacking:
        raise InputError("load_spec", sorted(load_spec), f"a noise floor is kept by {', '.join(lacking)} too")
    shape = {field: load_spec[field] for field in _SHAPE}
    for field, usual in _UNUSUAL.items():
        given = load_spec.get(field, usual)
        if given not in (usual, ()):
            shape[field] = given
    return BaselineKey(
        namespace=namespace,
        model_name=model_name,
        load_spec_hash=load_spec_hash({"noise_floor": shape}),
        fingerprint_hash=fingerprint_hash(fingerprint),
    )


def record_noise_floor(
    store: BaselineStore,
    key: BaselineKey,
    floor: Mapping[str, float],
    *,
    fingerprint: Fingerprint,
    load_spec: dict[str, Any],
    measured_at_ns: int,
) -> None:
    """Keeps what one calibration measured; the same one recorded again changes nothing.

    Args:
        store: Where.
        key: See `noise_floor_key`.
        floor: Per metric the standard deviation of ln(ratio), or of the difference of shares.
        fingerprint: The circumstances, for a person who reads the record.
        load_spec: The load, for the same person.
        measured_at_ns: Unix time of the calibration.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    store.record(
        key,
        Record(
            run_id=f"calibration-{measured_at_ns}",
            key=key,
            metrics={f"{_PREFIX}{metric}": value for metric, value in floor.items()},
            fingerprint=fingerprint,
            load_spec=load_spec,
            verdict="PASS",
            created_at_ns=measured_at_ns,
        ),
    )


def find_noise_floor(store: BaselineStore, key: BaselineKey) -> dict[str, float]:
    """The largest value of each metric over the newest calibrations; empty when there is none.

    It is what `GateSpec.noise_floor` takes.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    floor: dict[str, float] = {}
    for record in store.latest(key, NEWEST):
        for name, value in record.metrics.items():
            if name.startswith(_PREFIX):
                metric = name.removeprefix(_PREFIX)
                floor[metric] = max(value, floor.get(metric, 0.0))
    return floor


def noise_floor_of_run(store_uri: str, key: BaselineKey) -> dict[str, float]:
    """`find_noise_floor` for a run that is to be measured; empty without a store or an answer of it.

    Args:
        store_uri: See `store.open_store`; empty for none.
        key: See `noise_floor_key`.

    Raises:
        InputError: The URI cannot be used.
    """
    resolved = resolve_store(store_uri)
    if not resolved.uri:
        return {}
    try:
        return ask_store(resolved.uri, lambda store: find_noise_floor(store, key), LOOKUP_SECONDS)
    except StoreUnavailable as error:
        _log.warning("%s; the margins stand without a noise floor", error)
        return {}
