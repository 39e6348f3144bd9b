"""Gathers, while a load test runs, what its bottleneck is found by."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from model_load_test.components.load.bottleneck import Bottleneck, arm_evidence, find_bottleneck
from model_load_test.components.load.counters import (
    CountersUnreadable,
    MetricsPage,
    ServerCounters,
    ServerTimes,
    read_counters,
    times_between,
    usual_page,
)
from model_load_test.components.load.generators import Generator
from model_load_test.components.load.host import usable_cores
from model_load_test.components.load.saturation import SaturationWatch
from model_load_test.components.load.schedule import LEAD_SECONDS, TAIL_SECONDS, Arm
from model_load_test.components.load.spec import LoadSpec
from model_load_test.components.protocols.access import ssl_context
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.results import columns

_LOCUST_MODULE = "model_load_test.components.load.locust"


class BottleneckProbe:
    """A context manager around a run: watches the machine, and asks the servers before and after."""

    def __init__(self, servers: ServerProbe, generator: Generator) -> None:
        """Prepares the probe.

        Args:
            servers: What is asked of the servers.
            generator: What loads.
        """
        self._servers = servers
        self._generator = generator
        self._watch = saturation_watch(generator, servers.endpoints)

    def __enter__(self) -> BottleneckProbe:
        self._watch.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.__exit__()
        self._servers.end()

    def findings(self, table: pa.Table, core_shares: Mapping[str, float]) -> dict[str, Any]:
        """What was found, after the run.

        Args:
            table: All rows of the run.
            core_shares: What the generators themselves say of their cores, by the watch's names,
                where they do so more exactly.

        Returns:
            As `ServerProbe.findings`.
        """
        numbers = machine_numbers(self._watch, self._generator, core_shares)
        return self._servers.findings(table, numbers, usable_cores())


def saturation_watch(generator: Generator, endpoints: Mapping[Arm, Endpoint]) -> SaturationWatch:
    """A watch of the machine that a generator loads from."""
    return SaturationWatch(_recogniser(generator), endpoints)


def machine_numbers(
    watch: SaturationWatch, generator: Generator, core_shares: Mapping[str, float]
) -> dict[str, float]:
    """The watch's summary, with what the generators themselves say of their cores where that is more."""
    numbers = watch.summary()
    for name, share in core_shares.items():
        numbers[name] = max(share, numbers.get(name, 0.0))
    if generator.tool == "locust":
        numbers["generator_process_limit"] = 1.0
    return numbers


class ServerProbe:
    """Asks the servers how long they took, before the first block and after the last."""

    def __init__(
        self,
        spec: LoadSpec,
        endpoints: Mapping[Arm, Endpoint],
        pages: Mapping[Arm, MetricsPage],
        model_name: str,
    ) -> None:
        """Prepares the probe.

        Args:
            spec: What is asked of the generators.
            endpoints: The servers.
            pages: Where they show their metrics, as far as the user said so; else it is guessed.
            model_name: The model that is loaded.
        """
        self.endpoints = endpoints
        self._spec = spec
        self._model_name = model_name
        self._pages = {arm: pages.get(arm) or usual_page(endpoint) for arm, endpoint in endpoints.items()}
        self._since_ns = 0
        self._before: dict[Arm, ServerCounters | str] = {}
        self._after: dict[Arm, ServerCounters | str] = {}

    def begin(self) -> None:
        """The warm-up is over: from here on the servers' times count."""
        self._before = self._read_all()
        self._since_ns = time.time_ns()

    def end(self) -> None:
        """The load is over."""
        self._after = self._read_all() if self._before else {}

    def findings(
        self,
        table: pa.Table,
        numbers: Mapping[str, float],
        cores: int,
        segment_seconds: float | None = None,
    ) -> dict[str, Any]:
        """What was found, after the run.

        Args:
            table: All rows of the run.
            numbers: `machine_numbers` of the generators' machine, of the worst where there are several.
            cores: Cores of that machine.
            segment_seconds: How long a block was loaded; default what one generator takes for it.

        Returns:
            For `RunMetadata.host`: `saturation`, numbers of the machine which `results.validity`
            looks at, and `bottleneck`, by arm.
        """
        seconds = segment_seconds or LEAD_SECONDS + self._spec.block_seconds + TAIL_SECONDS
        found = {}
        for arm in self.endpoints:
            bottleneck = self._bottleneck(arm, table, numbers, cores, seconds)
            if bottleneck is not None:
                found[arm] = msgspec.to_builtins(bottleneck)
        return {"saturation": dict(numbers), "bottleneck": found}

    def _bottleneck(
        self, arm: Arm, table: pa.Table, numbers: Mapping[str, float], cores: int, segment_seconds: float
    ) -> Bottleneck | None:
        rows = self._rows(arm, table)
        if not rows.num_rows:
            return None
        blocks = columns.distinct(columns.numbers(rows["block"], np.int32))
        # rows that all came after their block's time are those of a generator that fell far behind
        measured = [int(block) for block in blocks if block >= 0] or [0]
        rates = [self._spec.rate_of_block(block) for block in measured]
        times, missing = self._server_times(arm)
        connect_ms = numbers.get(f"connect_ms_{arm}")
        evidence = arm_evidence(
            rows,
            offered_rps=None if self._spec.concurrency else sum(rates) / len(rates),
            measured_seconds=len(measured) * segment_seconds,
            server=times,
            server_missing=missing,
            connect_seconds=None if connect_ms is None else connect_ms / 1e3,
        )
        return find_bottleneck(evidence, numbers, cores)

    def _rows(self, arm: Arm, table: pa.Table) -> pa.Table:
        of_row, arms = columns.texts(table["arm"])
        own = of_row == (arms.index(arm) if arm in arms else -1)
        since = columns.numbers(table["sent_at_ns"], np.int64) >= self._since_ns
        return table.filter(columns.booleans(own & since))

    def _server_times(self, arm: Arm) -> tuple[ServerTimes | None, str]:
        before, after = self._before.get(arm, ""), self._after.get(arm, "")
        for counters in (before, after):
            if isinstance(counters, str):
                return None, counters
        assert isinstance(before, ServerCounters)
        assert isinstance(after, ServerCounters)
        times = times_between(before, after)
        return times, "" if times else "the server counted no request, or was started anew meanwhile"

    def _read_all(self) -> dict[Arm, ServerCounters | str]:
        return {arm: self._read(arm) for arm in self.endpoints}

    def _read(self, arm: Arm) -> ServerCounters | str:
        page, endpoint = self._pages[arm], self.endpoints[arm]
        if page is None:
            return f"no one said where the {arm}'s server shows its metrics; name the address (metrics.{arm})"
        same_server = page.endpoint.host == endpoint.host
        try:
            return read_counters(
                page,
                self._model_name,
                # what lets us in there is told to no one else
                headers=endpoint.access.headers if same_server else {},
                context=ssl_context(endpoint.access) if same_server and page.endpoint.secure else None,
            )
        except CountersUnreadable as error:
            return str(error)


def _recogniser(generator: Generator) -> Callable[[Sequence[str]], bool]:
    """Says of a command line whether it is one of this run's generators."""
    if generator.tool == "locust":
        return lambda words: _LOCUST_MODULE in words
    name = Path(generator.executable).name
    return lambda words: bool(words) and Path(words[0]).name == name
