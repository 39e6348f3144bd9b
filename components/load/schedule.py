"""Which arm is loaded when: blocks of time, paired, in segments of one generator start each."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from model_load_test.components.load.spec import LoadSpec

Arm = Literal["candidate", "baseline"]

BLOCKS_PER_SEGMENT = 5
"""A segment is one start of the generators; starting costs the lead, so several blocks share it."""

LEAST_RATE_TO_DETUNE_RPS = 50.0
"""Below, one request per second more would load the detuned arm noticeably more."""

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
    detuned_arm: Arm | None = None
    """The arm that is offered one request per second more, see `segments_of_look`."""

    def load_seconds(self, spec: LoadSpec) -> float:
        """How long requests are sent, lead and tail included."""
        return self.lead_seconds + self.blocks * spec.block_seconds + TAIL_SECONDS

    def rate_rps(self, spec: LoadSpec, arm: Arm) -> float:
        """The rate offered to `arm`."""
        return spec.rate_rps + (math.ceil(1 / spec.block_seconds) if arm == self.detuned_arm else 0)

    def __str__(self) -> str:
        return f"{' and '.join(self.arms)}, blocks {self.first_block}-{self.first_block + self.blocks - 1}"


def segments_of_look(spec: LoadSpec, first_block: int, blocks: int) -> Iterator[Segment]:
    """Yields the segments that measure pairs `first_block` to `first_block + blocks - 1`.

    Interleaved load starts anew for each block and draws the order within each pair from the seed,
    so that neither drift nor the habit of going first can favour an arm.

    In a duet both generators tick at one rate, and the phase between their ticks, an accident of
    their start, decides whose requests queue behind whose: identical servers came out up to 14 %
    apart for as long as a start lasted. So one arm, another one in each segment, is offered one
    request per second more: the phase then runs through a whole period in every block. Where that
    would be too much more, each block is a start of its own and draws its own phase.
    """
    if spec.mode == "interleaved":
        for block in range(first_block, first_block + blocks):
            for arm in order_of_arms(spec.seed, block):
                yield Segment((arm,), block, 1)
        return
    detuned = spec.mode == "duet" and spec.rate_rps >= LEAST_RATE_TO_DETUNE_RPS
    step = 1 if spec.mode == "duet" and not detuned else BLOCKS_PER_SEGMENT
    for start in range(first_block, first_block + blocks, step):
        length = min(step, first_block + blocks - start)
        order = order_of_arms(spec.seed, start)
        yield Segment(
            arms=("candidate",) if spec.mode == "single" else order,
            first_block=start,
            blocks=length,
            detuned_arm=_alternating_arm(spec, start) if detuned else None,
        )


def _alternating_arm(spec: LoadSpec, start: int) -> Arm:
    turn = start // BLOCKS_PER_SEGMENT + spec.seed
    return "candidate" if turn % 2 else "baseline"


def warmup_segment(spec: LoadSpec) -> Segment:
    """The load before the first block, over all arms at once."""
    arms: tuple[Arm, ...] = ("candidate",) if spec.mode == "single" else ("candidate", "baseline")
    return Segment(arms, -1, 0, lead_seconds=spec.warmup_seconds)


def order_of_arms(seed: int, block: int) -> tuple[Arm, Arm]:
    """The random order of the two arms at `block`; the same for the same seed."""
    first_is_candidate = random.Random(f"{seed}/{block}").random() < 0.5
    return ("candidate", "baseline") if first_is_candidate else ("baseline", "candidate")
