"""Watches the servers while a load runs, and says what it cost them."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from model_load_test.components.errors import InputError
from model_load_test.components.resources.align import block_cells, of_model
from model_load_test.components.resources.files import write_samples
from model_load_test.components.resources.gaps import gap_findings
from model_load_test.components.resources.http_get import DoesNotAnswer
from model_load_test.components.resources.sampling import Sampler
from model_load_test.components.resources.series import Reading, ResourceSource, Window, joined
from model_load_test.components.resources.spec import ResourceSpec
from model_load_test.components.resources.usage import cpu_use, run_resources
from model_load_test.components.results import columns
from model_load_test.components.results.checks import Check
from model_load_test.components.results.resource_use import CpuUse, RunResources
from model_load_test.components.results.table import read_results, write_results


class ResourceWatch:
    """A context manager around a load test; what it saw can be asked for at any time."""

    def __init__(self, spec: ResourceSpec, model_name: str = "") -> None:
        """Prepares a watch.

        Args:
            spec: Where to look.
            model_name: The model that is loaded; what servers tell of others is left out.
        """
        self._spec = spec
        self._model_name = model_name
        self._sampler = Sampler(spec.looks, spec.every_seconds)
        self._started_ns = time.time_ns()

    def __enter__(self) -> ResourceWatch:
        self._started_ns = time.time_ns()
        self._sampler.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._sampler.__exit__()

    @property
    def has_sources(self) -> bool:
        """Whether there is anyone to ask."""
        return bool(self._spec)

    def require(self) -> None:
        """Looks once at everything before the load, for a gate that cannot judge without.

        Raises:
            InputError: Something that is to be judged by does not answer.
        """
        if not self._spec:
            raise InputError(
                "resource_sources", {}, "margins.cpu is judged by the servers' CPU time; say where to look"
            )
        for name, look in self._spec.looks:
            try:
                look()
            except DoesNotAnswer as error:
                raise InputError(
                    "resource_sources", name, f"it must answer, for margins.cpu: {error}"
                ) from None
        if self._spec.prometheus is not None:
            try:
                self._spec.prometheus.clock_skew()
            except DoesNotAnswer as error:
                name = "resource_sources.prometheus.url"
                address = str(self._spec.prometheus.endpoint)
                raise InputError(name, address, f"it must answer, for margins.cpu: {error}") from None

    def read(self, *, complete: bool = False) -> Reading:
        """Everything seen from the beginning of the watch until now.

        Args:
            complete: Whether the load is over: then a last look is taken, since the one before may be
                older than the last requests, and what sources only know a little later is waited for.
        """
        if complete:
            self._sampler.end()
        window = Window(self._started_ns, time.time_ns(), complete)
        reading = joined(source(window) for source in self._sources())
        series = of_model(reading.series, self._model_name) if self._model_name else reading.series
        return Reading(series, reading.findings)

    def cpu_so_far(self, table: pa.Table) -> tuple[CpuUse, ...]:
        """The CPU time of the rows measured so far, for the stop rule."""
        return cpu_use(self.read().series, table) if _has_blocks(table) else ()

    def _sources(self) -> list[ResourceSource]:
        return [*([self._sampler] if self._spec.looks else []), *self._spec.sources]


def keep_resources(watch: ResourceWatch, results_path: Path, samples_path: Path) -> None:
    """Adds to a results file what the load cost the servers, and writes the samples it was computed from.

    Args:
        watch: Of the load that is now over; it takes its last look.
        results_path: The results, already written: nothing that goes wrong here can lose them.
        samples_path: Where the samples are to be.
    """
    reading = watch.read(complete=True)
    write_samples(samples_path, reading)
    if not watch.has_sources:
        return
    results = read_results(results_path)
    resources, findings = summarize_resources(reading, results.table)
    checks = (*results.metadata.checks, *(msgspec.to_builtins(check) for check in findings))
    metadata = msgspec.structs.replace(results.metadata, resources=resources, checks=checks)
    write_results(results_path, results.table, metadata)
    for check in findings:
        print(f"{check.consequence}: {check.detail}", flush=True)


def summarize_resources(reading: Reading, table: pa.Table) -> tuple[RunResources, tuple[Check, ...]]:
    """What a results file keeps of a reading, and what to know about it.

    Args:
        reading: What the sources told.
        table: The results table of the same time.
    """
    if not _has_blocks(table):
        return RunResources(), reading.findings
    window = block_cells(table).window
    findings = (*reading.findings, *gap_findings(reading.series, window))
    return run_resources(reading.series, table), findings


def read_sources(spec: ResourceSpec, table: pa.Table, model_name: str = "") -> Reading:
    """Asks the sources that know the past about the time of a results table.

    Args:
        spec: The sources.
        table: The results table.
        model_name: The model that was loaded; what servers tell of others is left out.
    """
    sent_ns = columns.numbers(table["sent_at_ns"], np.int64)
    if not len(sent_ns):
        return Reading()
    window = Window(int(sent_ns.min()), int(sent_ns.max()), complete=True)
    reading = joined(source(window) for source in spec.sources)
    return Reading(of_model(reading.series, model_name) if model_name else reading.series, reading.findings)


def _has_blocks(table: pa.Table) -> bool:
    blocks = columns.numbers(table["block"], np.int32)
    return bool((blocks >= 0).any())
