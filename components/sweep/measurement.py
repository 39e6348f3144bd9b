"""One configuration at one rate beside the reference: what was measured, or why nothing was."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import pyarrow as pa

from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import gate_spec_of_run
from model_load_test.components.gate.verdict import Verdict
from model_load_test.components.load.blocks import rows_of_arm
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.progress import Progress
from model_load_test.components.load.run import StopDecision, run_load_test
from model_load_test.components.load.schedule import Arm
from model_load_test.components.payload.manifest import read_manifest
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.results.summary import summarize_blocks
from model_load_test.components.results.table import RunMetadata
from model_load_test.components.results.validity import validate
from model_load_test.components.sweep.spec import SweepSpec, load_values

Outcome = Literal["measured", "broken", "failed"]
"""`broken`: the load was sent, and what came of it is no measurement. `failed`: it could not be sent."""

METRICS: Final = ("mean", "p50", "p90", "p95", "p99")
_NS_PER_MS: Final = 1e6


@dataclass(frozen=True)
class Servers:
    """Two servers that run: of a configuration (candidate) and of the reference (baseline)."""

    endpoints: Mapping[Arm, Endpoint]
    metrics: Mapping[str, str] = field(default_factory=dict)
    """By arm, where its server shows its own metrics, if not in the usual place."""


class ArmFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """One arm's blocks, pooled; a percentile that too few requests tell is absent."""

    requests: int = 0
    achieved_rps: float | None = None
    error_rate: float = 0.0
    mean_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class Ratio(msgspec.Struct, frozen=True):
    """The configuration's metric over the reference's, from pairs of blocks."""

    ratio: float
    lower: float
    upper: float
    """Bounds at the sweep's alpha, shared among all comparisons."""


class Measurement(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One line of the journal."""

    parameters: Mapping[str, Any]
    rate_rps: float
    outcome: Outcome
    reason: str = ""
    """Why it is not `measured`."""
    configuration: ArmFigures = ArmFigures()
    reference: ArmFigures = ArmFigures()
    ratios: Mapping[str, Ratio] = {}
    objectives: Mapping[str, str] = {}
    """By objective its verdict: PASS, FAIL or INCONCLUSIVE."""
    bottleneck: str = ""
    """What the configuration's server was short of."""
    pairs: int = 0
    alpha: float = 0.0
    """Chance of error of each interval."""
    demanded: tuple[str, ...] = ()
    """The objectives it was judged by."""
    payload_hash: str = ""
    measured_at_ns: int = 0

    @property
    def holds(self) -> bool:
        """Whether it was measured, and every objective was shown to hold."""
        return self.outcome == "measured" and all(verdict == "PASS" for verdict in self.objectives.values())


def measure(
    spec: SweepSpec,
    parameters: Mapping[str, Any],
    rate_rps: float,
    servers: Servers,
    payload_path: Path,
    work_path: Path,
    progress: Progress,
    limits: Mapping[str, Any],
) -> tuple[Measurement, pa.Table, RunMetadata]:
    """Loads a configuration's server and the reference's together, and compares them.

    Args:
        spec: The sweep.
        parameters: What the configuration is.
        rate_rps: Offered rate of each.
        servers: The configuration's and the reference's.
        payload_path: The requests.
        work_path: Scratch folder.
        progress: Told of the run.
        limits: Where the load may go, as `parse_limits` takes them.

    Returns:
        The measurement, its rows and their metadata.

    Raises:
        InputError: The load could not begin.
    """
    test = prepare(
        candidate_endpoint=str(servers.endpoints["candidate"]),
        baseline_endpoint=str(servers.endpoints["baseline"]),
        model_name=spec.model_name,
        signature_name="",
        payload_path=payload_path,
        mode=spec.mode,
        spec_values=load_values(spec, rate_rps),
        work_path=work_path,
        limits={"max_rate_rps": max(spec.rates_rps), **limits},
        metrics=servers.metrics,
    )
    table, metadata = run_load_test(test, _to_the_end, progress)
    measurement = Measurement(
        parameters=parameters,
        rate_rps=rate_rps,
        outcome="measured",
        payload_hash=read_manifest(payload_path).hash,
        measured_at_ns=time.time_ns(),
    )
    return judged(spec, measurement, table, metadata), table, metadata


def judged(spec: SweepSpec, measurement: Measurement, table: pa.Table, metadata: RunMetadata) -> Measurement:
    """A measurement with all that its rows say, now or again with other objectives.

    Args:
        spec: The sweep.
        measurement: What was measured, and when.
        table: Its rows.
        metadata: Of the rows.
    """
    demands = {"objectives": spec.objectives, "alpha": spec.alpha_of_comparison}
    gate_spec = gate_spec_of_run(demands, metadata.load_spec)
    verdict = judge(table, gate_spec, checks=validate(table, metadata))
    ratios = _ratios(verdict)
    reasons = verdict.reasons if verdict.verdict == "INVALID" else ()
    if not reasons and not ratios:
        reasons = (f"Of {spec.pairs} pairs of blocks only {verdict.pairs} are complete: too few to compare.",)
    bottleneck = dict(metadata.host.get("bottleneck", {})).get("candidate") or {}
    return msgspec.structs.replace(
        measurement,
        outcome="broken" if reasons else "measured",
        reason=" ".join(reasons),
        configuration=_figures(table, metadata, "candidate"),
        reference=_figures(table, metadata, "baseline"),
        ratios=ratios,
        objectives={one.objective: one.verdict for one in verdict.objectives},
        bottleneck=str(bottleneck.get("detail", "")),
        pairs=verdict.pairs,
        alpha=spec.alpha_of_comparison,
        demanded=spec.objectives,
    )


def is_judged_by(spec: SweepSpec, measurement: Measurement) -> bool:
    """Whether a measurement was judged as this sweep demands."""
    return (measurement.alpha, measurement.demanded) == (spec.alpha_of_comparison, spec.objectives)


def _to_the_end(_rows: pa.Table) -> StopDecision:
    return StopDecision(False, "")


def _figures(table: pa.Table, metadata: RunMetadata, arm: Arm) -> ArmFigures:
    rows = rows_of_arm(table, arm)
    if not rows.num_rows:
        return ArmFigures()
    summary = summarize_blocks(rows, metadata.load_spec)
    told = msgspec.to_builtins(summary.latency_ns)
    milliseconds = {f"{name}_ms": told[name] / _NS_PER_MS for name in METRICS if told.get(name) is not None}
    return ArmFigures(
        requests=summary.requests,
        achieved_rps=summary.achieved_rps,
        error_rate=(summary.failed or 0) / summary.requests,
        **milliseconds,
    )


def _ratios(verdict: Verdict) -> dict[str, Ratio]:
    return {
        name: Ratio(metric.ratio, metric.lower, metric.upper)
        for name, metric in verdict.metrics.items()
        if name in METRICS
        and metric.ratio is not None
        and metric.lower is not None
        and metric.upper is not None
    }
