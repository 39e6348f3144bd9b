"""Can the measurement be trusted? Findings about generator, clock, workers and transport.

| code | consequence | means |
|---|---|---|
| no-requests | INVALID | an arm, or the whole report, holds no request |
| generator-saturated | INVALID, WARNING below 10 % | fewer requests were sent than asked for |
| workers-all-busy | WARNING | as many requests in flight as there are workers, nearly always |
| transport-collapse | INVALID | 5 % or more got no answer because the server was not reachable |
| transport-errors | WARNING | the same for fewer |
| clock-step | INVALID | the generator's clock was set back during the run |
| sending-gap | WARNING | nothing was sent for longer than any request took |
| duplicate-worker | INVALID | two workers hold the same requests |
| windows-apart | INVALID | two workers did not load at the same time |
| start-skew | WARNING | workers started far apart |
| too-few-rows | INFO | too few OK requests for the 99th percentile |
| generator-busy, cpu-stolen, run-queue | WARNING | the generator's machine had no time to spare |
| ports-short, descriptors-short | WARNING | it was near its limit of connections or open files |
| segments-resent | WARNING | the network lost some of what was sent |
| load-varies | WARNING | one report of several load steps |
| closed-loop | INFO, WARNING in own runs | the generator waits for answers: slow ones lower the load |

The readers add: truncated, incomplete, duplicate-worker (sequence numbers), phantom-records,
details-capped, cut-off-ambiguous, cut-off-assumed, differs-from-tool, mean-overflow, and what
Locust loses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import msgspec
import numpy as np
import pyarrow as pa

from model_load_test.components.results import columns
from model_load_test.components.results.checks import Check
from model_load_test.components.results.columns import Int64s
from model_load_test.components.results.in_flight import in_flight
from model_load_test.components.results.percentile import TAIL_ROWS, enough_rows
from model_load_test.components.results.report import Report
from model_load_test.components.results.summary import begin_ns, sending_rate
from model_load_test.components.results.table import RunMetadata

SATURATED_SHARE: Final = 0.90
"""Below this share of the asked rate the run did not apply the load it is judged by."""
SLIGHTLY_SATURATED_SHARE: Final = 0.97
BUSY_SHARE: Final = 0.90
"""Share of time with all workers busy from which the generator is taken to be at its cap."""
LITTLE_SHARE: Final = 0.95
"""Little's number (rate x latency) over the number of workers, from which they are the limit."""
COLLAPSE_SHARE: Final = 0.05
CPU_BUSY_SHARE: Final = 0.90
CPU_STOLEN_SHARE: Final = 0.05
_SECOND_NS: Final = 10**9
_LEAST_ROWS_FOR_LOAD: Final = 50
"""Fewer requests say nothing about a rate."""
_SKEW_SHARE: Final = 0.1
_P99: Final = 99.0

# What a client says when no server is there. "unexpected EOF" is an answer that broke off instead.
_UNREACHABLE: Final = (
    "connection refused",
    "connection reset",
    "connection closed",
    "broken pipe",
    "no route to host",
    "no such host",
    "error while dialing",
    "transport is closing",
    "error reading from server",
    ": EOF",
)


@dataclass(frozen=True)
class Load:
    """What the generator was asked to do, as far as it is known."""

    rate_rps: float | None = None
    """The offered rate of these rows."""
    workers: int | None = None
    """How many requests may be in flight at once; None for an open loop or where not told."""


def validate(table: pa.Table, metadata: RunMetadata) -> tuple[Check, ...]:
    """Checks a results table; its warm-up is not looked at.

    Args:
        table: Columns of `table.SCHEMA`.
        metadata: Of the same file; its own checks are repeated first, its load spec says what
            was asked.

    Returns:
        The findings, INVALID first.
    """
    found = [msgspec.convert(check, Check) for check in metadata.checks]
    of_arm, arms = columns.texts(table["arm"])
    blocks = columns.numbers(table["block"], np.int32)
    expected = _expected_arms(metadata.load_spec)
    for arm in dict.fromkeys((*expected, *arms)):
        index = arms.index(arm) if arm in arms else -1
        own = (of_arm == index) & (blocks >= 0)
        rows = table.filter(columns.booleans(own))
        if not rows.num_rows:
            if arm in expected:
                found.append(_no_requests(f"the {arm}"))
            continue
        found += _named(arm, _check_sending(blocks[own], metadata.load_spec))
        of_rows = check_rows(rows, starts_each_block=bool(metadata.load_spec))
        if metadata.load_spec.get("concurrency"):  # all workers are busy because that was asked for
            of_rows = [check for check in of_rows if check.code != "workers-all-busy"]
        found += _named(arm, of_rows)
    found += _check_host(metadata.host)
    return by_weight(found)


