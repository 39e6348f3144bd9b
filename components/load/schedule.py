"""Which arm is loaded when: blocks of time, paired, each one start of the generators."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

from model_load_test.components.load.spec import LoadSpec

Arm = Literal["candidate", "baseline"]

WARMUP_BLOCK = -1
"""The block number of rows that are judged by nobody."""

LEAD_SECONDS = 0.3
"""Load before a block: the first requests of a connection are slower (measured: x1.05-1.4 the
median for the first three, gate statistics, real runs)."""

TAIL_SECONDS = 0.05
"""Load after a block, so that both arms are still loaded when it ends."""

LEAST_RATE_TO_DETUNE_RPS = 50.0
"""Below, one request per second more would load the detuned arm noticeably more."""


@dataclass(frozen=True)
class Segment:
    """One start of the generators: `arms` are loaded at once for one block, or to warm up.

    Without arms it is a pause: a stretch of a rate profile in which nothing is sent.
    """

    arms: tuple[Arm, ...]
    block: int
    block_seconds: float
    lead_seconds: float = LEAD_SECONDS
    detuned_arm: Arm | None = None
    """The arm that is offered one request per second more, see `segments_of_block`."""

    @property
    def load_seconds(self) -> float:
        """How long requests are sent, lead and tail included."""
        return self.lead_seconds + self.block_seconds + TAIL_SECONDS

    def rate_rps(self, spec: LoadSpec, arm: Arm) -> float:
        """The rate offered to `arm`; 0 in a closed loop."""
        detuned_rps = math.ceil(1 / spec.block_seconds) if arm == self.detuned_arm else 0
        return spec.rate_of_block(self.block) + detuned_rps


def segments_of_block(spec: LoadSpec, block: int) -> tuple[Segment, ...]:
    """The segments that measure one block of every arm, in the order in which they run.

    Each block is a start of its own. What a start draws (the connection, the cores, the order in
    which two processes wake up) stays as long as the process does and favours one arm: with five
    blocks a start, the starts of a duet of identical servers differed 2-4 times as much as their
    blocks did, and blocks that are not independent make every interval too narrow.

    In a duet both generators tick at one rate, and the phase between their ticks decides whose
    requests queue behind whose: identical servers came out up to 14 % apart. So one arm, the other
    one in the next block, is offered one request per second more: the phase then runs through a
    whole period within the block.

    Interleaved load draws the order within each pair from the seed, so that neither drift nor the
    habit of going first can favour an arm.

    A rate that varies is constant within a pair and the same for both of its arms.
    """
    if not spec.concurrency and not spec.rate_of_block(block):
        return (Segment((), block, spec.block_seconds),)
    order = order_of_arms(spec.seed, block)
    if spec.mode == "single":
        return (Segment(("candidate",), block, spec.block_seconds),)
    if spec.mode == "interleaved":
        return tuple(Segment((arm,), block, spec.block_seconds) for arm in order)
    return (Segment(order, block, spec.block_seconds, detuned_arm=_detuned_arm(spec, block)),)


def warmup_segment(spec: LoadSpec) -> Segment:
    """The load before the first block, over all arms at once."""
    arms: tuple[Arm, ...] = ("candidate",) if spec.mode == "single" else ("candidate", "baseline")
    return Segment(arms, WARMUP_BLOCK, spec.warmup_seconds)


def order_of_arms(seed: int, block: int) -> tuple[Arm, Arm]:
    """The random order of the two arms at `block`; the same for the same seed."""
    first_is_candidate = random.Random(f"{seed}/{block}").random() < 0.5
    return ("candidate", "baseline") if first_is_candidate else ("baseline", "candidate")


def _detuned_arm(spec: LoadSpec, block: int) -> Arm | None:
    if spec.rate_of_block(block) < LEAST_RATE_TO_DETUNE_RPS:
        return None
    return "candidate" if (block + spec.seed) % 2 else "baseline"
