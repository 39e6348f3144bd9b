"""vegeta's results as JSON lines, `vegeta encode -to json`, and in its own gob encoding.

vegeta's own report drops the last record of a stream without a final newline and stops at a blank
line, both with exit code 0. Here every record counts, and the sequence numbers tell what is missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Final

import msgspec
import numpy as np

from model_load_test.components.results.checks import Check
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.json_documents import decode, refuse_duplicate_keys
from model_load_test.components.results.report import Kind, Report
from model_load_test.components.results.source import LineBlock, Source, line_blocks
from model_load_test.components.results.truncation import truncated
from model_load_test.components.results.vegeta_layout import Columns, columns_of
from model_load_test.components.results.vegeta_stream import OldRecord, Record, Stream

_KEYS_OF_A_RECORD: Final = 12
_MOST_MISSES: Final = 4
"""Blocks in a row without the usual layout after which it is not looked for again."""
_CACHE_BYTES: Final = 1 << 17
"""Scanned at once: temporary arrays of this size stay in the cache."""


def is_vegeta_record(keys: set[str]) -> bool:
    """Whether a JSON object with these keys is one request of vegeta."""
    return {"code", "timestamp", "latency", "seq"} <= keys


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
            blocks = line_blocks(process.stdout.readinto, source.name)  # type: ignore[attr-defined]
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


def _read_json_lines(file: str, blocks: Iterable[LineBlock], worker: int, kind: Kind) -> Report:
    stream = Stream(file)
    decoder = msgspec.json.Decoder(Record)
    misses = 0
    for block in blocks:
        columns = columns_of(block.lines, block.newlines) if misses < _MOST_MISSES and block.ended else None
        if columns is not None:
            _add_columns(stream, block, columns)
            misses = 0
            continue
        misses += 1
        try:
            text = block.text
            records = decoder.decode_lines(text)
            as_written = _has_no_key_twice(text, len(records))
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


def _add_columns(stream: Stream, block: LineBlock, columns: Columns) -> None:
    count = len(columns.sequence)
    stream.add_sequence([columns.attack] * count, columns.sequence)
    stream.add_columns(
        partial(_line_of, block),
        columns.sent_at_ns,
        columns.latency_ns,
        columns.code,
        [""] * count,
        columns.request_bytes,
        columns.response_bytes,
    )


def _line_of(block: LineBlock, index: int) -> int:
    """The line of the i-th record of a block: blank lines hold none."""
    filled = (line for line, text in enumerate(block.text.split(b"\n"), block.first_line) if text.strip())
    return next(itertools.islice(filled, index, None))


class _CutLine(Exception):
    """The last line of a stream ends within a record."""

    def __init__(self, line: int) -> None:
        self.line = line
        super().__init__(line)


def _records_one_by_one(file: str, block: LineBlock) -> Iterator[OldRecord]:
    """The slow way: for older versions and other key orders, and to name the line at fault."""
    for number, line in enumerate(block.text.split(b"\n"), block.first_line):
        if not line.strip():
            continue
        try:
            record = decode(file, line, OldRecord, f"line {number}")
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
