"""What a sweep tries, how it measures, and what it looks for: parsed once, checked once."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from model_load_test.components.gate.spec import parse_gate_spec
from model_load_test.components.load.spec import parse_load_spec
from model_load_test.components.parameters import refuse_unknown
from model_load_test.components.results.percentile import TAIL_ROWS, enough_rows
from model_load_test.components.results.summary import PERCENTILES
from model_load_test.components.serving.spec import parse_serving_spec
from model_load_test.components.sweep.cost import check_prices
from model_load_test.components.sweep.parameters import SweepError, check_value, configure

SearchKind = Literal["grid", "optuna"]
Goal = Literal["mean", "p50", "p95", "p99", "cost"]
Mode = Literal["duet", "interleaved"]

MOST_CONFIGURATIONS: Final = 1_000
MOST_RATES: Final = 50
_RANGE: Final = ("low", "high", "step", "log")


class SweepSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sweep."""

    model_name: str
    parameters: Mapping[str, Any]
    """By parameter the values to try: a list, or for Optuna also {"low": 1, "high": 64, "log": true}."""
    serving: Mapping[str, Any] = {}
    """The serving spec that is common to all, as for `deploy_model_server`."""
    reference: Mapping[str, Any] = {}
    """Parameters of the reference configuration; it is `serving` itself where there are none."""
    search: SearchKind = "grid"
    trials: int = 20
    """Configurations that Optuna may try; a grid is tried whole."""
    rates_rps: tuple[float, ...] = (100.0,)
    """Each configuration is measured at each of these rates."""
    mode: Mode = "duet"
    pairs: int = 15
    """Pairs of blocks at each rate."""
    block_seconds: float = 0.0
    """0 for one second or 200 requests."""
    warmup_seconds: float = 2.0
    timeout_seconds: float = 5.0
    connections: int = 1
    objectives: tuple[str, ...] = ()
    """What a configuration must be shown to hold to be the best one, such as `p99_ms<=50`."""
    goal: Goal = "p95"
    """What the best configuration has least of."""
    prices: Mapping[str, Any] = {}
    """Per hour: {"cpu": 0.033, "memory_gib": 0.004, "gpu": 0.35, "machines": {TYPE: 0.19}}."""
    alpha: float = 0.05
    """Chance of any wrong interval among all that are compared."""
    seed: int = 0

    @property
    def kind(self) -> str:
        """The kind of server."""
        return str(self.serving.get("kind", "tf-serving"))

    @property
    def alpha_of_comparison(self) -> float:
        """Chance of error of one interval."""
        return self.alpha / self.comparisons

    @property
    def comparisons(self) -> int:
        """Intervals that are compared, which share alpha."""
        if self.search == "optuna":
            return self.trials * len(self.rates_rps)
        return max(1, math.prod(len(values) for values in self.parameters.values())) * len(self.rates_rps)


def parse_sweep_spec(values: Mapping[str, Any]) -> SweepSpec:
    """Parses and checks a sweep; what is not given takes its default.

    Raises:
        InputError: A field is unknown, of the wrong type or out of range, nothing is to be tried, or the
            reference configuration cannot be served.
    """
    refuse_unknown("sweep", values, SweepSpec.__struct_fields__, SweepError)
    for field, choices in (
        ("search", get_args(SearchKind)),
        ("goal", get_args(Goal)),
        ("mode", get_args(Mode)),
    ):
        if field in values and values[field] not in choices:
            raise SweepError(field, values[field], f"choose one of {', '.join(choices)}")
    completed = dict(values)
    for field in ("trials", "pairs", "connections", "seed"):
        given = completed.get(field)
        if isinstance(given, float) and given.is_integer():
            completed[field] = int(given)
    try:
        spec = msgspec.convert(completed, SweepSpec)
    except msgspec.ValidationError as error:
        raise SweepError("sweep", dict(values), f"mend the field that is named here: {error}") from None
    _check_space(spec)
    _check_measuring(spec)
    configure(spec.serving, spec.model_name, spec.reference)
    return spec


def is_range(values: Any) -> bool:
    """Whether this is a range of numbers, not a list of values."""
    return isinstance(values, Mapping)


def grid(spec: SweepSpec) -> list[dict[str, Any]]:
    """Every combination of the values, in their order."""
    names = list(spec.parameters)
    combinations = itertools.product(*(spec.parameters[name] for name in names))
    return [dict(zip(names, values, strict=True)) for values in combinations]


