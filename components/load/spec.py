"""What to load, how hard and for how long: parsed once, validated once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from model_load_test.components.errors import InputError
from model_load_test.components.load.rates import (
    LEAST_RATE_RPS,
    block_rates,
    parse_rate_profile,
)
from model_load_test.components.parameters import refuse_unknown

Protocol = Literal["grpc", "http"]
Tool = Literal["ghz", "vegeta", "locust"]
Mode = Literal["duet", "interleaved", "single"]
HttpVersion = Literal["1.1", "2"]

REQUESTS_PER_BLOCK = 200
"""A block of fewer requests has no usable percentiles (measured: gate statistics, block length)."""

MAX_RATE_RPS = 1_000_000.0
MAX_REQUESTS = 150_000_000
_TOOL_OF_PROTOCOL: dict[str, Tool] = {"grpc": "ghz", "http": "vegeta"}
MOST_WORKERS = 64


class LoadSpecError(InputError):
    """A load spec that cannot be run."""


class LoadSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One load test. Rates are per arm; two runs compare only when their specs are equal."""

    protocol: Protocol = "grpc"
    tool: Tool = "ghz"
    mode: Mode = "duet"
    rate_rps: float = 200.0
    """Offered rate per arm, open loop: a slow server does not slow it. With `block_rates_rps` their
    mean, in a closed loop 0."""
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
    rate_profile: str = ""
    """A rate that varies, in words; empty for a constant one."""
    block_rates_rps: tuple[float, ...] = ()
    """The rate of each pair of one pass of the profile; then it begins anew."""
    concurrency: int = 0
    """Above 0 the load is a closed loop: so many requests wait at once, and slow answers slow it."""
    http_version: HttpVersion = "1.1"
    """HTTP/2 is negotiated over TLS, and spoken from the first byte (h2c) without. gRPC is always 2."""
    keep_alive: bool = True
    """Whether HTTP connections are used again; without, each request pays for its own."""
    max_connections: int = 0
    """Most HTTP connections per arm; 0 for as many as there are requests in flight."""
    encrypted: bool = False
    """Whether the arms are reached by TLS, which costs time."""
    workers: int = 1
    """Locust's processes per arm; ghz and vegeta use all cores from one."""
    users: int = 0
    """Locust's users per arm, which is how many requests may be unanswered at once; 0 for as many as
    an open loop can need, rate x timeout."""
    locustfile_hash: str = ""
    """SHA-256 of a user's own locustfile, whose users are run instead of ours."""

    @property
    def max_pairs(self) -> int:
        """The most pairs of blocks this run may measure."""
        return self.looks[-1]

    @property
    def requests_per_block(self) -> float:
        """Requests the schedule puts into one block of one arm, on average; 0 in a closed loop."""
        return self.rate_rps * self.block_seconds

    def rate_of_block(self, block: int) -> float:
        """The rate offered in a block; before the first one that of the first that is no pause."""
        if not self.block_rates_rps:
            return self.rate_rps
        if block < 0:
            return next(rate for rate in self.block_rates_rps if rate)
        return self.block_rates_rps[block % len(self.block_rates_rps)]


def block_seconds_for(rate_rps: float) -> float:
    """The default block length: one second, or as long as 200 requests take."""
    return max(1.0, REQUESTS_PER_BLOCK / rate_rps)


