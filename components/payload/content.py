"""What requests are made of: random values, or rows that are drawn and batched."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from model_load_test.components.payload.values import (
    RandomValues,
    Variation,
    bounded_size,
    has_open_batch,
    random_inputs,
    refuse_unmakeable,
)
from model_load_test.components.protocols.signature import Signature
from model_load_test.components.protocols.tensors import Array

Row = Mapping[str, Array]
"""The inputs of one example, without the batch dimension where the signature has an open one."""

MAX_ROWS: Final = 10_000
"""How many examples are kept to draw from: of a large file the first."""

_OPEN_CONTENT: Final = "random values"


@dataclass(frozen=True)
class Content:
    """Draws the inputs of one request after the other."""

    draw: Callable[[RandomValues], Mapping[str, Array]]
    source: str = _OPEN_CONTENT
    """Where it comes from, in words."""


def random_content(signature: Signature, variation: Variation) -> Content:
    """Random values that fit the signature.

    Raises:
        PayloadError: An input's type cannot be made.
    """
    refuse_unmakeable(signature)

    def draw(values: RandomValues) -> Mapping[str, Array]:
        return random_inputs(signature, draw_batch_size(values, variation), values, variation)

    return Content(draw)


def row_content(rows: Sequence[Row], signature: Signature, variation: Variation, source: str) -> Content:
    """Rows, drawn with replacement; the content of a request is as many as the batch size.

    Where a batch cannot be formed (the signature has no open batch dimension, or rows differ in
    shape) it is one row, or those that are of the first one's shape.
    """
    batched = has_open_batch(signature)

    def draw(values: RandomValues) -> Mapping[str, Array]:
        batch_size = draw_batch_size(values, variation)
        first = rows[values.index(len(rows))]
        if not batched:
            return first
        chosen = [first]
        for _ in range(batch_size - 1):
            row = rows[values.index(len(rows))]
            if all(row[name].shape == tensor.shape for name, tensor in first.items()):
                chosen.append(row)
        return {name: np.stack([row[name] for row in chosen]) for name in first}

    return Content(draw, f"{len(rows)} {source}")


def recorded_content(requests: Sequence[Mapping[str, Array]], source: str) -> Content:
    """Whole requests as they were recorded, one after the other, and again from the first."""
    again = itertools.cycle(requests)
    return Content(lambda _values: next(again), f"{len(requests)} {source}")


def draw_batch_size(values: RandomValues, variation: Variation) -> int:
    """The batch size of one request.

    Raises:
        PayloadError: It is beyond all reason.
    """
    return bounded_size(values.whole(variation.batch_size), "batch_size")


def first_rows(rows: Iterable[Row]) -> list[Row]:
    """The first `MAX_ROWS`."""
    return list(itertools.islice(rows, MAX_ROWS))
