"""From the rows of a segment's generators to rows with arm and block."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model_load_test.components.load.schedule import WARMUP_BLOCK, Arm, Segment
from model_load_test.components.results.table import SCHEMA

Int64s = npt.NDArray[np.int64]


TIMER_JITTER_NS = 5_000_000
"""A request sent no later than this after its time was only woken late by its generator's timer
(vegeta at 200 requests/s: median 0.6 ms, 99.9 % within 2 ms); counted as latency, that would drown
the server's own."""


def with_schedule(rows: pa.Table, rate_rps: float) -> pa.Table:
    """Gives rows of a constant-rate stream their scheduled send time, and latency counted from it.

    The k-th request was due k/rate after the start, and the start is where the most punctual
    request puts it. A generator that fell behind would otherwise hide the wait from the latency
    (coordinated omission); its timer's jitter is not counted.
    """
    rows = rows.take(pc.sort_indices(rows, sort_keys=[("sent_at_ns", "ascending")]))
    sent_at_ns: Int64s = rows["sent_at_ns"].to_numpy()
    if not len(sent_at_ns):
        return rows
    since_start_ns = np.round(np.arange(len(sent_at_ns)) * (1e9 / rate_rps)).astype(np.int64)
    scheduled_at_ns = (sent_at_ns - since_start_ns).min() + since_start_ns
    late_ns = sent_at_ns - scheduled_at_ns
    latency_ns = rows["latency_ns"].to_numpy() + np.where(late_ns > TIMER_JITTER_NS, late_ns, 0)
    rows = rows.set_column(
        rows.schema.get_field_index("scheduled_at_ns"), "scheduled_at_ns", pa.array(scheduled_at_ns)
    )
    return rows.set_column(rows.schema.get_field_index("latency_ns"), "latency_ns", pa.array(latency_ns))


def assign_block(rows_of_arm: Mapping[Arm, pa.Table], segment: Segment) -> pa.Table:
    """One table of a segment's rows, those inside the block's time window numbered with the block.

    The window, the same for all arms, opens when the last worker of the last arm has sent its first
    request and the lead is over. Rows outside it get block -1, as the warm-up does.
    """
    begun = [first_ns for rows in rows_of_arm.values() for first_ns in first_sends_ns(rows).values()]
    opens_at_ns = max(begun, default=0) + round(segment.lead_seconds * 1e9)
    closes_at_ns = opens_at_ns + round(segment.block_seconds * 1e9)
    parts = []
    for arm, rows in rows_of_arm.items():
        sent_at_ns = rows["sent_at_ns"].to_numpy()
        inside = (sent_at_ns >= opens_at_ns) & (sent_at_ns < closes_at_ns)
        blocks = np.where(inside, segment.block, WARMUP_BLOCK).astype(np.int32)
        parts.append(_with_arm_and_block(rows, arm, blocks))
    return pa.concat_tables(parts) if parts else SCHEMA.empty_table()


def first_sends_ns(rows: pa.Table) -> dict[int, int]:
    """When each worker sent its first request, by worker."""
    firsts = rows.group_by("worker").aggregate([("sent_at_ns", "min")])
    workers, sent_at_ns = firsts["worker"].to_numpy(), firsts["sent_at_ns_min"].to_numpy()
    return {int(worker): int(first_ns) for worker, first_ns in zip(workers, sent_at_ns, strict=True)}


def _with_arm_and_block(rows: pa.Table, arm: Arm, blocks: npt.NDArray[np.int32]) -> pa.Table:
    rows = rows.append_column("arm", pa.array([arm] * rows.num_rows, pa.string()))
    rows = rows.append_column("block", pa.array(blocks))
    return rows.select(SCHEMA.names).cast(SCHEMA)


def rows_of_arm(table: pa.Table, arm: Arm) -> pa.Table:
    """The measured rows of one arm: without the other arm and without the warm-up."""
    return table.filter((pc.field("arm") == arm) & (pc.field("block") != WARMUP_BLOCK))
