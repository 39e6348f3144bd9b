"""Constants, numbers and timestamps at many places of one text, read for all places at once.

A report of a million requests repeats one layout a million times. Eight characters are one 64-bit
word, so a number or a comparison at all places is a few operations on arrays of words (SIMD within
a register; the digits by D. Lemire, "Parsing series of integers with SIMD", and H. Warren,
"Hacker's Delight"). Nothing here refuses: what does not have the layout is told, and read again by
the slower way, which names the place of a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from model_load_test.components.results.columns import Bools, Int64s
from model_load_test.components.results.timestamps import DAY_NS, SECOND_NS, days_since_epoch

Characters = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Windows = npt.NDArray[np.void]

LONGEST_CONSTANT: Final = 1_000
_WORD: Final = 8
_MOST_DIGITS: Final = 2 * _WORD - 1
PADDING_BYTES: Final = LONGEST_CONSTANT + 3 * _WORD
"""Room behind a text from whose end on it may be asked for any constant or number."""
_AT_ONCE: Final = 120_000
"""Bytes of a temporary array: it stays in the cache, and malloc does not ask the system for it."""
_ZEROS: Final = np.uint64(0x3030303030303030)
_SEVEN_BITS: Final = np.uint64(0x7F7F7F7F7F7F7F7F)
_TO_EIGHTH_BIT: Final = np.uint64(0x7676767676767676)
_EIGHTH_BITS: Final = np.uint64(0x8080808080808080)
_MANTISSA_BITS: Final = 52
_EXPONENT_BIAS: Final = 1023
_POWERS_OF_TEN: Final = 10 ** np.arange(_MOST_DIGITS + 1, dtype=np.int64)

_DATE: Final = len("2026-11-21")
_CLOCK: Final = len("2026-11-21T")
_POINT: Final = len("2026-11-21T11:16:15")
_MOST_DATES: Final = 3
_NANOSECOND_DIGITS: Final = 9
# "HH:MM:SS" less "00000000": colons leave 0x0A at the third and sixth character, digits 0 to 9.
_COLONS: Final = np.uint64(0x00000A00000A0000)
_COLON_PLACES: Final = np.uint64(0x0000FF0000FF0000)
_COLON_EIGHTH_BITS: Final = np.uint64(0x0000800000800000)


class Text:
    """A text that may be asked at places up to its end, from which on zeros follow."""

    def __init__(self, text: bytes | memoryview) -> None:
        self._of_padded(b"".join((text, bytes(PADDING_BYTES))))

    @classmethod
    def in_buffer(cls, buffer: bytearray, length: int) -> Text:
        """The first `length` characters of a buffer, not copied; overwrites `PADDING_BYTES` behind them."""
        buffer[length : length + PADDING_BYTES] = bytes(PADDING_BYTES)
        text = cls.__new__(cls)
        text._of_padded(memoryview(buffer)[: length + PADDING_BYTES])
        return text

    def _of_padded(self, padded: bytes | memoryview) -> None:
        self._padded = padded
        self._words: Words = np.ndarray((len(padded) - _WORD + 1,), "<u8", padded, strides=(1,))
        self.characters: Characters = np.frombuffer(padded, np.uint8)
        self.length = len(padded) - PADDING_BYTES

    def slice(self, start: int, end: int) -> bytes:
        """A copy of some characters."""
        return bytes(self._padded[start:end])

    def up_to(self, place: int, end: bytes) -> bytes:
        """The characters from a place up to `end`, which they include; empty where that is not near."""
        near = self.slice(place, min(place + LONGEST_CONSTANT, self.length))
        return near[: near.find(end) + len(end)] if end in near else b""

    def places_of(self, character: bytes) -> Int64s:
        """Where a character stands."""
        parts = [
            first + _places_of(self.characters[first : min(first + _AT_ONCE, self.length)], ord(character))
            for first in range(0, self.length, _AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def words(self, places: Int64s) -> Words:
        """The eight characters from each place on; the first is the lowest byte."""
        words: Words = self._words[places]
        return words

    def windows(self, places: Int64s, length: int) -> Windows:
        """So many characters from each place on."""
        of_length = (len(self._padded) - length + 1,)
        windows: Windows = np.ndarray(of_length, f"V{length}", self._padded, strides=(1,))[places]
        return windows


def _places_of(characters: Characters, character: int) -> Int64s:
    equal = np.zeros(-(-len(characters) // _WORD) * _WORD, dtype=np.bool_)
    np.equal(characters, character, out=equal[: len(characters)])
    # of a character that is rare, few words have one, and hardly any has two
    words = equal.view(np.uint64)
    having = np.flatnonzero(words != 0)
    bits = words[having]
    if (bits & (bits - np.uint64(1))).any():
        return np.flatnonzero(equal)
    return having * _WORD + _bytes_of_bits(bits)


@dataclass(frozen=True)
class Values:
    """What was read at each place."""

    values: Int64s
    lengths: Int64s
    """Characters it takes."""
    sound: Bools
    """Where something of the layout stood; elsewhere the value means nothing."""


def constant_everywhere(text: Text, places: Int64s, constant: bytes) -> bool:
    """Whether `constant`, of `LONGEST_CONSTANT` characters at most, stands at every place."""
    rows = max(1, _AT_ONCE // len(constant))
    return all(
        text.windows(some, len(constant)).tobytes() == constant * len(some)
        for some in (places[first : first + rows] for first in range(0, len(places), rows))
    )


def constant_at(text: Text, places: Int64s, constant: bytes) -> Bools:
    """At which places `constant`, of `LONGEST_CONSTANT` characters at most, stands."""
    count = -(-len(constant) // _WORD)
    wanted = np.frombuffer(constant.ljust(count * _WORD, b"\0"), "<u8")
    mask = np.frombuffer((b"\xff" * len(constant)).ljust(count * _WORD, b"\0"), "<u8")
    found = text.windows(places, count * _WORD).view("<u8").reshape(len(places), count)
    differing = np.zeros(len(places), dtype=np.uint64)
    for word in range(count):
        differing |= (found[:, word] ^ wanted[word]) & mask[word]
    same: Bools = differing == 0
    return same


def numbers_at(text: Text, places: Int64s) -> Values:
    """Numbers of 1 to 15 digits without a leading zero, as JSON writes whole numbers."""
    found = digits_at(text, places)
    leading_zero = (text.characters[places] == ord("0")) & (found.lengths > 1)
    return Values(found.values, found.lengths, found.sound & ~leading_zero)


def digits_at(text: Text, places: Int64s) -> Values:
    """Runs of 1 to 15 digits."""
    values, lengths = _digits_of(text.words(places))
    longer = np.flatnonzero(lengths == _WORD)
    if len(longer):
        low, low_length = _digits_of(text.words(places[longer] + _WORD))
        values[longer] = values[longer] * _POWERS_OF_TEN[low_length] + low
        lengths[longer] += low_length
    return Values(values, lengths, (lengths > 0) & (lengths <= _MOST_DIGITS))


def timestamps_at(text: Text, places: Int64s) -> Values:
    """Timestamps as Go writes them in UTC: nanoseconds since 1970.

    `2026-11-21T11:16:15Z`, or with up to nine digits of a fraction; of at most three dates.
    """
    nanoseconds, sound = _midnights_at(text, places)
    clock = text.words(places + _CLOCK) ^ _ZEROS
    sound &= (_not_digits(clock) == _COLON_EIGHTH_BITS) & ((clock & _COLON_PLACES) == _COLONS)
    hours, minutes, seconds = (_two_digits(clock, place) for place in (0, 3, 6))
    sound &= (hours < 24) & (minutes < 60) & (seconds < 60)
    fraction = _nine_digits_at(text, places + _POINT)
    # Go leaves zeros at the end out, so that one in ten is shorter
    shorter = np.flatnonzero(~fraction.sound)
    if len(shorter):
        found = _fractions_at(text, places[shorter] + _POINT)
        fraction.values[shorter] = found.values
        fraction.lengths[shorter] = found.lengths
        fraction.sound[shorter] = found.sound
    nanoseconds += (hours * 3_600 + minutes * 60 + seconds) * SECOND_NS + fraction.values
    return Values(nanoseconds, _POINT + fraction.lengths, sound & fraction.sound)


def _nine_digits_at(text: Text, points: Int64s) -> Values:
    """Fractions of a second of nine digits, the point and the Z included."""
    first_eight = text.words(points + 1) ^ _ZEROS
    ninth = text.characters[points + _NANOSECOND_DIGITS] - np.uint8(ord("0"))
    sound = (text.characters[points] == ord(".")) & (_not_digits(first_eight) == 0) & (ninth <= 9)
    sound &= text.characters[points + _NANOSECOND_DIGITS + 1] == ord("Z")
    lengths = np.full(len(points), _NANOSECOND_DIGITS + 2, dtype=np.int64)
    return Values(_value_of(first_eight) * 10 + ninth, lengths, sound)


def _fractions_at(text: Text, points: Int64s) -> Values:
    """Fractions of a second of up to nine digits, or none; the point and the Z included."""
    has_point = text.characters[points] == ord(".")
    digits = digits_at(text, points + 1)
    length = np.where(has_point, digits.lengths, 0)
    sound = (has_point == (length > 0)) & (length <= _NANOSECOND_DIGITS)
    sound &= text.characters[points + has_point + length] == ord("Z")
    missing = np.maximum(_NANOSECOND_DIGITS - length, 0)
    return Values(
        np.where(has_point, digits.values * _POWERS_OF_TEN[missing], 0), has_point + length + 1, sound
    )


def _digits_of(words: Words) -> tuple[Int64s, Int64s]:
    """Value and length of the digits that each word begins with."""
    digits = words ^ _ZEROS
    stops = _not_digits(digits)
    first_stop = stops & (~stops + np.uint64(1))
    lengths = np.where(first_stop == 0, _WORD, _bytes_of_bits(first_stop))
    # right-aligned: what stood behind the digits falls off, what comes in front is zeros; a shift by
    # all 64 bits is none, so that a word without digits is emptied first
    shift: Words = ((_WORD - lengths) << 3).view(np.uint64)
    emptied: Words = np.where(lengths == 0, np.uint64(0), digits)
    return _value_of(emptied << shift), lengths


def _bytes_of_bits(words: Words) -> Int64s:
    """The byte of each word's only bit: a power of two is exactly a float, and its exponent tells."""
    exponents = (words.astype(np.float64).view(np.int64) >> _MANTISSA_BITS) - _EXPONENT_BIAS
    return exponents >> 3


