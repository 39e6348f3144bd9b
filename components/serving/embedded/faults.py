"""Injected slowness and failure, so that a load test can be tried on servers of known behaviour."""

from __future__ import annotations

import asyncio
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from model_load_test.components.errors import InputError
from model_load_test.components.serving.embedded.failure import Code, ServingError

_SLEEPERS = 64


@dataclass(frozen=True)
class Faults:
    """What goes wrong with inference requests; the default is nothing."""

    delay_ms: float = 0.0
    """Every request takes this much longer, and about 0.3 ms more for the waiting itself (measured
    with ghz at 200 requests/s); requests wait side by side, not one after the other."""
    error_rate: float = 0.0
    """This share of the requests is answered UNAVAILABLE."""
    hang_after_requests: int | None = None
    """From then on no request is answered."""
    seed: int = 0
    """Of the choice of failing requests."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.delay_ms) and self.delay_ms >= 0):
            raise InputError("delay_ms", self.delay_ms, "give 0 or more milliseconds")
        if not 0 <= self.error_rate <= 1:
            raise InputError("error_rate", self.error_rate, "give a share from 0 to 1")
        if self.hang_after_requests is not None and self.hang_after_requests < 0:
            raise InputError("hang_after_requests", self.hang_after_requests, "give 0 or more requests")

    def __bool__(self) -> bool:
        return self != Faults(seed=self.seed)


@dataclass
class FaultInjector:
    """Lets the requests of one server suffer its faults."""

    faults: Faults
    _requests: int = 0
    _random: random.Random = field(init=False)
    _sleepers: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.faults.seed)
        self._sleepers = ThreadPoolExecutor(_SLEEPERS, thread_name_prefix="delay")

    async def suffer(self) -> None:
        """Delays the request, fails it, or never returns.

        Raises:
            ServingError: The request is one of those that fail.
        """
        self._requests += 1
        faults = self.faults
        if faults.hang_after_requests is not None and self._requests > faults.hang_after_requests:
            await asyncio.get_running_loop().create_future()
        if faults.delay_ms:
            # The event loop's own timer is whole milliseconds, rounded up: too coarse to add 0.5.
            await asyncio.get_running_loop().run_in_executor(
                self._sleepers, time.sleep, faults.delay_ms / 1000
            )
        if faults.error_rate and self._random.random() < faults.error_rate:
            raise ServingError(Code.UNAVAILABLE, "injected failure")