def parse_load_spec(values: Mapping[str, Any]) -> LoadSpec:
    """Parses and validates a load spec; what is not given takes its default.

    The tool follows from the protocol (grpc: ghz, http: vegeta) and the block length from the
    rate, unless they are given. `concurrency`, or a `rate_profile` as `rates.parse_rate_profile`
    takes it, stands in the place of `rate_rps`. With a profile every look is rounded up to whole
    passes of it: a verdict on half a ramp would be one on another load.

    Raises:
        InputError: A field is unknown, of the wrong type or out of range.
    """
    refuse_unknown("load spec", values, LoadSpec.__struct_fields__, LoadSpecError)
    for field, kind in get_type_hints(LoadSpec).items():
        choices = get_args(kind)
        if values.get(field, "") != "" and choices and all(isinstance(choice, str) for choice in choices):
            _require(values[field] in choices, field, values[field], f"choose one of {', '.join(choices)}")
    completed = {field: value for field, value in values.items() if (field, value) != ("tool", "")}
    completed.setdefault("tool", _TOOL_OF_PROTOCOL[completed.get("protocol", "grpc")])
    profile = completed.get("rate_profile") or {}
    concurrency = completed.get("concurrency") or 0
    _require(
        not (profile and concurrency),
        "concurrency",
        concurrency,
        "a closed loop has no rate of its own; leave rate_profile out, or set concurrency to 0",
    )
    if profile:
        completed.update(_with_profile(completed, profile))
    elif concurrency:
        completed.pop("rate_profile", None)
        completed["rate_rps"] = 0.0
        completed["block_seconds"] = completed.get("block_seconds") or 1.0
    else:
        completed.pop("rate_profile", None)
        rate_rps = completed.get("rate_rps", 200.0)
        _require(
            _is_number(rate_rps) and LEAST_RATE_RPS <= rate_rps <= MAX_RATE_RPS,
            "rate_rps",
            rate_rps,
            f"give the requests per second and arm, above 0 ({LEAST_RATE_RPS:g} at least) and at most "
            f"{MAX_RATE_RPS:.0f}",
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


def _with_profile(values: Mapping[str, Any], given: object) -> dict[str, Any]:
    """The fields of a spec that follow from a rate profile."""
    if isinstance(given, str) and values.get("block_rates_rps"):  # a spec as it was stored
        rates = tuple(values["block_rates_rps"])
        return {"rate_profile": given, "block_rates_rps": rates, "rate_rps": sum(rates) / len(rates)}
    if not isinstance(given, Mapping):
        raise LoadSpecError(
            "rate_profile", given, 'give a mapping such as {"shape": "ramp", "from_rps": 50, ...}'
        )
    profile = parse_rate_profile(given)
    block_seconds = values.get("block_seconds") or 0
    if not block_seconds:
        mean_rps = profile.requests_until(profile.seconds) / profile.seconds
        block_seconds = block_seconds_for(max(mean_rps, LEAST_RATE_RPS))
    _require(_is_number(block_seconds) and block_seconds > 0, "block_seconds", block_seconds, "give a number")
    rates = block_rates(profile, block_seconds, whole=values["tool"] == "ghz")
    _require(
        max(rates) <= MAX_RATE_RPS,
        "rate_profile",
        str(profile),
        f"stay at or below {MAX_RATE_RPS:.0f} requests per second and arm",
    )
    looks = values.get("looks", LoadSpec().looks)
    return {
        "rate_profile": str(profile),
        "block_rates_rps": rates,
        "rate_rps": sum(rates) / len(rates),
        "block_seconds": float(block_seconds),
        "looks": _whole_passes(looks, len(rates)),
    }


def _whole_passes(looks: object, pairs: int) -> object:
    if not isinstance(looks, (tuple, list)) or not all(type(look) is int for look in looks):
        return looks
    _require(_rises(looks), "looks", looks, _RISING)
    return tuple(sorted({math.ceil(look / pairs) * pairs for look in looks}))


def _validate(spec: LoadSpec) -> None:
    _require(
        spec.tool in (_TOOL_OF_PROTOCOL[spec.protocol], "locust"),
        "tool",
        spec.tool,
        f"protocol {spec.protocol} is driven by {_TOOL_OF_PROTOCOL[spec.protocol]}, or by locust",
    )
    _validate_locust(spec)
    for field, low, high in (
        ("block_seconds", 0.2, 600.0),
        ("warmup_seconds", 0.0, 600.0),
        ("timeout_seconds", 0.01, 600.0),
        ("connections", 1, 10_000),
        ("concurrency", 0, 10_000),
        ("max_connections", 0, 10_000),
        ("workers", 1, MOST_WORKERS),
        ("users", 0, 100_000),
    ):
        value = getattr(spec, field)
        _require(
            math.isfinite(value) and low <= value <= high, field, value, f"give a number from {low} to {high}"
        )
    _require(
        _rises(spec.looks),
        "looks",
        spec.looks,
        _RISING,
    )
    _require(
        spec.tool != "ghz" or bool(spec.block_rates_rps) or spec.rate_rps == int(spec.rate_rps),
        "rate_rps",
        spec.rate_rps,
        "ghz offers whole requests per second; give a whole number",
    )
    _require(
        spec.protocol != "http" or spec.connections == 1,
        "connections",
        spec.connections,
        "HTTP opens as many connections as there are requests in flight; leave it at 1, or limit "
        "them by max_connections",
    )
    _require(
        all(rate == 0 or LEAST_RATE_RPS <= rate <= MAX_RATE_RPS for rate in spec.block_rates_rps)
        and bool(spec.block_rates_rps) == bool(spec.rate_profile),
        "block_rates_rps",
        spec.block_rates_rps,
        "they follow from rate_profile; give that one instead",
    )
    _require(
        not spec.concurrency or spec.tool != "ghz" or spec.connections <= spec.concurrency,
        "connections",
        spec.connections,
        f"{spec.concurrency} requests at once cannot use more connections than that; give fewer",
    )
    for field, plain in (("http_version", "1.1"), ("keep_alive", True), ("max_connections", 0)):
        value = getattr(spec, field)
        _require(
            spec.protocol == "http" or value == plain,
            field,
            value,
            f"gRPC keeps its HTTP/2 connections and says how many by `connections`; leave it at {plain}",
        )
    for field, plain in (("keep_alive", True), ("max_connections", 0)):
        value = getattr(spec, field)
        _require(
            spec.http_version == "1.1" or value == plain,
            field,
            value,
            f"HTTP/2 sends all requests through one connection that it keeps; leave it at {plain}",
        )
    requests = 2 * spec.max_pairs * spec.requests_per_block
    _require(
        requests <= MAX_REQUESTS,
        "looks",
        spec.looks,
        f"that could be {requests:.0f} requests; stay below {MAX_REQUESTS} with fewer pairs or a lower rate",
    )


def _validate_locust(spec: LoadSpec) -> None:
    if spec.tool == "locust":
        _require(
            spec.http_version == "1.1",
            "http_version",
            spec.http_version,
            "Locust's client speaks HTTP/1.1; use vegeta for HTTP/2",
        )
        _require(
            not spec.concurrency or not spec.users,
            "users",
            spec.users,
            "in a closed loop concurrency says how many users there are; leave users at 0",
        )
        return
    for field, plain in (("workers", 1), ("users", 0), ("locustfile_hash", "")):
        _require(
            getattr(spec, field) == plain,
            field,
            getattr(spec, field),
            f"only Locust has it; leave it at {plain!r}, or choose tool locust",
        )


_RISING = "give rising numbers of pairs, such as [10, 15, 20, 30, 60]"


def _rises(looks: Sequence[int]) -> bool:
    return bool(looks) and all(a < b for a, b in zip((0, *looks), looks, strict=False))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _require(holds: bool, field: str, value: object, remedy: str) -> None:
    if not holds:
        raise LoadSpecError(field, value, remedy)
