"""Requests of vegeta collected from a stream of whatever encoding, and what its sequence numbers tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
import numpy as np

from model_load_test.components.results.checks import Check
from model_load_test.components.results.columns import Bools, Int32s, Int64s
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.json_documents import Count
from model_load_test.components.results.phantoms import NO_TARGETS, phantom_check
from model_load_test.components.results.report import Kind, Report
from model_load_test.components.results.rows import MAX_LATENCY_NS, RowCollector
from model_load_test.components.results.timestamps import NoTimestamp, unix_ns

HIGHEST_CODE = 999
"""An HTTP status has three digits."""
LineOf = Callable[[int], int]
"""The line of the i-th record of a chunk, for an error."""

_Code = Annotated[int, msgspec.Meta(ge=0, le=HIGHEST_CODE)]


class Record(msgspec.Struct, gc=False):
    """A request as every version since 12.8.0 writes it; all keys are there."""

    attack: str
    seq: Count
    code: _Code
    timestamp: str
    latency: Count
    bytes_out: Count
    bytes_in: Count
    error: str
    body: msgspec.Raw
    method: msgspec.Raw
    url: msgspec.Raw
    headers: msgspec.Raw


class OldRecord(msgspec.Struct, gc=False):
    """A request of an older version, or passed through another program."""

    seq: Count
    code: _Code
    timestamp: str
    latency: Count
    attack: str = ""
    bytes_out: Count = 0
    bytes_in: Count = 0
    error: str | None = None


class _Attacks:
    """The sequence numbers of each attack: they tell whether a stream is complete."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._of_record: list[Int32s] = []
        self._sequence: list[Int64s] = []

    def add(self, names: list[str], sequence: Int64s) -> None:
        distinct = set(names)
        for name in distinct:
            self._names.setdefault(name, len(self._names))
        self._of_record.append(
            np.full(len(names), self._names[names[0]], dtype=np.int32)
            if len(distinct) == 1
            else np.fromiter(map(self._names.__getitem__, names), np.int32, len(names))
        )
        self._sequence.append(sequence)

    def checks(self) -> tuple[Check, ...]:
        if not self._sequence:
            return ()
        of_record, sequence = np.concatenate(self._of_record), np.concatenate(self._sequence)
        missing = repeated = 0
        for attack in range(len(self._names)):
            own = sequence[of_record == attack] if len(self._names) > 1 else sequence
            distinct = _distinct(own)
            missing += int(own.max()) + 1 - distinct
            repeated += len(own) - distinct
        return (*_missing(missing, len(sequence)), *_repeated(repeated))


def _distinct(sequence: Int64s) -> int:
    ordered = np.sort(sequence)
    return 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def _missing(missing: int, count: int) -> tuple[Check, ...]:
    if not missing:
        return ()
    detail = (
        f"{missing} of {count + missing} requests are missing from the stream: its sequence numbers have "
        "gaps. Copy the whole file, or repeat the run"
    )
    numbers = {"missing": float(missing), "requests": float(count)}
    return (Check(code="incomplete", detail=detail, consequence="INVALID", numbers=numbers),)


def _repeated(repeated: int) -> tuple[Check, ...]:
    if not repeated:
        return ()
    detail = (
        f"{repeated} sequence numbers of an attack occur twice: the same worker was given twice, or several "
        "workers have one name. Name each worker with vegeta attack -name"
    )
    return (
        Check(
            code="duplicate-worker",
            detail=detail,
            consequence="INVALID",
            numbers={"repeated": float(repeated)},
        ),
    )


class Stream:
    """Collects the records of one stream, of whatever encoding."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._collector = RowCollector()
        self._attacks = _Attacks()
        self._phantoms = 0

    def add(self, line_of: LineOf, records: Sequence[Record | OldRecord]) -> None:
        """Adds records; `line_of` tells the line of the i-th one."""
        count = len(records)
        if not count:
            return
        self.add_sequence(
            [record.attack for record in records],
            np.fromiter([record.seq for record in records], np.int64, count),
        )
        try:
            sent_at_ns = unix_ns([record.timestamp for record in records])
        except NoTimestamp as error:
            raise ResultsError(
                self._file,
                f"line {line_of(error.index)}, timestamp",
                Description("no time of the years 1970 to 2261 with a zone"),
                "give the stream as vegeta wrote it",
                "out-of-range",
            ) from None
        self.add_columns(
            line_of,
            sent_at_ns,
            np.fromiter([record.latency for record in records], np.int64, count),
            np.fromiter([record.code for record in records], np.int64, count),
            [record.error or "" for record in records],
            np.fromiter([record.bytes_out for record in records], np.int64, count),
            np.fromiter([record.bytes_in for record in records], np.int64, count),
        )

    def add_sequence(self, attack: list[str], sequence: Int64s) -> None:
        """Notes which requests of which attack were seen."""
        self._attacks.add(attack, sequence)

    def add_columns(
        self,
        line_of: LineOf,
        sent_at_ns: Int64s,
        latency_ns: Int64s,
        code: Int64s,
        error: list[str],
        request_bytes: Int64s,
        response_bytes: Int64s,
    ) -> None:
        """Adds requests as columns; those never sent are counted and left out.

        Raises:
            ResultsError: A number is out of range.
        """
        if int(latency_ns.max()) > MAX_LATENCY_NS:
            index = int(latency_ns.argmax())
            raise ResultsError(
                self._file,
                f"line {line_of(index)}, latency",
                int(latency_ns[index]),
                f"latencies are nanoseconds up to {MAX_LATENCY_NS}",
                "out-of-range",
            )
        if int(sent_at_ns.min()) < 0:
            index = int(sent_at_ns.argmin())
            raise ResultsError(
                self._file,
                f"line {line_of(index)}, timestamp",
                int(sent_at_ns[index]),
                "times lie after 1970",
                "out-of-range",
            )
        ok = (code >= 200) & (code < 400)
        kept: slice | Bools = slice(None)
        if any(error):
            ok &= ~np.fromiter(map(bool, error), np.bool_, len(error))
            if NO_TARGETS in error:
                kept = np.fromiter((text != NO_TARGETS for text in error), np.bool_, len(error))
                self._phantoms += len(error) - int(np.count_nonzero(kept))
                error = [text for text in error if text != NO_TARGETS]
        self._collector.add(
            sent_at_ns[kept],
            latency_ns[kept],
            ok[kept],
            _as_texts(code[kept]),
            error,
            request_bytes[kept],
            response_bytes[kept],
        )

    def report(self, worker: int, kind: Kind, checks: tuple[Check, ...] = ()) -> Report:
        """Everything collected."""
        rows = self._collector.table(worker)
        return Report(
            tool="vegeta",
            tool_version="",
            rows=rows,
            checks=(*checks, *self._attacks.checks(), *phantom_check(self._phantoms)),
            kind=kind,
        )


def _as_texts(codes: Int64s) -> list[str]:
    first = int(codes[0]) if len(codes) else 0
    if bool((codes == first).all()):
        return [str(first)] * len(codes)
    return [str(code) for code in codes.tolist()]
