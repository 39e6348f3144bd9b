"""A latency histogram for artifacts too large for rows: small, mergeable, with a stated error.

Log-linear as HdrHistogram: powers of two, each cut into 2^7 equal buckets. Values below 2^8 ns have
a bucket each. The middle of a bucket stands for its values, so a value read from the histogram is
off by at most 1/256 (0.4 %); the distance of two values in one bucket is at most 1/128 (0.8 %).
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from model_load_test.components.results.columns import Int64s
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.percentile import nearest_rank

SUB_BITS: Final = 7
RELATIVE_ERROR: Final = 1 / (1 << SUB_BITS)
"""Two latencies in one bucket differ by no more than this share."""
_SUB: Final = 1 << SUB_BITS
_LINEAR: Final = _SUB << 1
BUCKETS: Final = _LINEAR + (62 - SUB_BITS) * _SUB
"""Enough for latencies up to 2^63 ns."""
_CHUNK: Final = 1 << 18


class Histogram(msgspec.Struct, frozen=True):
    """Counts of latencies; add two with `+`."""

    counts: dict[int, int]
    """Bucket to number of latencies; buckets without any are left out."""
    total_ns: int
    """Sum of all latencies, exact: the mean has no bucket error."""
    min_ns: int
    """The fastest, exact; 0 when empty."""
    max_ns: int
    """The slowest, exact; 0 when empty."""
    sub_bits: int = SUB_BITS

    @property
    def count(self) -> int:
        """Number of latencies."""
        return sum(self.counts.values())

    def __add__(self, other: Histogram) -> Histogram:
        """The histogram of both: as if their latencies had been pooled."""
        counts = dict(self.counts)
        for bucket, count in other.counts.items():
            counts[bucket] = counts.get(bucket, 0) + count
        filled = [part for part in (self, other) if part.counts]
        return Histogram(
            counts=dict(sorted(counts.items())),
            total_ns=self.total_ns + other.total_ns,
            min_ns=min((part.min_ns for part in filled), default=0),
            max_ns=max((part.max_ns for part in filled), default=0),
        )

    def mean(self) -> float:
        """The exact mean in nanoseconds.

        Raises:
            ValueError: The histogram is empty.
        """
        if not self.counts:
            raise ValueError("no mean of no values")
        return self.total_ns / self.count

    def percentile(self, q: float) -> int:
        """The nearest-rank percentile within `RELATIVE_ERROR`, never outside min and max.

        Raises:
            ValueError: The histogram is empty, or q is out of range.
        """
        if not self.counts:
            raise ValueError("no percentile of no values")
        rank, seen = nearest_rank(self.count, q), 0
        for bucket, count in sorted(self.counts.items()):
            seen += count
            if seen >= rank:
                low, width = bucket_bounds(bucket)
                return min(self.max_ns, max(self.min_ns, low + (width - 1) // 2))
        raise AssertionError("ranks end at the count")


def histogram(latency_ns: Int64s) -> Histogram:
    """The histogram of latencies in nanoseconds, none negative."""
    if not len(latency_ns):
        return Histogram({}, 0, 0, 0)
    smallest, largest = int(latency_ns.min()), int(latency_ns.max())
    if smallest < 0:
        raise ResultsError("latencies", "", smallest, "latencies are not negative", "out-of-range")
    counts = np.zeros(BUCKETS, dtype=np.int64)
    total = 0
    for start in range(0, len(latency_ns), _CHUNK):
        part = latency_ns[start : start + _CHUNK]
        counts += np.bincount(_buckets(part), minlength=BUCKETS)
        # 2^18 latencies of up to 2^44 ns (five hours) fit into 62 bits; larger ones are added one by one
        total += int(part.sum()) if largest < 1 << 44 else sum(part.tolist())
    filled = np.flatnonzero(counts)
    return Histogram(
        counts=dict(zip(filled.tolist(), counts[filled].tolist(), strict=True)),
        total_ns=total,
        min_ns=smallest,
        max_ns=largest,
    )


def parse_histogram(values: object) -> Histogram:
    """A histogram from JSON values, as an artifact holds it.

    Raises:
        ResultsError: It is damaged or has other buckets.
    """
    try:
        read = msgspec.convert(values, Histogram, strict=False)
    except msgspec.ValidationError as error:
        raise ResultsError("histogram", "", Description(str(error)), "write it anew", "wrong-type") from None
    sound = (
        read.sub_bits == SUB_BITS
        and all(0 <= bucket < BUCKETS and count > 0 for bucket, count in read.counts.items())
        and 0 <= read.min_ns <= read.max_ns
        and read.total_ns >= 0
    )
    if not sound:
        raise ResultsError(
            "histogram", "", Description("impossible buckets or sums"), "write it anew", "out-of-range"
        )
    return read


def bucket_bounds(bucket: int) -> tuple[int, int]:
    """The smallest value of a bucket and the number of values in it."""
    if bucket < _LINEAR:
        return bucket, 1
    exponent, offset = divmod(bucket - _LINEAR, _SUB)
    return (_SUB + offset) << (exponent + 1), 1 << (exponent + 1)


def _buckets(latency_ns: Int64s) -> npt.NDArray[np.intp]:
    # a double rounds an integer above 2^53 up to a power of two at most: the bucket is the same one
    exponent = np.clip(np.frexp(latency_ns.astype(np.float64))[1].astype(np.int64) - 1, 0, 62)
    shift = np.maximum(exponent - SUB_BITS, 0)
    within = latency_ns >> shift
    return np.where(shift > 0, within + shift * _SUB, within)
