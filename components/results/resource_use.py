"""What a run cost its servers: the part of it that verdict and report are made of.

Measured by the `resources` room, kept in `RunMetadata.resources`, so that a results file can be judged
again without asking any monitoring system.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec


class CpuUse(msgspec.Struct, frozen=True):
    """CPU time of one arm's server over a stretch of blocks, between two looks at its counter."""

    arm: str
    block: int
    """The first block of the stretch."""
    blocks: int
    """How many neighbouring blocks the stretch holds: one, unless the counter is looked at less often."""
    cpu_seconds: float
    """Of all replicas."""
    requests: int
    """Sent to the arm between the same two looks, whether measured, warm-up, or failed."""


class ReplicaChange(msgspec.Struct, frozen=True):
    """The number of an arm's replicas changed while it was loaded."""

    arm: str
    at_ns: int
    """On the load's clock; the change happened at most one look earlier."""
    before: int
    after: int


class Level(msgspec.Struct, frozen=True):
    """How high a quantity stood over the measured blocks."""

    mean: float
    peak: float
    unit: str
    method: str = "sampled"
    """`sampled`, `rate` of a counter, `ratio` of two counters, or `histogram quantile`: interpolated
    inside of a bucket, so never more exact than the bucket is narrow."""


class RunResources(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything a results file says of its servers' resources."""

    cpu: tuple[CpuUse, ...] = ()
    """In the order of time; stretches of the same first block belong together."""
    changes: tuple[ReplicaChange, ...] = ()
    levels: dict[str, dict[str, Level]] = {}
    """By arm and metric, all replicas together."""

    def cpu_seconds_per_request(self, arm: str) -> float | None:
        """CPU time of the whole run over its requests; None where it is not known."""
        return cpu_seconds_per_request(use for use in self.cpu if use.arm == arm)


NO_RESOURCES: Final = RunResources()
"""Of a run that no one watched; one object, so that msgspec leaves it out of files."""


def cpu_seconds_per_request(uses: Iterable[CpuUse]) -> float | None:
    """CPU time over requests of some stretches; None where there were no requests."""
    listed = list(uses)
    requests = sum(use.requests for use in listed)
    return sum(use.cpu_seconds for use in listed) / requests if requests else None
