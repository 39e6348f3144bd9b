"""What makes a request of ghz OK, and its way into the table."""

from __future__ import annotations

from typing import Final

import numpy as np

from model_load_test.components.results.columns import Int64s
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.rows import RowCollector, TooManyStatuses

LONGEST_STATUS: Final = 64
"""Longer than the name of any gRPC code."""


def collect_requests(
    file: str,
    position: str,
    sent_at_ns: Int64s,
    latency_ns: Int64s,
    status: list[str],
    error: list[str],
    collector: RowCollector,
) -> None:
    """Adds requests; OK is what has the status OK and no error.

    Raises:
        ResultsError: The statuses are not those of gRPC.
    """
    of_status = {text: text == "OK" for text in set(status)}
    if len(of_status) == 1:
        ok = np.full(len(status), of_status[status[0]], dtype=np.bool_)
    else:
        ok = np.fromiter(map(of_status.__getitem__, status), np.bool_, len(status))
    if any(error):
        ok &= ~np.fromiter(map(bool, error), np.bool_, len(error))
    try:
        if max(map(len, of_status)) > LONGEST_STATUS:
            raise TooManyStatuses
        collector.add(sent_at_ns, latency_ns, ok, status, error)
    except TooManyStatuses:
        raise ResultsError(
            file,
            position,
            Description("statuses that are no gRPC codes"),
            "give the report as ghz wrote it",
            "wrong-type",
        ) from None
