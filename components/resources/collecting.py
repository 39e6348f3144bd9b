"""After a load test: ask, align, and write what people and notebooks read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from model_load_test.components.errors import InputError
from model_load_test.components.resources import files
from model_load_test.components.resources.align import normalised
from model_load_test.components.resources.series import Reading
from model_load_test.components.resources.spec import parse_resource_spec
from model_load_test.components.resources.watch import read_sources, summarize_resources
from model_load_test.components.results.checks import Check
from model_load_test.components.results.resource_use import RunResources
from model_load_test.components.results.table import read_results

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Collected:
    """What was learned of one run."""

    reading: Reading
    tidy: pd.DataFrame
    wide: pd.DataFrame
    summary: RunResources
    findings: tuple[Check, ...]

    def write_samples(self, path: Path) -> None:
        """Writes every sample."""
        files.write_samples(path, self.reading)

    def write_tidy(self, path: Path) -> None:
        """Writes the tidy frame as parquet."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.tidy.to_parquet(path, index=False)

    def write_wide(self, path: Path, normalise: bool = False) -> None:
        """Writes the wide frame as parquet; its columns' names are joined by bars, which parquet can hold."""
        path.parent.mkdir(parents=True, exist_ok=True)
        flat = (normalised(self.wide) if normalise else self.wide).copy()
        flat.columns = ["|".join(map(str, name)) for name in flat.columns]
        flat.reset_index().to_parquet(path, index=False)


def collect(results_path: Path, sources: Mapping[str, Any], model_name: str = "") -> Collected:
    """Asks the sources about the time of a results file.

    Args:
        results_path: The results.
        sources: As the parameter `resource_sources`; only those that know the past.
        model_name: The model that was loaded.

    Raises:
        InputError: The results cannot be read, or the sources mean nothing.
    """
    spec = parse_resource_spec(sources, {}, only_afterwards=True)
    if not spec:
        raise InputError("resource_sources", dict(sources), "name prometheus or cloud_monitoring")
    table = read_results(results_path).table
    reading = read_sources(spec, table, model_name)
    return collected(reading, table)


def collected(reading: Reading, table: pa.Table) -> Collected:
    """A reading on the blocks of its results table."""
    tidy, wide = files.frames(reading, table)
    summary, findings = summarize_resources(reading, table)
    for check in findings:
        print(f"{check.consequence}: {check.detail}", flush=True)
    return Collected(reading, tidy, wide, summary, findings)
