"""Locust's statistics: JSON (`--json`, `--json-file`) and CSV (`--csv`).

Locust keeps no single requests, only counts in rounded buckets in which failed requests are
mixed. Requests in flight when it stops are never recorded, and its CSVs miss up to the last second.
"""

from __future__ import annotations

import csv
import io
import re
from typing import Annotated, Final

import msgspec

from model_load_test.components.results.checks import Check
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.json_documents import Count, Number, decode, refuse_duplicate_keys
from model_load_test.components.results.percentile import nearest_rank
from model_load_test.components.results.report import Kind, Report, ToolSummary
from model_load_test.components.results.rows import MAX_LATENCY_NS, no_rows
from model_load_test.components.results.source import Source
from model_load_test.components.results.vegeta_reports import MAX_REPORT_BYTES

STATISTICS_HEADER: Final = "Type,Name,Request Count,Failure Count"
HISTORY_HEADER: Final = "Timestamp,User Count,Type,Name"
PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0, 99.9)

_MS: Final = 1_000_000
_BUCKET: Final = re.compile(r"\d{1,12}(\.0)?")
_NOT_AVAILABLE: Final = "N/A"
_Ms = Annotated[float, msgspec.Meta(ge=0, le=MAX_LATENCY_NS / _MS)]
_UnixSeconds = Annotated[float, msgspec.Meta(ge=0, le=9e9)]


class _Entry(msgspec.Struct):
    """The statistics of one method and name."""

    num_requests: Count
    num_failures: Count
    response_times: dict[str, Count]
    total_response_time: Number
    num_none_requests: Count = 0
    max_response_time: _Ms = 0.0
    min_response_time: _Ms | None = None
    start_time: _UnixSeconds | None = None
    last_request_timestamp: _UnixSeconds | None = None


def is_locust(keys: set[str]) -> bool:
    """Whether a list of JSON objects with these keys is Locust's."""
    return {"num_requests", "num_failures", "response_times"} <= keys


def read_locust_json(source: Source, worker: int) -> Report:
    """Reads the output of `locust --json`.

    Raises:
        ResultsError: The output is damaged.
    """
    del worker  # Locust has no rows to mark
    text = bytes(source.document(MAX_REPORT_BYTES))
    entries = decode(source.name, text, list[_Entry])
    refuse_duplicate_keys(source.name, text)
    for index, entry in enumerate(entries):
        _refuse_impossible(source.name, f"[{index}]", entry)
    return _report("Locust JSON", _stated(entries), (_in_flight_lost(),))


def _refuse_impossible(file: str, position: str, entry: _Entry) -> None:
    in_buckets = sum(entry.response_times.values())
    for field, value, limit in (
        ("num_failures", entry.num_failures, entry.num_requests),
        ("num_none_requests", entry.num_none_requests, entry.num_requests),
        ("response_times", in_buckets, entry.num_requests),
    ):
        if value > limit:
            raise ResultsError(
                file,
                f"{position}.{field}",
                value,
                f"it cannot exceed num_requests, which is {limit}",
                "out-of-range",
            )
    if in_buckets + entry.num_none_requests != entry.num_requests:
        raise ResultsError(
            file,
            f"{position}.response_times",
            in_buckets,
            f"with num_none_requests they must add up to num_requests, which is {entry.num_requests}",
            "out-of-range",
        )
    for bucket in entry.response_times:
        if not _BUCKET.fullmatch(bucket) or float(bucket) > MAX_LATENCY_NS / _MS:
            raise ResultsError(
                file,
                f"{position}.response_times",
                Description("a bucket that is no number of milliseconds"),
                "give the output as Locust wrote it",
                "wrong-type",
            )


def _stated(entries: list[_Entry]) -> ToolSummary:
    buckets: dict[int, int] = {}
    for entry in entries:
        for bucket, count in entry.response_times.items():
            milliseconds = int(float(bucket))
            buckets[milliseconds] = buckets.get(milliseconds, 0) + count
    requests = sum(entry.num_requests for entry in entries)
    started = [entry.start_time for entry in entries if entry.start_time is not None]
    ended = [entry.last_request_timestamp for entry in entries if entry.last_request_timestamp is not None]
    timed = sum(buckets.values())
    started_at_ns = round(min(started) * 1e9) if started and requests else None
    if started_at_ns is not None:
        # Locust's start is the end of the first request, which took at least as long as the fastest
        fastest_ms = min(
            (entry.min_response_time or 0.0 for entry in entries if entry.num_requests), default=0.0
        )
        started_at_ns = max(0, started_at_ns - round(fastest_ms * _MS))
    ended_at_ns = round(max(ended) * 1e9) if ended and requests else None
    slowest = [entry.max_response_time for entry in entries if entry.num_requests]
    return ToolSummary(
        requests=requests,
        ok=requests - sum(entry.num_failures for entry in entries),
        started_at_ns=started_at_ns,
        ended_at_ns=ended_at_ns,
        duration_ns=max(0, ended_at_ns - started_at_ns) if started_at_ns and ended_at_ns else None,
        mean_ns=sum(entry.total_response_time for entry in entries) / timed * _MS if timed else None,
        percentile_ns=bucket_percentiles(buckets),
        max_ns=round(max(slowest) * _MS) if slowest else None,
        response_times_ms=buckets,
    )


