"""vegeta's own reports, where the stream they were made of is gone: JSON and hdrplot.

Both mix failed requests into the latencies, and their percentiles are estimates (t-digest), off by
up to 1 % on a smooth distribution and by 69 % on a bimodal one (measured).
"""

from __future__ import annotations

import math
import re
from typing import Final

import msgspec

from model_load_test.components.results.checks import Check
from model_load_test.components.results.error_text import normalise
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.json_documents import Count, Number, decode, refuse_duplicate_keys
from model_load_test.components.results.phantoms import NO_TARGETS, phantom_check
from model_load_test.components.results.report import Report, ToolSummary
from model_load_test.components.results.rows import (
    MAX_LATENCY_NS,
    MOST_ERRORS,
    MOST_STATUSES,
    OTHER_ERRORS,
    no_rows,
)
from model_load_test.components.results.source import Source
from model_load_test.components.results.timestamps import NoTimestamp, unix_ns

HDRPLOT_HEADER: Final = "Value(ms)"
MAX_REPORT_BYTES: Final = 1 << 26
"""The largest summary read: 64 MiB."""

_STATUS: Final = re.compile(r"\d{1,3}")
_HDRPLOT_LINE: Final = re.compile(r"\s*(\d{1,12}\.\d+)\s+([01]\.\d+)\s+(\d{1,18})\s+\d+\.\d+\s*")


class _Latencies(msgspec.Struct):
    total: int = 0
    mean: int = 0
    p50: int = msgspec.field(name="50th", default=0)
    p90: int | None = msgspec.field(name="90th", default=None)
    p95: int = msgspec.field(name="95th", default=0)
    p99: int = msgspec.field(name="99th", default=0)
    max: int = 0
    min: int | None = None


class _VegetaReport(msgspec.Struct):
    latencies: _Latencies
    requests: Count
    status_codes: dict[str, Count]
    success: Number
    earliest: str
    latest: str
    end: str
    rate: Number = 0.0
    throughput: Number = 0.0
    errors: list[str] | None = None


def is_vegeta_report(keys: set[str]) -> bool:
    """Whether a JSON object with these keys is vegeta's JSON report."""
    return {"latencies", "requests", "status_codes"} <= keys


def read_vegeta_report(source: Source, worker: int) -> Report:
    """Reads `vegeta report -type=json`.

    Raises:
        ResultsError: The report is damaged.
    """
    del worker  # a summary has no rows to mark
    text = bytes(source.document(MAX_REPORT_BYTES))
    read = decode(source.name, text, _VegetaReport)
    refuse_duplicate_keys(source.name, text)
    _refuse_impossible(source.name, read)
    try:
        earliest, latest, end = unix_ns([read.earliest, read.latest, read.end]).tolist()
    except NoTimestamp as error:
        raise ResultsError(
            source.name,
            ("earliest", "latest", "end")[error.index],
            Description("no time of the years 1970 to 2261 with a zone"),
            "give the report as vegeta wrote it",
            "out-of-range",
        ) from None
    if not earliest <= latest <= end:
        raise ResultsError(
            source.name,
            "earliest, latest, end",
            [earliest, latest, end],
            "they must follow each other in time",
            "out-of-range",
        )
    phantoms = read.status_codes.get("0", 0) if read.errors == [NO_TARGETS] else 0
    overflowed = read.latencies.mean < 0 or read.latencies.total < 0
    stated = ToolSummary(
        requests=read.requests - phantoms,
        ok=round(read.success * read.requests),
        status_counts={code: n for code, n in read.status_codes.items() if not (phantoms and code == "0")},
        errors=_error_texts([error for error in read.errors or [] if error != NO_TARGETS]),
        started_at_ns=earliest,
        last_sent_at_ns=latest,
        ended_at_ns=end,
        duration_ns=end - earliest,
        mean_ns=None if overflowed or not read.requests else float(read.latencies.mean),
        percentile_ns=_percentiles(read.latencies) if read.requests else {},
        min_ns=read.latencies.min,
        max_ns=read.latencies.max if read.requests else None,
        mean_covers="all",
        percentiles_are_estimates=True,
    )
    return Report(
        tool="vegeta",
        tool_version="",
        rows=no_rows(),
        stated=stated,
        checks=(*((_overflow(read.latencies),) if overflowed else ()), *phantom_check(phantoms)),
        kind="vegeta report JSON",
        has_rows=False,
    )