def validate_report(report: Report) -> tuple[Check, ...]:
    """Checks a foreign report; what the reader found is repeated first."""
    found = list(report.checks)
    if report.metadata is not None and report.table is not None:
        return by_weight([*found, *validate(report.table, report.metadata)])
    if not report.has_rows:
        requests = report.stated.requests if report.stated else 0
        return by_weight([*found, *(check_stated(report) if requests else [_no_requests("the report")])])
    if not report.rows.num_rows:
        return by_weight([*found, _no_requests("the report")])
    load = load_of(report)
    found += check_rows(report.rows, load, has_times=report.has_times)
    found += _check_options(report)
    return by_weight(found)


def load_of(report: Report) -> Load:
    """What a foreign report's options say was asked of the generator."""
    options = report.options
    rate, workers = options.get("rps"), options.get("concurrency")
    varies = _varies(options)
    return Load(
        rate_rps=float(rate) * len(report.files or ("",))
        if _is_number(rate) and rate and not varies
        else None,
        workers=workers * len(report.files or ("",))
        if isinstance(workers, int) and options.get("async") is not True and not varies
        else None,
    )


def by_weight(checks: list[Check]) -> tuple[Check, ...]:
    """Sorted by consequence, else in their order."""
    weight = {"INVALID": 0, "WARNING": 1, "INFO": 2}
    return tuple(sorted(checks, key=lambda check: weight[check.consequence]))


def check_rows(
    rows: pa.Table, load: Load = Load(), *, has_times: bool = True, starts_each_block: bool = False
) -> list[Check]:  # frozen
    """Findings that rows of one arm tell by themselves.

    Args:
        rows: Columns of `table.ROWS_SCHEMA`, at least one row.
        load: What was asked.
        has_times: False where `sent_at_ns` is unknown.
        starts_each_block: Whether the generator was started anew for each block, as the load room
            does; nothing is sent in between, and that is no pause.
    """
    sent_at_ns = columns.numbers(rows["sent_at_ns"], np.int64)
    latency_ns = columns.numbers(rows["latency_ns"], np.int64)
    ok = columns.truths(rows["ok"])
    found = [*_check_transport(rows), *_check_enough(int(np.count_nonzero(ok)))]
    if has_times:
        workers = columns.numbers(rows["worker"], np.int16)
        blocks = columns.numbers(rows["block"], np.int32) if starts_each_block else workers
        found += _check_clock(sent_at_ns, latency_ns, workers, blocks)
        found += _check_workers(sent_at_ns, latency_ns, workers)
        found += _check_rate(begin_ns(rows), load)
        found += _check_in_flight(sent_at_ns, latency_ns, load)
    return found


def check_stated(report: Report) -> list[Check]:
    """The same as far as a tool's own summary tells."""
    stated = report.stated
    if stated is None:
        return []
    counted = {text: count for text, count in stated.errors.items() if count}
    unreachable = sum(count for text, count in counted.items() if _is_unreachable(text))
    found = _unreachable(max(0, unreachable - report.cut_off), stated.requests)
    if stated.duration_ns and stated.requests >= _LEAST_ROWS_FOR_LOAD and not report.options.get("skipFirst"):
        load, rate_rps = load_of(report), stated.requests / stated.duration_ns * 1e9
        if load.rate_rps is not None:
            found += _saturation(load.rate_rps, rate_rps)
        little = rate_rps * stated.mean_ns / 1e9 if stated.mean_ns and stated.mean_covers == "all" else 0.0
        if load.workers and little >= LITTLE_SHARE * load.workers:
            found.append(_all_busy(little, load.workers, {"little": little}))
    return found + _check_options(report)


