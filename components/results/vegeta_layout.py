"""A block of vegeta's JSON lines read by the layout that vegeta writes, all records at once.

What differs from record to record is its number, its time and its latency. What stands before the
time (the code) and behind the latency (sizes, body, method, address, headers) is the same in many
records of a run that gets the same answers: it is decoded once a block and then only recognised. A
block in which anything is otherwise is left to the decoder.
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
from model_load_test.components.results.vegeta_stream import Record

MOST_ENDINGS: Final = 32
"""Different endings of a block worth comparing; with more the decoder is as fast."""

_TO_SEQUENCE: Final = b'","seq":'
_TO_TIMESTAMP: Final = b',"timestamp":"'
_BEFORE_LATENCY: Final = b'","latency":'


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


@dataclass(frozen=True)
class _Endings:
    """What the decoder read of one record of each ending, for every record."""

    first: Record
    request_bytes: Int64s
    response_bytes: Int64s


def columns_of(text: Text, newlines: Int64s) -> Columns | None:
    """The records of whole lines; None where one has another layout, an error, or is not sound.

    Args:
        text: A record and a newline each.
        newlines: Where the newlines stand.
    """
    starts = np.concatenate(([0], newlines[:-1] + 1))
    start = text.up_to(0, _TO_SEQUENCE)
    if not start or not constant_everywhere(text, starts, start):
        return None
    sequence = numbers_at(text, starts + len(start))
    places = starts + len(start) + sequence.lengths
    middle = text.up_to(int(places[0]), _TO_TIMESTAMP)
    if not (middle and sequence.sound.all() and constant_everywhere(text, places, middle)):
        return None
    places = places + len(middle)
    sent_at_ns = timestamps_at(text, places)
    places = places + sent_at_ns.lengths
    if not (sent_at_ns.sound.all() and constant_everywhere(text, places, _BEFORE_LATENCY)):
        return None
    places = places + len(_BEFORE_LATENCY)
    latency_ns = numbers_at(text, places)
    if not latency_ns.sound.all():
        return None
    endings = _decoded_endings(text, starts, newlines, places + latency_ns.lengths)
    if endings is None:
        return None
    return Columns(
        attack=endings.first.attack,
        sequence=sequence.values,
        code=np.full(len(starts), endings.first.code, dtype=np.int64),
        sent_at_ns=sent_at_ns.values,
        latency_ns=latency_ns.values,
        request_bytes=endings.request_bytes,
        response_bytes=endings.response_bytes,
    )


def _decoded_endings(text: Text, starts: Int64s, newlines: Int64s, endings: Int64s) -> _Endings | None:
    """Decodes one record of each ending; None if one is not sound or failed, or there are too many."""
    unknown: Bools = np.ones(len(endings), dtype=np.bool_)
    request_bytes = np.zeros(len(endings), dtype=np.int64)
    response_bytes = np.zeros(len(endings), dtype=np.int64)
    first: Record | None = None
    for _ in range(MOST_ENDINGS):
        index = int(unknown.argmax())
        line = text.slice(int(starts[index]), int(newlines[index]) + 1)
        ending = line[int(endings[index] - starts[index]) :]
        if len(ending) > LONGEST_CONSTANT:
            return None
        try:
            record = msgspec.json.decode(line, type=Record)
            refuse_duplicate_keys("", line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ResultsError):
            return None
        if record.error:
            return None
        first = first or record
        among = np.flatnonzero(unknown)
        everywhere = constant_everywhere(text, endings[among], ending)
        alike = among if everywhere else among[constant_at(text, endings[among], ending)]
        unknown[alike] = False
        request_bytes[alike] = record.bytes_out
        response_bytes[alike] = record.bytes_in
        if not unknown.any():
            return _Endings(first, request_bytes, response_bytes)
    return None
