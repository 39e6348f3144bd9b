"""RFC 3339 timestamps to nanoseconds, many at once."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from model_load_test.components.results.columns import Bools, Int64s

_SECOND_NS: Final = 10**9
_DAY_NS: Final = 86_400 * _SECOND_NS
_LONGEST: Final = len("2026-11-21T11:16:15.123456789Z")
_SHORTEST: Final = len("2026-11-21T11:16:15Z")
_POINT: Final = _SHORTEST - 1
_TIME_DIGITS: Final = (11, 12, 14, 15, 17, 18)
_TIME_WEIGHTS: Final = np.array([36_000, 3_600, 600, 60, 10, 1], dtype=np.int64) * _SECOND_NS
_FRACTION_WEIGHTS: Final = 10 ** np.arange(8, -1, -1, dtype=np.int64)
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
    places = np.arange(_SHORTEST, _LONGEST - 1)
    in_fraction: Bools = places < (lengths - 1)[:, None]
    fraction = np.where(in_fraction, grid[:, _SHORTEST : _LONGEST - 1] - ord("0"), 0)
    time = grid[:, _TIME_DIGITS] - ord("0")
    whole = lengths == _SHORTEST
    form = (
        (grid[:, 10] == ord("T"))
        & (grid[:, 13] == ord(":"))
        & (grid[:, 16] == ord(":"))
        & (grid[np.arange(len(grid)), lengths - 1] == ord("Z"))
        & (whole | ((grid[:, _POINT] == ord(".")) & (lengths > _SHORTEST + 1)))
    )
    if not (form.all() and (time <= 9).all() and (fraction <= 9).all()):
        return None
    since_midnight: Int64s = time.astype(np.int64) @ _TIME_WEIGHTS
    hours_minutes_seconds = time.astype(np.int64).reshape(-1, 3, 2) @ np.array([10, 1])
    if not (hours_minutes_seconds < (24, 60, 60)).all():
        return None
    days = _midnights([bytes(date).decode() for date in np.ascontiguousarray(grid[:, :10]).view("S10")[:, 0]])
    if days is None:
        return None
    return days + since_midnight + fraction.astype(np.int64) @ _FRACTION_WEIGHTS


def _midnights(dates: list[str]) -> Int64s | None:
    of_date: dict[str, int] = {}
    for date in set(dates):
        try:
            of_date[date] = (_date(date) - _EPOCH.date()).days * _DAY_NS
        except ValueError:
            return None
    return np.fromiter(map(of_date.__getitem__, dates), np.int64, len(dates))


def _date(text: str) -> datetime.date:
    date = datetime.date.fromisoformat(text)
    if not (text.isascii() and text[4] == text[7] == "-") or not _EPOCH.year <= date.year <= _LAST_YEAR:
        raise ValueError(text)
    return date


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
    return seconds * _SECOND_NS + int((fraction or "").ljust(9, "0"))
