"""Requests collected chunk by chunk into the results table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from model_load_test.components.results import columns
from model_load_test.components.results.columns import Bools, Int32s, Int64s
from model_load_test.components.results.error_text import normalise
from model_load_test.components.results.table import ROWS_SCHEMA

MAX_LATENCY_NS: Final = 30 * 24 * 3600 * 10**9
"""Longer than any request: a number above it is damage."""
MOST_STATUSES: Final = 1_000
MOST_ERRORS: Final = 1_000
OTHER_ERRORS: Final = "<other errors>"
_MOST_REMEMBERED: Final = 10_000


class TooManyStatuses(ValueError):
    """More distinct status texts than any protocol has."""


class RowCollector:
    """Takes requests in chunks and keeps them as columns; texts are kept once."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = tuple(secrets)
        self._sent_at_ns: list[Int64s] = []
        self._latency_ns: list[Int64s] = []
        self._ok: list[Bools] = []
        self._status: list[npt.NDArray[np.int16]] = []
        self._error: list[Int32s] = []
        self._request_bytes: list[Int64s] = []
        self._response_bytes: list[Int64s] = []
        self._statuses: dict[str, int] = {}
        self._errors: dict[str, int] = {"": 0}
        self._seen_errors: dict[str, int] = {"": 0}

    def add(
        self,
        sent_at_ns: Int64s,
        latency_ns: Int64s,
        ok: Bools,
        status: Sequence[str],
        error: Sequence[str],
        request_bytes: Int64s | None = None,
        response_bytes: Int64s | None = None,
    ) -> None:
        """Adds one chunk; every sequence has one entry a request.

        Raises:
            TooManyStatuses: The statuses are not statuses.
        """
        self._sent_at_ns.append(sent_at_ns)
        self._latency_ns.append(latency_ns)
        self._ok.append(ok)
        self._status.append(self._status_indices(status))
        self._error.append(self._error_indices(error))
        if request_bytes is not None and response_bytes is not None:
            self._request_bytes.append(request_bytes)
            self._response_bytes.append(response_bytes)

    def table(self, worker: int) -> pa.Table:
        """All requests so far in the shape of `ROWS_SCHEMA`."""
        sent_at_ns = _joined(self._sent_at_ns, np.int64)
        count = len(sent_at_ns)
        of_column = {
            "worker": columns.integers(np.full(count, worker, dtype=np.int16), pa.int16()),
            "sent_at_ns": columns.integers(sent_at_ns, pa.int64()),
            "scheduled_at_ns": pa.nulls(count, pa.int64()),
            "latency_ns": columns.integers(_joined(self._latency_ns, np.int64), pa.int64()),
            "ok": columns.booleans(_joined(self._ok, np.bool_)),
            "status": columns.dictionary(_joined(self._status, np.int16), list(self._statuses), pa.int16()),
            "error": columns.dictionary(_joined(self._error, np.int32), list(self._errors), pa.int32()),
            "request_bytes": _bytes_column(self._request_bytes, count),
            "response_bytes": _bytes_column(self._response_bytes, count),
        }
        return pa.Table.from_arrays([of_column[name] for name in ROWS_SCHEMA.names], schema=ROWS_SCHEMA)

    def _status_indices(self, texts: Sequence[str]) -> npt.NDArray[np.int16]:
        distinct = set(texts)
        for text in distinct:
            self._statuses.setdefault(text, len(self._statuses))
        if len(self._statuses) > MOST_STATUSES:
            raise TooManyStatuses
        if len(distinct) == 1:
            return np.full(len(texts), self._statuses[texts[0]], dtype=np.int16)
        return np.fromiter(map(self._statuses.__getitem__, texts), np.int16, len(texts))

    def _error_indices(self, texts: Sequence[str]) -> Int32s:
        if not any(texts):
            return np.zeros(len(texts), dtype=np.int32)
        if len(self._seen_errors) > _MOST_REMEMBERED:
            self._seen_errors = {"": 0}
        for text in set(texts):
            if text not in self._seen_errors:
                self._seen_errors[text] = self._error_index(normalise(text, self._secrets))
        return np.fromiter(map(self._seen_errors.__getitem__, texts), np.int32, len(texts))

    def _error_index(self, text: str) -> int:
        if len(self._errors) >= MOST_ERRORS and text not in self._errors:
            text = OTHER_ERRORS
        return self._errors.setdefault(text, len(self._errors))


def no_rows() -> pa.Table:
    """A table of no requests; unlike `Schema.empty_table` without importing pandas."""
    return RowCollector().table(0)


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _bytes_column(parts: Sequence[Int64s], count: int) -> pa.Array[Any]:
    return columns.integers(_joined(parts, np.int64), pa.int64()) if parts else pa.nulls(count, pa.int64())
