"""Runs over time as lines of text, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Final

from model_load_test.components.baseline.record import Record
from model_load_test.components.errors import InputError
from model_load_test.components.report.trend import noise_band

_COLUMNS: Final = 48
_NS_PER_SECOND: Final = 1_000_000_000


def draw_runs(records: Sequence[Record], metric: str) -> list[str]:
    """One line a run, the newest last; the horizontal axis is logarithmic.

    Args:
        records: The runs, oldest first.
        metric: One of their numbers, such as `candidate_p95_ms`.

    Raises:
        InputError: None of the runs holds the number above 0.
    """
    drawn = [(record, record.metrics[metric]) for record in records if record.metrics.get(metric, 0.0) > 0]
    if not drawn:
        known = sorted({name for record in records for name in record.metrics})
        raise InputError(
            "--metric", metric, f"name a number that the runs hold: {', '.join(known) or 'none'}"
        )
    band = noise_band([value for record, value in drawn if record.passing], None)
    values = [value for _, value in drawn] + list(band or ())
    low, high = min(values) / 1.02, max(values) * 1.02
    versions = max(len(record.model_version) for record, _ in drawn)
    lines = [
        f"{_moment(record)}  {record.model_version:<{versions}}  {value:>9.4g}  "
        f"{_line(record, value, band, (low, high))}  {_remark(record)}".rstrip()
        for record, value in drawn
    ]
    axis = f"{low:.4g}".ljust(_COLUMNS - len(f"{high:.4g}")) + f"{high:.4g}"
    return [metric, *lines, " " * (33 + versions) + axis, *_legend(band)]


def _line(record: Record, value: float, band: tuple[float, float] | None, ends: tuple[float, float]) -> str:
    cells = [" "] * _COLUMNS
    if band:
        first, last = _column(band[0], ends), _column(band[1], ends)
        cells[first : last + 1] = "\N{LIGHT SHADE}" * (last + 1 - first)
    cells[_column(value, ends)] = "\N{BLACK CIRCLE}" if record.passing else "\N{MULTIPLICATION SIGN}"
    return "".join(cells)


def _column(value: float, ends: tuple[float, float]) -> int:
    low, high = ends
    return round((_COLUMNS - 1) * math.log(value / low) / math.log(high / low))


def _moment(record: Record) -> str:
    measured = datetime.fromtimestamp(record.created_at_ns // _NS_PER_SECOND, timezone.utc)
    return measured.strftime("%Y-%m-%d %H:%M")


def _remark(record: Record) -> str:
    if record.promoted:
        return "reference"
    if record.promoted_at_ns:
        return "promoted"
    return "" if record.passing else record.verdict


def _legend(band: tuple[float, float] | None) -> list[str]:
    if band is None:
        return []
    ends = f"{band[0]:.4g} to {band[1]:.4g}"
    return [f"\N{LIGHT SHADE} {ends}: there falls one more run like the passing ones, nine times in ten"]
