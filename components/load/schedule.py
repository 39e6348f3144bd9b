"""Which arm is loaded when: blocks of time, paired, in segments of one generator start each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from model_load_test.components.load.spec import LoadSpec

Arm = Literal["candidate", "baseline"]

DUET_BLOCKS_PER_SEGMENT = 5
"""Two generators at one rate keep the phase they started with; a fresh start every few blocks
draws a new one, so that a lucky phase cannot favour one arm for a whole look."""

LEAD_SECONDS = 0.4
"""Load before a segment's first block: the first requests of a connection are slower
(measured: x1.05-1.4 the median for the first three, gate statistics, real runs)."""

TAIL_SECONDS = 0.1
"""Load after the last block, so that both arms are still loaded when it ends."""


@dataclass(frozen=True)
class Segment:
    """One start of the generators: `arms` are loaded at once for `blocks` blocks."""

    arms: tuple[Arm, ...]
    first_block: int
    blocks: int
    lead_seconds: float = LEAD_SECONDS

    def load_seconds(self, spec: LoadSpec) -> float:
        """How long requests are sent, lead and tail included."""
        return self.lead_seconds + self.blocks * spec.block_seconds + TAIL_SECONDS

    def __str__(self) -> str:
        return f"{' and '.join(self.arms)}, blocks {self.first_block}-{self.first_block + self.blocks - 1}"


def segments_of_look(spec: LoadSpec, first_block: int, blocks: int) -> Iterator[Segment]:
    """Yields the segments that measure pairs `first_block` to `first_block + blocks - 1`.

    Duet and single load for several blocks at a stretch; interleaved starts anew for each block
    and draws the order within each pair from the seed, so that neither drift nor the habit of
    going first can favour an arm.
    """
    if spec.mode == "interleaved":
        for block in range(first_block, first_block + blocks):
            for arm in order_of_arms(spec.seed, block):
                yield Segment((arm,), block, 1)
        return
    for start in range(first_block, first_block + blocks, DUET_BLOCKS_PER_SEGMENT):
        length = min(DUET_BLOCKS_PER_SEGMENT, first_block + blocks - start)
        arms: tuple[Arm, ...] = ("candidate",) if spec.mode == "single" else order_of_arms(spec.seed, start)
        yield Segment(arms, start, length)


def warmup_segment(spec: LoadSpec) -> Segment:
    """The load before the first block, over all arms at once."""
    arms: tuple[Arm, ...] = ("candidate",) if spec.mode == "single" else ("candidate", "baseline")
    return Segment(arms, -1, 0, lead_seconds=spec.warmup_seconds)


def order_of_arms(seed: int, block: int) -> tuple[Arm, Arm]:
    """The random order of the two arms at `block`; the same for the same seed."""
    first_is_candidate = random.Random(f"{seed}/{block}").random() < 0.5
    return ("candidate", "baseline") if first_is_candidate else ("baseline", "candidate")
