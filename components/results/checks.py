"""A finding about the measurement itself: can these numbers be trusted?"""

from __future__ import annotations

from typing import Literal

import msgspec

Consequence = Literal["INVALID", "WARNING", "INFO"]


class Check(msgspec.Struct, frozen=True):
    """One validity finding."""

    code: str
    """Stable identifier in kebab-case, e.g. `generator-saturated`."""
    detail: str
    """One sentence for a person, with the numbers in it and what to do."""
    consequence: Consequence
    """`INVALID` beats every verdict; `WARNING` and `INFO` are only shown."""
    numbers: dict[str, float] = {}
    """The numbers of the sentence, finite, for programs."""
