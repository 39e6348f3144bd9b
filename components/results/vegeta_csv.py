"""vegeta's results as CSV, `vegeta encode -to csv`: twelve columns without a header."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from model_load_test.components.results.checks import Check
from model_load_test.components.results.columns import Int64s
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.json_documents import MAX_INTEGER
from model_load_test.components.results.report import Report
from model_load_test.components.results.source import MAX_LINE_BYTES, Source
from model_load_test.components.results.truncation import truncated
from model_load_test.components.results.vegeta_stream import HIGHEST_CODE, Stream

_CSV_COLUMNS: Final = (9, 12)
"""12 since vegeta 12.8.0, which added method, url and headers."""
_CSV_CHUNK: Final = 4_096
_LONGEST_INTEGER: Final = 20


def read_vegeta_csv(source: Source, worker: int) -> Report:
    """Reads `vegeta encode -to csv`.

    Raises:
        ResultsError: A record is damaged. A stream cut within its last line is no error but the
            check `truncated`.
    """
    stream = Stream(source.name)
    lines = _Lines(source)
    limit_before = csv.field_size_limit(MAX_LINE_BYTES)
    records = _csv_records(source.name, csv.reader(lines, strict=True), lines)
    checks: tuple[Check, ...] = ()
    try:
        while chunk := list(itertools.islice(records, _CSV_CHUNK)):
            if chunk[-1].cut:
                checks = (truncated(source.name, chunk.pop().line),)
            _add_csv(source.name, stream, chunk)
    finally:
        csv.field_size_limit(limit_before)
    return stream.report(worker, "vegeta results CSV", checks)


class _CsvRecord(NamedTuple):
    line: int
    cells: list[str]
    cut: bool = False


def _csv_records(file: str, reader: Iterator[list[str]], lines: _Lines) -> Iterator[_CsvRecord]:
    """The records with their lines, blank ones left out; a last one that is cut says so."""
    columns_of_first = 0
    while True:
        try:
            cells = next(reader, None)
        except csv.Error:
            if lines.ended:
                raise _malformed(file, lines.number, "not CSV") from None
            yield _CsvRecord(lines.number, [], cut=True)
            return
        if cells is None:
            return
        if not cells:
            continue
        columns_of_first = columns_of_first or len(cells)
        if not lines.ended and len(cells) < max(_CSV_COLUMNS):
            yield _CsvRecord(lines.number, [], cut=True)
            return
        if len(cells) not in _CSV_COLUMNS or len(cells) != columns_of_first:
            raise _malformed(file, lines.number, f"{len(cells)} columns")
        yield _CsvRecord(lines.number, cells)


def _malformed(file: str, line: int, found: str) -> ResultsError:
    return ResultsError(
        file, f"line {line}", Description(found), "give the stream as vegeta wrote it", "malformed"
    )


class _Lines:
    """The lines of a source as text, for the csv module."""

    def __init__(self, source: Source) -> None:
        self.number = 0
        self.ended = True
        """False once a last line without newline was handed out."""
        self._file = source.name
        self._blocks = source.line_blocks()

    def __iter__(self) -> Iterator[str]:
        for block in self._blocks:
            self.ended = block.ended
            for line in block.text.splitlines(keepends=True):
                self.number += 1
                try:
                    yield line.decode()
                except UnicodeDecodeError:
                    raise _malformed(self._file, self.number, "bad UTF-8") from None


def _add_csv(file: str, stream: Stream, records: list[_CsvRecord]) -> None:
    if not records:
        return
    lines = [record.line for record in records]
    integers = {
        name: _integers(file, lines, name, [record.cells[column] for record in records], most)
        for name, column, most in (
            ("timestamp", 0, MAX_INTEGER),
            ("code", 1, HIGHEST_CODE),
            ("latency", 2, MAX_INTEGER),
            ("bytes_out", 3, MAX_INTEGER),
            ("bytes_in", 4, MAX_INTEGER),
            ("seq", 8, MAX_INTEGER),
        )
    }
    stream.add_sequence([record.cells[7] for record in records], integers["seq"])
    stream.add_columns(
        lines.__getitem__,
        integers["timestamp"],
        integers["latency"],
        integers["code"],
        [record.cells[5] for record in records],
        integers["bytes_out"],
        integers["bytes_in"],
    )


def _integers(file: str, lines: list[int], name: str, texts: list[str], most: int) -> Int64s:
    for line, text in zip(lines, texts, strict=True):
        if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_INTEGER and int(text) <= most):
            raise ResultsError(
                file,
                f"line {line}, {name}",
                Description(f"no integer from 0 to {most}"),
                "give the stream as vegeta wrote it",
                "out-of-range" if text.isdecimal() else "wrong-type",
            )
    return np.array([int(text) for text in texts], dtype=np.int64)
