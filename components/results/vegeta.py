"""vegeta's result streams: JSON, CSV and gob, one record a request.

vegeta's own report drops the last record of a stream without a final newline and stops at a blank
line, both with exit code 0. Here every record counts, and the sequence numbers tell what is missing.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Final, NamedTuple

import msgspec
import numpy as np

from model_load_test.components.results.checks import Check
from model_load_test.components.results.columns import Bools, Int32s, Int64s
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.json_documents import (
    MAX_INTEGER,
    Count,
    decode,
    refuse_duplicate_keys,
)
from model_load_test.components.results.phantoms import NO_TARGETS, phantom_check
from model_load_test.components.results.report import Kind, Report
from model_load_test.components.results.rows import MAX_LATENCY_NS, RowCollector
from model_load_test.components.results.source import (
    BLOCK_BYTES,
    MAX_LINE_BYTES,
    LineBlock,
    Source,
    line_blocks,
)
from model_load_test.components.results.timestamps import NoTimestamp, unix_ns
from model_load_test.components.results.truncation import truncated

_CSV_COLUMNS: Final = (9, 12)
"""12 since vegeta 12.8.0, which added method, url and headers."""
_KEYS_OF_A_RECORD: Final = 12
_CACHE_BYTES: Final = 1 << 17
"""Scanned at once: temporary arrays of this size stay in the cache."""
_CSV_CHUNK: Final = 4_096
_HIGHEST_CODE: Final = 999
_LONGEST_INTEGER: Final = 20
_LineOf = Callable[[int], int]
_Code = Annotated[int, msgspec.Meta(ge=0, le=999)]


class _Record(msgspec.Struct, gc=False):
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


class _OldRecord(msgspec.Struct, gc=False):
    """A request of an older version, or passed through another program."""

    seq: Count
    code: _Code
    timestamp: str
    latency: Count
    attack: str = ""
    bytes_out: Count = 0
    bytes_in: Count = 0
    error: str | None = None


def is_vegeta_record(keys: set[str]) -> bool:
    """Whether a JSON object with these keys is one request of vegeta."""
    return {"code", "timestamp", "latency", "seq"} <= keys


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


class _Stream:
    """Collects the records of one stream, of whatever encoding."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._collector = RowCollector()
        self._attacks = _Attacks()
        self._phantoms = 0

    def add(self, line_of: _LineOf, records: Sequence[_Record | _OldRecord]) -> None:
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
        self._attacks.add(attack, sequence)

    def add_columns(
        self,
        line_of: _LineOf,
        sent_at_ns: Int64s,
        latency_ns: Int64s,
        code: Int64s,
        error: list[str],
        request_bytes: Int64s,
        response_bytes: Int64s,
    ) -> None:
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


def read_vegeta_json(source: Source, worker: int) -> Report:
    """Reads `vegeta encode -to json`, also without a final newline or with blank lines.

    Raises:
        ResultsError: A record is damaged. A stream cut within its last line is no error but the
            check `truncated`.
    """
    return _read_json_lines(source.name, source.line_blocks(), worker, "vegeta results JSON")


