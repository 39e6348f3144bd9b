"""Where a report comes from: a file, standard input, either of them compressed with gzip."""

from __future__ import annotations

import contextlib
import gzip
import io
import mmap
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

import numpy as np

from model_load_test.components.results.columns import Int64s
from model_load_test.components.results.errors import Description, ResultsError
from model_load_test.components.results.places import PADDING_BYTES, Text

STDIN: Final = "-"
HEAD_BYTES: Final = 1 << 16
"""What is looked at to recognise a report."""
BLOCK_BYTES: Final = 1 << 21
MAX_LINE_BYTES: Final = 1 << 26
"""The longest line of a stream: a request with its body, 64 MiB."""
MAX_DOCUMENT_BYTES: Final = 1 << 29
"""The largest report read as a whole, after decompression: 512 MiB. ghz keeps at most 1 000 000
requests, which are 91 MB, or 250 MB where all failed."""
MAX_DECOMPRESSED_BYTES: Final = 1 << 33
"""Where the decompression of a stream stops: 8 GiB."""

ReadInto = Callable[[memoryview], int]

_GZIP_MAGIC: Final = b"\x1f\x8b"


class LineBlock(NamedTuple):
    """Some whole lines of a stream; good until the next ones are asked for, which overwrite them."""

    first_line: int
    """Number of the first line, from 1."""
    lines: Text
    newlines: Int64s
    """Where they stand in the text."""
    ended: bool
    """False for the last line of a stream that does not end in a newline."""

    @property
    def text(self) -> bytes:
        """The lines in a copy, to be kept or taken apart."""
        return self.lines.slice(0, self.lines.length)


class Source:
    """A report's bytes. Read once, front to back; a context manager that closes the file."""

    def __init__(self, path: Path | str) -> None:
        self.is_stdin = str(path) == STDIN
        self.name = "<stdin>" if self.is_stdin else str(path)
        self.path = Path(path)
        self._raw: IO[bytes]
        try:
            self._raw = sys.stdin.buffer if self.is_stdin else self.path.open("rb")
            raw_head = _read_fully(self._raw, HEAD_BYTES)
        except OSError as error:
            raise ResultsError(
                self.name, "", Description(error.strerror or "unreadable"), "check the path", "unreadable"
            ) from None
        self.is_compressed = raw_head.startswith(_GZIP_MAGIC)
        self._stream: IO[bytes] | gzip.GzipFile
        if self.is_compressed:
            self._stream = gzip.GzipFile(fileobj=_Rejoined(raw_head, self._raw), mode="rb")
            self.head = self._read(HEAD_BYTES)
        else:
            self._stream = self._raw
            self.head = raw_head
        self._read_bytes = len(self.head)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.is_stdin:
            self._raw.close()

    def document(self, limit: int = MAX_DOCUMENT_BYTES) -> bytes | mmap.mmap:
        """The whole report; a plain file is mapped, not copied."""
        if not self.is_compressed and not self.is_stdin and len(self.head) == HEAD_BYTES:
            mapped = mmap.mmap(self._raw.fileno(), 0, access=mmap.ACCESS_READ)
            if len(mapped) > limit:
                raise self._too_large(limit)
            return mapped
        parts = bytearray(self.head)
        while block := self._read(BLOCK_BYTES):
            parts += block
            if len(parts) > limit:
                raise self._too_large(limit)
        return bytes(parts)

    def blocks(self) -> Iterator[bytes]:
        """The report piece by piece."""
        total = len(self.head)
        yield self.head
        while block := self._read(BLOCK_BYTES):
            total += len(block)
            if self.is_compressed and total > MAX_DECOMPRESSED_BYTES:
                raise self._too_large(MAX_DECOMPRESSED_BYTES)
            yield block

    def line_blocks(self) -> Iterator[LineBlock]:
        """The report as blocks of whole lines."""
        return line_blocks(self._read_into, self.name, self.head)

    def _read(self, size: int) -> bytes:
        with self._failures_told():
            return _read_fully(self._stream, size)

    def _read_into(self, place: memoryview) -> int:
        with self._failures_told():
            count = self._stream.readinto(place)  # type: ignore[union-attr]  # a binary stream has it
        self._read_bytes += count
        if self.is_compressed and self._read_bytes > MAX_DECOMPRESSED_BYTES:
            raise self._too_large(MAX_DECOMPRESSED_BYTES)
        return int(count)

    @contextlib.contextmanager
    def _failures_told(self) -> Iterator[None]:
        try:
            yield
        except EOFError:
            raise ResultsError(
                self.name,
                "",
                Description("gzip data that ends too early"),
                "copy the whole file",
                "truncated",
            ) from None
        except (OSError, zlib.error) as error:
            raise ResultsError(
                self.name, "", Description(type(error).__name__), "the file cannot be read", "malformed"
            ) from None

    def _too_large(self, limit: int) -> ResultsError:
        return _too_large(self.name, limit)


def line_blocks(read_into: ReadInto, file: str, head: bytes = b"") -> Iterator[LineBlock]:
    """Cuts a stream of bytes at line ends.

    All blocks stand one after the other in one buffer, at whose end there is the room that `Text`
    wants: nothing is copied but what a block leaves of its last line.

    Args:
        read_into: Fills a place from its front and returns the number of bytes, 0 at the end.
        file: Name for errors.
        head: What was already read.

    Raises:
        ResultsError: A line is longer than `MAX_LINE_BYTES`.
    """
    buffer = bytearray(2 * BLOCK_BYTES + PADDING_BYTES)
    buffer[: len(head)] = head
    filled, searched, line = len(head), 0, 1
    while True:
        end = buffer.rfind(b"\n", searched, filled) + 1
        if end:
            rest = buffer[end:filled]
            text = Text.in_buffer(buffer, end)
            newlines = text.places_of(b"\n")
            yield LineBlock(line, text, newlines, True)
            line += len(newlines)
            filled = len(rest)
            buffer[:filled] = rest
        elif filled > MAX_LINE_BYTES:
            raise _too_large(file, MAX_LINE_BYTES, f"line {line}")
        searched = filled
        if filled + BLOCK_BYTES + PADDING_BYTES > len(buffer):
            buffer = buffer + bytes(len(buffer))
        with memoryview(buffer) as place:
            count = read_into(place[filled : filled + BLOCK_BYTES])
        if not count:
            break
        filled += count
    if filled:
        yield LineBlock(line, Text.in_buffer(buffer, filled), np.zeros(0, dtype=np.int64), False)


def _too_large(file: str, limit: int, position: str = "") -> ResultsError:
    return ResultsError(
        file, position, Description(f"more than {limit} bytes"), "split the report", "too-large"
    )


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes were already read."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        super().__init__()
        self._head = head
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._rest.read(size)
        taken, self._head = self._head[:size], self._head[size:]
        return taken


def _read_fully(stream: IO[bytes] | gzip.GzipFile, size: int) -> bytes:
    """Up to `size` bytes; fewer only at the end, also from a pipe."""
    parts = b""
    while len(parts) < size:
        block = stream.read(size - len(parts))
        if not block:
            break
        parts = parts + block if parts else block
    return parts
