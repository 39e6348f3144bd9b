"""From the results table to pairs of blocks, the unit in which everything is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from model_load_test.components.errors import InputError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

COLUMNS: Final = ("arm", "block", "latency_ns", "ok", "sent_at_ns")
ARMS: Final = ("candidate", "baseline")
_LEAST_TO_COMPARE: Final = 20
"""Fewer rows or blocks may look alike by chance."""
LATENCY_BITS: Final = 40
"""Latencies are kept below 2^40 ns (18 minutes), so that block and latency sort as one integer."""


class ResultsTableError(InputError):
    """A results table that cannot be judged."""


@dataclass(frozen=True)
class ArmBlocks:
    """The measured blocks of one arm, in the order of their numbers.

    Latencies stand in one array, ordered by block and within the block by size: those of block
    `i` are `latencies[offsets[i]:offsets[i + 1]]`.
    """

    numbers: Integers
    """The blocks' numbers in the table."""
    latencies: Floats
    """Seconds, of successful requests."""
    offsets: Integers
    requests: Integers
    """Requests per block, successful or not."""
    failures: Integers
    """Failed requests per block."""
    first_sent_ns: Integers
    last_sent_ns: Integers
    doubled: bool
    """Whether the rows of some block stand in the table more than once."""

    @property
    def succeeded(self) -> Integers:
        """Successful requests per block."""
        return np.diff(self.offsets)

    def percentile(self, q: float) -> Floats:
        """The nearest-rank percentile of each block in seconds; NaN where no request succeeded."""
        counts = self.succeeded
        ranks = np.maximum(np.ceil(q * counts - 1e-9).astype(np.int64), 1) - 1
        return self._at(ranks, counts)

    def mean(self) -> Floats:
        """The mean latency of each block in seconds; NaN where no request succeeded."""
        counts = self.succeeded
        sums = np.concatenate(([0.0], np.cumsum(self.latencies)))
        totals = sums[self.offsets[1:]] - sums[self.offsets[:-1]]
        return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)

    def goodput(self) -> Floats:
        """Successful requests per second of each block; NaN where the block has no duration.

        The duration is the time from the first to the last sending, stretched by n/(n-1): the
        schedule's own length in an open loop, the true throughput in a closed one.
        """
        gaps = self.requests - 1
        seconds = (self.last_sent_ns - self.first_sent_ns) * 1e-9
        measurable = (gaps > 0) & (seconds > 0)
        rates = self.succeeded / self.requests * gaps / np.where(measurable, seconds, 1.0)
        return np.where(measurable, rates, np.nan)

    def keep(self, wanted: npt.NDArray[np.bool_]) -> ArmBlocks:
        """Only the blocks marked in `wanted`, one mark a block."""
        rows = np.repeat(wanted, self.succeeded)
        return replace(
            self,
            numbers=self.numbers[wanted],
            latencies=self.latencies[rows],
            offsets=np.concatenate(([0], np.cumsum(self.succeeded[wanted]))),
            requests=self.requests[wanted],
            failures=self.failures[wanted],
            first_sent_ns=self.first_sent_ns[wanted],
            last_sent_ns=self.last_sent_ns[wanted],
        )

    def _at(self, ranks: Integers, counts: Integers) -> Floats:
        if not self.latencies.size:
            return np.full(counts.shape, np.nan)
        places = np.minimum(self.offsets[:-1] + ranks, self.latencies.size - 1)
        return np.where(counts > 0, self.latencies[places], np.nan)


@dataclass(frozen=True)
class Pairs:
    """The blocks both arms have in full, aligned."""

    candidate: ArmBlocks
    baseline: ArmBlocks
    void: int
    """Blocks that were left out because an arm lacks them or has too few requests in them."""

    @property
    def count(self) -> int:
        """Number of pairs."""
        return int(self.candidate.numbers.size)


def read_arms(table: pa.Table) -> dict[str, ArmBlocks]:
    """Groups the rows of a results table by arm and block; warm-up (block -1) is left out.

    Returns:
        The arms that have rows, keyed `candidate` and `baseline`.

    Raises:
        ResultsTableError: A column is missing, has nulls, a wrong type, an unknown arm or a
            negative latency.
    """
    columns = {name: _column(table, name) for name in COLUMNS}
    codes = _arm_codes(columns["arm"])
    blocks = _numbers(columns["block"], "block", np.int64)
    latencies_ns = _numbers(columns["latency_ns"], "latency_ns", np.int64)
    sent_ns = _numbers(columns["sent_at_ns"], "sent_at_ns", np.int64)
    ok = _booleans(columns["ok"])
    if latencies_ns.size and latencies_ns.min() < 0:
        raise ResultsTableError(
            "latency_ns", int(latencies_ns.min()), "a latency cannot be negative; mend the clock of the tool"
        )
    arms = {}
    for code, arm in enumerate(ARMS):
        rows = (codes == code) & (blocks >= 0)
        if rows.any():
            arms[arm] = _grouped(blocks[rows], latencies_ns[rows], sent_ns[rows], ok[rows])
    return arms


