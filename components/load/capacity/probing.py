"""Probes of real servers: one load each, its rows kept, its trouble told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from model_load_test.components.load.capacity.boundary import Probe, holds
from model_load_test.components.load.capacity.curve import CurvePoint
from model_load_test.components.load.capacity.objectives import allowed_share, requests_over
from model_load_test.components.load.capacity.search import least_requests
from model_load_test.components.load.processes import Interruption
from model_load_test.components.load.progress import Progress, ProgressUpdate
from model_load_test.components.load.run import LoadTest, StopDecision, run_load_test
from model_load_test.components.load.schedule import WARMUP_BLOCK, Arm
from model_load_test.components.load.spec import LoadSpec
from model_load_test.components.results.objective import Objective
from model_load_test.components.results.summary import summarize
from model_load_test.components.results.table import RunMetadata
from model_load_test.components.results.validity import validate

LoadKind = Literal["rate", "connections"]

_BROKEN_BY: Final = ("circuit-breaker", "transport-collapse", "generator-saturated", "generator-stopped")
"""Findings after which nothing above the load was reached, if they make it INVALID."""
START_SECONDS: Final = 2.0
"""One client, one request at a time, for so long: before the first probe nothing else tells a rate."""


@dataclass
class Prober:
    """Loads one server at the levels it is told, and keeps what came of it."""

    test: LoadTest
    """Of mode single; its spec's rate and concurrency are replaced."""
    arm: Arm
    kind: LoadKind
    objectives: Sequence[Objective]
    probe_seconds: float
    progress: Progress
    interruption: Interruption
    tables: list[pa.Table] = field(default_factory=list)
    points: list[CurvePoint] = field(default_factory=list)
    metadata: RunMetadata | None = None
    """Of the last probe."""
    bottlenecks: dict[float, Mapping[str, Any]] = field(default_factory=dict)
    """By load, what the machine was short of."""
    one_client_rps: float = 1.0
    """No server does less with more of them, so a probe that counts on it is long enough."""

    def observe_one_client(self) -> None:
        """Finds the rate of one client that waits for each answer; not kept as a probe."""
        spec = msgspec.structs.replace(
            self.test.spec, concurrency=1, rate_rps=0.0, block_seconds=START_SECONDS, looks=(1,)
        )
        rows, _ = self._load(spec)
        measured = rows.filter(pc.field("block") != WARMUP_BLOCK)
        self.one_client_rps = max(1.0, measured.num_rows / START_SECONDS)

    def probe(self, level: float) -> Probe:
        """Offers `level` for long enough to tell, and counts the requests over each limit."""
        rate_rps = level if self.kind == "rate" else self._rate_of(level)
        seconds = max(self.probe_seconds, least_requests(self._allowed) / max(rate_rps, 1.0))
        spec = msgspec.structs.replace(
            self.test.spec,
            rate_rps=level if self.kind == "rate" else 0.0,
            concurrency=0 if self.kind == "rate" else round(level),
            block_seconds=seconds,
            looks=(1,),
            warmup_seconds=0.0,
        )
        rows, metadata = self._load(spec)
        rows = rows.filter(pc.field("block") != WARMUP_BLOCK)
        findings = [check for check in validate(rows, metadata) if check.consequence == "INVALID"]
        checks = {check.code: check.detail for check in findings}
        broken = next((checks[code] for code in _BROKEN_BY if code in checks), "")
        self.metadata = metadata
        probe = Probe(level, rows.num_rows, requests_over(rows, self.objectives), broken)
        point = self._point(probe, rows)
        self.bottlenecks[level] = dict(metadata.host.get("bottleneck", {})).get("candidate") or {}
        self.tables.append(self._numbered(rows))
        self.points.append(point)
        self.progress(ProgressUpdate(self._line(point)))
        return probe

    @property
    def interrupted(self) -> bool:
        """Whether somebody wants the search to end."""
        return self.interruption.is_set()

    def _load(self, spec: LoadSpec) -> tuple[pa.Table, RunMetadata]:
        test = replace(self.test, spec=spec)
        return run_load_test(test, _stop, _silent, interruption=self.interruption)

    @property
    def _allowed(self) -> tuple[float, ...]:
        return tuple(allowed_share(objective) for objective in self.objectives)

    def _rate_of(self, connections: float) -> float:
        known = [point for point in self.points if point.level <= connections]
        return known[-1].achieved_rps if known else self.one_client_rps

    def _point(self, probe: Probe, rows: pa.Table) -> CurvePoint:
        if not rows.num_rows:
            return CurvePoint(probe.level, 0, 0.0, 1.0, False, broken=probe.broken or "no request was sent")
        summary = summarize(rows)
        latency = msgspec.to_builtins(summary.latency_ns)
        milliseconds = {name: value / 1e6 for name, value in latency.items() if value is not None}
        return CurvePoint(
            level=probe.level,
            requests=probe.requests,
            achieved_rps=summary.achieved_rps or 0.0,
            error_rate=(summary.failed or 0) / probe.requests,
            holds=holds(probe, self._allowed),
            mean_ms=milliseconds.get("mean"),
            p50_ms=milliseconds.get("p50"),
            p95_ms=milliseconds.get("p95"),
            p99_ms=milliseconds.get("p99"),
            broken=probe.broken,
        )

    def _numbered(self, rows: pa.Table) -> pa.Table:
        """The rows with their probe's number for the block, and the arm that was loaded."""
        count = rows.num_rows
        rows = rows.set_column(
            rows.schema.get_field_index("block"), "block", pa.array([len(self.tables)] * count, pa.int32())
        )
        return rows.set_column(
            rows.schema.get_field_index("arm"), "arm", pa.array([self.arm] * count, pa.string())
        )

    def _line(self, point: CurvePoint) -> str:
        unit = "requests/s" if self.kind == "rate" else "connections"
        latency = " ".join(
            f"{name} {value:.3g} ms"
            for name, value in (("p50", point.p50_ms), ("p99", point.p99_ms))
            if value is not None
        )
        verdict = "holds" if point.holds else point.broken or "does not hold"
        return (
            f"{self.arm}, probe {len(self.points)}: {point.level:g} {unit}, "
            f"{point.requests} requests, {latency}, {100 * point.error_rate:.2g} % failed: {verdict}"
        )


def _stop(_rows: pa.Table) -> StopDecision:
    return StopDecision(True, "")


def _silent(_update: ProgressUpdate) -> None:
    return None
