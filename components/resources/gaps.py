"""Stretches of a window of which a source knows nothing, said so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from model_load_test.components.resources.align import TOLERANCE, usual_distance_ns
from model_load_test.components.resources.series import Series, Window
from model_load_test.components.results.checks import Check

LEAST_GAP_SECONDS = 2.0
"""Shorter ones are a busy machine's."""


class _Gap(NamedTuple):
    seconds: float
    begins_seconds: float
    usual_seconds: float
    series: Series


def gap_findings(series: Iterable[Series], window: Window) -> tuple[Check, ...]:
    """One finding per arm and source that has a gap in the window: its longest.

    A replica that comes or goes leaves none; only what lies between two samples does, or between an arm's
    last sample and the end of the window.
    """
    worst: dict[tuple[str, str], _Gap] = {}
    for one in series:
        gap = _longest_gap(one, window)
        key = (one.arm, one.source)
        if gap is not None and (key not in worst or gap.seconds > worst[key].seconds):
            worst[key] = gap
    return tuple(_finding(*key, gap) for key, gap in worst.items())


def _longest_gap(series: Series, window: Window) -> _Gap | None:
    usual_ns = usual_distance_ns(series.at_ns)
    near = (series.at_ns >= window.start_ns - usual_ns) & (series.at_ns <= window.end_ns + usual_ns)
    at_ns = series.at_ns[near]
    if at_ns.size < 3 or series.limit is not None:
        return None
    distances = np.diff(at_ns)
    place = int(distances.argmax())
    seconds = float(distances[place]) / 1e9
    if seconds < max(TOLERANCE * usual_ns / 1e9, LEAST_GAP_SECONDS):
        return None
    return _Gap(seconds, (int(at_ns[place]) - window.start_ns) / 1e9, usual_ns / 1e9, series)


def _finding(arm: str, source: str, gap: _Gap) -> Check:
    where = f"{max(0.0, gap.begins_seconds):.0f} s after the load began"
    detail = (
        f"The {arm}'s {gap.series.metric} ({source}) has a gap of {gap.seconds:.1f} s, {where}, where it is "
        f"usually told every {gap.usual_seconds:.1f} s. Those blocks have no values; nothing is filled in."
    )
    return Check(
        "resources-gap",
        detail,
        "WARNING",
        {"gap_seconds": round(gap.seconds, 3), "usual_seconds": round(gap.usual_seconds, 3)},
    )
