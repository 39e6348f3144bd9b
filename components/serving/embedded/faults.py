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
from model_load_test.components.serving.embedded.metrics import Metrics

_SLEEPERS = 64
_POOL_NAME = "injected"


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
    compute_ms: float = 0.0
    """The model's run takes this much longer, as on an accelerator: no core of this machine works."""
    compute_threads: int = 0
    """So many requests compute at once, the others wait in a queue, as behind TF Serving's
    num_batch_threads; 0 for all at once."""
    leak_kib: int = 0
    """Every request leaves so much memory behind, until the server is killed for it."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.delay_ms) and self.delay_ms >= 0):
            raise InputError("delay_ms", self.delay_ms, "give 0 or more milliseconds")
        if not 0 <= self.error_rate <= 1:
            raise InputError("error_rate", self.error_rate, "give a share from 0 to 1")
        if not (math.isfinite(self.compute_ms) and self.compute_ms >= 0):
            raise InputError("compute_ms", self.compute_ms, "give 0 or more milliseconds")
        if not 0 <= self.compute_threads <= _SLEEPERS:
            raise InputError("compute_threads", self.compute_threads, f"give from 0 to {_SLEEPERS} threads")
        if self.leak_kib < 0:
            raise InputError("leak_kib", self.leak_kib, "give 0 or more KiB")
        if self.hang_after_requests is not None and self.hang_after_requests < 0:
            raise InputError("hang_after_requests", self.hang_after_requests, "give 0 or more requests")

    def __bool__(self) -> bool:
        return self != Faults(seed=self.seed)


@dataclass
class FaultInjector:
    """Lets the requests of one server suffer its faults."""

    faults: Faults
    metrics: Metrics = field(default_factory=Metrics)
    """Told of injected computing and queuing, under TF Serving's names."""
    model_name: str = ""
    in_batches: bool = False
    """Whether batches compute, each once for all of its requests, and not the requests."""
    _requests: int = 0
    _leaked: list[bytes] = field(default_factory=list)
    _random: random.Random = field(init=False)
    _sleepers: ThreadPoolExecutor = field(init=False)
    _computers: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.faults.seed)
        self._sleepers = ThreadPoolExecutor(_SLEEPERS, thread_name_prefix="delay")
        threads = self.faults.compute_threads or _SLEEPERS
        self._computers = ThreadPoolExecutor(threads, thread_name_prefix="compute")

    async def suffer(self) -> None:
        """Delays the request, fails it, or never returns.

        Raises:
            ServingError: The request is one of those that fail.
        """
        self._requests += 1
        faults = self.faults
        if faults.leak_kib:
            # Written, or the kernel would give no page for it.
            self._leaked.append(b"\1" * (faults.leak_kib * 1024))
        if faults.hang_after_requests is not None and self._requests > faults.hang_after_requests:
            await asyncio.get_running_loop().create_future()
        if faults.delay_ms:
            # The event loop's own timer is whole milliseconds, rounded up: too coarse to add 0.5.
            await asyncio.get_running_loop().run_in_executor(
                self._sleepers, time.sleep, faults.delay_ms / 1000
            )
        if faults.compute_ms and not self.in_batches:
            await self._compute()
        if faults.error_rate and self._random.random() < faults.error_rate:
            raise ServingError(Code.UNAVAILABLE, "injected failure")

    def compute_batch(self) -> None:
        """Computes once, on one of the computing threads; returns when that is done."""
        if self.faults.compute_ms:
            self._computers.submit(time.sleep, self.faults.compute_ms / 1000).result()

    async def _compute(self) -> None:
        asked_ns = time.perf_counter_ns()

        def compute() -> int:
            begun_ns = time.perf_counter_ns()
            time.sleep(self.faults.compute_ms / 1000)
            return begun_ns

        begun_ns = await asyncio.get_running_loop().run_in_executor(self._computers, compute)
        # A batching session waits inside what TF Serving measures as the runtime's latency.
        self.metrics.queued(_POOL_NAME, begun_ns - asked_ns)
        self.metrics.runtime_took(self.model_name, "Predict", _POOL_NAME, time.perf_counter_ns() - asked_ns)
