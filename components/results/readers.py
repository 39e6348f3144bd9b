"""Reads whatever ghz, vegeta or Locust wrote, and our own results table; recognised by content."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from model_load_test.components.results import (
    columns,
    ghz,
    ghz_csv,
    locust,
    vegeta_csv,
    vegeta_reports,
    vegeta_results,
)
from model_load_test.components.results.cross_check import cross_check
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.json_documents import keys_of_first_object
from model_load_test.components.results.merge import merge
from model_load_test.components.results.report import Report
from model_load_test.components.results.source import HEAD_BYTES, Source
from model_load_test.components.results.table import ROWS_SCHEMA, read_results

__all__ = ["Report", "read_report"]

MOST_FILES: Final = 1_000
"""Workers of one run."""

_Reader = Callable[[Source, int], Report]

_BOM: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_VEGETA_CSV: Final = re.compile(rb"\d{19},")
_EMPTY_LIST: Final = re.compile(rb"\s*\[\s*\]\s*")
_VEGETA_GOB: Final = re.compile(rb"\A.{0,8}\x06Result\x01", re.DOTALL)

_CSV_READERS: Final[tuple[tuple[str, _Reader], ...]] = (
    (ghz_csv.CSV_HEADER, ghz_csv.read_ghz_csv),
    (locust.STATISTICS_HEADER, locust.read_locust_statistics),
    (locust.HISTORY_HEADER, locust.read_locust_statistics),
    (vegeta_reports.HDRPLOT_HEADER, vegeta_reports.read_vegeta_hdrplot),
)
_REFUSED: Final = (
    ("Method,Name,Error,Occurrences", "Locust's list of failures", "give the output of locust --json"),
    ("Count,Message,Traceback,Nodes", "Locust's list of exceptions", "give the output of locust --json"),
    (
        "Requests      [total",
        "vegeta's text report",
        "give the output of vegeta report -type=json, or of encode",
    ),
    ("Bucket", "vegeta's histogram report", "give the output of vegeta report -type=json, or of encode"),
    ("Summary:", "ghz's text summary", "run ghz with -O json"),
    ("[20", "Locust's log", "give the output of locust --json"),
    ("Type     Name", "Locust's table", "give the output of locust --json"),
)


def read_report(paths: Path | str | Sequence[Path | str]) -> Report:
    """Reads one report, or those of several workers of one run as one.

    Args:
        paths: Files, plain or gzip; `-` is standard input. Several files are the workers of one
            run, in this order; a vegeta JSON report beside vegeta's streams is checked against them.

    Returns:
        Requests or summary, with what the readers found wrong; `validity.validate_report` looks
        at the measurement itself.

    Raises:
        ResultsError: A file is damaged, or nothing that any generator writes.
    """
    several = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not 0 < len(several) <= MOST_FILES:
        raise ResultsError("files", "", len(several), f"give from 1 to {MOST_FILES} files", "unreadable")
    merged = merge([_read_one(path, worker) for worker, path in enumerate(several)])
    if merged.tool == "vegeta" and merged.has_rows and merged.stated is not None:
        merged = replace(merged, checks=(*merged.checks, *cross_check(merged.stated, merged.rows)))
    return merged


def _read_one(path: Path | str, worker: int) -> Report:
    with Source(path) as source:
        return replace(_reader_of(source)(source, worker), files=(source.name,))


def _reader_of(source: Source) -> _Reader:
    head = source.head
    if not head.strip():
        raise _refused(source, "nothing", "the generator wrote no report; see its log", "empty-file")
    if head.startswith(_BOM):
        raise _refused(source, "a byte order mark", "save the file without it", "malformed")
    if head.startswith(b"PAR1"):
        return _read_results_table
    if _VEGETA_GOB.match(head):
        return vegeta_results.read_vegeta_gob
    if head.lstrip()[:1] in (b"{", b"[") and not head.startswith(b"[20"):
        return _json_reader(source)
    return _text_reader(source)


def _json_reader(source: Source) -> _Reader:
    is_list = source.head.lstrip().startswith(b"[")
    keys = keys_of_first_object(source.head.lstrip()[1:] if is_list else source.head)
    if is_list and (locust.is_locust(keys) or _EMPTY_LIST.fullmatch(source.head)):
        return locust.read_locust_json
    if not is_list:
        for recognises, reader in (
            (ghz.is_ghz, ghz.read_ghz_json),
            (vegeta_results.is_vegeta_record, vegeta_results.read_vegeta_json),
            (vegeta_reports.is_vegeta_report, vegeta_reports.read_vegeta_report),
        ):
            if recognises(keys):
                return reader
        # the tell-tale keys may stand behind long options, or be cut off
        if {"options", "endReason"} & keys and (len(source.head) == HEAD_BYTES or "count" in keys):
            return ghz.read_ghz_json
    raise _refused(source, "JSON of no load generator known here", _REMEDY, "not-recognised")


def _text_reader(source: Source) -> _Reader:
    first_line = source.head.lstrip().split(b"\n", 1)[0].decode(errors="replace")
    for header, reader in _CSV_READERS:
        if first_line.startswith(header):
            return reader
    if _VEGETA_CSV.match(source.head):
        return vegeta_csv.read_vegeta_csv
    for start, what, remedy in _REFUSED:
        if first_line.startswith(start):
            raise _refused(source, what, remedy, "not-recognised")
    raise _refused(source, "nothing that a load generator known here writes", _REMEDY, "not-recognised")


_REMEDY: Final = (
    "give a report of ghz (-O json), results or a report of vegeta (encode -to json), of Locust (--json), "
    "or a results.parquet"
)


def _refused(source: Source, found: str, remedy: str, code: str) -> ResultsError:
    return ResultsError(source.name, "", Description(found), remedy, code)


def _read_results_table(source: Source, worker: int) -> Report:
    """Our own parquet; workers are in it."""
    del worker
    if source.is_stdin or source.is_compressed:
        raise _refused(
            source, "parquet through a pipe or gzip", "give the plain file by its path", "unreadable"
        )
    results = read_results(source.path)
    measured = results.table.filter(columns.booleans(columns.numbers(results.table["block"], np.int32) >= 0))
    return Report(
        tool=results.metadata.tool,
        tool_version=results.metadata.tool_version,
        rows=measured.select(ROWS_SCHEMA.names),
        cut_off=results.metadata.cut_off,
        kind="results table",
        metadata=results.metadata,
        table=results.table,
    )
