"""RFC 3339 timestamps to nanoseconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from model_load_test.components.results import columns


class NoTimestamp(ValueError):
    """A text is no timestamp with a zone, or lies outside the years 1678 to 2261."""

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"no timestamp at {index}")


def unix_ns(texts: Sequence[str]) -> columns.Int64s:
    """Nanoseconds since 1970 of many timestamps at once.

    Raises:
        NoTimestamp: With the index of the first text that is none.
    """
    try:
        return _unix_ns(texts)
    except pa.ArrowException:
        raise NoTimestamp(_first_bad(texts)) from None


def _unix_ns(texts: Sequence[str]) -> columns.Int64s:
    joined = "".join(texts)
    if not joined.isascii():
        raise pa.ArrowInvalid("not a timestamp")
    offsets = np.zeros(len(texts) + 1, dtype=np.int32)
    np.cumsum(np.fromiter(map(len, texts), np.int32, len(texts)), out=offsets[1:])
    array = pa.Array.from_buffers(
        pa.string(), len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(joined.encode())]
    )
    parsed = array.cast(pa.timestamp("ns", "UTC"))
    return np.frombuffer(parsed.buffers()[1], np.int64, len(texts))


def _first_bad(texts: Sequence[str]) -> int:
    for index, text in enumerate(texts):
        try:
            _unix_ns([text])
        except pa.ArrowException:
            return index
    return 0
