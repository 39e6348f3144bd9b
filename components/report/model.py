"""The report of one run: the value behind `report.json`, from which every page is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from model_load_test.components.gate.verdict import Verdict
from model_load_test.components.load.bottleneck import Bottleneck, bottlenecks_of
from model_load_test.components.report.arms import summarize_arms
from model_load_test.components.report.traces import (
    Histogram,
    QuantileCurve,
    SeriesPoint,
    latency_histogram,
    latency_quantiles,
    latency_series,
)
from model_load_test.components.results import columns
from model_load_test.components.results.resource_use import NO_RESOURCES, RunResources
from model_load_test.components.results.summary import Summary
from model_load_test.components.results.table import RunMetadata
from model_load_test.components.version import __version__

SCHEMA_VERSION: Final = 1
SCHEMA_PATH: Final = Path(__file__).parent / "report.schema.json"


class Model(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which model an arm served."""

    name: str
    version: str = ""
    uri: str = ""
    """Where the model was loaded from, e.g. a SavedModel folder or bucket."""
    endpoint: str = ""
    """The server that was loaded, as `scheme://host:port`."""


class HistoryPoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """An earlier run with the same baseline key."""

    created_at: datetime
    metrics: dict[str, float]
    """The numbers of that run, named as `report.metrics` names them."""
    run: str = ""
    model_version: str = ""
    verdict: str = ""
    promoted_at: datetime | None = None
    """When the run was last made the reference of its key; absent when never."""
    reference: bool = False
    """Whether it was the reference when this report was made."""


class Scaling(msgspec.Struct, frozen=True):
    """The number of an arm's replicas changed while it was loaded."""

    arm: str
    at_seconds: float
    """Since the first request of the run."""
    before: int
    after: int


class RunReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything one run has to say, as written to `report.json`."""

    verdict: Verdict
    created_at: datetime
    arms: dict[str, Summary] = {}
    """Per arm (`candidate`, `baseline`) what was sent and how it was answered, warm-up left out."""
    models: dict[str, Model] = {}
    """Per arm the model served."""
    load_spec: dict[str, Any] = {}
    """`LoadSpec` as JSON values; empty for rows that were read from a foreign report."""
    payload: dict[str, Any] = {}
    """What the requests contained: signature, sizes, seed."""
    fingerprints: dict[str, dict[str, str]] = {}
    """Per arm, or under `run` for both, what makes two runs comparable."""
    server_kind: str = ""
    """`embedded` for the server of laptops and tests, else the real server's kind."""
    tool: str = ""
    tool_version: str = ""
    cut_off: int = 0
    """Requests the generator itself cut off at the end; they are counted nowhere else."""
    bottlenecks: dict[str, Bottleneck] = {}
    """Per arm what limited its load, with the evidence; empty where a run did not look for it."""
    resources: RunResources = NO_RESOURCES
    """What the load cost the servers; empty where no one looked."""
    scaling: tuple[Scaling, ...] = ()
    """Where an autoscaler changed the number of replicas."""
    started_at_ns: int = 0
    ended_at_ns: int = 0
    series: tuple[SeriesPoint, ...] = ()
    """Latency per block and arm, in the order of time."""
    histogram: Histogram | None = None
    quantiles: QuantileCurve | None = None
    history: tuple[HistoryPoint, ...] = ()
    """Earlier runs with the same baseline key, oldest first."""
    history_note: str = ""
    """How the search for earlier runs ended, in one sentence."""
    history_differences: tuple[str, ...] = ()
    """What the earlier runs were measured under otherwise, where similar ones were asked for."""
    links: dict[str, str] = {}
    """Title to address: the pipeline run, the results table, a dashboard."""
    version: str = __version__
    """Version of model-load-test that wrote this."""
    schema_version: int = SCHEMA_VERSION


def build_run_report(
    verdict: Verdict,
    table: pa.Table,
    metadata: RunMetadata,
    *,
    models: Mapping[str, Model] | None = None,
    fingerprints: Mapping[str, Mapping[str, str]] | None = None,
    server_kind: str = "",
    payload: Mapping[str, Any] | None = None,
    history: Sequence[HistoryPoint] = (),
    history_note: str = "",
    history_differences: Sequence[str] = (),
    links: Mapping[str, str] | None = None,
    created_at: datetime | None = None,
) -> RunReport:
    """Gathers the verdict and what its results table says into one value.

    Args:
        verdict: The gate's answer.
        table: The results table it was computed from.
        metadata: The table's metadata.
        models: Per arm the model served.
        fingerprints: Per arm what makes runs comparable; by default the metadata's, under `run`.
        server_kind: By default what the fingerprints say.
        payload: What the requests contained.
        history: Earlier runs with the same baseline key.
        history_note: How the search for them ended.
        history_differences: What they were measured under otherwise.
        links: Title to address, shown at the end of the page.
        created_at: When the report was made; by default now.
    """
    known = {arm: dict(facts) for arm, facts in (fingerprints or {}).items()}
    if not known and metadata.fingerprint:
        known = {"run": {name: str(value) for name, value in metadata.fingerprint.items()}}
    kinds = {kind for facts in (metadata.fingerprint, *known.values()) if (kind := facts.get("server_kind"))}
    return RunReport(
        verdict=verdict,
        created_at=created_at or datetime.now(timezone.utc).replace(microsecond=0),
        arms=summarize_arms(table, metadata),
        models=dict(models or {}),
        load_spec=metadata.load_spec,
        payload=dict(payload or {}),
        fingerprints=known,
        server_kind=server_kind or ", ".join(sorted(kinds)),
        tool=metadata.tool,
        tool_version=metadata.tool_version,
        cut_off=metadata.cut_off,
        bottlenecks=bottlenecks_of(metadata.host),
        resources=metadata.resources,
        scaling=_scaling(table, metadata.resources),
        started_at_ns=metadata.started_at_ns,
        ended_at_ns=metadata.ended_at_ns,
        series=latency_series(table, metadata.load_spec.get("block_seconds")),
        histogram=latency_histogram(table),
        quantiles=latency_quantiles(table),
        history=tuple(sorted(history, key=lambda point: point.created_at)),
        history_note=history_note,
        history_differences=tuple(history_differences),
        links=dict(links or {}),
    )


def _scaling(table: pa.Table, resources: RunResources) -> tuple[Scaling, ...]:
    if not resources.changes or not table.num_rows:
        return ()
    first_ns = int(columns.numbers(table["sent_at_ns"], np.int64).min())
    return tuple(
        Scaling(change.arm, round((change.at_ns - first_ns) / 1e9, 3), change.before, change.after)
        for change in resources.changes
    )


def report_schema() -> dict[str, Any]:
    """The JSON Schema of `report.json`, generated from the type."""
    schema = msgspec.json.schema(RunReport)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "model-load-test report",
        **schema,
    }
