"""ghz's CSV report, `ghz -O csv`: milliseconds with two decimals, no times, errors not escaped."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from model_load_test.components.results.checks import Check
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.ghz_requests import collect_requests
from model_load_test.components.results.report import Report
from model_load_test.components.results.rows import RowCollector
from model_load_test.components.results.source import Source
from model_load_test.components.results.truncation import truncated

CSV_HEADER: Final = "duration (ms),status,error"

_MILLISECONDS: Final = re.compile(rb"\d{1,10}(\.\d{1,6})?")
_NO_TIMES: Final = Check(
    code="no-times",
    detail=(
        "ghz's CSV does not say when requests were sent, rounds latencies to 0.01 ms, and requests that "
        "ghz cut off at its end count as failed: there are no rates. Use ghz -O json"
    ),
    consequence="WARNING",
)


def read_ghz_csv(source: Source, worker: int) -> Report:
    """Reads `ghz -O csv`: milliseconds with two decimals, no times, errors not escaped.

    Raises:
        ResultsError: The file is damaged.
    """
    collector = RowCollector()
    checks: tuple[Check, ...] = ()
    for block in source.line_blocks():
        if not block.ended:
            checks = (truncated(source.name, block.first_line),)
            break
        first_line, lines = block.first_line, block.text.replace(b"\r\n", b"\n").split(b"\n")[:-1]
        if first_line == 1:  # an empty line, the header
            header = _header(source.name, lines)
            first_line, lines = header + 2, lines[header + 1 :]
        _collect_csv(source.name, first_line, lines, collector)
    return Report(
        tool="ghz",
        tool_version="",
        rows=collector.table(worker),
        checks=(*checks, _NO_TIMES),
        kind="ghz CSV",
        has_times=False,
    )


def _header(file: str, lines: list[bytes]) -> int:
    for index, line in enumerate(lines):
        if line.strip() == CSV_HEADER.encode():
            return index
    raise ResultsError(
        file,
        "line 1",
        Description(f"no line {CSV_HEADER}"),
        "give the file as ghz -O csv wrote it",
        "malformed",
    )


def _collect_csv(file: str, first_line: int, lines: list[bytes], collector: RowCollector) -> None:
    latency_ns, status, error = [], [], []
    for number, line in enumerate(lines, first_line):
        if not line.strip():
            continue
        parts = line.split(b",", 2)
        if len(parts) != 3 or not _MILLISECONDS.fullmatch(parts[0]):
            raise ResultsError(
                file,
                f"line {number}",
                Description("not duration,status,error"),
                "give the file as ghz -O csv wrote it, or use ghz -O json",
                "malformed",
            )
        whole, _, fraction = parts[0].partition(b".")
        latency_ns.append(int(whole) * 1_000_000 + int(fraction.ljust(6, b"0")[:6] or b"0"))
        try:
            status.append(parts[1].decode())
            error.append(parts[2].decode())
        except UnicodeDecodeError:
            raise ResultsError(
                file, f"line {number}", Description("bad UTF-8"), "give the file as ghz wrote it", "malformed"
            ) from None
    if latency_ns:
        latencies = np.array(latency_ns, dtype=np.int64)
        no_times = np.zeros(len(latencies), dtype=np.int64)
        collect_requests(file, f"line {first_line}...", no_times, latencies, status, error, collector)