def bucket_percentiles(buckets: dict[int, int]) -> dict[float, int]:
    """Nearest-rank percentiles in nanoseconds of rounded milliseconds."""
    total = sum(buckets.values())
    if not total:
        return {}
    values: dict[float, int] = {}
    ordered = sorted(buckets.items())
    for q in PERCENTILES:
        rank, seen = nearest_rank(total, q), 0
        for milliseconds, count in ordered:
            seen += count
            if seen >= rank:
                values[q] = milliseconds * _MS
                break
    return values


def _in_flight_lost() -> Check:
    return Check(
        code="locust-loses-in-flight",
        detail=(
            "Locust does not record requests in flight when it stops, the slowest ones of an overloaded run, "
            "and says only in its log that it had too little CPU. Run it with --stop-timeout and read the log"
        ),
        consequence="INFO",
    )


def _report(kind: Kind, stated: ToolSummary, checks: tuple[Check, ...]) -> Report:
    return Report(
        tool="locust",
        tool_version="",
        rows=no_rows(),
        checks=checks,
        stated=stated,
        kind=kind,
        has_rows=False,
    )


def read_locust_statistics(source: Source, worker: int) -> Report:
    """Reads `*_stats.csv` or `*_stats_history.csv`, of which only the totals are used.

    Raises:
        ResultsError: The file is damaged.
    """
    del worker
    text = bytes(source.document(MAX_REPORT_BYTES))
    try:
        lines = list(csv.DictReader(io.StringIO(text.decode(), newline=""), strict=True))
    except (csv.Error, UnicodeDecodeError):
        raise ResultsError(
            source.name, "", Description("not CSV"), "give the file as Locust wrote it", "malformed"
        ) from None
    totals = [line for line in lines if line.get("Name") == "Aggregated"]
    if not totals or not text.endswith(b"\n"):
        raise ResultsError(
            source.name,
            f"line {len(lines) + 1}",
            Description("no complete line of totals (Aggregated)"),
            "copy the whole file",
            "truncated",
        )
    last = totals[-1]
    is_history = "User Count" in last
    prefix = "Total " if is_history else ""
    requests = _whole(source.name, last, f"{prefix}Request Count")
    failures = _whole(source.name, last, f"{prefix}Failure Count")
    if failures > requests:
        raise ResultsError(
            source.name, "Failure Count", failures, f"it cannot exceed {requests}", "out-of-range"
        )
    stated = ToolSummary(
        requests=requests,
        ok=requests - failures,
        mean_ns=_ms(source.name, last, f"{prefix}Average Response Time", requests),
        percentile_ns={} if is_history else _told_percentiles(source.name, last),
        max_ns=_rounded(_ms(source.name, last, f"{prefix}Max Response Time", requests)),
        min_ns=_rounded(_ms(source.name, last, f"{prefix}Min Response Time", requests)),
        percentiles_are_estimates=True,
    )
    return _report("Locust statistics CSV", stated, (_last_second_lost(), _in_flight_lost()))


def _told_percentiles(file: str, line: dict[str, str]) -> dict[float, int]:
    told = {q: _ms(file, line, f"{q:g}%", 1) for q in PERCENTILES if f"{q:g}%" in line}
    return {q: round(value) for q, value in told.items() if value is not None}


def _ms(file: str, line: dict[str, str], column: str, requests: int) -> float | None:
    text = line.get(column, _NOT_AVAILABLE)
    if not requests or text == _NOT_AVAILABLE:
        return None
    if not text or not re.fullmatch(r"\d{1,12}(\.\d{1,20})?(e-\d{1,2})?", text):
        raise _no_number(file, column)
    value = float(text) * _MS
    if value > MAX_LATENCY_NS:
        raise ResultsError(
            file, column, value, f"latencies are nanoseconds up to {MAX_LATENCY_NS}", "out-of-range"
        )
    return value


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def _whole(file: str, line: dict[str, str], column: str) -> int:
    text = line.get(column) or ""
    if not re.fullmatch(r"\d{1,15}", text):
        raise _no_number(file, column)
    return int(text)


def _no_number(file: str, column: str) -> ResultsError:
    return ResultsError(
        file, column, Description("not a number"), "give the file as Locust wrote it", "wrong-type"
    )


def _last_second_lost() -> Check:
    return Check(
        code="locust-csv-loses-requests",
        detail=(
            "Locust's CSV misses up to the last second of requests (measured: 360 of 456). "
            "Give the output of locust --json instead"
        ),
        consequence="WARNING",
    )
