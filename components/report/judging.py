"""From the files of a run to its report: reads, validates, judges, gathers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import msgspec

from model_load_test.components.baseline.fingerprint import fingerprint_text, parse_fingerprint
from model_load_test.components.baseline.lookup import FoundBaseline
from model_load_test.components.baseline.record import Record
from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import gate_spec_of_run
from model_load_test.components.report.model import HistoryPoint, Model, RunReport, build_run_report
from model_load_test.components.results.table import RunMetadata, read_results
from model_load_test.components.results.validity import validate

_SECONDS_PER_MS: Final = 1e-3


def judge_results(
    results_path: Path,
    history_path: Path,
    *,
    gate_values: Mapping[str, Any],
    model_name: str,
    model_version: str = "",
) -> RunReport:
    """Judges a results table and returns the whole report.

    Args:
        results_path: The results table.
        history_path: Earlier runs, as `find_baseline` wrote them.
        gate_values: Fields of the gate spec; looks and block size come from the results.
        model_name: The model's name.
        model_version: The candidate's version.

    Raises:
        InputError: A file cannot be read or a value not be used.
    """
    results = read_results(results_path)
    found = msgspec.json.decode(history_path.read_bytes(), type=FoundBaseline)
    verdict = judge(
        results.table,
        gate_spec_of_run(gate_values, results.metadata.load_spec, results.metadata.noise_floor),
        checks=validate(results.table, results.metadata),
        history=[values for record in reversed(found.judged_against()) if (values := gate_values_of(record))],
        cpu=results.metadata.resources.cpu,
    )
    return build_run_report(
        verdict,
        results.table,
        results.metadata,
        models={
            arm: Model(name=model_name, version=model_version if arm == "candidate" else "")
            for arm in _arms(results.metadata)
        },
        fingerprints={"run": fingerprint_text(parse_fingerprint(results.metadata.fingerprint))},
        payload=results.metadata.payload,
        history=[history_point(record) for record in found.history],
        history_note=found.reason,
        history_differences=found.differences,
    )


def gate_values_of(record: Record) -> dict[str, float]:
    """A record's numbers as the historical judgement wants them: seconds, shares, rates."""
    numbers = record.metrics
    values = {
        name: numbers[f"candidate_{name}_ms"] * _SECONDS_PER_MS
        for name in ("mean", "p50", "p95", "p99")
        if f"candidate_{name}_ms" in numbers
    }
    if "error_rate" in numbers:
        values["errors"] = numbers["error_rate"]
    if "goodput_rps" in numbers:
        values["goodput"] = numbers["goodput_rps"]
    return values


def history_point(record: Record) -> HistoryPoint:
    """What the trend shows of a record."""
    return HistoryPoint(
        created_at=_moment(record.created_at_ns),
        metrics=record.metrics,
        run=record.run_id,
        model_version=record.model_version,
        verdict=record.verdict,
        promoted_at=_moment(record.promoted_at_ns) if record.promoted_at_ns else None,
        reference=record.promoted,
    )


def _moment(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns / 1e9, timezone.utc)


def _arms(metadata: RunMetadata) -> tuple[str, ...]:
    return ("candidate",) if metadata.load_spec.get("mode") == "single" else ("candidate", "baseline")
