"""What keeps a load test from becoming an attack: where it may go, how hard, how long, and when it stops."""

from __future__ import annotations

import fnmatch
import ipaddress
import math
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.load.schedule import (
    Arm,
    Segment,
    segments_of_block,
    warmup_segment,
)
from model_load_test.components.load.spec import LoadSpec
from model_load_test.components.parameters import refuse_unknown
from model_load_test.components.protocols.endpoint import Endpoint

_CLUSTER_SUFFIXES: Final = (".svc", ".svc.cluster.local")
_HOST_PATTERN: Final = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_START_SECONDS: Final = 0.3
"""What starting a generator and reading its report takes (measured: tests/benchmarks, load)."""

BREAKER_SECONDS: Final = 5.0
"""A server must fail for so long under load before the run gives up on it."""
_LEAST_REQUESTS_TO_BREAK: Final = 20


class UnsafeLoad(InputError):
    """A load that must not be sent as it is."""


@dataclass(frozen=True)
class Limits:
    """How far a run may go."""

    allowed_hosts: tuple[str, ...] = ()
    """Hosts beside those of the cluster and loopback: names, `*.suffix`, addresses or networks."""
    max_rate_rps: float = 5_000.0
    """Highest offered rate per arm."""
    max_requests: int = 2_000_000
    """Requests of the whole run, both arms and the warm-up."""
    max_seconds: float = 3_600.0
    """Length of the whole run."""
    max_error_share: float = 0.5
    """The circuit breaker: a larger share of failed requests for `BREAKER_SECONDS` ends the run."""


def parse_limits(values: Mapping[str, Any]) -> Limits:
    """Parses and validates limits; what is not given takes its default.

    Raises:
        UnsafeLoad: A field is unknown or out of range, such as a budget of zero.
    """
    refuse_unknown("limits", values, Limits.__dataclass_fields__, UnsafeLoad)
    for name in ("max_rate_rps", "max_requests", "max_seconds"):
        value = values.get(name, getattr(Limits, name))
        if not _is_number(value) or value <= 0:
            raise UnsafeLoad(name, value, "give a number above 0; with none of it nothing can be measured")
    share = values.get("max_error_share", Limits.max_error_share)
    if not _is_number(share) or not 0 < share <= 1:
        raise UnsafeLoad("max_error_share", share, "give a share above 0; 1 never stops a run")
    hosts = values.get("allowed_hosts", ())
    if isinstance(hosts, str) or not all(isinstance(host, str) for host in hosts):
        raise UnsafeLoad("allowed_hosts", hosts, "give a list of names, addresses or networks")
    named = tuple(host.strip().lower() for host in hosts)
    for host in named:
        if _network(host) is None and not _HOST_PATTERN.fullmatch(host):
            raise UnsafeLoad(
                "allowed_hosts", host, "give a name, *.SUFFIX, an address or a network such as 10.0.0.0/8"
            )
    return Limits(**{**values, "allowed_hosts": named})


def refuse_target(endpoint: Endpoint, limits: Limits, field_name: str) -> None:
    """Refuses a server that is neither in this cluster nor on this machine, nor named by the user.

    Allowed are loopback, names of one label, `*.svc`, `*.svc.cluster.local` and `allowed_hosts`.

    Raises:
        UnsafeLoad: The endpoint's host is none of these.
    """
    host = endpoint.host.rstrip(".").lower()
    if not (_is_local(host) or any(_matches(host, allowed) for allowed in limits.allowed_hosts)):
        raise UnsafeLoad(
            field_name,
            str(endpoint),
            "load is sent only to names of the cluster (NAME, NAME.NAMESPACE.svc), to this machine, and to "
            f"hosts in allowed_hosts; if you may load it, add {host!r} there",
        )


