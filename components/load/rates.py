"""Rates that vary over time: steps, ramps, waves and recorded traffic, as pure functions of time.

A profile is laid over the blocks of a run: pair k of a pass is offered the mean rate of the
profile's k-th stretch of `block_seconds`, both arms the same. So what is compared within a pair is
loaded alike, and a run that follows the whole profile is still a run of pairs.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from model_load_test.components.errors import InputError
from model_load_test.components.parameters import refuse_unknown

MOST_PAIRS_OF_A_PASS: Final = 10_000
"""The rate of each is part of the load spec."""

LEAST_RATE_RPS: Final = 0.01
"""A slower stretch of a profile is a pause: vegeta takes a rate that rounds to 0 for "no limit"."""

MOST_ARRIVALS: Final = 50_000_000
_MICROSECOND: Final = 1e-6
_UNITS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_LATEST_SECONDS: Final = 1e10
"""The year 2286: a larger "second" is a millisecond or less."""

Floats = npt.NDArray[np.float64]


class RateError(InputError):
    """A rate profile that cannot be offered."""


class RateProfile(Protocol):
    """A rate over time, from 0 seconds on."""

    @property
    def seconds(self) -> float:
        """How long one pass takes."""

    def rate_rps(self, at_seconds: float) -> float:
        """The rate at a moment."""

    def requests_until(self, at_seconds: float) -> float:
        """The integral of the rate from 0 on."""


@dataclass(frozen=True)
class Steps:
    """Stairs: `from_rps`, then `by_rps` more (or less) every `every_seconds`, until `to_rps`."""

    from_rps: float
    to_rps: float
    by_rps: float
    every_seconds: float

    @property
    def levels(self) -> tuple[float, ...]:
        """The rate of each step; the last one is `to_rps`, however far it is from the one before."""
        count = math.ceil(round((self.to_rps - self.from_rps) / self.by_rps, 9))
        return (*(self.from_rps + step * self.by_rps for step in range(count)), self.to_rps)

    @property
    def seconds(self) -> float:
        """All steps."""
        return len(self.levels) * self.every_seconds

    def rate_rps(self, at_seconds: float) -> float:
        """The step's rate; after the last one it stays."""
        levels = self.levels
        return levels[min(int(at_seconds / self.every_seconds), len(levels) - 1)]

    def requests_until(self, at_seconds: float) -> float:
        """Whole steps and the share of the current one."""
        levels = self.levels
        step = min(int(at_seconds / self.every_seconds), len(levels) - 1)
        rest_seconds = at_seconds - step * self.every_seconds
        return sum(levels[:step]) * self.every_seconds + levels[step] * rest_seconds

    def __str__(self) -> str:
        return (
            f"steps of {self.by_rps:+g} requests/s every {self.every_seconds:g} s "
            f"from {self.from_rps:g} to {self.to_rps:g}"
        )


@dataclass(frozen=True)
class Ramp:
    """A straight line from one rate to another."""

    from_rps: float
    to_rps: float
    seconds: float

    def rate_rps(self, at_seconds: float) -> float:
        """On the line; after its end it stays."""
        share = min(at_seconds / self.seconds, 1.0)
        return self.from_rps + (self.to_rps - self.from_rps) * share

    def requests_until(self, at_seconds: float) -> float:
        """The area under the line."""
        on_line_seconds = min(at_seconds, self.seconds)
        mean_rps = (self.from_rps + self.rate_rps(on_line_seconds)) / 2
        return mean_rps * on_line_seconds + self.to_rps * max(0.0, at_seconds - self.seconds)

    def __str__(self) -> str:
        return f"ramp from {self.from_rps:g} to {self.to_rps:g} requests/s in {self.seconds:g} s"


@dataclass(frozen=True)
class Sine:
    """A wave around a mean, beginning at the mean and rising."""

    mean_rps: float
    amplitude_rps: float
    period_seconds: float

    @property
    def seconds(self) -> float:
        """One period."""
        return self.period_seconds

    def rate_rps(self, at_seconds: float) -> float:
        """The wave's height."""
        return self.mean_rps + self.amplitude_rps * math.sin(math.tau * at_seconds / self.period_seconds)

    def requests_until(self, at_seconds: float) -> float:
        """The wave's integral."""
        turn = math.tau / self.period_seconds
        return self.mean_rps * at_seconds + self.amplitude_rps / turn * (1 - math.cos(turn * at_seconds))

    def __str__(self) -> str:
        return (
            f"sine of {self.mean_rps:g} +/- {self.amplitude_rps:g} requests/s, "
            f"period {self.period_seconds:g} s"
        )


