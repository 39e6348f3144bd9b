"""Durations as people write them on a command line."""

from __future__ import annotations

import re
from typing import Final

from model_load_test.components.errors import InputError

_SECONDS_IN: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds_of(option: str, text: str) -> int:
    """A duration such as `2h` in seconds.

    Args:
        option: Which option it was given by, for the error.
        text: The duration.

    Raises:
        InputError: It is none.
    """
    parts = re.fullmatch(r"(\d+)([smhdw])", text, re.ASCII)
    if parts is None:
        raise InputError(option, text, "write a whole number with s, m, h, d or w, such as 180d or 2h")
    return int(parts[1]) * _SECONDS_IN[parts[2]]
