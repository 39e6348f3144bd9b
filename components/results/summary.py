"""The summary of some requests: every figure with one definition, computed from rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from model_load_test.components.results import columns
from model_load_test.components.results.columns import Int64s
from model_load_test.components.results.percentile import enough_rows, percentiles

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}


class Finding(msgspec.Struct, frozen=True):
    """A check as the summary shows it."""

    code: str
    """Stable identifier in kebab-case."""
    detail: str
    """One sentence with the numbers in it."""


class Latencies(msgspec.Struct, frozen=True, omit_defaults=True):
    """Latency of the OK requests in nanoseconds; absent where too few requests tell it."""

    mean: float | None = None
    """Arithmetic mean."""
    p50: int | None = None
    """Nearest-rank percentiles, each with at least 20 requests beyond it."""
    p90: int | None = None
    p95: int | None = None
    p99: int | None = None
    p999: int | None = None
    max: int | None = None
    """The slowest OK request."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What `model-load-test summarize --format json` prints of one file. Unknown is absent, never NaN."""

    file: str = ""
    """As the user gave it; several files of one run are joined by a comma."""
    arm: str = ""
    """`candidate` or `baseline`, of our own results table; foreign reports have no arm."""
    tool: str = ""
    """`ghz`, `vegeta` or `locust`."""
    tool_version: str = ""
    """Absent where the report does not tell."""
    requests: int
    """Requests with a known end: ok and failed."""
    ok: int | None = None
    """Complete answers that the protocol calls a success."""
    failed: int | None = None
    """All others but those cut off."""
    cut_off: int = 0
    """Requests the generator itself cut off at its end; in no other figure."""
    status_counts: dict[str, int] = {}
    """gRPC code name or HTTP status ("0": no complete answer) to requests."""
    errors: dict[str, int | None] = {}
    """Error text without addresses, ports and secrets to requests; null where only the text is known."""
    started_at_ns: int | None = None
    """Unix time of the first request, scheduled where a schedule is known, else sent."""
    duration_seconds: float | None = None
    """From there to the end of the last request: the union window of all workers."""
    offered_rps: float | None = None
    """The rate asked for where the report tells it, else that of sending: n-1 intervals, first to last."""
    achieved_rps: float | None = None
    """Requests over the window."""
    goodput_rps: float | None = None
    """OK requests over the window."""
    latency_ns: Latencies = Latencies()
    """Of the OK requests only."""
    warnings: tuple[Finding, ...] = ()
    """What is wrong or doubtful, the worst first."""


def to_json_values(summary: Summary) -> dict[str, Any]:
    """The summary as JSON values; what is unknown is absent."""
    values: dict[str, Any] = msgspec.to_builtins(summary)
    return {key: value for key, value in values.items() if value is not None and (key, value) != ("arm", "")}


def summarize(
    table: pa.Table, *, asked_rps: float | None = None, cut_off: int = 0, has_times: bool = True
) -> Summary:
    """Summarizes rows of one arm (the caller filters).

    Args:
        table: With the columns of `table.ROWS_SCHEMA`; others are ignored.
        asked_rps: The offered rate where it is known from elsewhere.
        cut_off: Requests set aside before.
        has_times: False where `sent_at_ns` is unknown.
    """
    ok = columns.truths(table["ok"])
    latency_ns = columns.numbers(table["latency_ns"], np.int64)
    requests, succeeded = len(ok), int(np.count_nonzero(ok))
    errors = _counts(table["error"])
    errors.pop("", None)
    started_at_ns = duration_seconds = offered_rps = achieved_rps = goodput_rps = None
    if requests and has_times:
        begun_at_ns = begin_ns(table)
        started_at_ns = int(begun_at_ns.min())
        duration_seconds = (int((begun_at_ns + latency_ns).max()) - started_at_ns) / 1e9
        offered_rps = sending_rate(begun_at_ns)
        if duration_seconds > 0:
            achieved_rps = requests / duration_seconds
            goodput_rps = succeeded / duration_seconds
    return Summary(
        requests=requests,
        ok=succeeded,
        failed=requests - succeeded,
        cut_off=cut_off,
        status_counts=_counts(table["status"]),
        errors={text: errors[text] for text in sorted(errors, key=lambda text: -errors[text])},
        started_at_ns=started_at_ns,
        duration_seconds=duration_seconds,
        offered_rps=asked_rps if asked_rps is not None else offered_rps,
        achieved_rps=achieved_rps,
        goodput_rps=goodput_rps,
        latency_ns=latencies(latency_ns if succeeded == requests else latency_ns[ok]),
    )


def summarize_blocks(table: pa.Table, load_spec: Mapping[str, Any]) -> Summary:
    """Summarizes the measured blocks of one arm of our own results table.

    Between its blocks an arm waits for the other one, or for the generator's next start: the rates
    are those of the time in which it was loaded.

    Args:
        table: Rows of one arm without its warm-up, with the column `block`.
        load_spec: `LoadSpec` as JSON values; where it is empty the rates are those of the whole window.
    """
    summary = summarize(table, asked_rps=load_spec.get("rate_rps") or None)
    block_seconds = load_spec.get("block_seconds")
    if not block_seconds or not summary.requests:
        return summary
    loaded_seconds = len(columns.distinct(columns.numbers(table["block"], np.int32))) * block_seconds
    return msgspec.structs.replace(
        summary,
        achieved_rps=summary.requests / loaded_seconds,
        goodput_rps=None if summary.ok is None else summary.ok / loaded_seconds,
    )


def begin_ns(table: pa.Table) -> Int64s:
    """When each request began: as scheduled where known, else as sent."""
    sent_at_ns = columns.numbers(table["sent_at_ns"], np.int64)
    scheduled = table["scheduled_at_ns"]
    if scheduled.null_count == len(scheduled):
        return sent_at_ns
    return np.where(columns.not_null(scheduled), columns.numbers(scheduled, np.int64), sent_at_ns)


def sending_rate(begun_at_ns: Int64s) -> float | None:
    """Requests per second from the first to the last: n-1 intervals; None for fewer than two."""
    span_ns = int(begun_at_ns.max()) - int(begun_at_ns.min()) if len(begun_at_ns) > 1 else 0
    return (len(begun_at_ns) - 1) / (span_ns / 1e9) if span_ns else None


def latencies(latency_ns: Int64s) -> Latencies:
    """Mean, percentiles and maximum of OK requests; what too few requests tell is absent."""
    count = len(latency_ns)
    if not count:
        return Latencies()
    told = {name: q for name, q in PERCENTILES.items() if enough_rows(count, q)}
    values = percentiles(latency_ns, tuple(told.values())) if told else []
    return Latencies(
        mean=float(latency_ns.mean()), max=int(latency_ns.max()), **dict(zip(told, values, strict=True))
    )


def _counts(column: pa.ChunkedArray[Any]) -> dict[str, int]:
    indices, words = columns.texts(column)
    counts = np.bincount(indices, minlength=len(words)).tolist()
    return {word: count for word, count in zip(words, counts, strict=True) if count}
