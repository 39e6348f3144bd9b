"""What the gate demands: margins, error rate, objectives, policies. Parsed once, validated once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from model_load_test.components.errors import InputError
from model_load_test.components.parameters import refuse_unknown
from model_load_test.components.policies import CHOICES, OnInconclusive, OnMissingBaseline, check_policy
from model_load_test.components.results.objective import parse_objective

DEFAULT_MARGINS: Final[dict[str, float]] = {
    "mean": 0.05,
    "p50": 0.05,
    "p95": 0.10,
    "p99": 0.25,
    "errors": 0.001,
    "goodput": 0.05,
}
"""In the order they are reported. Relative, but for `errors`: an absolute share of the requests."""

OPTIONAL_MARGINS: Final = ("cpu",)
"""Judged only where a margin is given. `cpu`: the watched servers' CPU time per request, relative."""

METRICS: Final = (*DEFAULT_MARGINS, *OPTIONAL_MARGINS)

NOISE_FLOOR_MULTIPLE: Final = 2.0
"""A margin is never below this many A/A standard deviations of ln(ratio)."""

DEPLOYMENT_LUCK: Final = 0.01
"""Two starts of one server differ by about so much (measured: gate statistics, real runs)."""


class GateSpecError(InputError):
    """A gate spec that cannot be judged by."""


class GateSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a verdict depends on beside the results table."""

    margins: dict[str, float] = msgspec.field(default_factory=DEFAULT_MARGINS.copy)
    """Allowed excess of the candidate; only the metrics named here are judged."""
    alpha: float = 0.05
    """One-sided error probability of the whole run, over all its looks."""
    objectives: tuple[str, ...] = ()
    """Absolute service-level objectives such as `p99_ms<=50`."""
    looks: tuple[int, ...] = (10, 15, 20, 30, 60)
    """Numbers of pairs at which the run may stop; equal to the load spec's."""
    requests_per_block: float = 0.0
    """Planned requests of a block and arm, from the load spec; 0 when unknown."""
    requests_of_blocks: tuple[float, ...] = ()
    """The same for each block of one pass where the offered rate varies; empty when it is constant."""
    noise_floor: dict[str, float] = {}
    """Per metric the A/A standard deviation of ln(ratio) on this infrastructure."""
    on_inconclusive: OnInconclusive = "fail"
    """What `enforce_gate` does with INCONCLUSIVE."""
    on_missing_baseline: OnMissingBaseline = "pass-and-record"
    """What `enforce_gate` does with NO_BASELINE, and whether such a run is recorded."""

    def margin(self, metric: str) -> float:
        """The margin in force: the one demanded, or twice the noise floor where that is larger."""
        return max(self.margins[metric], NOISE_FLOOR_MULTIPLE * self.noise_floor.get(metric, 0.0))

    def luck(self, metric: str) -> float:
        """What a candidate must be better by to be called faster: more than a fresh start explains."""
        return max(DEPLOYMENT_LUCK, NOISE_FLOOR_MULTIPLE * self.noise_floor.get(metric, 0.0))

    def alpha_at(self, pairs: int) -> float:
        """The part of `alpha` that a judgement of so many pairs may spend.

        Alpha is spent in proportion to the pairs (a sixth of it in the first 10 of 60), so the
        chance of any false decision over all looks is at most `alpha` by Bonferroni's inequality.
        A number of pairs between two looks is judged with the share of the later one.
        """
        previous = 0
        for look in self.looks:
            if pairs <= look or look == self.looks[-1]:
                return self.alpha * (look - previous) / self.looks[-1]
            previous = look
        raise AssertionError("a spec has at least one look")


