"""RFC 3339 timestamps to nanoseconds, many at once."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from model_load_test.components.results.columns import Bools, Int64s

SECOND_NS: Final = 10**9
DAY_NS: Final = 86_400 * SECOND_NS
_LONGEST: Final = len("2026-11-21T11:16:15.123456789Z")
_SHORTEST: Final = len("2026-11-21T11:16:15Z")
_POINT: Final = _SHORTEST - 1
_DATE_LENGTH: Final = len("2026-11-21")
_SEPARATORS: Final = ((10, "T"), (13, ":"), (16, ":"))
_ZERO: Final = np.uint8(ord("0"))
_ANY: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH: Final = datetime.datetime(1970, 1, 1)
_LAST_YEAR: Final = 2261


class NoTimestamp(ValueError):
    """A text is no timestamp with a zone, or lies outside the years 1970 to 2261."""

    def __init__(self, index: int) -> None:
        self.index = index
        super().__init__(f"no timestamp at {index}")


def unix_ns(texts: Sequence[str]) -> Int64s:
    """Nanoseconds since 1970 of many timestamps at once.

    Raises:
        NoTimestamp: With the index of the first text that is none.
    """
    if not texts:
        return np.zeros(0, dtype=np.int64)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    if int(lengths.min()) >= _SHORTEST and int(lengths.max()) <= _LONGEST:
        try:
            characters = np.array(texts, dtype=f"S{_LONGEST}")
        except UnicodeEncodeError:
            return _one_by_one(texts)
        fast = _in_utc(characters, lengths)
        if fast is not None:
            return fast
    return _one_by_one(texts)


def _in_utc(characters: np.ndarray[tuple[int], np.dtype[np.bytes_]], lengths: Int64s) -> Int64s | None:
    """All texts at once if all have the form that Go writes in UTC, else None."""
    grid = characters.view(np.uint8).reshape(len(characters), _LONGEST)
    ends = lengths - 1
    sound = grid[np.arange(len(grid)), ends] == ord("Z")
    for place, separator in _SEPARATORS:
        sound &= grid[:, place] == ord(separator)
    sound &= (ends == _POINT) | ((grid[:, _POINT] == ord(".")) & (ends > _POINT + 1))
    hours, minutes, seconds = (_two_digits(grid, place, sound) for place in (11, 14, 17))
    sound &= (hours < 24) & (minutes < 60) & (seconds < 60)
    fraction = np.zeros(len(grid), dtype=np.int64)
    for place in range(_POINT + 1, _LONGEST - 1):
        digit = np.where(place < ends, grid[:, place] - _ZERO, 0)
        sound &= digit <= 9
        fraction = fraction * 10 + digit
    if not sound.all():
        return None
    midnights = _midnights(np.ascontiguousarray(grid[:, :_DATE_LENGTH]).view(f"S{_DATE_LENGTH}")[:, 0])
    if midnights is None:
        return None
    return midnights + (hours * 3_600 + minutes * 60 + seconds) * SECOND_NS + fraction


def _two_digits(grid: np.ndarray[tuple[int, int], np.dtype[np.uint8]], place: int, sound: Bools) -> Int64s:
    tens, ones = grid[:, place] - _ZERO, grid[:, place + 1] - _ZERO
    sound &= (tens <= 9) & (ones <= 9)
    return tens.astype(np.int64) * 10 + ones


def _midnights(dates: np.ndarray[tuple[int], np.dtype[np.bytes_]]) -> Int64s | None:
    midnights = np.empty(len(dates), dtype=np.int64)
    missing = np.ones(len(dates), dtype=np.bool_)
    while missing.any():  # once a date, and a run has one or two
        date = dates[missing.argmax()]
        same = dates == date
        try:
            midnights[same] = days_since_epoch(date.decode()) * DAY_NS
        except ValueError:
            return None
        missing &= ~same
    return midnights


def days_since_epoch(text: str) -> int:
    """Days from 1970 to a date such as `2026-11-21`.

    Raises:
        ValueError: It is none, or outside the years 1970 to 2261.
    """
    date = datetime.date.fromisoformat(text)
    if not (text.isascii() and text[4] == text[7] == "-") or not _EPOCH.year <= date.year <= _LAST_YEAR:
        raise ValueError(text)
    return (date - _EPOCH.date()).days


def _one_by_one(texts: Sequence[str]) -> Int64s:
    numbers = []
    for index, text in enumerate(texts):
        try:
            numbers.append(_any_zone(text))
        except ValueError:
            raise NoTimestamp(index) from None
    return np.array(numbers, dtype=np.int64)


def _any_zone(text: str) -> int:
    match = _ANY.fullmatch(text)
    if match is None:
        raise ValueError("no timestamp with a zone")
    *date_and_time, fraction, sign, hours, minutes = match.groups()
    moment = datetime.datetime(*map(int, date_and_time))  # type: ignore[arg-type]  # six integers
    offset_seconds = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    since_epoch = moment - _EPOCH
    seconds = since_epoch.days * 86_400 + since_epoch.seconds - offset_seconds
    if not seconds >= 0 or moment.year > _LAST_YEAR:
        raise ValueError("outside the years that nanoseconds reach")
    return seconds * SECOND_NS + int((fraction or "").ljust(9, "0"))
