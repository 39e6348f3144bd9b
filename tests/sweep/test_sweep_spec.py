"""A sweep is checked whole before anything is started."""

from __future__ import annotations

from typing import Any

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.sweep.cost import cost_per_hour, cost_per_million, quantity
from model_load_test.components.sweep.parameters import configure
from model_load_test.components.sweep.search import GridSearch, OptunaSearch
from model_load_test.components.sweep.spec import parse_sweep_spec

SWEEP: dict[str, Any] = {
    "model_name": "digits",
    "parameters": {"enable_batching": [True], "max_batch_size": [4, 16], "batch_timeout_micros": [0, 2000]},
}


def sweep(**values: Any) -> Any:
    return parse_sweep_spec({**SWEEP, **values})


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"parameters": {}}, "name at least one"),
        ({"parameters": {"max_batch_size": []}}, "at least one value"),
        ({"parameters": {"max_batch_size": 8}}, "list"),
        ({"parameters": {"max_batch_size": [8, 8]}}, "each value once"),
        ({"parameters": {"batch_size": [8]}}, "no such name"),
        ({"parameters": {"max_batch_size": ["many"]}}, "whole number"),
        ({"parameters": {"max_batch_size": {"low": 1, "high": 9}}}, "search a range with optuna"),
        ({"parameters": {"num_batch_threads": list(range(1, 1002))}}, "at most 1000"),
        ({"search": "optuna", "parameters": {"max_batch_size": {"low": 9, "high": 1}}}, "low below high"),
        ({"search": "optuna", "parameters": {"max_batch_size": {"low": 1}}}, "both ends"),
        ({"search": "random"}, "grid, optuna"),
        ({"serch": "grid"}, "did you mean 'search'"),
        ({"rates_rps": []}, "1 to 50"),
        ({"rates_rps": [100, 100]}, "different rates"),
        ({"rates_rps": [-1]}, "above 0"),
        ({"objectives": ["p99<=50"]}, "p99_ms<=50"),
        ({"goal": "cost"}, "give prices"),
        ({"prices": {"cpus": 1}}, "did you mean 'cpu'"),
        ({"prices": {"cpu": -1}}, "0 or more"),
        ({"prices": {"machines": {"n2": "cheap"}}}, "price per hour"),
        ({"pairs": 2}, "from 5"),
        ({"pairs": 5}, "4 comparisons share alpha = 0.05; give 7 pairs"),
        ({"rates_rps": [50], "block_seconds": 1, "goal": "p99"}, "p99 needs 40 of them"),
        ({"reference": {"max_batch_size": 4}}, "without enable_batching"),
        ({"model_name": "a b"}, "letters"),
        ({"serving": {"flags": ["--port=1"]}}, "set for you"),
    ],
)
def test_bad_input_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        sweep(**values)


def test_a_grid_is_every_combination_once_in_an_order_of_the_seed() -> None:
    orders = [list(GridSearch(sweep(seed=seed)).proposals()) for seed in (1, 1, 2)]
    assert len(orders[0]) == 4
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert sorted(map(str, orders[0])) == sorted(map(str, orders[2]))


def test_combinations_that_do_not_fit_are_left_out_with_their_reason() -> None:
    search = GridSearch(sweep(parameters={"enable_batching": [False, True], "max_batch_size": [4, 16]}))
    assert len(list(search.proposals())) == 2
    assert [parameters["enable_batching"] for parameters, _ in search.refused] == [False, False]
    assert all("without enable_batching" in reason for _, reason in search.refused)


def test_a_grid_of_which_nothing_remains_is_refused() -> None:
    with pytest.raises(InputError, match="none of 2 combinations"):
        GridSearch(sweep(parameters={"max_batch_size": [4, 16]}))


def test_optuna_finds_the_best_of_a_made_up_server_and_repeats_nothing() -> None:
    pytest.importorskip("optuna", reason="the extra 'sweep' is not installed")
    spec = sweep(
        search="optuna",
        trials=25,
        parameters={
            "enable_batching": [True],
            "num_batch_threads": {"low": 1, "high": 64, "log": True},
            "allowed_batch_sizes": [[8], [16]],
        },
        serving={"batching": {"max_batch_size": 16}},
    )
    search = OptunaSearch(spec)
    tried = []
    for parameters in search.proposals():
        tried.append(parameters)
        search.tell(parameters, abs(parameters["num_batch_threads"] - 20) / 20)
    assert len(tried) == 25
    assert len({str(parameters) for parameters in tried}) == 25
    assert all(parameters["allowed_batch_sizes"] == [16] for parameters in tried)
    assert search.refused, "allowed_batch_sizes=[8] does not end in max_batch_size"
    assert min(abs(parameters["num_batch_threads"] - 20) for parameters in tried) <= 3


def test_optuna_goes_on_after_what_was_measured_before() -> None:
    pytest.importorskip("optuna", reason="the extra 'sweep' is not installed")
    spec = sweep(
        search="optuna",
        trials=6,
        parameters={"enable_batching": [True], "num_batch_threads": {"low": 1, "high": 64}},
    )
    search = OptunaSearch(spec)
    for threads in (1, 20, 40):
        search.tell({"enable_batching": True, "num_batch_threads": threads}, 0.5)
    more = []
    for parameters in search.proposals():
        more.append(parameters)
        search.tell(parameters, None)
    assert len(more) == 3
    assert not {parameters["num_batch_threads"] for parameters in more} & {1, 20, 40}


def test_optuna_ends_when_there_is_nothing_new_to_try() -> None:
    pytest.importorskip("optuna", reason="the extra 'sweep' is not installed")
    search = OptunaSearch(sweep(search="optuna", trials=20))
    tried = []
    for parameters in search.proposals():
        tried.append(parameters)
        search.tell(parameters, 1.0)
    assert len(tried) == 4


def test_what_a_configuration_costs() -> None:
    prices = {"cpu": 0.03, "memory_gib": 0.004, "gpu": 0.5, "machines": {"n2-standard-4": 0.2}}
    serving = {"resources": {"requests": {"cpu": "500m", "memory": "2Gi"}}}
    cheap = configure(serving, "digits", {"replicas": 2})
    assert cost_per_hour(cheap, prices) == pytest.approx(2 * (0.015 + 0.008))
    whole = configure(serving, "digits", {"machine_type": "n2-standard-4", "replicas": 3})
    assert cost_per_hour(whole, prices) == pytest.approx(0.6)
    assert cost_per_hour(configure({}, "digits", {}), prices) is None
    assert cost_per_hour(configure({}, "digits", {"gpus": 2}), prices) == pytest.approx(1.0)
    assert cost_per_million(0.36, 100.0) == pytest.approx(1.0)
    assert cost_per_million(0.36, 0.0) is None
    assert [quantity(text) for text in ("2", "500m", "1Gi", "1.5G")] == [2, 0.5, 2**30, 1.5e9]
    with pytest.raises(InputError, match="Kubernetes quantity"):
        quantity("2 GiB")
