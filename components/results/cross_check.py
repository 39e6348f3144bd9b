"""Our figures against the tool's own: a difference beyond rounding is told with both numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from model_load_test.components.results import columns
from model_load_test.components.results.checks import Check
from model_load_test.components.results.columns import Int64s
from model_load_test.components.results.percentile import percentiles
from model_load_test.components.results.report import ToolSummary

_ROUNDING_NS: Final = 1.5
"""Tools cut a mean to whole nanoseconds; from doubles the last digit may differ."""
_RELATIVE_ROUNDING: Final = 1e-9
_ESTIMATE_TOLERANCE: Final = 0.01
"""vegeta's t-digest is off by up to 1 % on a smooth distribution."""


def cross_check(stated: ToolSummary, rows: pa.Table) -> Iterator[Check]:
    """Yields one warning per figure of the tool that its own requests contradict.

    Args:
        stated: The tool's own summary.
        rows: All requests the tool counted, those cut off included.
    """
    if stated.requests != rows.num_rows:
        yield _differs("requests", stated.requests, rows.num_rows)
    elif rows.num_rows:
        latency_ns = columns.numbers(rows["latency_ns"], np.int64)
        yield from _differences(stated, latency_ns, columns.truths(rows["ok"]))


def _differences(stated: ToolSummary, latency_ns: Int64s, ok: columns.Bools) -> Iterator[Check]:
    succeeded = int(np.count_nonzero(ok))
    if stated.ok is not None and stated.ok != succeeded:
        yield _differs("OK requests", stated.ok, succeeded)
    of_mean = latency_ns if stated.mean_covers == "all" else latency_ns[ok]
    if stated.mean_ns is not None and len(of_mean):
        mean_ns = float(of_mean.mean())
        if not math.isclose(stated.mean_ns, mean_ns, rel_tol=_RELATIVE_ROUNDING, abs_tol=_ROUNDING_NS):
            yield _differs("mean latency (ns)", stated.mean_ns, mean_ns)
    covered = latency_ns if stated.percentiles_cover == "all" else latency_ns[ok]
    if len(covered):
        yield from _percentile_differences(stated, covered)


def _percentile_differences(stated: ToolSummary, latency_ns: Int64s) -> Iterator[Check]:
    tolerance = _ESTIMATE_TOLERANCE if stated.percentiles_are_estimates else _RELATIVE_ROUNDING
    qs = tuple(stated.percentile_ns)
    for q, own in zip(qs, percentiles(latency_ns, qs) if qs else (), strict=True):
        if not math.isclose(stated.percentile_ns[q], own, rel_tol=tolerance, abs_tol=_ROUNDING_NS):
            yield _differs(f"p{q:g} latency (ns)", stated.percentile_ns[q], own)
    for name, told, own in (
        ("fastest", stated.min_ns, int(latency_ns.min())),
        ("slowest", stated.max_ns, int(latency_ns.max())),
    ):
        if told is not None and not math.isclose(told, own, abs_tol=_ROUNDING_NS):
            yield _differs(f"{name} latency (ns)", told, own)


def _differs(figure: str, told: float, own: float) -> Check:
    return Check(
        code="differs-from-tool",
        detail=(
            f"The tool's own summary says {told:.12g} for {figure}, its requests give {own:.12g}; "
            "the latter counts"
        ),
        consequence="WARNING",
        numbers={"tool": float(told), "rows": float(own)},
    )