def planned_requests(
    numbers: Integers, requests_per_block: float, requests_of_blocks: Sequence[float] = ()
) -> Floats:
    """Planned requests of the blocks `numbers`: the same for all, or passes of a rate that varies."""
    if not requests_of_blocks:
        return np.full(numbers.size, float(requests_per_block))
    planned: Floats = np.asarray(requests_of_blocks, dtype=np.float64)[numbers % len(requests_of_blocks)]
    return planned


def pair(
    candidate: ArmBlocks,
    baseline: ArmBlocks,
    requests_per_block: float,
    requests_of_blocks: Sequence[float] = (),
) -> Pairs:
    """Aligns the blocks of both arms and leaves out those that cannot be compared.

    A pair counts when both blocks have 95 % of the planned requests, or all but two of them, as the
    edges of a block may cost; without a plan, half of their arm's usual number.
    """
    common = np.intersect1d(candidate.numbers, baseline.numbers, assume_unique=True)
    everything = np.union1d(candidate.numbers, baseline.numbers).size
    arms = [arm.keep(np.isin(arm.numbers, common)) for arm in (candidate, baseline)]
    complete = np.ones(common.size, dtype=bool)
    planned = planned_requests(common, requests_per_block, requests_of_blocks)
    for arm in arms:
        least = np.minimum(0.95 * planned, planned - 2) if requests_per_block else 0.5 * _median(arm.requests)
        complete &= arm.requests >= least
    return Pairs(
        candidate=arms[0].keep(complete),
        baseline=arms[1].keep(complete),
        void=int(everything - complete.sum()),
    )


def overlapping(arm: ArmBlocks) -> bool:
    """Whether more than a tenth of the blocks overlap their successor in time.

    So it is when several runs were written into one table: each number then spans all of them.
    """
    if arm.numbers.size < 2:
        return False
    spans = arm.last_sent_ns - arm.first_sent_ns
    slack = 0.5 * np.median(np.diff(arm.first_sent_ns))
    overlaps = arm.last_sent_ns[:-1] - arm.first_sent_ns[1:] > max(slack, 0)
    return bool(overlaps.mean() > 0.1 and spans.max() > 0)


def apart(candidate: ArmBlocks, baseline: ArmBlocks) -> bool:
    """Whether the blocks of a pair lie further apart in time than two neighbouring pairs do.

    Then the two arms were not loaded under the same noise, whatever their blocks are numbered.
    """
    common = np.intersect1d(candidate.numbers, baseline.numbers, assume_unique=True)
    starts = [arm.first_sent_ns[np.isin(arm.numbers, common)] for arm in (candidate, baseline)]
    if common.size < 2:
        return False
    step = max(float(np.median(np.abs(np.diff(start)))) for start in starts)
    return bool(np.median(np.abs(starts[0] - starts[1])) > 2 * step > 0)


