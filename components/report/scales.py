"""From values to places on an axis, and the ticks a person would choose."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from model_load_test.components.report.wording import format_change, format_seconds


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, linear or logarithmic."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...] = ()
    """Values with their labels, rising."""
    logarithmic: bool = False

    def percent(self, value: float) -> float:
        """Place of `value` from 0 at `low` to 100 at `high`; values outside stick to the ends."""
        place = (self._bent(value) - self._bent(self.low)) / (self._bent(self.high) - self._bent(self.low))
        return round(100 * min(max(place, 0.0), 1.0), 2)

    def contains(self, value: float) -> bool:
        """Whether the axis reaches `value`."""
        return self.low <= value <= self.high

    def _bent(self, value: float) -> float:
        return math.log(max(value, 1e-300)) if self.logarithmic else value


def ratio_scale(values: Iterable[float]) -> Scale:
    """A log axis for candidate/baseline that shows 1 and all `values`, labelled in percent.

    Ratios beyond a factor of 20 are left outside: they would squeeze the margins to nothing.
    """
    shown = [1.0, *(min(max(value, 1 / 20), 20.0) for value in values)]
    low, high = math.log(min(shown)), math.log(max(shown))
    room = max(0.12 * (high - low), 0.02)
    low, high = math.exp(low - room), math.exp(high + room)
    return Scale(low, high, tuple(_ratio_ticks(low, high)), True)


def latency_scale(values: Iterable[float]) -> Scale:
    """A log axis for latencies in seconds, with some room at both ends."""
    shown = [value for value in values if value > 0] or [0.001, 0.01]
    low, high = min(shown) / 1.08, max(shown) * 1.08
    if high / low < 1.5:
        middle = math.sqrt(low * high)
        low, high = middle / 1.25, middle * 1.25
    ticks = tuple((tick, format_seconds(tick, trimmed=True)) for tick in _latency_ticks(low, high))
    return Scale(low, high, ticks, True)


def time_scale(low: float, high: float) -> Scale:
    """A linear axis of seconds since the run began."""
    high = max(high, low + 1e-6)
    step = _nice_step((high - low) / 6)
    if step > 30:
        step = 60 * _nice_step((high - low) / 360)
    ticks = _multiples(low, high, step)
    return Scale(low, high, tuple((t, format_seconds(t, trimmed=True) if t else "0 s") for t in ticks))


def difference_scale(values: Iterable[float]) -> Scale:
    """A linear axis for differences of shares, in percentage points, that shows 0."""
    shown = [0.0, *values]
    room = max(0.15 * (max(shown) - min(shown)), 1e-4)
    low, high = min(shown) - room, max(shown) + room
    step = _nice_step((high - low) / 5)
    decimals = max(0, -math.floor(math.log10(step * 100)))
    labels = (
        (t, f"{100 * t:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")) for t in _multiples(low, high, step)
    )
    return Scale(low, high, tuple((t, "0" if abs(t) < step / 2 else label) for t, label in labels))


def tail_scale(highest_share: float) -> Scale:
    """The axis of the load tester: each tick leaves a tenth of what the last one left above it.

    Values are `1 / (1 - share)`, see `tail_value`.
    """
    marks = [(0.0, "0"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")]
    ticks = tuple((tail_value(share), label) for share, label in marks if share <= highest_share)
    return Scale(1.0, max(tail_value(highest_share), 2.0), ticks, True)


def tail_value(share: float) -> float:
    """Where a share lies on `tail_scale`."""
    return 1 / (1 - min(share, 0.99999))


def nice_ticks(low: float, high: float) -> list[float]:
    """Some five round values from `low` to `high`."""
    return _multiples(low, high, _nice_step((high - low) / 5))


def _ratio_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks in steps of percent, or of factors where the axis spans more than percent can say."""
    if high / low > 4:
        factors = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16)
        times = "\N{MULTIPLICATION SIGN}"
        return [
            (factor, "equal" if factor == 1 else f"{times}{factor:.3g}")
            for factor in factors
            if low <= factor <= high
        ]
    step = _nice_step((high - low) / 5)
    decimals = 0 if step >= 0.00999 else 1
    ticks = [1 + change for change in _multiples(low - 1, high - 1, step)]
    return [(tick, format_change(tick, decimals)) for tick in ticks]


def _latency_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [m * 10.0**d for d in decades for m in mantissas if low <= m * 10.0**d <= high]
        if len(ticks) >= 3:
            return ticks
    return _multiples(low, high, _nice_step((high - low) / 6))


def _nice_step(rough: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(rough))
    return next(step * magnitude for step in (1, 2, 5, 10) if step * magnitude >= rough * 0.999)


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]