def _expected_arms(load_spec: Mapping[str, Any]) -> tuple[str, ...]:
    if not load_spec:
        return ()
    return ("candidate",) if load_spec.get("mode") == "single" else ("candidate", "baseline")


def _named(arm: str, checks: list[Check]) -> Iterator[Check]:
    for check in checks:
        yield msgspec.structs.replace(check, detail=f"{arm}: {check.detail}")


def _no_requests(whose: str) -> Check:
    return Check(
        code="no-requests",
        detail=f"There is not one request of {whose}. See the generator's log",
        consequence="INVALID",
        numbers={"requests": 0.0},
    )


def _check_sending(blocks: columns.Int32s, load_spec: Mapping[str, Any]) -> list[Check]:
    """Requests in each block against those the load spec wants there."""
    rate_rps, block_seconds = load_spec.get("rate_rps"), load_spec.get("block_seconds")
    if not (_is_number(rate_rps) and _is_number(block_seconds) and rate_rps and block_seconds):
        return []
    loaded = columns.distinct(blocks)
    rates_rps = load_spec.get("block_rates_rps")
    if rates_rps:
        rate_rps = float(np.mean(np.asarray(rates_rps, np.float64)[loaded % len(rates_rps)]))
    seconds = len(loaded) * float(block_seconds)
    return _saturation(float(rate_rps), len(blocks) / seconds) if rate_rps else []


def _check_rate(begun_at_ns: Int64s, load: Load) -> list[Check]:
    sent_rps = sending_rate(begun_at_ns)
    if load.rate_rps is None or sent_rps is None or len(begun_at_ns) < _LEAST_ROWS_FOR_LOAD:
        return []
    return _saturation(load.rate_rps, sent_rps)


def _saturation(asked_rps: float, sent_rps: float) -> list[Check]:
    share = sent_rps / asked_rps
    if share >= SLIGHTLY_SATURATED_SHARE:
        return []
    detail = (
        f"The generator was asked for {asked_rps:.1f} requests/s and sent {sent_rps:.1f} ({share:.0%}): "
        "it was the limit, not the server alone. Lower the rate, or give the generator more workers or CPU"
    )
    return [
        Check(
            code="generator-saturated",
            detail=detail,
            consequence="INVALID" if share < SATURATED_SHARE else "WARNING",
            numbers={"asked_rps": asked_rps, "sent_rps": sent_rps},
        )
    ]


def _check_in_flight(sent_at_ns: Int64s, latency_ns: Int64s, load: Load) -> list[Check]:
    if len(sent_at_ns) < _LEAST_ROWS_FOR_LOAD:
        return []
    open_requests = in_flight(sent_at_ns, latency_ns)
    window_ns = int((sent_at_ns + latency_ns).max()) - int(sent_at_ns.min())
    little = float(latency_ns.sum(dtype=np.float64)) / window_ns if window_ns else 0.0
    numbers = {"in_flight": float(open_requests.most), "share": open_requests.share_at_most, "little": little}
    if load.workers and little >= LITTLE_SHARE * load.workers:
        return [_all_busy(little, load.workers, numbers)]
    if open_requests.share_at_most >= BUSY_SHARE:
        detail = (
            f"{open_requests.most} requests were in flight for {open_requests.share_at_most:.0%} of the "
            "time, never more: the generator was at its number of workers. Raise it (vegeta -max-workers), "
            "or lower the rate"
        )
        return [Check(code="workers-all-busy", detail=detail, consequence="WARNING", numbers=numbers)]
    return []


def _all_busy(little: float, workers: int, numbers: dict[str, float]) -> Check:
    detail = (
        f"On average {little:.1f} of {workers} workers were waiting for an answer: the load was what the "
        "server let through, not what a schedule asked for. Use more workers, or ghz --async"
    )
    numbers = {**numbers, "workers": float(workers)}
    return Check(code="workers-all-busy", detail=detail, consequence="WARNING", numbers=numbers)


def _check_transport(rows: pa.Table) -> list[Check]:
    of_row, errors = columns.texts(rows["error"])
    unreachable = np.array([_is_unreachable(error) for error in errors] or [False], dtype=np.bool_)
    return _unreachable(int(np.count_nonzero(unreachable[of_row])), rows.num_rows)


