"""A capacity search on real servers: one, or two whose probes alternate."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import pyarrow as pa

from model_load_test.components.errors import InputError
from model_load_test.components.load.capacity.boundary import Probe
from model_load_test.components.load.capacity.objectives import allowed_share, parse_objectives
from model_load_test.components.load.capacity.probing import LoadKind, Prober
from model_load_test.components.load.capacity.result import (
    ArmCapacity,
    CapacityReport,
    arm_capacity,
    ratio_of,
)
from model_load_test.components.load.capacity.search import Found, SearchPlan, search
from model_load_test.components.load.processes import Interruption
from model_load_test.components.load.progress import Progress, print_progress
from model_load_test.components.load.run import LoadTest, interruptible
from model_load_test.components.load.schedule import Arm
from model_load_test.components.payload.manifest import read_manifest
from model_load_test.components.results.table import SCHEMA, RunMetadata

MOST_CONNECTIONS: Final = 4_096
_LEAST_PROBE_SECONDS: Final = 1.0
_LONGEST_PROBE_SECONDS: Final = 600.0


@dataclass(frozen=True)
class CapacityQuestion:
    """What is asked; parsed by `parse_question`."""

    objectives: tuple[str, ...]
    kind: LoadKind = "rate"
    probe_seconds: float = 5.0
    lowest: float = 1.0
    highest: float = 5_000.0
    start: float = 0.0
    """Where the ramp begins; 0 for what one client sees, or one connection."""
    most_probes: int = 20
    target_rps: float | None = None
    headroom: float = 0.3
    seed: int = 0


def parse_question(values: Mapping[str, Any]) -> CapacityQuestion:
    """Parses and checks a question; what is not given takes its default.

    Raises:
        InputError: A field is unknown or out of range; names it, its value and the remedy.
    """
    question = CapacityQuestion(**{**values, "objectives": tuple(values.get("objectives", ()))})
    parse_objectives(question.objectives)
    for holds, field, remedy in (
        (question.kind in ("rate", "connections"), "kind", "choose rate or connections"),
        (
            _LEAST_PROBE_SECONDS <= question.probe_seconds <= _LONGEST_PROBE_SECONDS,
            "probe_seconds",
            f"give seconds from {_LEAST_PROBE_SECONDS:g} to {_LONGEST_PROBE_SECONDS:g}",
        ),
        (question.lowest >= 1, "lowest", "give a load of 1 or more"),
        (question.highest > question.lowest, "highest", "give a load above lowest"),
        (3 <= question.most_probes <= 100, "most_probes", "give a number from 3 to 100"),
        (0 <= question.headroom < 1, "headroom", "give a share from 0 to below 1, such as 0.3"),
        (
            question.target_rps is None or question.target_rps > 0,
            "target_rps",
            "give a rate above 0, or leave it out",
        ),
        (
            question.kind == "rate" or question.highest <= MOST_CONNECTIONS,
            "highest",
            f"at most {MOST_CONNECTIONS} simultaneous requests",
        ),
    ):
        if not holds:
            raise InputError(field, getattr(question, field), remedy)
    return question


def find_capacity(
    test: LoadTest,
    question: CapacityQuestion,
    progress: Progress = print_progress,
    interruption: Interruption | None = None,
) -> tuple[CapacityReport, pa.Table, RunMetadata]:
    """Searches the capacity of the candidate, and of the baseline if the test has one.

    With two servers the probes alternate, so that a slow minute meets both. SIGTERM ends the search
    and keeps what was measured.

    Args:
        test: As `preflight.prepare` made it; its rate, blocks and looks are replaced.
        question: What to search for.
        progress: Receives a line a probe.
        interruption: As `run_load_test` takes it, held by a caller who has the result to keep.

    Returns:
        The report, the rows with their probe's number for the block, and the last probe's metadata.
    """
    objectives = parse_objectives(question.objectives)
    interruption = interruption or Interruption()
    single = msgspec.structs.replace(test.spec, mode="single", rate_profile="", block_rates_rps=())
    probers: dict[Arm, Prober] = {
        arm: Prober(
            test=replace(
                test,
                spec=single,
                endpoints={"candidate": endpoint},
                metrics={"candidate": test.metrics[arm]} if arm in test.metrics else {},
            ),
            arm=arm,
            kind=question.kind,
            objectives=objectives,
            probe_seconds=question.probe_seconds,
            progress=progress,
            interruption=interruption,
        )
        for arm, endpoint in test.endpoints.items()
    }
    allowed = tuple(allowed_share(objective) for objective in objectives)
    with interruptible(interruption):
        found = _alternate(_plans(probers, question, allowed), probers)
    ratio, ratio_lower, ratio_upper = _ratio(found)
    report = CapacityReport(
        model_name=read_manifest(test.payload_path).model_name,
        load_kind=question.kind,
        objectives=question.objectives,
        arms={str(arm): _arm(found[arm], prober, question) for arm, prober in probers.items()},
        ratio=ratio,
        ratio_lower=ratio_lower,
        ratio_upper=ratio_upper,
        target_rps=question.target_rps,
        headroom=question.headroom,
        interrupted=interruption.is_set(),
    )
    tables = [table for prober in probers.values() for table in prober.tables]
    metadata = next((prober.metadata for prober in probers.values() if prober.metadata), RunMetadata())
    rows = pa.concat_tables(tables).unify_dictionaries().cast(SCHEMA) if tables else SCHEMA.empty_table()
    return report, rows, metadata


def _plans(
    probers: Mapping[Arm, Prober], question: CapacityQuestion, allowed: tuple[float, ...]
) -> dict[Arm, SearchPlan]:
    """A plan an arm; none at all if somebody interrupts what they begin with."""
    plans: dict[Arm, SearchPlan] = {}
    for arm, prober in probers.items():
        plans[arm] = _plan(prober, question, allowed)
        if prober.interrupted:
            return {}
    return plans


def _plan(prober: Prober, question: CapacityQuestion, allowed: tuple[float, ...]) -> SearchPlan:
    if question.kind == "connections" or not question.start:
        prober.observe_one_client()
    start = question.start or (prober.one_client_rps if question.kind == "rate" else 1.0)
    return SearchPlan(
        allowed=allowed,
        start=start,
        lowest=question.lowest,
        highest=question.highest,
        most_probes=question.most_probes,
        seed=question.seed,
    )


def _alternate(plans: Mapping[Arm, SearchPlan], probers: Mapping[Arm, Prober]) -> dict[Arm, Found]:
    """Runs the searches in turn, a probe each, until all have ended or one was interrupted."""
    searches: dict[Arm, Generator[float, Probe, Found]] = {}
    wanted: dict[Arm, float] = {}
    probes: dict[Arm, list[Probe]] = {arm: [] for arm in plans}
    found: dict[Arm, Found] = {}
    for arm, plan in plans.items():
        searches[arm] = search(plan)
        wanted[arm] = next(searches[arm])
    while wanted:
        for arm in list(wanted):
            probes[arm].append(probers[arm].probe(wanted[arm]))
            if probers[arm].interrupted:
                wanted.clear()
                break
            try:
                wanted[arm] = searches[arm].send(probes[arm][-1])
            except StopIteration as end:
                found[arm] = end.value
                del wanted[arm]
    return {arm: found.get(arm, Found("stopped", probes=tuple(probes.get(arm, ())))) for arm in probers}


def _arm(found: Found, prober: Prober, question: CapacityQuestion) -> ArmCapacity:
    return arm_capacity(
        found,
        question.objectives,
        prober.points,
        prober.bottlenecks,
        question.kind,
        question.target_rps,
        question.headroom,
    )


def _ratio(found: Mapping[Arm, Found]) -> tuple[float | None, float | None, float | None]:
    beliefs = [found[arm].belief for arm in ("candidate", "baseline") if arm in found]
    if len(beliefs) == 2 and beliefs[0] is not None and beliefs[1] is not None:
        return ratio_of(beliefs[0], beliefs[1])
    return None, None, None
