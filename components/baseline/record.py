"""One measured run, as every store keeps it."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from model_load_test.components.baseline.fingerprint import Fingerprint
from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.errors import InputError

SCHEMA_VERSION: Final = 1
PASSING_VERDICTS: Final = ("PASS", "NO_BASELINE")
"""Verdicts that make a run a baseline: it passed, or it was the first of its key."""

LARGEST_RECORD_BYTES: Final = 64 * 1024
"""A record needs a few kilobytes; what is larger was not written by us, or does not belong in one."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A run with its numbers and circumstances."""

    run_id: str
    """Unique among the runs of a key; a second record with the same one changes nothing."""
    key: BaselineKey
    metrics: dict[str, float]
    """The numbers of the `dsl.Metrics` artifact, finite, by their stable names."""
    fingerprint: Fingerprint
    load_spec: dict[str, Any]
    verdict: str
    """The gate's outcome."""
    created_at_ns: int
    """Unix time at which the run was measured."""
    artifact_id: int = 0
    """MLMD id of the Metrics artifact; 0 when there is none."""
    artifact_uri: str = ""
    """Where the run's artifacts lie."""
    model_version: str = ""
    promoted_at_ns: int = 0
    """Unix time at which the run was last made the reference; 0 when never."""
    promoted: bool = False
    """Whether the run is the reference now. Filled in by the store when reading."""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not self.run_id.strip():
            raise InputError("record.run_id", self.run_id, "give the run's id")
        if self.created_at_ns <= 0:
            raise InputError("record.created_at_ns", self.created_at_ns, "give a Unix time in nanoseconds")
        for name, value in self.metrics.items():
            if not math.isfinite(value):
                raise InputError(f"record.metrics.{name}", value, "leave out what could not be measured")
        # Whole numbers, flags and numpy's scalars would come back from JSON as something else.
        msgspec.structs.force_setattr(
            self, "metrics", {name: float(value) for name, value in self.metrics.items()}
        )

    @property
    def passing(self) -> bool:
        """Whether later runs may be compared with this one."""
        return self.verdict in PASSING_VERDICTS


def encode_record(record: Record) -> bytes:
    """Spells a record as JSON, without what the store itself knows.

    Raises:
        InputError: The record is larger than a store takes.
    """
    encoded = msgspec.json.encode(msgspec.structs.replace(record, promoted=False))
    if len(encoded) > LARGEST_RECORD_BYTES:
        raise InputError(
            "record", f"{len(encoded)} bytes", f"keep a record under {LARGEST_RECORD_BYTES} bytes"
        )
    return encoded


def decode_record(text: str | bytes) -> Record:
    """Reads `encode_record`.

    Raises:
        InputError: It is not a record, too large, or of a later version.
    """
    if len(text) > LARGEST_RECORD_BYTES:
        raise InputError("record", f"{len(text)} bytes", "no record of model-load-test is as large")
    try:
        record = msgspec.json.decode(text, type=Record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError("record", text, f"give the JSON of a record: {error}") from error
    if record.schema_version > SCHEMA_VERSION:
        raise InputError(
            "record.schema_version",
            record.schema_version,
            f"this release reads versions up to {SCHEMA_VERSION}; upgrade model-load-test",
        )
    return record