def _check_space(spec: SweepSpec) -> None:
    parse_serving_spec(spec.serving, model_name=spec.model_name)
    if not spec.parameters:
        raise SweepError("parameters", {}, 'name at least one, such as {"max_batch_size": [8, 32]}')
    for name, values in spec.parameters.items():
        check_value(spec.kind, name, None)
        if is_range(values):
            _check_range(spec, name, values)
            continue
        if not isinstance(values, (list, tuple)) or not values:
            raise SweepError(f"parameters.{name}", values, "give a list of at least one value to try")
        texts = [json.dumps(value, sort_keys=True) for value in values]
        if len(set(texts)) < len(texts):
            raise SweepError(f"parameters.{name}", list(values), "give each value once")
        for value in values:
            check_value(spec.kind, name, value)
    if spec.search == "grid":
        size = math.prod(len(values) for values in spec.parameters.values())
        if size > MOST_CONFIGURATIONS:
            remedy = f"a grid has at most {MOST_CONFIGURATIONS}; try fewer values, or search with optuna"
            raise SweepError("parameters", f"{size} combinations", remedy)


def _check_range(spec: SweepSpec, name: str, values: Mapping[str, Any]) -> None:
    field = f"parameters.{name}"
    if spec.search == "grid":
        raise SweepError(field, dict(values), "a grid needs a list of values; search a range with optuna")
    refuse_unknown("range", values, _RANGE, SweepError, prefix=f"{field}.")
    if not {"low", "high"} <= set(values):
        raise SweepError(field, dict(values), 'give both ends, as {"low": 1, "high": 64}')
    low, high, step = values["low"], values["high"], values.get("step", 1)
    for end in (low, high):
        check_value(spec.kind, name, end)
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (low, high, step))
    if not numbers or not low < high or step <= 0:
        raise SweepError(field, dict(values), "give numbers, low below high, and a step above 0")
    if values.get("log") and (low <= 0 or step != 1):
        raise SweepError(field, dict(values), "a logarithmic range begins above 0 and has no step")


def _check_measuring(spec: SweepSpec) -> None:
    if (
        not spec.rates_rps
        or len(set(spec.rates_rps)) < len(spec.rates_rps)
        or len(spec.rates_rps) > MOST_RATES
    ):
        raise SweepError("rates_rps", list(spec.rates_rps), f"give 1 to {MOST_RATES} different rates")
    for field, low, high in (
        ("pairs", 5, 600),
        ("trials", 1, MOST_CONFIGURATIONS),
        ("connections", 1, 10_000),
    ):
        if not low <= getattr(spec, field) <= high:
            raise SweepError(field, getattr(spec, field), f"give a number from {low} to {high}")
    least = math.ceil(math.log2(1 / spec.alpha_of_comparison)) if 0 < spec.alpha < 1 else 0
    if spec.pairs < least:
        remedy = f"{spec.comparisons} comparisons share alpha = {spec.alpha:g}; give {least} pairs or more"
        raise SweepError("pairs", spec.pairs, remedy)
    if spec.goal == "cost" and not spec.prices:
        raise SweepError("goal", "cost", "give prices too")
    check_prices(spec.prices)
    for rate_rps in spec.rates_rps:
        load = parse_load_spec(load_values(spec, rate_rps))
        _refuse_too_few(spec, rate_rps, spec.pairs * load.requests_per_block)
    parse_gate_spec({"objectives": spec.objectives, "alpha": spec.alpha, "looks": [spec.pairs]})


def _refuse_too_few(spec: SweepSpec, rate_rps: float, requests: float) -> None:
    """Refuses a goal that so many requests would not tell."""
    q = PERCENTILES.get(spec.goal)
    if q is not None and not enough_rows(int(requests), q):
        wanted = math.ceil(TAIL_ROWS / (1 - q / 100) / (requests / spec.pairs))
        remedy = f"at {rate_rps:g} requests/s {spec.goal} needs {wanted} of them; or choose another goal"
        raise SweepError("pairs", spec.pairs, remedy)


def load_values(spec: SweepSpec, rate_rps: float) -> dict[str, Any]:
    """The load of one measurement, as fields of a load spec that both protocols have."""
    return {
        "rate_rps": rate_rps,
        "block_seconds": spec.block_seconds,
        "looks": (spec.pairs,),
        "warmup_seconds": spec.warmup_seconds,
        "timeout_seconds": spec.timeout_seconds,
        "connections": spec.connections,
        "seed": spec.seed,
    }