def _unreachable(count: int, requests: int) -> list[Check]:
    if not count:
        return []
    share = count / requests
    collapsed = share >= COLLAPSE_SHARE
    detail = f"{count} of {requests} requests ({share:.1%}) found no server or lost their connection" + (
        ": the server fell over or was never there. See its log" if collapsed else "; see the server's log"
    )
    return [
        Check(
            code="transport-collapse" if collapsed else "transport-errors",
            detail=detail,
            consequence="INVALID" if collapsed else "WARNING",
            numbers={"unreachable": float(count), "requests": float(requests)},
        )
    ]


def _is_unreachable(error: str) -> bool:
    lowered = error.lower()
    return any(text.lower() in lowered for text in _UNREACHABLE) or lowered == "eof"


def _check_enough(ok: int) -> list[Check]:
    if enough_rows(ok, _P99):
        return []
    needed = round(TAIL_ROWS * 100 / (100 - _P99))
    detail = f"{ok} OK requests do not tell the 99th percentile, which needs {needed}. Run longer or faster"
    numbers = {"ok": float(ok), "needed": float(needed)}
    return [Check(code="too-few-rows", detail=detail, consequence="INFO", numbers=numbers)]


def _check_clock(
    sent_at_ns: Int64s, latency_ns: Int64s, workers: columns.Int32s, blocks: columns.Int32s
) -> list[Check]:
    found: list[Check] = []
    slowest_ns = int(latency_ns.max())
    back_ns = 0
    for worker in columns.distinct(workers):
        own = workers == worker
        ended_at_ns = (sent_at_ns + latency_ns)[own]
        back_ns = max(back_ns, int((np.maximum.accumulate(ended_at_ns) - ended_at_ns).max()))
    gap_ns = _longest_pause_ns(sent_at_ns, workers, blocks)
    if back_ns > slowest_ns + _SECOND_NS:
        found.append(_clock("clock-step", "INVALID", back_ns, slowest_ns))
    # an open loop never pauses longer than a request takes; a closed one waits for its slowest
    span_ns = int(sent_at_ns.max()) - int(sent_at_ns.min())
    usual_ns = span_ns / max(1, len(sent_at_ns) - 1)
    if gap_ns > slowest_ns + _SECOND_NS + 20 * usual_ns:
        found.append(_clock("sending-gap", "WARNING", gap_ns, slowest_ns))
    return found


def _longest_pause_ns(sent_at_ns: Int64s, workers: columns.Int32s, blocks: columns.Int32s) -> int:
    """The longest time between two requests of one worker in one block."""
    order = np.lexsort((sent_at_ns, blocks, workers))
    together = (np.diff(workers[order]) == 0) & (np.diff(blocks[order]) == 0)
    return int(np.diff(sent_at_ns[order])[together].max(initial=0))


def _clock(code: str, consequence: Any, nanoseconds: int, slowest_ns: int) -> Check:
    seconds = nanoseconds / 1e9
    detail = (
        f"Times go back by {seconds:.3f} s: the generator's clock was set during the run. Repeat it"
        if code == "clock-step"
        else f"Nothing was sent for {seconds:.3f} s, longer than any request took: the generator paused, "
        "or its clock was set forward. Repeat the run"
    )
    numbers = {"seconds": seconds, "slowest_seconds": slowest_ns / 1e9}
    return Check(code=code, detail=detail, consequence=consequence, numbers=numbers)


def _check_workers(sent_at_ns: Int64s, latency_ns: Int64s, workers: columns.Int32s) -> list[Check]:
    numbers = columns.distinct(workers)
    if len(numbers) < 2:
        return []
    first = np.array([int(sent_at_ns[workers == worker].min()) for worker in numbers])
    last = np.array([int((sent_at_ns + latency_ns)[workers == worker].max()) for worker in numbers])
    found = _check_duplicates(sent_at_ns, latency_ns, workers)
    overlap_ns = int(last.min()) - int(first.max())
    skew_ns = int(first.max()) - int(first.min())
    window_ns = int(last.max()) - int(first.min())
    if overlap_ns <= 0:
        detail = (
            f"The workers did not load at the same time: the last began {-overlap_ns / 1e9:.3f} s after "
            "the first had ended. Judge them as separate runs"
        )
        found.append(
            Check(
                code="windows-apart",
                detail=detail,
                consequence="INVALID",
                numbers={"apart_seconds": -overlap_ns / 1e9},
            )
        )
    elif skew_ns > _SKEW_SHARE * window_ns:
        detail = (
            f"The workers began {skew_ns / 1e9:.3f} s apart in a run of {window_ns / 1e9:.3f} s: for that "
            "time the load was lower. Start them together"
        )
        found.append(
            Check(
                code="start-skew",
                detail=detail,
                consequence="WARNING",
                numbers={"skew_seconds": skew_ns / 1e9, "window_seconds": window_ns / 1e9},
            )
        )
    return found