def refuse_load(spec: LoadSpec, limits: Limits) -> None:
    """Refuses a rate above the ceiling, and budgets that do not reach to the first look.

    Raises:
        UnsafeLoad: The plan goes beyond the limits.
    """
    highest_rps = max((spec.rate_rps, *spec.block_rates_rps))
    if highest_rps > limits.max_rate_rps:
        raise UnsafeLoad(
            "max_rate_rps" if not spec.block_rates_rps else "rate_profile",
            highest_rps,
            f"the ceiling is {limits.max_rate_rps:g} requests/s per arm; if the servers may be loaded so, "
            "raise max_rate_rps",
        )
    plan = [warmup_segment(spec)] if spec.warmup_seconds else []
    plan += [segment for block in range(spec.looks[0]) for segment in segments_of_block(spec, block)]
    requests = math.ceil(sum(planned_requests(spec, segment) for segment in plan))
    seconds = sum(planned_seconds(segment) for segment in plan)
    for name, wanted, allowed in (
        ("max_requests", requests, limits.max_requests),
        ("max_seconds", math.ceil(seconds), limits.max_seconds),
    ):
        if wanted > allowed:
            raise UnsafeLoad(
                name,
                allowed,
                f"the first look, after {spec.looks[0]} pairs, needs {wanted}; raise it, or plan less load",
            )


def planned_requests(spec: LoadSpec, segment: Segment) -> int:
    """Requests that a segment sends in an open loop; 0 where they depend on the answers."""
    return sum(math.ceil(segment.rate_rps(spec, arm) * segment.load_seconds) for arm in segment.arms)


def planned_seconds(segment: Segment) -> float:
    """How long a segment takes, its start and its report included."""
    return segment.load_seconds + _START_SECONDS if segment.arms else segment.block_seconds


@dataclass
class Budget:
    """Requests and time that a run has left; asked before each segment."""

    limits: Limits
    clock: Callable[[], float] = time.monotonic
    sent: int = 0
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def seconds_left(self) -> float:
        """Until the time budget is used up."""
        return self.limits.max_seconds - (self.clock() - self._started)

    def lacks(self, spec: LoadSpec, segment: Segment) -> str:
        """What the next segment would need more than there is, in words; empty when it may run."""
        requests = planned_requests(spec, segment)
        if self.sent + max(requests, 1) > self.limits.max_requests:
            return (
                f"{self.sent} requests were sent and the next {requests or 'ones'} would exceed "
                f"max_requests, {self.limits.max_requests}"
            )
        if planned_seconds(segment) > self.seconds_left:
            return f"the next segment would exceed max_seconds, {self.limits.max_seconds:g}"
        return ""


@dataclass(frozen=True)
class _Outcome:
    load_seconds: float
    requests: int
    failed: int


class CircuitBreaker:
    """Ends a run whose server has collapsed: most requests failed for `BREAKER_SECONDS` of load."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._newest: dict[Arm, deque[_Outcome]] = {}

    def add(self, arm: Arm, load_seconds: float, requests: int, failed: int) -> str:
        """Takes the outcome of one segment.

        Returns:
            Why the run must end, in words; empty when it may go on.
        """
        newest = self._newest.setdefault(arm, deque())
        newest.append(_Outcome(load_seconds, requests, failed))
        while sum(outcome.load_seconds for outcome in _without_first(newest)) >= BREAKER_SECONDS:
            newest.popleft()
        seconds = sum(outcome.load_seconds for outcome in newest)
        sent = sum(outcome.requests for outcome in newest)
        failures = sum(outcome.failed for outcome in newest)
        if seconds < BREAKER_SECONDS or sent < _LEAST_REQUESTS_TO_BREAK:
            return ""
        if failures <= self._limits.max_error_share * sent:
            return ""
        return (
            f"{failures} of the {arm}'s newest {sent} requests, over {seconds:.0f} s of load, failed: more "
            f"than max_error_share, {self._limits.max_error_share:.0%}. See the server's log"
        )


def _without_first(outcomes: Iterable[_Outcome]) -> list[_Outcome]:
    return list(outcomes)[1:]


def _is_local(host: str) -> bool:
    address = _address(host)
    if address is not None:
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback
    if host.endswith(_CLUSTER_SUFFIXES):
        return True
    return "." not in host and not _is_number_for_an_address(host)


def _is_number_for_an_address(host: str) -> bool:
    """Whether the resolver takes a name of one label for an address: 134744072 is 8.8.8.8."""
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True


def _matches(host: str, allowed: str) -> bool:
    network, address = _network(allowed), _address(host)
    if network is not None:
        return address is not None and address in network
    return fnmatch.fnmatchcase(host, allowed)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
