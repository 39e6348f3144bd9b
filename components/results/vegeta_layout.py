"""A block of vegeta's JSON lines read by the layout that vegeta writes, all records at once.

What stands behind the numbers - body, method, address, headers - is the same in many records of a
run that gets the same answers: it is decoded once a block and then only recognised. A block in
which anything is otherwise is left to the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from model_load_test.components.results.columns import Bools, Int64s
from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.json_documents import refuse_duplicate_keys
from model_load_test.components.results.places import (
    LONGEST_CONSTANT,
    Text,
    constant_at,
    constant_everywhere,
    numbers_at,
    timestamps_at,
)
from model_load_test.components.results.vegeta_stream import HIGHEST_CODE, Record

MOST_ENDINGS: Final = 16
"""Different endings of a block worth comparing; with more the decoder is as fast."""

_TO_SEQUENCE: Final = b'","seq":'
_BEFORE_NUMBERS: Final = (b',"code":', b',"timestamp":"', b'","latency":', b',"bytes_out":', b',"bytes_in":')
_ENDING: Final = b',"error":"","body":'


@dataclass(frozen=True)
class Columns:
    """Requests without an error text."""

    attack: str
    sequence: Int64s
    code: Int64s
    sent_at_ns: Int64s
    latency_ns: Int64s
    request_bytes: Int64s
    response_bytes: Int64s


def columns_of(lines: bytes, newlines: Int64s) -> Columns | None:
    """The records of whole lines; None where one has another layout, an error, or is not sound.

    Args:
        lines: A record and a newline each.
        newlines: Where the newlines stand.
    """
    text = Text(lines)
    starts = np.concatenate(([0], newlines[:-1] + 1))
    start = lines[: lines.find(_TO_SEQUENCE, 0, LONGEST_CONSTANT - len(_TO_SEQUENCE)) + len(_TO_SEQUENCE)]
    if len(start) <= len(_TO_SEQUENCE) or not constant_everywhere(text, starts, start):
        return None
    read = _numbers(text, starts + len(start))
    if read is None:
        return None
    (sequence, code, sent_at_ns, latency_ns, request_bytes, response_bytes), endings = read
    first = _first_if_endings_are_sound(text, lines, starts, newlines, endings)
    if first is None or int(code.max()) > HIGHEST_CODE:
        return None
    return Columns(first.attack, sequence, code, sent_at_ns, latency_ns, request_bytes, response_bytes)


def _numbers(text: Text, places: Int64s) -> tuple[list[Int64s], Int64s] | None:
    """Sequence number, code, timestamp, latency and sizes, and where they end; None if unsound."""
    columns = []
    for before in (b"", *_BEFORE_NUMBERS):
        if before and not constant_everywhere(text, places, before):
            return None
        places = places + len(before)
        found = (timestamps_at if b"timestamp" in before else numbers_at)(text, places)
        if not found.sound.all():
            return None
        columns.append(found.values)
        places = places + found.lengths
    return columns, places


def _first_if_endings_are_sound(
    text: Text, lines: bytes, starts: Int64s, newlines: Int64s, endings: Int64s
) -> Record | None:
    """The first record, after one record of each ending was decoded; None if there are too many."""
    unknown: Bools = np.ones(len(endings), dtype=np.bool_)
    first: Record | None = None
    for _ in range(MOST_ENDINGS):
        index = int(unknown.argmax())
        line = lines[starts[index] : newlines[index] + 1]
        ending = line[endings[index] - starts[index] :]
        if len(ending) > LONGEST_CONSTANT or not ending.startswith(_ENDING):
            return None
        try:
            record = msgspec.json.decode(line, type=Record)
            refuse_duplicate_keys("", line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ResultsError):
            return None
        first = first or record
        among = np.flatnonzero(unknown)
        unknown[among[constant_at(text, endings[among], ending)]] = False
        if not unknown.any():
            return first
    return None
