"""A sweep from start to end: one configuration at a time, beside a reference that was started with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from model_load_test.components.cluster.failures import ClusterUnreachable, MissingRight
from model_load_test.components.errors import InputError
from model_load_test.components.load.progress import Progress, ProgressUpdate, print_progress
from model_load_test.components.payload.manifest import read_manifest
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.results.table import RunMetadata
from model_load_test.components.serving.spec import ServingSpec
from model_load_test.components.sweep.cost import cost_per_hour, cost_per_million
from model_load_test.components.sweep.journal import Journal
from model_load_test.components.sweep.measurement import (
    Measurement,
    Servers,
    is_judged_by,
    judged,
    measure,
)
from model_load_test.components.sweep.parameters import SweepError, configure, in_words
from model_load_test.components.sweep.result import SweepReport, build_report
from model_load_test.components.sweep.search import Search, search_of, value_of
from model_load_test.components.sweep.spec import SweepSpec

Serve = Callable[[ServingSpec, ServingSpec], AbstractContextManager[Servers]]
"""Starts two servers, of a configuration (candidate) and of the reference (baseline), and stops them."""

MakePayload = Callable[[Endpoint, Path], None]
"""Makes the requests for a server that runs."""

_HOPELESS: Final = (ClusterUnreachable, MissingRight)
"""What no other configuration would mend."""
_MOST_FAILURES: Final = 3
"""Configurations in a row that cannot be served, after which it is not the configurations."""


@dataclass
class Sweeper:
    """What a sweep is run with."""

    spec: SweepSpec
    serve: Serve
    make_payload: MakePayload
    journal: Journal
    work_path: Path
    limits: Mapping[str, Any] = field(default_factory=dict)
    """Where the load may go, as `parse_limits` takes them."""
    progress: Progress = print_progress


class Stopped(Exception):
    """The sweep was told to stop while it measured."""


def run_sweep(sweeper: Sweeper) -> SweepReport:
    """Measures the reference against itself, then every configuration beside it, and says which is best.

    What the journal holds already is not measured again. A configuration whose server does not come up,
    or whose load breaks, is told as such, and the sweep goes on. What was measured is kept whatever
    ends the sweep.

    Args:
        sweeper: The sweep, and what to run it with.

    Returns:
        The report; where the sweep was told to stop it says so.

    Raises:
        InputError: The journal is of another sweep, or the reference cannot be measured.
    """
    spec, journal = sweeper.spec, sweeper.journal
    search = search_of(spec)
    journal.begin(spec)
    unfinished = ""
    try:
        _measure_all(sweeper, search)
    except Stopped as reason:
        unfinished = str(reason)
    return build_report(
        spec,
        [one for one in journal.measurements() if one.rate_rps in spec.rates_rps],
        search.refused,
        complete=not unfinished,
        unfinished=unfinished,
    )


def _measure_all(sweeper: Sweeper, search: Search) -> None:
    spec = sweeper.spec
    _judge_again(sweeper)
    of_reference = _measured(sweeper, {}, "the reference against itself")
    worst = next((one for one in of_reference if one.outcome != "measured"), None)
    if worst is not None:
        raise SweepError(
            "reference",
            in_words(spec.reference),
            f"at {worst.rate_rps:g} requests/s it is {worst.outcome}: {worst.reason}",
        )
    for earlier in _complete(sweeper):
        search.tell(earlier[0].parameters, _value(spec, earlier))
    failures: list[Measurement] = []
    for number, parameters in enumerate(search.proposals(), start=1):
        measured = _measured(sweeper, parameters, f"configuration {number}: {in_words(parameters)}")
        search.tell(parameters, _value(spec, measured))
        failures = [*failures, measured[0]] if any(one.outcome == "failed" for one in measured) else []
        if len(failures) >= _MOST_FAILURES:
            raise Stopped(
                f"{len(failures)} configurations in a row could not be served: {failures[-1].reason}"
            )


def _judge_again(sweeper: Sweeper) -> None:
    """Judges what an earlier try measured as this one demands: its objectives and its share of alpha."""
    spec, journal = sweeper.spec, sweeper.journal
    for one in journal.measurements():
        if one.outcome == "failed" or is_judged_by(spec, one):
            continue
        rows = journal.rows(one)
        if rows is not None:
            journal.keep(judged(spec, one, rows.table, rows.metadata))


def _complete(sweeper: Sweeper) -> list[Sequence[Measurement]]:
    """What an earlier try has measured at every rate, but for the reference."""
    of: dict[str, list[Measurement]] = {}
    for one in sweeper.journal.measurements():
        if one.parameters and one.rate_rps in sweeper.spec.rates_rps and one.outcome != "failed":
            of.setdefault(in_words(one.parameters), []).append(one)
    return [found for found in of.values() if len(found) == len(sweeper.spec.rates_rps)]


def _kept(sweeper: Sweeper, parameters: Mapping[str, Any]) -> list[Measurement]:
    found = (sweeper.journal.kept(parameters, rate_rps) for rate_rps in sweeper.spec.rates_rps)
    return [one for one in found if one is not None]


def _measured(sweeper: Sweeper, parameters: Mapping[str, Any], what: str) -> list[Measurement]:
    """The measurements of one configuration at all rates, those of the journal taken from there."""
    spec, journal = sweeper.spec, sweeper.journal
    kept = _kept(sweeper, parameters)
    missing = [rate for rate in _shuffled(spec, parameters) if rate not in [one.rate_rps for one in kept]]
    if not missing:
        sweeper.progress(ProgressUpdate(f"{what}: measured before"))
        return kept
    sweeper.progress(ProgressUpdate(what))
    reference = configure(spec.serving, spec.model_name, spec.reference)
    configuration = configure(spec.serving, spec.model_name, {**spec.reference, **parameters})
    try:
        with sweeper.serve(configuration, reference) as servers:
            payload_path = _payload(sweeper, servers)
            for rate_rps in missing:
                measurement, table, metadata = _measure(sweeper, parameters, rate_rps, servers, payload_path)
                if measurement.outcome == "broken" and not _was_stopped(metadata):
                    sweeper.progress(ProgressUpdate(f"{_line(measurement)}; once more"))
                    measurement, table, metadata = _measure(
                        sweeper, parameters, rate_rps, servers, payload_path
                    )
                if _was_stopped(metadata):
                    raise Stopped("the sweep was told to stop")
                journal.keep(measurement, table, metadata)
                kept.append(measurement)
                sweeper.progress(ProgressUpdate(_line(measurement)))
    except _HOPELESS:
        raise
    except InputError as error:
        if not parameters:
            raise
        for rate_rps in missing:
            if rate_rps in [one.rate_rps for one in kept]:
                continue
            failed = Measurement(
                parameters=parameters, rate_rps=rate_rps, outcome="failed", reason=_first_line(error)
            )
            journal.keep(failed)
            kept.append(failed)
        sweeper.progress(ProgressUpdate(f"it could not be measured: {error}"))
    return kept


def _shuffled(spec: SweepSpec, parameters: Mapping[str, Any]) -> list[float]:
    import random

    rates = list(spec.rates_rps)
    random.Random(f"{spec.seed} {in_words(parameters)}").shuffle(rates)
    return rates


def _payload(sweeper: Sweeper, servers: Servers) -> Path:
    """The requests: made once, for the first reference that runs, the same again in a later try.

    Raises:
        SweepError: They are not those that the journal's measurements were sent.
    """
    path = sweeper.work_path / "payload"
    if not path.exists():
        sweeper.make_payload(servers.endpoints["baseline"], path)
        made = read_manifest(path).hash
        for earlier in sweeper.journal.measurements():
            if earlier.payload_hash and earlier.payload_hash != made:
                raise SweepError(
                    "payload",
                    made,
                    f"{sweeper.journal.place} was measured with {earlier.payload_hash}; begin anew",
                )
    return path


def _measure(
    sweeper: Sweeper,
    parameters: Mapping[str, Any],
    rate_rps: float,
    servers: Servers,
    payload_path: Path,
) -> tuple[Measurement, pa.Table, RunMetadata]:
    return measure(
        sweeper.spec,
        parameters,
        rate_rps,
        servers,
        payload_path,
        sweeper.work_path / "load",
        sweeper.progress,
        sweeper.limits,
    )


def _was_stopped(metadata: RunMetadata) -> bool:
    return any(
        check["code"] == "generator-stopped" and "received SIG" in check["detail"]
        for check in metadata.checks
    )


def _value(spec: SweepSpec, measured: Sequence[Measurement]) -> float | None:
    if any(one.outcome != "measured" for one in measured):
        return None
    top = max(measured, key=lambda one: one.rate_rps)
    serving = configure(spec.serving, spec.model_name, {**spec.reference, **top.parameters})
    cost = cost_per_million(cost_per_hour(serving, spec.prices), top.configuration.achieved_rps)
    return value_of(spec, measured, cost)


def _line(one: Measurement) -> str:
    if one.outcome == "broken":
        return f"{one.rate_rps:g} requests/s: broken off: {one.reason}"
    told = [
        f"{name} {value:.3g} ms x{ratio.ratio:.2f} [{ratio.lower:.2f}, {ratio.upper:.2f}]"
        for name in ("p50", "p95", "p99")
        if (ratio := one.ratios.get(name)) and (value := getattr(one.configuration, f"{name}_ms")) is not None
    ]
    missed = [text for text, verdict in one.objectives.items() if verdict != "PASS"]
    lacking = f"; not shown: {', '.join(missed)}" if missed else ""
    return f"{one.rate_rps:g} requests/s: {', '.join(told)}{lacking}"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]