def read_vegeta_hdrplot(source: Source, worker: int) -> Report:
    """Reads `vegeta report -type=hdrplot`: percentiles over all requests, nothing else.

    Raises:
        ResultsError: The report is damaged.
    """
    del worker
    text = bytes(source.document(MAX_REPORT_BYTES))
    lines = text.decode(errors="replace").splitlines()
    values: dict[float, int] = {}
    requests = 0
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        match = _HDRPLOT_LINE.fullmatch(line)
        if match is None:
            raise ResultsError(
                source.name,
                f"line {number}",
                Description("not value, percentile, count and 1/(1-percentile)"),
                "give the report as vegeta wrote it",
                "malformed",
            )
        quantile, count = float(match.group(2)), int(match.group(3))
        if count < requests or quantile > 1:
            raise ResultsError(
                source.name, f"line {number}", count, "counts and percentiles rise", "out-of-range"
            )
        requests = count
        # the text, not the float: milliseconds with six decimals are whole nanoseconds
        whole, _, fraction = match.group(1).partition(".")
        values[round(quantile * 100, 9)] = int(whole) * 1_000_000 + int(fraction.ljust(6, "0")[:6])
    if not values or 100.0 not in values:
        raise ResultsError(
            source.name,
            f"line {len(lines)}",
            Description("no line for 100 %"),
            "copy the whole file",
            "truncated",
        )
    stated = ToolSummary(
        requests=requests,
        percentile_ns={q: values[q] for q in (50.0, 90.0, 95.0, 99.0, 99.9) if q in values},
        max_ns=values[100.0],
        percentiles_are_estimates=True,
    )
    return Report(
        tool="vegeta",
        tool_version="",
        rows=no_rows(),
        stated=stated,
        kind="vegeta report hdrplot",
        has_rows=False,
    )


def _percentiles(latencies: _Latencies) -> dict[float, int]:
    told = {50.0: latencies.p50, 90.0: latencies.p90, 95.0: latencies.p95, 99.0: latencies.p99}
    return {q: value for q, value in told.items() if value is not None}


def _refuse_impossible(file: str, read: _VegetaReport) -> None:
    latencies = read.latencies
    for field, value in (
        ("50th", latencies.p50),
        ("90th", latencies.p90 or 0),
        ("95th", latencies.p95),
        ("99th", latencies.p99),
        ("max", latencies.max),
        ("mean", max(latencies.mean, 0)),
        ("min", latencies.min or 0),
    ):
        if not 0 <= value <= MAX_LATENCY_NS:
            raise ResultsError(
                file,
                f"latencies.{field}",
                value,
                f"latencies are nanoseconds up to {MAX_LATENCY_NS}",
                "out-of-range",
            )
    if read.success > 1:
        raise ResultsError(file, "success", read.success, "a share lies from 0 to 1", "out-of-range")
    if len(read.status_codes) > MOST_STATUSES or not all(map(_STATUS.fullmatch, read.status_codes)):
        raise ResultsError(
            file,
            "status_codes",
            Description("keys that are no HTTP status"),
            "give the report as vegeta wrote it",
            "wrong-type",
        )
    if sum(read.status_codes.values()) != read.requests:
        raise ResultsError(
            file,
            "status_codes",
            sum(read.status_codes.values()),
            f"they must add up to requests, which is {read.requests}",
            "out-of-range",
        )
    answered = sum(count for code, count in read.status_codes.items() if 200 <= int(code) < 400)
    if not math.isclose(read.success * read.requests, answered, abs_tol=0.5, rel_tol=1e-9):
        raise ResultsError(
            file,
            "success",
            read.success,
            f"the status codes say {answered} of {read.requests}",
            "out-of-range",
        )


def _error_texts(errors: list[str]) -> dict[str, int | None]:
    texts: dict[str, int | None] = {}
    for error in errors:
        text = normalise(error)
        texts[text if len(texts) < MOST_ERRORS or text in texts else OTHER_ERRORS] = None
    return texts


def _overflow(latencies: _Latencies) -> Check:
    return Check(
        code="mean-overflow",
        detail=(
            "vegeta's sum of latencies overflowed, so its mean is wrong and left out. "
            "Give the results (vegeta encode -to json) instead of the report"
        ),
        consequence="WARNING",
        numbers={"total": float(latencies.total), "mean": float(latencies.mean)},
    )
