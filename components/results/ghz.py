"""ghz's JSON report, of version 0.55 to 0.120.

ghz stamps the END of a request; the table wants the start. Its mean covers failed requests, its
percentiles do not (unless `--count-errors`), and requests that ghz itself cuts off when its
duration is over appear as server errors. So everything is computed from `details`, and the
report's own figures are kept for the cross-check.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from model_load_test.components.results.checks import Check
from model_load_test.components.results.columns import Int64s
from model_load_test.components.results.cross_check import cross_check
from model_load_test.components.results.cut_off import cut_off_of_summary, split_cut_off
from model_load_test.components.results.error_text import REDACTED, normalise, secrets_in
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.ghz_requests import LONGEST_STATUS, collect_requests
from model_load_test.components.results.json_documents import (
    Count,
    Number,
    decode,
    refuse_duplicate_keys,
)
from model_load_test.components.results.places import Text, constant_everywhere, numbers_at, timestamps_at
from model_load_test.components.results.report import Report, ToolSummary
from model_load_test.components.results.rows import (
    MAX_LATENCY_NS,
    MOST_ERRORS,
    MOST_STATUSES,
    OTHER_ERRORS,
    RowCollector,
)
from model_load_test.components.results.source import Source
from model_load_test.components.results.timestamps import NoTimestamp, unix_ns

MOST_DETAILS: Final = 1_000_000
"""ghz keeps the details of so many requests and goes on counting (`maxResult`)."""

_CHUNK_BYTES: Final = 1 << 20
# In valid JSON only between two objects: a quote followed by a letter opens a key.
_BETWEEN_DETAILS: Final = re.compile(rb'\}\s*,\s*\{\s*"[A-Za-z]')
_QUOTES_OF_A_DETAIL: Final = 14
_DETAILS_KEY: Final = b'"details":'
# What ghz writes around the two values of a request that succeeded, a comma between requests.
_OK_START: Final = b'{"timestamp":"'
_OK_MIDDLE: Final = b'","latency":'
_OK_END: Final = b',"error":"","status":"OK"}'
_LONGEST_OPTION: Final = 200
END_REASONS: Final = ("normal", "timeout", "cancel")
_OPTIONS_WITH_TEXT: Final = frozenset({"call", "load-schedule", "concurrency-schedule", "duration-stop"})
_SECRET_OPTIONS: Final = ("metadata", "data", "binary-data", "metadata-provider")


class _Detail(msgspec.Struct, gc=False):
    timestamp: str
    latency: Count
    error: str
    status: str


class _LatencyPoint(msgspec.Struct):
    percentage: Annotated[float, msgspec.Meta(ge=0, le=100)]
    latency: Count


class _Bucket(msgspec.Struct):
    mark: Number
    count: Count
    frequency: Number


class _GhzReport(msgspec.Struct):
    count: Count
    total: Number
    average: Number
    fastest: Number = 0
    slowest: Number = 0
    date: str = ""
    endReason: str = ""  # ghz's spelling
    options: dict[str, Any] | None = None
    rps: Number | None = None
    qps: Number | None = None
    """How 0.55 spelled `rps`."""
    errorDistribution: dict[str, Count] | None = None
    statusCodeDistribution: dict[str, Count] | None = None
    latencyDistribution: list[_LatencyPoint] | None = None
    histogram: list[_Bucket] | None = None
    details: msgspec.Raw = msgspec.Raw(b"")


def is_ghz(keys: set[str]) -> bool:
    """Whether a JSON object with these keys is a ghz report."""
    return {"count", "total", "average"} <= keys and not keys.isdisjoint({"rps", "qps"})


def read_ghz_json(source: Source, worker: int) -> Report:
    """Reads a ghz JSON report.

    Raises:
        ResultsError: The report is damaged.
    """
    text = source.document()
    report, details = _apart(source.name, text)
    options = report.options or {}
    secrets = _secrets(options)
    collector = RowCollector(secrets)
    has_details = bytes(details[:4]) not in (b"", b"null")
    if has_details:
        _collect(source.name, text, details, collector)
    stated = _stated(source.name, report, secrets)
    rows = collector.table(worker)
    complete = _completeness(report.count, rows.num_rows) if has_details else ()
    differing = cross_check(stated, rows) if has_details and not complete else ()
    cut = (
        split_cut_off(rows, report.endReason, options)
        if has_details
        else cut_off_of_summary(stated, report.endReason, options)
    )
    return Report(
        tool="ghz",
        tool_version="",
        rows=cut.rows,
        cut_off=cut.count,
        checks=(*complete, *cut.checks, *differing, *_skipped(options)),
        stated=stated,
        options=_redacted(options, report.endReason),
        kind="ghz JSON",
        has_rows=has_details or report.count == 0,
    )


def _apart(file: str, text: bytes | mmap.mmap) -> tuple[_GhzReport, memoryview]:
    """The report without its details, checked for keys given twice, and the details as text."""
    start, end = _details_as_written(text)
    if start == end:
        start, end = _span(text, memoryview(decode(file, text, _GhzReport).details))
    around = b"".join((text[:start], b"null" if end > start else b"", text[end:]))
    refuse_duplicate_keys(file, around)
    return decode(file, around, _GhzReport), memoryview(text)[start:end]


def _details_as_written(text: bytes | mmap.mmap) -> tuple[int, int]:
    """Where the details stand if they are the last list, as ghz writes them; else an empty span.

    That saves a pass over them. Nothing is taken for granted: what stands around must be a report
    whose only `details` these are, and they are decoded as a list of details next.
    """
    start = text.find(_DETAILS_KEY) + len(_DETAILS_KEY)
    if start < len(_DETAILS_KEY):
        return 0, 0
    end = text.rfind(b"]") + 1
    if text[start : start + 1] != b"[" or text[end:].strip() != b"}" or text[:start].count(b'"details"') != 1:
        return 0, 0
    try:
        around = msgspec.json.decode(b"".join((text[:start], b"null", text[end:])), type=_GhzReport)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0, 0
    return (start, end) if bytes(memoryview(around.details)) == b"null" else (0, 0)


def _span(text: bytes | mmap.mmap, part: memoryview) -> tuple[int, int]:
    """Where a part that msgspec cut out of a text stands in it; an empty span if it is a default."""
    start = _address(part) - _address(memoryview(text)) if len(part) else -1
    return (start, start + len(part)) if 0 <= start < len(text) else (len(text), len(text))


def _address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).__array_interface__["data"][0])


def _collect(file: str, text: bytes | mmap.mmap, details: memoryview, collector: RowCollector) -> None:
    if bytes(details[:1]) != b"[":
        raise ResultsError(
            file, "details", Description("not a list"), "give the report as ghz wrote it", "wrong-type"
        )
    decoder = msgspec.json.Decoder(list[_Detail])
    first = 0
    for chunk in _chunks(text, details):
        columns = _all_ok(Text(chunk))
        if columns is None:
            columns = _decoded(file, first, _decode_chunk(file, text, details, decoder, chunk))
        first += _add(file, first, columns, collector)


def _decode_chunk(
    file: str,
    text: bytes | mmap.mmap,
    details: memoryview,
    decoder: msgspec.json.Decoder[list[_Detail]],
    chunk: memoryview,
) -> list[_Detail]:
    as_list = b"".join((b"[", chunk, b"]"))
    try:
        read = decoder.decode(as_list)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # once more as a whole: that names the place in the report
        decode(file, text, _GhzReport)
        decode(file, details, list[_Detail], "details")
        raise ResultsError(
            file, "details", Description("unknown structure"), "give the report as ghz wrote it", "malformed"
        ) from None
    if not _has_no_key_twice(as_list, len(read)):
        refuse_duplicate_keys(file, as_list)
    return read


@dataclass(frozen=True)
class _Columns:
    """Requests of a chunk; without texts they are all OK."""

    ended_at_ns: Int64s
    latency_ns: Int64s
    status: list[str] = field(default_factory=list)
    error: list[str] = field(default_factory=list)


def _all_ok(text: Text) -> _Columns | None:
    """A chunk whose requests all succeeded, written as ghz does; None if anything is otherwise."""
    starts = text.places_of(b"{")
    if not len(starts) or starts[0] or not constant_everywhere(text, starts, _OK_START):
        return None
    timestamps = timestamps_at(text, starts + len(_OK_START))
    middles = starts + len(_OK_START) + timestamps.lengths
    if not (timestamps.sound.all() and constant_everywhere(text, middles, _OK_MIDDLE)):
        return None
    latencies = numbers_at(text, middles + len(_OK_MIDDLE))
    tails = middles + len(_OK_MIDDLE) + latencies.lengths
    if not (latencies.sound.all() and constant_everywhere(text, tails, _OK_END)):
        return None
    ends = tails + len(_OK_END)
    if ends[-1] != text.length or not (ends[:-1] + 1 == starts[1:]).all():
        return None
    if not (text.characters[ends[:-1]] == ord(",")).all():
        return None
    return _Columns(timestamps.values, latencies.values)


def _chunks(text: bytes | mmap.mmap, details: memoryview) -> Iterator[memoryview]:
    """The list of details in parts, without the brackets, so that it never stands in memory as objects."""
    offset, _ = _span(text, details)
    start, end = 1, len(details) - 1
    while start < end:
        between = _BETWEEN_DETAILS.search(details, min(start + _CHUNK_BYTES, end), end)
        stop = between.start() + 1 if between else end
        yield details[start:stop]
        _release(text, offset + start, offset + stop)
        start = between.start() + between.group().index(b"{") if between else end


def _release(text: bytes | mmap.mmap, start: int, end: int) -> None:
    """Gives pages of a mapped file back that are read; a report of 91 MB need not stay in memory."""
    if isinstance(text, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        first_page = start // mmap.PAGESIZE * mmap.PAGESIZE
        text.madvise(mmap.MADV_DONTNEED, first_page, end - first_page)


def _has_no_key_twice(chunk: bytes, count: int) -> bool:
    """Whether every detail has just its four keys and three texts, 14 quotes."""
    quotes = int(np.count_nonzero(np.frombuffer(chunk, np.uint8) == ord('"')))
    return quotes == _QUOTES_OF_A_DETAIL * count


def _decoded(file: str, first: int, read: list[_Detail]) -> _Columns:
    try:
        ended_at_ns = unix_ns([detail.timestamp for detail in read])
    except NoTimestamp as error:
        raise ResultsError(
            file,
            f"details[{first + error.index}].timestamp",
            Description("no time of the years 1970 to 2261 with a zone"),
            "give the report as ghz wrote it",
            "out-of-range",
        ) from None
    return _Columns(
        ended_at_ns=ended_at_ns,
        latency_ns=np.fromiter([detail.latency for detail in read], np.int64, len(read)),
        status=[detail.status for detail in read],
        error=[detail.error for detail in read],
    )


def _add(file: str, first: int, columns: _Columns, collector: RowCollector) -> int:
    """Adds the requests of a chunk, the first of which is number `first`; returns how many they are."""
    latency_ns = columns.latency_ns
    count = len(latency_ns)
    if not count:
        return 0
    sent_at_ns = columns.ended_at_ns - latency_ns
    if int(latency_ns.max()) > MAX_LATENCY_NS:
        index = int(latency_ns.argmax())
        raise ResultsError(
            file,
            f"details[{first + index}].latency",
            int(latency_ns[index]),
            f"latencies are nanoseconds up to {MAX_LATENCY_NS}",
            "out-of-range",
        )
    if int(sent_at_ns.min()) < 0:
        index = int(sent_at_ns.argmin())
        raise ResultsError(
            file,
            f"details[{first + index}].timestamp",
            int(sent_at_ns[index]),
            "times lie after 1970",
            "out-of-range",
        )
    if columns.status:
        where = f"details[{first}...]"
        collect_requests(file, where, sent_at_ns, latency_ns, columns.status, columns.error, collector)
    else:
        ok = np.ones(count, dtype=np.bool_)
        collector.add(sent_at_ns, latency_ns, ok, ["OK"] * count, [""] * count)
    return count


def _completeness(counted: int, told: int) -> tuple[Check, ...]:
    if counted == told:
        return ()
    numbers = {"counted": float(counted), "rows": float(told)}
    if told == MOST_DETAILS and counted > told:
        detail = (
            f"ghz counted {counted} requests and kept the details of the first {told}; all figures are of "
            "these. Run it several times for fewer requests each"
        )
        return (Check(code="details-capped", detail=detail, consequence="WARNING", numbers=numbers),)
    detail = (
        f"ghz counted {counted} requests but the report holds {told}. "
        "Give the report as ghz wrote it, or repeat the run"
    )
    return (Check(code="incomplete", detail=detail, consequence="INVALID", numbers=numbers),)


def _skipped(options: dict[str, Any]) -> tuple[Check, ...]:
    skipped = options.get("skipFirst")
    if not isinstance(skipped, int) or isinstance(skipped, bool) or skipped <= 0:
        return ()
    detail = (
        f"ghz left the first {skipped} requests out (--skipFirst) but not their time out of its rps, "
        "which is too low; the rates here are of the requests it kept"
    )
    return (
        Check(code="first-skipped", detail=detail, consequence="INFO", numbers={"skipped": float(skipped)}),
    )


def _stated(file: str, report: _GhzReport, secrets: tuple[str, ...]) -> ToolSummary:
    options = report.options or {}
    statuses = report.statusCodeDistribution or {}
    if len(statuses) > MOST_STATUSES or max(map(len, statuses), default=0) > LONGEST_STATUS:
        raise ResultsError(
            file,
            "statusCodeDistribution",
            Description("statuses that are no gRPC codes"),
            "give the report as ghz wrote it",
            "wrong-type",
        )
    if statuses and sum(statuses.values()) != report.count:
        raise ResultsError(
            file,
            "statusCodeDistribution",
            sum(statuses.values()),
            f"it must add up to count, which is {report.count}",
            "out-of-range",
        )
    ok = statuses.get("OK", 0) if report.statusCodeDistribution is not None else None
    return ToolSummary(
        requests=report.count,
        ok=ok,
        status_counts=statuses,
        errors=_normalised_counts(report.errorDistribution or {}, secrets),
        duration_ns=round(report.total),
        mean_ns=float(report.average) if report.count else None,
        mean_covers="all",
        percentile_ns={
            float(point.percentage): point.latency
            for point in report.latencyDistribution or ()
            if point.latency
        },
        min_ns=round(report.fastest) if report.latencyDistribution else None,
        max_ns=round(report.slowest) if report.latencyDistribution else None,
        percentiles_cover="all" if options.get("count-errors") is True else "ok",
    )


def _normalised_counts(errors: dict[str, int], secrets: tuple[str, ...]) -> dict[str, int | None]:
    counts: dict[str, int | None] = {}
    for text, count in errors.items():
        key = normalise(text, secrets)
        if key not in counts and len(counts) >= MOST_ERRORS:
            key = OTHER_ERRORS
        counts[key] = (counts.get(key) or 0) + count
    return counts


def _secrets(options: dict[str, Any]) -> tuple[str, ...]:
    """The texts ghz echoes from the call's metadata and data, longest first."""
    found: frozenset[str] = frozenset()
    for option in _SECRET_OPTIONS:
        found |= secrets_in(options.get(option))
    return tuple(sorted(found, key=len, reverse=True))


def _redacted(options: dict[str, Any], end_reason: str) -> dict[str, Any]:
    """Options that are numbers, switches or harmless words; of the secret ones only that they were given."""
    kept: dict[str, Any] = {"endReason": end_reason} if end_reason in END_REASONS else {}
    for option, value in options.items():
        if option in _SECRET_OPTIONS:
            kept[option] = REDACTED
        elif isinstance(value, (bool, int, float)) or (
            option in _OPTIONS_WITH_TEXT and isinstance(value, str) and len(value) <= _LONGEST_OPTION
        ):
            kept[option] = value
    return kept
