"""How many requests were open at once, and for how long as many as there ever were."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from model_load_test.components.results.columns import Int64s


class InFlight(NamedTuple):
    """Requests open at once."""

    most: int
    share_at_most: float
    """Share of the time, from the first send to the last, during which `most` were open."""


def in_flight(sent_at_ns: Int64s, latency_ns: Int64s) -> InFlight:
    """Counts the open requests over time.

    A generator with a fixed number of workers has them all busy nearly always; an open loop
    touches its highest number for moments only.

    Args:
        sent_at_ns: When each request was sent; at least one.
        latency_ns: How long it stayed open.
    """
    times = np.concatenate((sent_at_ns, sent_at_ns + latency_ns))
    steps = np.concatenate((np.ones(len(sent_at_ns), np.int64), np.full(len(sent_at_ns), -1, np.int64)))
    # at equal times the end comes first: a worker that sends again at once is one request, not two
    order = np.lexsort((steps, times))
    times, opened = times[order], np.cumsum(steps[order])
    most = int(opened.max())
    until_last_send = times <= sent_at_ns.max()
    held_ns = np.diff(times)[until_last_send[1:]]
    level = opened[:-1][until_last_send[1:]]
    total_ns = int(held_ns.sum())
    return InFlight(most, float(held_ns[level == most].sum() / total_ns) if total_ns else 0.0)