def _value_of(digits: Words) -> Int64s:
    """Eight digits to a number."""
    value = (digits * np.uint64(10) + (digits >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    value = (value * np.uint64(100) + (value >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    value = (value * np.uint64(10_000) + (value >> np.uint64(32))) & np.uint64(0xFFFFFFFF)
    return value.view(np.int64)


def _not_digits(less_zeros: Words) -> Words:
    """The eighth bit of every byte that is above nine."""
    return (((less_zeros & _SEVEN_BITS) + _TO_EIGHTH_BIT) | less_zeros) & _EIGHTH_BITS


def _two_digits(clock: Words, place: int) -> Int64s:
    tens = (clock >> np.uint64(_WORD * place)) & np.uint64(0xFF)
    ones = (clock >> np.uint64(_WORD * (place + 1))) & np.uint64(0xFF)
    return (tens * np.uint64(10) + ones).astype(np.int64)


def _midnights_at(text: Text, places: Int64s) -> tuple[Int64s, Bools]:
    midnights = np.zeros(len(places), dtype=np.int64)
    sound = np.zeros(len(places), dtype=np.bool_)
    for _ in range(_MOST_DATES):
        if sound.all():
            break
        place = int(places[sound.argmin()])
        date = text.characters[place : place + _DATE].tobytes()
        try:
            midnight = days_since_epoch(date.decode("ascii")) * DAY_NS
        except ValueError:
            break
        if constant_everywhere(text, places, date + b"T"):
            midnights[:], sound[:] = midnight, True
            break
        same = constant_at(text, places, date + b"T")
        midnights[same] = midnight
        sound |= same
    return midnights, sound
