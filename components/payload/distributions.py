"""The named distributions that sizes and values of requests are drawn from.

Each is its quantile function: fractions from 0 to below 1 in, values out. So one stream of fractions
makes the same draws on every machine, and a distribution of sizes is never asked for more than its
support.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from model_load_test.components.errors import InputError

Fractions = npt.NDArray[np.float64]

_LEAST_MASS: Final = 1e-9
"""A truncated distribution with less than this inside its bounds is taken to have nothing there."""
_MOST_ZIPF_RANKS: Final = 10_000_000


class Distribution(Protocol):
    """What values are drawn from."""

    def quantile(self, fractions: Fractions) -> Fractions:
        """The values below which these fractions of the draws lie."""
        ...


@dataclass(frozen=True)
class Constant:
    """Always the same value."""

    value: float

    def __str__(self) -> str:
        return f"{self.value:g}"

    def quantile(self, fractions: Fractions) -> Fractions:
        """As `Distribution.quantile`."""
        return np.full(len(fractions), self.value)


@dataclass(frozen=True)
class Uniform:
    """Every value from low to high equally likely; of whole numbers both ends included."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"uniform from {self.low:g} to {self.high:g}"

    def quantile(self, fractions: Fractions) -> Fractions:
        """As `Distribution.quantile`."""
        return self.low + fractions * (self.high - self.low)


@dataclass(frozen=True)
class Normal:
    """The bell curve, cut off at low and high."""

    mean: float
    stddev: float
    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        return f"normal, mean {self.mean:g}, standard deviation {self.stddev:g}{_cut(self.low, self.high)}"

    def quantile(self, fractions: Fractions) -> Fractions:
        """As `Distribution.quantile`."""
        return _truncated_normal(self.mean, self.stddev, self.low, self.high, fractions)


@dataclass(frozen=True)
class LogNormal:
    """Its logarithm is normal: many small values, few large ones; cut off at low and high."""

    median: float
    sigma: float
    """Standard deviation of the natural logarithm."""
    low: float = 0.0
    high: float = math.inf

    def __str__(self) -> str:
        return f"lognormal, median {self.median:g}, sigma {self.sigma:g}{_cut(self.low, self.high)}"

    def quantile(self, fractions: Fractions) -> Fractions:
        """As `Distribution.quantile`."""
        mean, low, high = math.log(self.median), _log(self.low), _log(self.high)
        return np.exp(_truncated_normal(mean, self.sigma, low, high, fractions))


@dataclass(frozen=True)
class Zipf:
    """Low is the most frequent; each following value is as frequent as 1 / rank ** exponent."""

    exponent: float
    low: int
    high: int

    def __str__(self) -> str:
        return f"zipf from {self.low} to {self.high}, exponent {self.exponent:g}"

    def quantile(self, fractions: Fractions) -> Fractions:
        """As `Distribution.quantile`."""
        running = _zipf_running(self.exponent, self.high - self.low + 1)
        return self.low + _index_of(running, fractions).astype(np.float64)


@dataclass(frozen=True)
class Choice:
    """One of some values, each as likely as its weight."""

    values: tuple[float, ...]
    weights: tuple[float, ...]

    def __str__(self) -> str:
        if len(set(self.weights)) == 1:
            return f"one of {', '.join(f'{value:g}' for value in self.values)}"
        total = sum(self.weights)
        shares = (
            f"{value:g} ({weight / total:.0%})"
            for value, weight in zip(self.values, self.weights, strict=True)
        )
        return f"one of {', '.join(shares)}"

    def quantile(self, fractions: Fractions) -> Fractions:
        """As `Distribution.quantile`."""
        return np.array(self.values)[_index_of(np.cumsum(self.weights), fractions)]


@dataclass(frozen=True)
class Empirical:
    """One of the values that were observed, each observation equally likely."""

    observed: tuple[float, ...]

    def __str__(self) -> str:
        low, high = self.observed[0], self.observed[-1]
        return f"as {len(self.observed)} observed values from {low:g} to {high:g}"

    def quantile(self, fractions: Fractions) -> Fractions:
        """As `Distribution.quantile`."""
        return np.array(self.observed)[(fractions * len(self.observed)).astype(np.int64)]


