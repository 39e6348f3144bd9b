"""What coordinator and generators say to each other."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from model_load_test.components.load.schedule import Arm, Segment

HOLD_SECONDS: Final = 15.0
"""The coordinator answers a question that waits for others after this long at the latest."""


class Plan(msgspec.Struct, frozen=True):
    """What one generator is to do; its answer to `plan`."""

    generators: int
    index: int
    preparation: dict[str, Any]
    """Arguments of `load.preflight.prepare` but for the folders; the rate is this generator's share."""
    payload_sha256: str
    payload_bytes: int
    locustfile: bytes = b""
    """The content of a user's own locustfile."""


class Greeting(msgspec.Struct, frozen=True):
    """A generator that has its payload, reaches the servers and is ready."""

    index: int
    pod: str
    node: str
    tool_version: str
    host: dict[str, Any]
    clock_offset_ns: int
    """What must be added to the generator's clock to get the coordinator's."""
    clock_uncertainty_ns: int
    """By how much that may be wrong: half the quickest round trip."""


class Order(msgspec.Struct, frozen=True):
    """What a generator is to do next: load `segment`, ask again, or stop."""

    number: int = -1
    segment: Segment | None = None
    stop: str = ""
    """Why there is no next segment; empty while there may be."""


class Start(msgspec.Struct, frozen=True):
    """The answer to a generator that is ready to send: when, on the coordinator's clock, or why not."""

    start_at_ns: int = 0
    stop: str = ""


class Loaded(msgspec.Struct, frozen=True):
    """What a segment yielded at one generator."""

    rows: dict[Arm, bytes]
    """Rows of each arm in the shape of `results.table.ROWS_SCHEMA`, as an Arrow stream."""
    checks: tuple[dict[str, Any], ...]
    commands: tuple[str, ...]
    cut_off: int
    host: dict[str, Any]
    """Facts that change: shares of the CPU, and `saturation`, what the machine had used up so far."""
    findings: tuple[dict[str, Any], ...] = ()
    """What the generator's tool says of itself over all segments so far; the newest counts."""


class Failure(msgspec.Struct, frozen=True):
    """Why a generator cannot go on."""

    index: int
    message: str
