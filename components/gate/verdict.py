"""The gate's answer, as written to `report.json`."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from model_load_test.components.results.checks import Check

SCHEMA_VERSION: Final = 1

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "NO_BASELINE", "INVALID"]
MetricOutcome = Literal["PASS", "FAIL", "INCONCLUSIVE", "REFUSED"]
Judgement = Literal["paired", "historical", "none"]


class MetricVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """One metric of the candidate against the baseline.

    `ratio`, `lower` and `upper` are candidate/baseline; for the metric `errors` they are a
    difference of failure shares (candidate minus baseline). A number that could not be
    computed is absent, never NaN.
    """

    verdict: MetricOutcome
    margin: float
    """Allowed relative excess (0.05 = 5 %); for `errors` an absolute share."""
    n: int
    """Pairs of blocks that entered the judgement."""
    ratio: float | None = None
    lower: float | None = None
    upper: float | None = None
    p_holm: float | None = None
    """Holm-adjusted one-sided p of "the candidate is worse by more than half the margin"."""
    candidate: float | None = None
    """The candidate's value over the judged blocks: seconds, a share for `errors`, requests per
    second for `goodput`."""
    baseline: float | None = None
    faster: bool = False
    """The whole interval lies below 1 by more than the luck of a start: reported as faster."""
    note: str = ""


class ObjectiveVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """One absolute service-level objective of the candidate."""

    objective: str
    """As the user wrote it, e.g. `p99_ms<=50`."""
    verdict: MetricOutcome
    observed: float | None = None
    confidence: float | None = None
    note: str = ""


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """The whole answer of the gate."""

    verdict: Outcome
    reasons: tuple[str, ...]
    """Sentences a user can act on, the most important first."""
    judgement: Judgement = "paired"
    metrics: dict[str, MetricVerdict] = {}
    """Keyed `mean`, `p50`, `p95`, `p99`, `errors`, `goodput`, in that order."""
    objectives: tuple[ObjectiveVerdict, ...] = ()
    pairs: int = 0
    pairs_wanted: int | None = None
    """Further pairs that would probably decide an INCONCLUSIVE run."""
    requests_wanted: int | None = None
    """The same in requests per arm."""
    alpha: float = 0.05
    detectable_effect: dict[str, float] = {}
    """Per metric the smallest relative slow-down this run could have failed."""
    noise_floor: dict[str, float] = {}
    """Per metric the A/A standard deviation of ln(ratio) stored for this infrastructure."""
    checks: tuple[Check, ...] = ()
    schema_version: int = SCHEMA_VERSION