def parse_distribution(value: Any, field: str, *, least: float = -math.inf) -> Distribution:
    """Parses a distribution as users write it.

    Args:
        value: A number (always that), a list (one of these), or an object with `distribution`, its
            name, and its parameters:
            `{"distribution": "constant", "value": 4}`,
            `{"distribution": "uniform", "low": 1, "high": 8}`,
            `{"distribution": "normal", "mean": 64, "stddev": 16, "low": 1, "high": 128}`,
            `{"distribution": "lognormal", "median": 40, "sigma": 0.8, "low": 1, "high": 512}`,
            `{"distribution": "zipf", "exponent": 1.1, "low": 1, "high": 1000}`,
            `{"distribution": "choice", "values": [1, 8], "weights": [9, 1]}`,
            `{"distribution": "empirical", "values": [3, 5, 5, 9]}` or `"file"` in the place of
            `values`: one number a line.
        field: Name of the parameter, for the error.
        least: The least value that may be drawn.

    Raises:
        InputError: There is no such distribution, a parameter is missing, unknown or out of range,
            or nothing can be drawn from it.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = {"distribution": "constant", "value": value}
    elif isinstance(value, Sequence) and not isinstance(value, str):
        value = {"distribution": "choice", "values": list(value)}
    if not isinstance(value, Mapping) or "distribution" not in value:
        raise InputError(
            field, value, 'give a number, a list, or an object such as {"distribution": "uniform", ...}'
        )
    name = value["distribution"]
    if name not in _PARSERS:
        raise InputError(f"{field}.distribution", name, f"choose one of {', '.join(_PARSERS)}")
    parameters = _Parameters(field, str(name), {key: value[key] for key in value if key != "distribution"})
    parsed = _PARSERS[name](parameters, least)
    parameters.refuse_unknown()
    return parsed


def parse_sizes(value: Any, field: str, *, least: int = 1) -> Distribution:
    """Parses a distribution of whole numbers, as `parse_distribution`.

    Raises:
        InputError: As `parse_distribution`, or no whole number can be drawn from it.
    """
    parsed = parse_distribution(value, field, least=least)
    named: tuple[float, ...] = ()
    if isinstance(parsed, Constant):
        named = (parsed.value,)
    elif isinstance(parsed, Choice):
        named = parsed.values
    elif isinstance(parsed, Empirical):
        named = parsed.observed
    elif isinstance(parsed, Uniform) and math.ceil(parsed.low) > math.floor(parsed.high):
        raise InputError(field, value, "no whole number lies between low and high; move them apart")
    for number in named:
        if not number.is_integer():
            raise InputError(field, number, "sizes are whole numbers; give one")
    return parsed


class _Parameters:
    """The parameters of one distribution as they were given; refuses what cannot be used."""

    def __init__(self, field: str, name: str, given: Mapping[str, Any]) -> None:
        self.field = field
        self.name = name
        self.given = given
        self._known: list[str] = []

    def number(self, key: str, default: float | None = None) -> float:
        self._known.append(key)
        if key not in self.given:
            if default is None:
                raise InputError(f"{self.field}.{key}", None, f"a {self.name} distribution needs {key}")
            return default
        value = self.given[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(f"{self.field}.{key}", value, "give a finite number")
        return float(value)

    def numbers(self, key: str) -> tuple[float, ...]:
        self._known.append(key)
        values = self.given.get(key)
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise InputError(f"{self.field}.{key}", values, f"a {self.name} distribution needs a list {key}")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise InputError(f"{self.field}.{key}", value, "give finite numbers")
        return tuple(float(value) for value in values)

    def text(self, key: str) -> str:
        self._known.append(key)
        return str(self.given.get(key, ""))

    def has(self, key: str) -> bool:
        return key in self.given

    def refuse(self, holds: bool, key: str, remedy: str) -> None:
        if holds:
            raise InputError(f"{self.field}.{key}", self.given.get(key), remedy)

    def refuse_unknown(self) -> None:
        for key in self.given:
            if key not in self._known:
                raise InputError(
                    f"{self.field}.{key}",
                    self.given[key],
                    f"a {self.name} distribution takes {', '.join(self._known)}",
                )


def _constant(given: _Parameters, least: float) -> Constant:
    value = given.number("value")
    given.refuse(value < least, "value", f"give at least {least:g}")
    return Constant(value)


def _uniform(given: _Parameters, least: float) -> Uniform:
    low, high = given.number("low"), given.number("high")
    _refuse_bounds(given, low, high, least)
    return Uniform(low, high)


def _normal(given: _Parameters, least: float) -> Normal:
    mean, stddev = given.number("mean"), given.number("stddev")
    given.refuse(stddev <= 0, "stddev", "give a number above 0, or use a constant")
    low, high = given.number("low", least), given.number("high", math.inf)
    _refuse_bounds(given, low, high, least)
    _refuse_empty(given, mean, stddev, (low, high), "mean")
    return Normal(mean, stddev, low, high)


def _lognormal(given: _Parameters, least: float) -> LogNormal:
    median, sigma = given.number("median"), given.number("sigma")
    given.refuse(median <= 0, "median", "give a number above 0")
    given.refuse(sigma <= 0, "sigma", "give a number above 0, or use a constant")
    low, high = given.number("low", max(least, 0.0)), given.number("high", math.inf)
    _refuse_bounds(given, low, high, max(least, 0.0))
    _refuse_empty(given, math.log(median), sigma, (_log(low), _log(high)), "median")
    return LogNormal(median, sigma, low, high)


def _zipf(given: _Parameters, least: float) -> Zipf:
    exponent, low, high = (
        given.number("exponent", 1.0),
        given.number("low", max(least, 0.0)),
        given.number("high"),
    )
    given.refuse(exponent <= 0, "exponent", "give a number above 0")
    for key, value in (("low", low), ("high", high)):
        given.refuse(not value.is_integer(), key, "zipf counts in whole numbers; give one")
    _refuse_bounds(given, low, high, least)
    given.refuse(high - low >= _MOST_ZIPF_RANKS, "high", f"at most {_MOST_ZIPF_RANKS} above low")
    return Zipf(exponent, int(low), int(high))


def _choice(given: _Parameters, least: float) -> Choice:
    values = given.numbers("values")
    weights = given.numbers("weights") if given.has("weights") else (1.0,) * len(values)
    given.refuse(not values, "values", "give one value or more")
    given.refuse(min(values) < least, "values", f"each must be at least {least:g}")
    given.refuse(len(weights) != len(values), "weights", "give as many weights as values")
    given.refuse(min(weights) < 0 or sum(weights) <= 0, "weights", "give weights of 0 or more, not all 0")
    return Choice(values, weights)


def _empirical(given: _Parameters, least: float) -> Empirical:
    given.refuse(given.has("values") == given.has("file"), "values", "give either values or a file")
    key = "file" if given.has("file") else "values"
    values = _read_numbers(given, given.text("file")) if key == "file" else given.numbers("values")
    given.refuse(not values, key, "give one observed value or more")
    given.refuse(min(values) < least, key, f"each must be at least {least:g}")
    return Empirical(tuple(sorted(values)))


_PARSERS: Final[dict[str, Callable[[_Parameters, float], Distribution]]] = {
    "constant": _constant,
    "uniform": _uniform,
    "normal": _normal,
    "lognormal": _lognormal,
    "zipf": _zipf,
    "choice": _choice,
    "empirical": _empirical,
}


def _read_numbers(given: _Parameters, path: str) -> tuple[float, ...]:
    try:
        values = tuple(float(line) for line in Path(path).read_text().split())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{given.field}.file", path, f"give a file with one number a line ({error})"
        ) from None
    given.refuse(not all(map(math.isfinite, values)), "file", "it holds a number that is not finite")
    return values


def _refuse_bounds(given: _Parameters, low: float, high: float, least: float) -> None:
    given.refuse(low < least, "low", f"give at least {least:g}")
    given.refuse(high < low, "high", f"nothing lies between {low:g} and {high:g}; give a high above the low")


def _refuse_empty(
    given: _Parameters, mean: float, stddev: float, bounds: tuple[float, float], key: str
) -> None:
    low, high = bounds
    mass = float(ndtr((high - mean) / stddev) - ndtr((low - mean) / stddev))
    given.refuse(
        low < high and mass < _LEAST_MASS,
        key,
        f"as good as nothing of it lies between its bounds; move the bounds or the {key}",
    )


def _truncated_normal(mean: float, stddev: float, low: float, high: float, fractions: Fractions) -> Fractions:
    lowest, highest = ndtr((low - mean) / stddev), ndtr((high - mean) / stddev)
    # At exactly 0 and 1 the bell has no end; half a step of a double's fraction is nearest to it.
    inside = np.clip(lowest + fractions * (highest - lowest), 2.0**-54, 1 - 2.0**-53)
    return np.clip(mean + stddev * ndtri(inside), low, high)


@lru_cache(maxsize=16)
def _zipf_running(exponent: float, ranks: int) -> Fractions:
    return np.cumsum(np.arange(1, ranks + 1, dtype=np.float64) ** -exponent)


def _index_of(running: Fractions, fractions: Fractions) -> npt.NDArray[np.int64]:
    """The place in running totals where each fraction of the whole falls."""
    places: npt.NDArray[np.int64] = np.searchsorted(running, fractions * running[-1], side="right")
    return np.minimum(places, len(running) - 1)


def _log(value: float) -> float:
    return math.inf if value == math.inf else math.log(value) if value > 0 else -math.inf


def _cut(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return ""
    if math.isinf(high):
        return f", from {low:g}"
    return f", up to {high:g}" if math.isinf(low) else f", from {low:g} to {high:g}"


def draw_whole(distribution: Distribution, fractions: Fractions) -> npt.NDArray[np.int64]:
    """Whole numbers drawn from a distribution.

    Of a uniform one both ends are as likely as what lies between; of others the nearest whole number.
    """
    if isinstance(distribution, Uniform):
        low, high = math.ceil(distribution.low), math.floor(distribution.high)
        return (low + np.floor(fractions * (high - low + 1))).astype(np.int64)
    return np.floor(distribution.quantile(fractions) + 0.5).astype(np.int64)
