"""What to load, how hard and for how long: parsed once, validated once."""

from __future__ import annotations

from typing import Literal

import msgspec

from model_load_test.components.errors import InputError

Protocol = Literal["grpc", "http"]
Tool = Literal["ghz", "vegeta"]
Mode = Literal["duet", "interleaved", "single"]

REQUESTS_PER_BLOCK = 200
"""A block shorter than this many requests has no usable percentiles."""


class LoadSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One load test. Rates are per arm; two runs compare only when their specs are equal."""

    protocol: Protocol = "grpc"
    tool: Tool = "ghz"
    mode: Mode = "duet"
    rate_rps: float = 200.0
    """Offered rate per arm, open loop."""
    block_seconds: float = 1.0
    looks: tuple[int, ...] = (15, 30, 60)
    """Numbers of pairs after which the stop rule is asked; the last is the most ever measured."""
    warmup_seconds: float = 2.0
    timeout_seconds: float = 5.0
    connections: int = 1
    seed: int = 0
    payload_hash: str = ""

    @property
    def max_pairs(self) -> int:
        """The most pairs of blocks this run may measure."""
        return self.looks[-1]


class LoadSpecError(InputError):
    """A load spec that cannot be run."""
