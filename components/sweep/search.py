"""Which configuration is tried next: every one of a grid in random order, or what Optuna proposes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from model_load_test.components.errors import InputError
from model_load_test.components.sweep.measurement import Measurement
from model_load_test.components.sweep.parameters import (
    SweepError,
    configuration_id,
    configure,
)
from model_load_test.components.sweep.spec import SweepSpec, grid, is_range

_MOST_USELESS: Final = 50
"""Proposals in a row that were refused or known, after which Optuna has nothing more to propose."""
_WORST: Final = 1e3
"""What Optuna is told of a configuration that broke or missed an objective: beyond any ln of a real value."""


class Search(Protocol):
    """Proposes configurations, and is told how good they were."""

    refused: list[tuple[dict[str, Any], str]]
    """Configurations that cannot be served, each with the reason."""

    def proposals(self) -> Iterator[dict[str, Any]]:
        """Configurations to measure, one after the other; `tell` comes before the next."""

    def tell(self, parameters: Mapping[str, Any], value: float | None) -> None:
        """Says how good a configuration was, now or in an earlier try: less is better; None: it broke."""


def search_of(spec: SweepSpec) -> Search:
    """The search that a sweep asks for.

    Raises:
        SweepError: No configuration of a grid can be served.
        InputError: Optuna is not installed.
    """
    return OptunaSearch(spec) if spec.search == "optuna" else GridSearch(spec)


def refusal(spec: SweepSpec, parameters: Mapping[str, Any]) -> str:
    """Why a configuration cannot be served; empty where it can."""
    try:
        configure(spec.serving, spec.model_name, {**spec.reference, **parameters})
    except InputError as error:
        return str(error)
    return ""


class GridSearch:
    """All combinations that can be served, in random order."""

    def __init__(self, spec: SweepSpec) -> None:
        """Sorts out what cannot be served.

        Raises:
            SweepError: Nothing remains.
        """
        self.refused: list[tuple[dict[str, Any], str]] = []
        self._wanted = []
        for parameters in grid(spec):
            reason = refusal(spec, parameters)
            if reason:
                self.refused.append((parameters, reason))
            else:
                self._wanted.append(parameters)
        if not self._wanted:
            parameters, reason = self.refused[0]
            raise SweepError(
                "parameters", parameters, f"none of {len(self.refused)} combinations can be served: {reason}"
            )
        random.Random(spec.seed).shuffle(self._wanted)

    def proposals(self) -> Iterator[dict[str, Any]]:
        """Each combination once."""
        yield from self._wanted

    def tell(self, parameters: Mapping[str, Any], value: float | None) -> None:
        """A grid does not learn."""


class OptunaSearch:
    """Optuna's tree-structured Parzen estimator, asked and told; what it may not try is pruned."""

    def __init__(self, spec: SweepSpec) -> None:
        """Makes the study.

        Raises:
            InputError: Optuna is not installed.
        """
        try:
            import optuna
        except ImportError:
            raise InputError("search", "optuna", "install model-load-test[sweep], or search a grid") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.refused: list[tuple[dict[str, Any], str]] = []
        self._optuna = optuna
        self._spec = spec
        self._study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=spec.seed))
        self._space = {name: _distribution(optuna, values) for name, values in spec.parameters.items()}
        self._asked: dict[str, Any] = {}
        self._known: dict[str, float] = {}

    def proposals(self) -> Iterator[dict[str, Any]]:
        """As many different configurations as the sweep has trials, as long as there are new ones."""
        useless = 0
        while len(self._known) < self._spec.trials and useless < _MOST_USELESS:
            trial = self._study.ask(self._space)
            parameters = {name: _decoded(value) for name, value in trial.params.items()}
            name = configuration_id(parameters)
            reason = refusal(self._spec, parameters)
            useless += 1
            if reason:
                self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)
                if parameters not in [earlier for earlier, _ in self.refused]:
                    self.refused.append((parameters, reason))
            elif name in self._known:
                self._study.tell(trial, self._known[name])
            else:
                useless = 0
                self._asked[name] = trial
                yield parameters

    def tell(self, parameters: Mapping[str, Any], value: float | None) -> None:
        """Tells Optuna, which then proposes what is probably better; also what an earlier try measured."""
        name = configuration_id(parameters)
        if name in self._known or set(parameters) != set(self._space):
            return
        self._known[name] = _WORST if value is None else value
        asked = self._asked.pop(name, None)
        if asked is not None:
            self._study.tell(asked, self._known[name])
            return
        trial = self._optuna.trial.create_trial(
            params={field: _coded(self._space[field], one) for field, one in parameters.items()},
            distributions=self._space,
            value=self._known[name],
        )
        self._study.add_trial(trial)


def value_of(spec: SweepSpec, measured: Sequence[Measurement], cost: float | None) -> float | None:
    """What a search is told of a configuration: the goal at its highest rate; None where it broke.

    Args:
        spec: The sweep.
        measured: The configuration's measurements.
        cost: What a million requests cost at the highest rate.
    """
    from math import log

    top = max(measured, key=lambda one: one.rate_rps, default=None)
    if top is None or not top.holds:
        return None
    if spec.goal == "cost":
        return log(cost) if cost else None
    ratio = top.ratios.get(spec.goal)
    return log(ratio.ratio) if ratio else None


def _distribution(optuna: Any, values: Any) -> Any:
    if not is_range(values):
        return optuna.distributions.CategoricalDistribution([json.dumps(value) for value in values])
    low, high, step = values["low"], values["high"], values.get("step", 1)
    logarithmic = bool(values.get("log"))
    if all(float(one).is_integer() for one in (low, high, step)):
        return optuna.distributions.IntDistribution(int(low), int(high), logarithmic, int(step))
    spacing = None if logarithmic or "step" not in values else float(step)
    return optuna.distributions.FloatDistribution(float(low), float(high), logarithmic, spacing)


def _decoded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _coded(distribution: Any, value: Any) -> Any:
    return json.dumps(value) if hasattr(distribution, "choices") else value