def read_vegeta_gob(source: Source, worker: int) -> Report:
    """Reads vegeta's own encoding through the vegeta binary.

    Raises:
        ResultsError: There is no vegeta on the PATH, or it cannot decode the stream.
    """
    program = shutil.which("vegeta")
    if program is None:
        raise ResultsError(
            source.name,
            "",
            Description("vegeta's gob encoding"),
            "install vegeta, or give the output of: vegeta encode -to json",
            "gob-needs-vegeta",
        )
    command = [program, "encode", "-to", "json"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout and process.stderr  # pipes were asked for
        feeder = threading.Thread(target=_feed, args=(source, process.stdin), daemon=True)
        feeder.start()
        try:
            blocks = line_blocks(iter(partial(process.stdout.read, BLOCK_BYTES), b""), source.name)
            report = _read_json_lines(source.name, blocks, worker, "vegeta results gob")
        except BaseException:
            process.kill()
            raise
        finally:
            feeder.join()
        said = process.stderr.read()
    return report if process.returncode == 0 else _cut_gob(source.name, report, said)


def _feed(source: Source, pipe: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError), pipe:
        for block in source.blocks():
            pipe.write(block)


def _cut_gob(file: str, report: Report, said: bytes) -> Report:
    if not report.rows.num_rows or b"EOF" not in said:
        raise ResultsError(
            file,
            f"after record {report.rows.num_rows}",
            Description("not decodable by vegeta"),
            "copy the whole file; give several streams as several files",
            "malformed",
        )
    cut = Check(
        code="truncated",
        detail=(
            f"{Path(file).name} ends within a record after {report.rows.num_rows} requests. "
            "Repeat the run, or copy the whole file"
        ),
        consequence="INVALID",
        numbers={"requests": float(report.rows.num_rows)},
    )
    return dataclasses.replace(report, checks=(cut, *report.checks))


def read_vegeta_csv(source: Source, worker: int) -> Report:
    """Reads `vegeta encode -to csv`.

    Raises:
        ResultsError: A record is damaged. A stream cut within its last line is no error but the
            check `truncated`.
    """
    stream = _Stream(source.name)
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


def _add_csv(file: str, stream: _Stream, records: list[_CsvRecord]) -> None:
    if not records:
        return
    lines = [record.line for record in records]
    integers = {
        name: _integers(file, lines, name, [record.cells[column] for record in records], most)
        for name, column, most in (
            ("timestamp", 0, MAX_INTEGER),
            ("code", 1, _HIGHEST_CODE),
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


def _read_json_lines(file: str, blocks: Iterable[LineBlock], worker: int, kind: Kind) -> Report:
    stream = _Stream(file)
    decoder = msgspec.json.Decoder(_Record)
    for block in blocks:
        try:
            records = decoder.decode_lines(block.text)
            as_written = _has_no_key_twice(block.text, len(records))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            as_written = False
        if as_written:
            stream.add(partial(_line_of, block), records)
            continue
        try:
            stream.add(partial(_line_of, block), list(_records_one_by_one(file, block)))
        except _CutLine as cut:
            return stream.report(worker, kind, (truncated(file, cut.line),))
    return stream.report(worker, kind)


def _line_of(block: LineBlock, index: int) -> int:
    """The line of the i-th record of a block: blank lines hold none."""
    filled = (line for line, text in enumerate(block.text.split(b"\n"), block.first_line) if text.strip())
    return next(itertools.islice(filled, index, None))


class _CutLine(Exception):
    """The last line of a stream ends within a record."""

    def __init__(self, line: int) -> None:
        self.line = line
        super().__init__(line)


def _records_one_by_one(file: str, block: LineBlock) -> Iterator[_OldRecord]:
    """The slow way: for older versions and other key orders, and to name the line at fault."""
    for number, line in enumerate(block.text.split(b"\n"), block.first_line):
        if not line.strip():
            continue
        try:
            record = decode(file, line, _OldRecord, f"line {number}")
        except ResultsError as error:
            if error.code == "truncated" and not block.ended:
                raise _CutLine(number) from None
            raise
        refuse_duplicate_keys(file, line, f"line {number}")
        yield record


def _has_no_key_twice(text: bytes, count: int) -> bool:
    """Whether the text holds twelve keys a record, header names apart.

    Each record has the twelve keys, or it would not have been decoded; so a thirteenth is one given
    twice. A key is a quote and a colon; that of a header is followed by a list. Escapes, and space
    before a colon, which vegeta does not write, could hide keys: then nothing is claimed.
    """
    characters = np.frombuffer(text, np.uint8)
    keys = 0
    for start in range(0, len(characters), _CACHE_BYTES):
        part = characters[start : start + _CACHE_BYTES + 2]
        own = part[:_CACHE_BYTES]
        escapes = np.count_nonzero(own == ord("\\"))
        controls = np.count_nonzero(own < ord(" ")) - np.count_nonzero(own == ord("\n"))
        colon = part[1:] == ord(":")
        spaced = np.count_nonzero((part[:-1] == ord(" ")) & colon)
        if escapes or controls or spaced:
            return False
        key_end = (part[:-2] == ord('"')) & colon[:-1]
        keys += int(np.count_nonzero(key_end)) - int(np.count_nonzero(key_end & (part[2:] == ord("["))))
    return keys == _KEYS_OF_A_RECORD * count
