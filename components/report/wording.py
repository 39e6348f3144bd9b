"""How numbers and outcomes are said to a person, the same in every artifact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from model_load_test.components.gate.verdict import MetricVerdict, Outcome

MINUS: Final = "\N{MINUS SIGN}"
_THIN: Final = "\N{NARROW NO-BREAK SPACE}"
_SPACE: Final = "\N{NO-BREAK SPACE}"
ABSENT: Final = "\N{EN DASH}"

METRIC_TITLES: Final = {
    "mean": "Mean",
    "p50": "Median",
    "p90": "p90",
    "p95": "p95",
    "p99": "p99",
    "p999": "p99.9",
    "max": "Slowest",
    "errors": "Failed requests",
    "goodput": "Goodput",
    "cpu": "CPU per request",
}


@dataclass(frozen=True)
class OutcomeWords:
    """How an outcome is named and what it means for the push."""

    word: str
    meaning: str
    symbol: str


OUTCOMES: Final[dict[Outcome, OutcomeWords]] = {
    "PASS": OutcomeWords("Pass", "The candidate may be pushed.", "\N{CHECK MARK}"),
    "FAIL": OutcomeWords("Fail", "The candidate must not be pushed.", "\N{MULTIPLICATION X}"),
    "INCONCLUSIVE": OutcomeWords(
        "Inconclusive",
        "The measurement does not decide yet; the candidate is neither cleared nor at fault.",
        "?",
    ),
    "NO_BASELINE": OutcomeWords(
        "No baseline", "There was nothing to compare with; this run can become the baseline.", "\N{EN DASH}"
    ),
    "INVALID": OutcomeWords(
        "Invalid", "The measurement cannot be trusted, so nothing is said about the candidate.", "!"
    ),
}


def present(value: float | None) -> bool:
    """Whether there is a finite number to show."""
    return value is not None and math.isfinite(value)


def format_seconds(value: float | None, *, trimmed: bool = False) -> str:
    """A duration with three significant digits: `850 µs`, `12.0 ms`, `1.23 s`; trimmed, `12 ms`."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return f"0{_SPACE}ms"
    if abs(value) >= 300:
        return f"{_significant(value / 60, trimmed=trimmed)}{_SPACE}min"
    for size, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(value) >= 0.9995 * size:
            return f"{_significant(value / size, trimmed=trimmed)}{_SPACE}{unit}"
    return f"{_significant(value / 1e-9, trimmed=trimmed)}{_SPACE}ns"


def format_change(ratio: float | None, decimals: int = 1) -> str:
    """A ratio as the change it means: `+12.3 %`, from a factor of three on as the factor."""
    if ratio is None or not math.isfinite(ratio):
        return ABSENT
    if ratio >= 3:
        return f"\N{MULTIPLICATION SIGN}{_significant(ratio)}"
    change = 100 * (ratio - 1)
    if round(change, decimals) == 0:
        return f"0{_SPACE}%"
    return f"{change:+.{decimals}f}{_SPACE}%".replace("-", MINUS)


def format_points(difference: float | None) -> str:
    """A difference of two shares in percentage points: `+0.12 pp`."""
    if difference is None or not math.isfinite(difference):
        return ABSENT
    points = 100 * difference
    return f"{points:+.2f}{_SPACE}pp".replace("-", MINUS) if round(points, 2) else f"0{_SPACE}pp"


def format_share(share: float | None) -> str:
    """A share in percent: `0.12 %`."""
    if share is None or not math.isfinite(share):
        return ABSENT
    return f"{_significant(100 * share, 3 if share >= 0.1 else 2, trimmed=True)}{_SPACE}%"


def format_count(count: float | None) -> str:
    """A count with its thousands apart: `24 000`."""
    if count is None or not math.isfinite(count):
        return ABSENT
    return f"{count:,.0f}".replace(",", _THIN).replace("-", MINUS)


def format_rate(rate_rps: float | None) -> str:
    """A rate: `200 req/s`."""
    if rate_rps is None or not math.isfinite(rate_rps):
        return ABSENT
    shown = format_count(rate_rps) if rate_rps >= 1000 else _significant(rate_rps, trimmed=True)
    return f"{shown}{_SPACE}req/s"


def format_size(size_bytes: float | None) -> str:
    """An amount of memory: `512 MiB`."""
    if size_bytes is None or not math.isfinite(size_bytes):
        return ABSENT
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(size_bytes) >= 0.9995 * size:
            return f"{_significant(size_bytes / size, trimmed=True)}{_SPACE}{unit}"
    return f"{_significant(size_bytes, trimmed=True)}{_SPACE}B"


def format_value(value: float | None, unit: str = "") -> str:
    """A number with three significant digits and its unit."""
    if value is None or not math.isfinite(value):
        return ABSENT
    shown = format_count(value) if abs(value) >= 1000 else _significant(value, trimmed=True)
    return f"{shown}{_SPACE}{unit}" if unit else shown


def format_p(p: float | None) -> str:
    """A p-value, as exact as it is worth reading: `0.012`, `< 0.001`."""
    if p is None or not math.isfinite(p):
        return ABSENT
    return f"<{_SPACE}0.001" if p < 0.001 else f"{p:.2g}"


def format_difference(name: str, value: float | None) -> str:
    """What a metric's `ratio`, `lower` or `upper` says, in the metric's own unit."""
    return format_points(value) if name == "errors" else format_change(value)


def format_level(name: str, value: float | None) -> str:
    """What a metric's `candidate` or `baseline` says, in the metric's own unit."""
    if name == "goodput":
        return format_rate(value)
    return format_share(value) if name == "errors" else format_seconds(value)


def format_margin(name: str, margin: float) -> str:
    """The excess a metric allows; of goodput a loss."""
    if name == "errors":
        return format_points(margin)
    return format_change(allowed_end(name, margin)).replace(f".0{_SPACE}%", f"{_SPACE}%")


def allowed_end(name: str, margin: float) -> float:
    """Where a metric's allowed zone ends on its own axis: a ratio, or a difference of shares."""
    if name == "errors":
        return margin
    return 1 / (1 + margin) if name == "goodput" else 1 + margin


def metric_title(name: str) -> str:
    """A metric's name for a heading."""
    return METRIC_TITLES.get(name, name)


def interval(name: str, metric: MetricVerdict) -> str:
    """A metric's interval: `+9.1 % to +14.2 %`."""
    if not present(metric.lower) and not present(metric.upper):
        return ABSENT
    return f"{format_difference(name, metric.lower)} to {format_difference(name, metric.upper)}"


def _significant(value: float, digits: int = 3, *, trimmed: bool = False) -> str:
    """`digits` significant digits without an exponent; trimmed, a whole number has no decimals."""
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    decimals = max(0, digits - 1 - exponent)
    text = f"{value:.{decimals}f}"
    if trimmed and float(text) == int(float(text)):
        text = text.split(".", maxsplit=1)[0]
    return text.replace("-", MINUS)
