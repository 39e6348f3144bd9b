"""From what each generator brought to one table: workers numbered, clocks aligned, nothing averaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model_load_test.components.load.blocks import first_sends_ns
from model_load_test.components.load.job.plan import Greeting, Loaded
from model_load_test.components.load.schedule import Arm
from model_load_test.components.results import columns
from model_load_test.components.results.table import ROWS_SCHEMA

_WORST: Final = ("cpu_busy_share", "cpu_steal_share", "load_average_1min")
"""Facts of which the worst generator's says whether the measurement can be trusted."""


def merged_rows(loaded: Mapping[int, Loaded], greetings: Mapping[int, Greeting]) -> dict[Arm, pa.Table]:
    """The rows of each arm of all generators, the generator's index as worker, on the coordinator's clock."""
    parts: dict[Arm, list[pa.Table]] = {}
    for index, one in loaded.items():
        for arm, encoded in one.rows.items():
            rows = pa.ipc.open_stream(encoded).read_all()
            parts.setdefault(arm, []).append(_as_worker(rows, index, greetings[index].clock_offset_ns))
    return {arm: pa.concat_tables(tables).unify_dictionaries() for arm, tables in parts.items()}


def start_skew_ns(rows_of_arm: Mapping[Arm, pa.Table]) -> int:
    """How far apart the generators sent their first requests, whichever arm those went to."""
    firsts: dict[int, int] = {}
    for rows in rows_of_arm.values():
        for worker, first_ns in first_sends_ns(rows).items():
            firsts[worker] = min(first_ns, firsts.get(worker, first_ns))
    return max(firsts.values()) - min(firsts.values()) if firsts else 0


def first_send_spread_ns(rows_of_arm: Mapping[Arm, pa.Table]) -> int:
    """How far apart all first requests were, of each generator to each arm."""
    firsts = [first_ns for rows in rows_of_arm.values() for first_ns in first_sends_ns(rows).values()]
    return max(firsts) - min(firsts) if firsts else 0


def merged_host(
    greetings: Iterable[Greeting], newest: Iterable[Mapping[str, Any]], skews_ns: Iterable[int]
) -> dict[str, Any]:
    """The facts of the generators' machines: those of one of them where all are alike, else of the worst.

    Args:
        greetings: Of all generators.
        newest: The newest changing facts of each.
        skews_ns: Start skew of each segment.
    """
    greeted = list(greetings)
    facts: dict[str, Any] = dict(greeted[0].host) if greeted else {}
    changing = list(newest)
    for name in _WORST:
        values = [host[name] for host in changing if name in host]
        if values:
            facts[name] = max(values)
    facts["saturation"] = worst_numbers(host.get("saturation", {}) for host in changing)
    facts["cores"] = min((int(one.host["cores"]) for one in greeted if "cores" in one.host), default=0)
    models = sorted({str(one.host.get("cpu_model", "")) for one in greeted})
    if len(models) > 1:
        facts["cpu_model"] = ", ".join(models)
    facts["generators"] = len(greeted)
    facts["nodes"] = sorted({one.node for one in greeted if one.node})
    facts["clock_uncertainty_ms"] = _most(one.clock_uncertainty_ns for one in greeted)
    facts["clock_offset_ms"] = _most(abs(one.clock_offset_ns) for one in greeted)
    skews = list(skews_ns)
    if skews:
        facts["start_skew_ms"] = round(float(np.median(skews)) / 1e6, 3)
        facts["start_skew_most_ms"] = _most(skews)
    return facts


def worst_numbers(of_generators: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The highest of each number that generators tell of their machines: what is used up, is so by one."""
    worst: dict[str, float] = {}
    for numbers in of_generators:
        for name, number in numbers.items():
            worst[name] = max(number, worst.get(name, number))
    return worst


def _most(nanoseconds: Iterable[int]) -> float:
    """The largest, in milliseconds."""
    return round(max(nanoseconds, default=0) / 1e6, 3)


def _as_worker(rows: pa.Table, index: int, clock_offset_ns: int) -> pa.Table:
    count = rows.num_rows
    rows = _with(rows, "worker", columns.integers(np.full(count, index, np.int16), pa.int16()))
    for name in ("sent_at_ns", "scheduled_at_ns"):
        shifted = pc.add(rows[name], pa.scalar(clock_offset_ns, pa.int64()))
        rows = _with(rows, name, shifted)
    return rows


def _with(rows: pa.Table, name: str, values: Any) -> pa.Table:
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, ROWS_SCHEMA.field(name), values)