@dataclass(frozen=True, eq=False)
class Replay:
    """Recorded traffic: as many requests in each stretch of time as arrived in it."""

    arrivals_seconds: Floats
    """Sorted, the first one at 0."""
    digest: str = field(default="")
    """Of the arrivals, so that two replays can be told apart."""

    @property
    def seconds(self) -> float:
        """From the first arrival to just beyond the last one."""
        return float(self.arrivals_seconds[-1]) + _MICROSECOND

    def rate_rps(self, at_seconds: float) -> float:
        """Arrivals within the second around the moment."""
        return self.requests_until(at_seconds + 0.5) - self.requests_until(max(0.0, at_seconds - 0.5))

    def requests_until(self, at_seconds: float) -> float:
        """Arrivals before the moment."""
        return float(np.searchsorted(self.arrivals_seconds, at_seconds, side="left"))

    def __str__(self) -> str:
        return f"replay of {len(self.arrivals_seconds)} requests in {self.seconds:g} s ({self.digest})"


def block_rates(profile: RateProfile, block_seconds: float, *, whole: bool) -> tuple[float, ...]:
    """The rate of each pair of one pass: the profile's mean over the pair's stretch of time.

    Args:
        profile: What to follow.
        block_seconds: Length of a stretch; the last one may reach beyond the pass.
        whole: Round to whole requests per second, as ghz wants them; what rounding takes from a
            pair is given to the next, so that the number of requests stays right.

    Raises:
        RateError: The pass has more pairs than a spec can hold, or no request at all.
    """
    pairs = max(1, math.ceil(round(profile.seconds / block_seconds, 9)))
    if pairs > MOST_PAIRS_OF_A_PASS:
        raise RateError(
            "rate_profile",
            str(profile),
            f"it takes {pairs} blocks of {block_seconds:g} s; stay below {MOST_PAIRS_OF_A_PASS} with longer "
            "blocks or a shorter profile",
        )
    edges = [profile.requests_until(pair * block_seconds) for pair in range(pairs + 1)]
    rates = []
    owed_rps = 0.0
    for before, after in itertools.pairwise(edges):
        wanted_rps = (after - before) / block_seconds + owed_rps
        offered_rps = float(round(wanted_rps)) if whole else round(wanted_rps, 6)
        if offered_rps < LEAST_RATE_RPS:
            offered_rps = 0.0
        owed_rps = wanted_rps - offered_rps
        rates.append(offered_rps)
    if not any(rates):
        raise RateError("rate_profile", str(profile), "it has no request; give rates above 0")
    return tuple(rates)


def parse_rate_profile(values: Mapping[str, Any]) -> RateProfile:
    """Parses a profile such as `{"shape": "ramp", "from_rps": 50, "to_rps": 400, "seconds": 60}`.

    The shapes: `step` (from_rps, to_rps, by_rps, every_seconds), `ramp` (from_rps, to_rps,
    seconds), `sine` (mean_rps, amplitude_rps, period_seconds), `replay` (file, and its unit: s, ms,
    us or ns).

    Raises:
        RateError: The shape or a field is unknown, missing or out of range, a rate would be
            negative, or the file of a replay cannot be used.
    """
    shape = values.get("shape")
    if shape not in _SHAPES:
        raise RateError("rate_profile.shape", shape, f"choose one of {', '.join(_SHAPES)}")
    return _SHAPES[shape]({name: value for name, value in values.items() if name != "shape"})


def _steps(values: Mapping[str, Any]) -> Steps:
    numbers = _numbers(values, "from_rps", "to_rps", "by_rps", "every_seconds")
    _refuse_negative(numbers, "from_rps", "to_rps")
    _refuse_not_positive(numbers, "every_seconds")
    towards = numbers["to_rps"] - numbers["from_rps"]
    if numbers["by_rps"] * towards <= 0:
        raise RateError(
            "rate_profile.by_rps", numbers["by_rps"], "give the change per step, in the direction of to_rps"
        )
    if towards / numbers["by_rps"] > MOST_PAIRS_OF_A_PASS:
        raise RateError("rate_profile.by_rps", numbers["by_rps"], "give fewer, larger steps")
    return Steps(**numbers)


def _ramp(values: Mapping[str, Any]) -> Ramp:
    numbers = _numbers(values, "from_rps", "to_rps", "seconds")
    _refuse_negative(numbers, "from_rps", "to_rps")
    _refuse_not_positive(numbers, "seconds")
    return Ramp(**numbers)