def _check_duplicates(sent_at_ns: Int64s, latency_ns: Int64s, workers: columns.Int32s) -> list[Check]:
    """Two clients do not send at the same nanosecond and wait equally long."""
    order = np.lexsort((workers, latency_ns, sent_at_ns))
    sent_at_ns, latency_ns, workers = sent_at_ns[order], latency_ns[order], workers[order]
    same = (np.diff(sent_at_ns) == 0) & (np.diff(latency_ns) == 0) & (workers[1:] != workers[:-1])
    twice = int(np.count_nonzero(same))
    if not twice:
        return []
    detail = (
        f"{twice} requests are in the files of two workers: one worker was given twice. Give each file once"
    )
    numbers = {"repeated": float(twice)}
    return [Check(code="duplicate-worker", detail=detail, consequence="INVALID", numbers=numbers)]


_SATURATION: Final = (
    (
        "run-queue",
        "runnable_per_core",
        2.0,
        "On average {:.1f} threads wanted each core of the generator's machine: requests and answers waited "
        "for one. Give it quieter or more cores",
    ),
    (
        "ports-short",
        "ports_share",
        0.80,
        "The generator's machine held connections on {:.0%} of its ephemeral ports: soon none can be opened. "
        "Keep connections alive, or use more machines",
    ),
    (
        "descriptors-short",
        "descriptors_share",
        0.80,
        "A generator process held {:.0%} of the files it may open. Raise the limit (ulimit -n)",
    ),
    (
        "segments-resent",
        "resent_share",
        0.01,
        "{:.1%} of the TCP segments of the generator's machine had to be sent again: the network loses some, "
        "and latencies hold the wait",
    ),
)
"""Code, name in the numbers that the load room saw, limit, sentence."""


def _check_saturation(numbers: Mapping[str, Any]) -> Iterator[Check]:
    for code, name, limit, sentence in _SATURATION:
        number = numbers.get(name)
        if _is_number(number) and number >= limit:
            yield Check(
                code=code,
                detail=sentence.format(number),
                consequence="WARNING",
                numbers={name: float(number)},
            )


def _check_host(host: Mapping[str, Any]) -> list[Check]:
    found = list(_check_saturation(host.get("saturation") or {}))
    for code, key, limit, sentence in (
        ("generator-busy", "cpu_busy_share", CPU_BUSY_SHARE, "was busy"),
        ("cpu-stolen", "cpu_steal_share", CPU_STOLEN_SHARE, "waited for its host"),
    ):
        share = host.get(key)
        if _is_number(share) and share > limit:
            detail = (
                f"The generator's machine {sentence} {share:.0%} of the time: latencies may be its own. "
                "Give it more or quieter cores"
            )
            found.append(
                Check(code=code, detail=detail, consequence="WARNING", numbers={"share": float(share)})
            )
    return found


def _check_options(report: Report) -> list[Check]:
    options = report.options
    found = []
    if _varies(options):
        detail = (
            "The load was changed in steps during the run: one summary of all steps describes none of them"
        )
        found.append(Check(code="load-varies", detail=detail, consequence="WARNING"))
    elif report.kind == "ghz JSON" and options.get("async") is not True:
        workers = options.get("concurrency", "its")
        detail = (
            f"ghz ran a closed loop: each of {workers} workers waits for its answer before it sends again, "
            "so a slow server is offered less load and the wait is in no latency. Use --async --rps"
        )
        found.append(Check(code="closed-loop", detail=detail, consequence="INFO"))
    return found


def _varies(options: Mapping[str, Any]) -> bool:
    return any(options.get(key, "const") != "const" for key in ("load-schedule", "concurrency-schedule"))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