def parse_gate_spec(values: Mapping[str, Any]) -> GateSpec:
    """Parses and validates a gate spec; what is not given takes its default.

    `margins` is merged over the defaults; a margin of None (or "off") takes the metric out of the
    judgement. Integers are taken for floats and lists for tuples.

    Raises:
        GateSpecError: A field is unknown, of the wrong type or out of range.
    """
    refuse_unknown("gate spec", values, GateSpec.__struct_fields__, GateSpecError)
    completed = dict(values)
    for policy in CHOICES:
        if policy in completed:
            check_policy(policy, completed[policy], GateSpecError)
    completed["margins"] = _merged_margins(completed.get("margins") or {})
    try:
        spec = msgspec.convert(completed, GateSpec, strict=True)
    except msgspec.ValidationError as error:
        raise GateSpecError(
            "gate spec", dict(values), f"mend the field that is named here: {error}"
        ) from None
    _validate(spec)
    return spec


def gate_spec_of_run(
    values: Mapping[str, Any], load_spec: Mapping[str, Any], noise_floor: Mapping[str, float] | None = None
) -> GateSpec:
    """The gate spec of a measured run: what is demanded, with the looks and block size of its load spec.

    Args:
        values: Fields of a gate spec; they win over the load spec.
        load_spec: `RunMetadata.load_spec`; empty for rows from elsewhere.
        noise_floor: `RunMetadata.noise_floor`, where the infrastructure was calibrated.

    Raises:
        GateSpecError: As for `parse_gate_spec`.
    """
    measured: dict[str, Any] = {}
    if "looks" in load_spec:
        measured["looks"] = load_spec["looks"]
    if "rate_rps" in load_spec and "block_seconds" in load_spec:
        measured["requests_per_block"] = load_spec["rate_rps"] * load_spec["block_seconds"]
    if load_spec.get("block_rates_rps") and "block_seconds" in load_spec:
        seconds = load_spec["block_seconds"]
        measured["requests_of_blocks"] = [rate_rps * seconds for rate_rps in load_spec["block_rates_rps"]]
    if noise_floor:
        measured["noise_floor"] = dict(noise_floor)
    return parse_gate_spec({**measured, **values})


def _merged_margins(given: object) -> dict[str, object]:
    if not isinstance(given, Mapping):
        raise GateSpecError("margins", given, 'give a mapping such as {"p95": 0.08}')
    refuse_unknown("gate spec", given, METRICS, GateSpecError, prefix="margins.")
    merged = {metric: given.get(metric, DEFAULT_MARGINS.get(metric)) for metric in METRICS}
    return {metric: margin for metric, margin in merged.items() if margin is not None and margin != "off"}


def _validate(spec: GateSpec) -> None:
    _require(
        bool(spec.margins) or bool(spec.objectives),
        "margins",
        spec.margins,
        "leave at least one metric on, or give an objective",
    )
    for metric, margin in spec.margins.items():
        _require(
            math.isfinite(margin) and 0 < margin < 10,
            f"margins.{metric}",
            margin,
            "give the allowed excess as a share above 0, such as 0.05 for 5 %",
        )
    _require(
        0 < spec.alpha < 0.5,
        "alpha",
        spec.alpha,
        "give an error probability above 0 and below 0.5, such as 0.05",
    )
    _require(
        bool(spec.looks) and all(a < b for a, b in zip((0, *spec.looks), spec.looks, strict=False)),
        "looks",
        spec.looks,
        "give rising numbers of pairs, such as [10, 15, 20, 30, 60]",
    )
    _require(
        math.isfinite(spec.requests_per_block) and spec.requests_per_block >= 0,
        "requests_per_block",
        spec.requests_per_block,
        "give the planned requests of a block and arm, or 0 when unknown",
    )
    refuse_unknown("gate spec", spec.noise_floor, METRICS, GateSpecError, prefix="noise_floor.")
    for metric, deviation in spec.noise_floor.items():
        _require(
            math.isfinite(deviation) and 0 <= deviation < 5,
            f"noise_floor.{metric}",
            deviation,
            "give a standard deviation of ln(ratio) from 0 to 5, as `calibrate` stores it",
        )
    for objective in spec.objectives:
        parse_objective(objective)


def _require(holds: bool, field: str, value: object, remedy: str) -> None:
    if not holds:
        raise GateSpecError(field, value, remedy)
