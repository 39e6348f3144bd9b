"""Which signatures a set calls, how often, and with what."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_load_test.components.payload.locations import local_copy
from model_load_test.components.payload.manifest import PayloadError

_KEYS = ("weight", "examples", "distributions")


@dataclass(frozen=True)
class SignatureUse:
    """One signature of a mix."""

    name: str
    weight: float = 1.0
    """Its share of the requests, relative to the other weights."""
    examples: Path | None = None
    """Its own examples; those of the whole set where there are none."""
    distributions: Mapping[str, Any] | None = None
    """Its own distributions, beside those of the whole set."""


def parse_mix(signatures: Mapping[str, Any]) -> tuple[SignatureUse, ...]:
    """Parses a mix as users write it: by name a weight, or an object with weight, examples, distributions.

    Raises:
        PayloadError: A weight is no number from 0, all are 0, or a key is unknown.
    """
    uses = tuple(_use(name, value) for name, value in signatures.items())
    if not any(use.weight for use in uses):
        raise PayloadError("signatures", dict(signatures), "give at least one a weight above 0")
    return tuple(use for use in uses if use.weight)


def with_local_examples(signatures: Mapping[str, Any], copies: ExitStack) -> dict[str, Any]:
    """A mix whose own examples are local paths; their copies last as long as `copies`.

    Raises:
        PayloadError: Examples cannot be fetched.
    """
    local = dict(signatures)
    for name, value in signatures.items():
        if isinstance(value, Mapping) and value.get("examples"):
            place = local_copy(str(value["examples"]), f"signatures.{name}.examples")
            local[name] = {**value, "examples": copies.enter_context(place)}
    return local


def proportioned(weights: Sequence[float], count: int) -> Iterator[int]:
    """`count` places among `weights`, evenly interleaved and in exact proportion to them.

    Smooth weighted round-robin: whoever is furthest behind its share comes next.
    """
    total = sum(weights)
    owed = [0.0] * len(weights)
    for _ in range(count):
        owed = [debt + weight for debt, weight in zip(owed, weights, strict=True)]
        chosen = max(range(len(owed)), key=owed.__getitem__)
        owed[chosen] -= total
        yield chosen


def _use(name: str, value: Any) -> SignatureUse:
    place = f"signatures.{name}"
    given = value if isinstance(value, Mapping) else {"weight": value}
    for key in given:
        if key not in _KEYS:
            raise PayloadError(f"{place}.{key}", given[key], f"a signature of a mix has {', '.join(_KEYS)}")
    weight = given.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
        raise PayloadError(f"{place}.weight", weight, "give a number of 0 or more")
    distributions = given.get("distributions")
    if distributions is not None and not isinstance(distributions, Mapping):
        raise PayloadError(f"{place}.distributions", distributions, "give distributions by what varies")
    examples = given.get("examples")
    return SignatureUse(name, float(weight), Path(str(examples)) if examples else None, distributions)
