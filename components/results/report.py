"""A generator's report after reading: its requests where it tells them, and what it says itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from model_load_test.components.results.checks import Check
from model_load_test.components.results.table import RunMetadata

Kind = Literal[
    "ghz JSON",
    "ghz CSV",
    "vegeta results JSON",
    "vegeta results CSV",
    "vegeta results gob",
    "vegeta report JSON",
    "vegeta report hdrplot",
    "Locust JSON",
    "Locust statistics CSV",
    "results table",
]
"""What a file was recognised as."""


@dataclass(frozen=True)
class ToolSummary:
    """What a tool says about its own run. Nothing here is computed from rows; absent is None."""

    requests: int
    """Requests the tool counted."""
    ok: int | None = None
    status_counts: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int | None] = field(default_factory=dict)
    """Normalised text to number; None where the tool lists texts without numbers."""
    started_at_ns: int | None = None
    ended_at_ns: int | None = None
    """End of the last request."""
    last_sent_at_ns: int | None = None
    duration_ns: int | None = None
    mean_ns: float | None = None
    mean_covers: Literal["all", "ok"] = "all"
    """Whether failed requests are in the mean."""
    percentile_ns: Mapping[float, int] = field(default_factory=dict)
    """Keyed by the percentile in percent."""
    min_ns: int | None = None
    max_ns: int | None = None
    percentiles_cover: Literal["all", "ok"] = "all"
    """Whether failed requests are in the percentiles, min and max."""
    percentiles_are_estimates: bool = False
    """Whether the tool estimates or rounds them: vegeta's t-digest, Locust's CSV."""
    response_times_ms: Mapping[int, int] | None = None
    """Locust's rounded buckets: milliseconds to number of requests."""


@dataclass(frozen=True)
class Report:
    """One run of a generator, of one file or of several workers' files."""

    tool: str
    """`ghz`, `vegeta`, `locust`; of our own table the tool that made it."""
    tool_version: str
    """Empty where the file does not tell, as those of ghz, vegeta and Locust do not."""
    rows: pa.Table
    """Columns of `table.ROWS_SCHEMA`, warm-up left out; empty where only a summary is known (`has_rows`)."""
    cut_off: int = 0
    """Requests that the generator itself cut off at its end; they are not rows."""
    checks: tuple[Check, ...] = ()
    """What was found wrong or doubtful."""
    stated: ToolSummary | None = None
    """The tool's own summary, where the file holds one."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The tool's options without metadata, payloads and addresses."""
    kind: Kind = "results table"
    files: tuple[str, ...] = ()
    """Names of the files, by worker."""
    has_rows: bool = True
    """Whether the file tells every request."""
    has_times: bool = True
    """Whether the rows know when they were sent; ghz's CSV does not."""
    metadata: RunMetadata | None = None
    """Of our own results table."""
    table: pa.Table | None = None
    """Of our own results table: the rows with arm and block, warm-up included."""