def of_two_loads(candidate: ArmBlocks, baseline: ArmBlocks) -> bool:
    """Whether the same blocks of both arms hold distinctly more requests than their others.

    So it is when runs of different rates or block lengths were joined. A closed loop that stalls
    looks so in one arm, or without a gap between the many and the few.
    """
    common = np.intersect1d(candidate.numbers, baseline.numbers, assume_unique=True)
    if common.size < 5:
        return False
    larger = []
    for arm in (candidate, baseline):
        requests = arm.requests[np.isin(arm.numbers, common)]
        ordered = np.sort(requests)
        fifth = max(1, common.size // 5)
        growth = ordered[fifth : common.size - fifth + 1] / ordered[fifth - 1 : common.size - fifth]
        widest = int(growth.argmax())
        if growth[widest] < 1.3:
            return False
        larger.append(requests >= ordered[fifth + widest])
    return bool((larger[0] == larger[1]).mean() > 0.9)


def _grouped(
    blocks: Integers, latencies_ns: Integers, sent_ns: Integers, ok: npt.NDArray[np.bool_]
) -> ArmBlocks:
    numbers, places, requests = _numbered(blocks)
    capped = np.minimum(latencies_ns[ok], (1 << LATENCY_BITS) - 1)
    ordered = np.sort((places[ok] << LATENCY_BITS) | capped)
    succeeded = np.bincount(places[ok], minlength=numbers.size)
    first = np.full(numbers.size, np.iinfo(np.int64).max)
    last = np.full(numbers.size, np.iinfo(np.int64).min)
    np.minimum.at(first, places, sent_ns)
    np.maximum.at(last, places, sent_ns)
    return ArmBlocks(
        numbers=numbers,
        latencies=np.maximum(ordered & ((1 << LATENCY_BITS) - 1), 1) * 1e-9,
        offsets=np.concatenate(([0], np.cumsum(succeeded))),
        requests=requests.astype(np.int64),
        failures=(requests - succeeded).astype(np.int64),
        first_sent_ns=first,
        last_sent_ns=last,
        doubled=_doubled(places, latencies_ns, sent_ns, int(requests.min())),
    )


def _numbered(blocks: Integers) -> tuple[Integers, Integers, Integers]:
    """The blocks' numbers, the place among them of each row, and the rows of each, as `np.unique` tells them.

    Counting takes a tenth of the time of sorting, which millions of rows feel; numbers that are far
    apart would cost memory instead.
    """
    if int(blocks.max()) > blocks.size + _LEAST_TO_COMPARE:
        numbers, places, requests = np.unique(blocks, return_inverse=True, return_counts=True)
        return numbers, places.astype(np.int64), requests
    counts = np.bincount(blocks)
    numbers = np.flatnonzero(counts)
    place_of_number = np.cumsum(counts > 0) - 1
    return numbers, place_of_number[blocks], counts[numbers]


def _doubled(places: Integers, latencies_ns: Integers, sent_ns: Integers, smallest: int) -> bool:
    """Whether most rows have a copy, or every row of some block has.

    The times alone tell copies apart cheaply. A coarse clock repeats itself too, but neither half of
    all rows nor each row of a block equally often.
    """
    if places.size < _LEAST_TO_COMPARE:
        return False
    marks = sent_ns * 31 + latencies_ns * 17 + places
    ordered = np.sort(marks)
    copied = ordered[1:] == ordered[:-1]
    # A block that is there twice has at least half of its rows as copies; among millions of rows a few
    # are alike by chance.
    if copied.sum() < smallest / 2:
        return False
    if copied.mean() > 0.45:
        return True
    _, first, copies = np.unique(marks, return_index=True, return_counts=True)
    of_block = np.argsort(places[first], kind="stable")
    block_starts = np.flatnonzero(np.diff(places[first][of_block], prepend=-1))
    distinct = np.diff(np.concatenate((block_starts, [first.size])))
    often = np.gcd.reduceat(copies[of_block], block_starts)
    return bool(((often > 1) & (distinct >= _LEAST_TO_COMPARE)).any())


def _column(table: pa.Table, name: str) -> pa.Array[Any]:
    if name not in table.column_names:
        raise ResultsTableError(
            name, table.column_names, f"the results table needs the columns {', '.join(COLUMNS)}"
        )
    column = table.column(name)
    if column.null_count:
        raise ResultsTableError(name, None, f"{column.null_count} rows have no value here; leave them out")
    array = column.combine_chunks()
    return array if isinstance(array, pa.Array) else array.chunk(0)


def _arm_codes(column: pa.Array[Any]) -> npt.NDArray[np.int8]:
    encoded: Any = column if pa.types.is_dictionary(column.type) else pc.dictionary_encode(column)
    names = encoded.dictionary.to_pylist()
    used = encoded.indices.to_numpy(zero_copy_only=False)
    codes = np.array([ARMS.index(name) if name in ARMS else -1 for name in names] or [-1], dtype=np.int8)
    result: npt.NDArray[np.int8] = codes[used]
    if result.size and result.min() < 0:
        raise ResultsTableError(
            "arm", [name for name in names if name not in ARMS], f"name the arms {' and '.join(ARMS)}"
        )
    return result


def _numbers(column: pa.Array[Any], name: str, kind: Any) -> Integers:
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "iuf":
        raise ResultsTableError(name, str(column.type), "the column must hold whole numbers")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ResultsTableError(name, "NaN or infinity", "the column must hold whole numbers")
    converted: Integers = values.astype(kind, copy=False)
    return converted


def _booleans(column: pa.Array[Any]) -> npt.NDArray[np.bool_]:
    if not pa.types.is_boolean(column.type):
        raise ResultsTableError("ok", str(column.type), "the column must hold true or false")
    values: npt.NDArray[np.bool_] = column.to_numpy(zero_copy_only=False)
    return values


def _median(values: Integers) -> float:
    return float(np.median(values)) if values.size else 0.0
