"""What to load, how hard and for how long: parsed once, validated once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from model_load_test.components.errors import InputError

Protocol = Literal["grpc", "http"]
Tool = Literal["ghz", "vegeta"]
Mode = Literal["duet", "interleaved", "single"]

REQUESTS_PER_BLOCK = 200
"""A block of fewer requests has no usable percentiles (measured: gate statistics, block length)."""

MAX_RATE_RPS = 100_000.0
MAX_REQUESTS = 50_000_000
_TOOL_OF_PROTOCOL: dict[str, Tool] = {"grpc": "ghz", "http": "vegeta"}


class LoadSpecError(InputError):
    """A load spec that cannot be run."""


class LoadSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One load test. Rates are per arm; two runs compare only when their specs are equal."""

    protocol: Protocol = "grpc"
    tool: Tool = "ghz"
    mode: Mode = "duet"
    rate_rps: float = 200.0
    """Offered rate per arm, open loop: a slow server does not slow it."""
    block_seconds: float = 1.0
    looks: tuple[int, ...] = (10, 15, 20, 30, 60)
    """Numbers of pairs after which the stop rule is asked; the last is the most ever measured."""
    warmup_seconds: float = 2.0
    """Load before the first block; its requests are kept as block -1 and judged by nobody."""
    timeout_seconds: float = 5.0
    """After which a request counts as failed."""
    connections: int = 1
    """gRPC connections per arm. HTTP opens, and keeps, as many as there are requests in flight."""
    seed: int = 0
    """Orders the arms of interleaved pairs and of starting processes."""
    payload_hash: str = ""

    @property
    def max_pairs(self) -> int:
        """The most pairs of blocks this run may measure."""
        return self.looks[-1]

    @property
    def requests_per_block(self) -> float:
        """Requests the schedule puts into one block of one arm."""
        return self.rate_rps * self.block_seconds


def block_seconds_for(rate_rps: float) -> float:
    """The default block length: one second, or as long as 200 requests take."""
    return max(1.0, REQUESTS_PER_BLOCK / rate_rps)


def parse_load_spec(values: Mapping[str, Any]) -> LoadSpec:
    """Parses and validates a load spec; what is not given takes its default.

    The tool follows from the protocol (grpc: ghz, http: vegeta) and the block length from the
    rate, unless they are given.

    Raises:
        LoadSpecError: A field is unknown, of the wrong type or out of range.
    """
    _refuse_unknown_fields(values)
    for field, kind in get_type_hints(LoadSpec).items():
        choices = get_args(kind)
        if field in values and choices and all(isinstance(choice, str) for choice in choices):
            _require(values[field] in choices, field, values[field], f"choose one of {', '.join(choices)}")
    completed = dict(values)
    completed.setdefault("tool", _TOOL_OF_PROTOCOL[completed.get("protocol", "grpc")])
    rate_rps = completed.get("rate_rps", 200.0)
    _require(
        _is_number(rate_rps) and 0 < rate_rps <= MAX_RATE_RPS,
        "rate_rps",
        rate_rps,
        f"give the requests per second and arm, above 0 and at most {MAX_RATE_RPS:.0f}",
    )
    if not completed.get("block_seconds"):
        completed["block_seconds"] = block_seconds_for(rate_rps)
    try:
        spec = msgspec.convert(completed, LoadSpec, strict=True)
    except msgspec.ValidationError as error:
        raise LoadSpecError(
            "load spec", dict(values), f"mend the field that is named here: {error}"
        ) from None
    _validate(spec)
    return spec


def _refuse_unknown_fields(values: Mapping[str, Any]) -> None:
    known = list(LoadSpec.__struct_fields__)
    for field in values:
        if field not in known:
            near = difflib.get_close_matches(field, known, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(known)}"
            raise LoadSpecError(field, values[field], f"no such field in a load spec; {remedy}")


def _validate(spec: LoadSpec) -> None:
    _require(
        _TOOL_OF_PROTOCOL[spec.protocol] == spec.tool,
        "tool",
        spec.tool,
        f"protocol {spec.protocol} is driven by {_TOOL_OF_PROTOCOL[spec.protocol]}",
    )
    for field, low, high in (
        ("block_seconds", 0.2, 600.0),
        ("warmup_seconds", 0.0, 600.0),
        ("timeout_seconds", 0.01, 600.0),
        ("connections", 1, 10_000),
    ):
        value = getattr(spec, field)
        _require(
            math.isfinite(value) and low <= value <= high, field, value, f"give a number from {low} to {high}"
        )
    _require(
        bool(spec.looks) and all(a < b for a, b in zip((0, *spec.looks), spec.looks, strict=False)),
        "looks",
        spec.looks,
        "give rising numbers of pairs, such as [10, 15, 20, 30, 60]",
    )
    _require(
        spec.tool != "ghz" or spec.rate_rps == int(spec.rate_rps),
        "rate_rps",
        spec.rate_rps,
        "ghz offers whole requests per second; give a whole number",
    )
    _require(
        spec.tool != "vegeta" or spec.connections == 1,
        "connections",
        spec.connections,
        "HTTP opens as many connections as there are requests in flight; leave it at 1",
    )
    requests = 2 * spec.max_pairs * spec.requests_per_block
    _require(
        requests <= MAX_REQUESTS,
        "looks",
        spec.looks,
        f"that could be {requests:.0f} requests; stay below {MAX_REQUESTS} with fewer pairs or a lower rate",
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _require(holds: bool, field: str, value: object, remedy: str) -> None:
    if not holds:
        raise LoadSpecError(field, value, remedy)