def _sine(values: Mapping[str, Any]) -> Sine:
    numbers = _numbers(values, "mean_rps", "amplitude_rps", "period_seconds")
    _refuse_not_positive(numbers, "mean_rps", "period_seconds")
    _refuse_negative(numbers, "amplitude_rps")
    if numbers["amplitude_rps"] > numbers["mean_rps"]:
        raise RateError(
            "rate_profile.amplitude_rps",
            numbers["amplitude_rps"],
            f"the rate would be negative; give at most mean_rps, {numbers['mean_rps']:g}",
        )
    return Sine(**numbers)


def _replay(values: Mapping[str, Any]) -> Replay:
    refuse_unknown("replay", values, ("file", "unit"), RateError, prefix="rate_profile.")
    location, unit = values.get("file"), values.get("unit", "s")
    if not isinstance(location, str) or not location:
        raise RateError("rate_profile.file", location, "give a file with one timestamp a line")
    if unit not in _UNITS:
        raise RateError("rate_profile.unit", unit, f"choose one of {', '.join(_UNITS)}")
    return replay_of(read_timestamps(location) * _UNITS[unit], location)


def replay_of(times_seconds: Floats, name: str = "") -> Replay:
    """A replay of requests that arrived at these times, of any origin and order.

    Raises:
        RateError: There is none, or they are not in seconds.
    """
    if not len(times_seconds):
        raise RateError("rate_profile.file", name, "it holds no timestamp; give one a line")
    if not np.isfinite(times_seconds).all() or np.abs(times_seconds).max() > _LATEST_SECONDS:
        raise RateError(
            "rate_profile.unit", "s", "the timestamps of the file are no seconds; give the unit ms, us or ns"
        )
    # whole microseconds from the first one on: what is left of Unix seconds in a double
    arrivals = np.round(np.sort(times_seconds) - times_seconds.min(), 6)
    digest = hashlib.sha256(np.round(arrivals * 1e6).astype("<i8").tobytes()).hexdigest()[:12]
    return Replay(arrivals, f"sha256 {digest}")


def read_timestamps(location: str) -> Floats:
    """Reads timestamps, one a line: numbers, or times such as 2026-11-21T09:30:00.250Z.

    Empty lines and those that begin with # are left out; .gz is unpacked.

    Args:
        location: A path, or a URI that fsspec opens, such as gs://BUCKET/arrivals.txt.gz.

    Raises:
        RateError: The file cannot be read, or a line is no time; the error tells which.
    """
    lines = _content(location).splitlines()
    if len(lines) > MOST_ARRIVALS:
        raise RateError("rate_profile.file", location, f"it has more than {MOST_ARRIVALS} lines; cut it")
    try:
        return np.array([line for line in lines if line and not line.startswith(b"#")], dtype=np.float64)
    except ValueError:
        pass
    times = []
    for number, line in enumerate(lines, start=1):
        text = line.decode(errors="replace").strip()
        if text and not text.startswith("#"):
            times.append(_time(text, f"{location} line {number}"))
    return np.array(times, dtype=np.float64)


def _time(text: str, place: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise RateError(
            "rate_profile.file", place, f"{text[:40]!r} is no time; write seconds or 2026-11-21T09:30:00Z"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _content(location: str) -> bytes:
    try:
        if "://" in location:
            import fsspec

            with fsspec.open(location, "rb") as file:
                content: bytes = file.read()
        else:
            content = Path(location).read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, ValueError, ImportError) as error:
        raise RateError("rate_profile.file", location, f"cannot be read ({error}); check the place") from None


def _numbers(values: Mapping[str, Any], *fields: str) -> dict[str, float]:
    refuse_unknown("rate profile", values, fields, RateError, prefix="rate_profile.")
    numbers = {}
    for name in fields:
        value = values.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise RateError(f"rate_profile.{name}", value, "give a number")
        numbers[name] = float(value)
    return numbers


def _refuse_negative(numbers: Mapping[str, float], *fields: str) -> None:
    for name in fields:
        if numbers[name] < 0:
            raise RateError(f"rate_profile.{name}", numbers[name], "a rate is not negative; give 0 or more")


def _refuse_not_positive(numbers: Mapping[str, float], *fields: str) -> None:
    for name in fields:
        if numbers[name] <= 0:
            raise RateError(f"rate_profile.{name}", numbers[name], "give a number above 0")


_SHAPES: Final[dict[Any, Callable[[Mapping[str, Any]], RateProfile]]] = {
    "step": _steps,
    "ramp": _ramp,
    "sine": _sine,
    "replay": _replay,
}
