"""Requests that ghz cut off itself when its time was over: neither answered nor failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from model_load_test.components.results import columns
from model_load_test.components.results.checks import Check
from model_load_test.components.results.report import ToolSummary
from model_load_test.components.results.rows import no_rows

_TOLERANCE_NS: Final = 50 * 10**6
"""Cut-off requests end up to 12 ms before first start + duration (measured); generously more."""
CUT_OFF_TEXTS: Final = (
    "use of closed network connection",
    "transport is closing",
    "client connection is closing",
    "context canceled",
)
_CUT_OFF_STATUSES: Final = ("Unavailable", "Canceled")


@dataclass(frozen=True)
class CutOff:
    """Rows apart from those cut off."""

    rows: pa.Table
    count: int
    checks: tuple[Check, ...]


def split_cut_off(rows: pa.Table, end_reason: str, options: Mapping[str, Any]) -> CutOff:
    """Sets aside what ghz cut off, if all four signs are there.

    The run did not end by itself; the text is that of a connection the client closed (a server
    that dies gives EOF or connection refused); the request ended when the run ended; and there are
    no more of them than requests could be in flight.
    """
    if end_reason in ("", "normal") or not rows.num_rows:
        return CutOff(rows, 0, ())
    suspects = _closed_by_client(rows) & _at_the_end(rows, options)
    count = int(np.count_nonzero(suspects))
    in_flight = _most_in_flight(options)
    if in_flight is not None and count > in_flight:
        return CutOff(rows, 0, (_ambiguous(count, in_flight),))
    if not count:
        return CutOff(rows, 0, ())
    return CutOff(rows.filter(columns.booleans(~suspects)), count, ())


def _closed_by_client(rows: pa.Table) -> columns.Bools:
    of_error, errors = columns.texts(rows["error"])
    of_status, statuses = columns.texts(rows["status"])
    by_client = np.array([any(text in error for text in CUT_OFF_TEXTS) for error in errors], dtype=np.bool_)
    status_fits = np.array([status in _CUT_OFF_STATUSES for status in statuses], dtype=np.bool_)
    return by_client[of_error] & status_fits[of_status]


def _at_the_end(rows: pa.Table, options: Mapping[str, Any]) -> columns.Bools:
    sent_at_ns = columns.numbers(rows["sent_at_ns"], np.int64)
    ended_at_ns = sent_at_ns + columns.numbers(rows["latency_ns"], np.int64)
    stop_at_ns = int(ended_at_ns.max())
    duration_ns = options.get("duration")
    if isinstance(duration_ns, int) and duration_ns > 0:
        stop_at_ns = min(stop_at_ns, int(sent_at_ns.min()) + duration_ns)
    at_the_end: columns.Bools = ended_at_ns >= stop_at_ns - _TOLERANCE_NS
    return at_the_end


def _most_in_flight(options: Mapping[str, Any]) -> int | None:
    """The number of ghz's workers; None where they are not bounded or not told."""
    if options.get("async") is True:
        return None
    told = [options.get(key) for key in ("concurrency", "concurrency-start", "concurrency-end")]
    known = [number for number in told if isinstance(number, int) and not isinstance(number, bool)]
    return max(known) if known else 0


def _ambiguous(count: int, in_flight: int) -> Check:
    return Check(
        code="cut-off-ambiguous",
        detail=(
            f"{count} requests look as if ghz had cut them off at its end, but only {in_flight} could be in "
            "flight; they are counted as failed. Run ghz with --duration-stop wait"
        ),
        consequence="WARNING",
        numbers={"suspects": count, "in_flight": in_flight},
    )


def cut_off_of_summary(stated: ToolSummary, end_reason: str, options: Mapping[str, Any]) -> CutOff:
    """The same of a report without its requests: three of the four signs, the time is not told."""
    suspects = sum(
        count or 0 for error, count in stated.errors.items() if any(text in error for text in CUT_OFF_TEXTS)
    )
    failed = stated.requests - (stated.ok or 0)
    in_flight = _most_in_flight(options)
    rows = no_rows()
    if end_reason in ("", "normal") or not 0 < suspects <= failed:
        return CutOff(rows, 0, ())
    if in_flight is not None and suspects > in_flight:
        return CutOff(rows, 0, (_ambiguous(suspects, in_flight),))
    assumed = Check(
        code="cut-off-assumed",
        detail=(
            f"{suspects} requests are taken to be cut off by ghz at its end and set aside; without details "
            "their time cannot be checked. Run ghz with --duration-stop wait"
        ),
        consequence="WARNING",
        numbers={"suspects": float(suspects)},
    )
    return CutOff(rows, suspects, (assumed,))
