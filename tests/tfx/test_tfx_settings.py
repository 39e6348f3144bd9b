"""What a user writes on the TFX component; needs no TFX."""

from __future__ import annotations

from typing import Any

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.tfx.settings import (
    make_settings,
    settings_of_parameters,
    settings_to_parameters,
)

LIVE = {"endpoint": "grpc://candidate:8500", "model_name": "taxi"}


def settings(**changes: Any) -> Any:
    return make_settings(
        **{"serving_spec": LIVE, "baseline": "", "load_spec": {}, "gate_spec": {}, **changes}
    )


@pytest.mark.parametrize(
    ("baseline", "found"),
    [
        ("grpc://taxi:8500", {"baseline_endpoint": "grpc://taxi:8500"}),
        ("mlmd+grpc://metadata:8080", {"baseline_store": "mlmd+grpc://metadata:8080"}),
        (
            {"endpoint": "grpc://taxi:8500", "store": "s3://b/runs", "namespace": "cabs"},
            {"baseline_endpoint": "grpc://taxi:8500", "baseline_store": "s3://b/runs", "namespace": "cabs"},
        ),
    ],
)
def test_a_baseline_is_a_server_or_a_store_or_both(baseline: Any, found: dict[str, str]) -> None:
    made = settings(baseline=baseline)
    assert {name: getattr(made, name) for name in found} == found


def test_what_is_set_survives_the_way_through_the_pipeline() -> None:
    made = settings(
        load_spec={"rate_rps": 50.0, "looks": [5, 10], "signature_name": "serve", "batch_sizes": [1]},
        gate_spec={"margins": {"p95": 0.2}, "on_missing_baseline": "fail"},
        model_version="7",
    )
    parameters = settings_to_parameters(made)
    assert all(isinstance(value, str) for value in parameters.values())
    assert settings_of_parameters({**parameters, "run_id": "x"}) == made
    assert made.payload == {"signature_name": "serve", "batch_sizes": [1]}
    assert made.load_spec == {"rate_rps": 50.0, "looks": [5, 10]}


def test_a_serving_spec_of_tfx_is_kept_whole() -> None:
    spec = {"tensorflow_serving": {"tags": ["2.16.1"]}, "model_name": "taxi", "kubernetes": {}}
    made = settings(serving_spec=spec, baseline={"model": "s3://b/production"})
    assert (made.serving_spec, made.candidate_endpoint, made.baseline_model) == (
        spec,
        "",
        "s3://b/production",
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"baseline": "http://taxi:8501"}, r"baseline_endpoint: 'http://taxi:8501': use the protocol grpc"),
        ({"load_spec": {"protocol": "http"}}, r"candidate_endpoint: .*use the protocol http"),
        ({"baseline": "grpc://candidate:8500"}, "this is the candidate's endpoint"),
        ({"baseline": "taxi:8500"}, "give an endpoint such as grpc://HOST:8500, or a store"),
        ({"baseline": {"endpiont": "grpc://taxi:8500"}}, "endpiont.*did you mean 'endpoint'"),
        ({"baseline": {"model": "s3://b/m"}}, "give the baseline's endpoint"),
        ({"serving_spec": {"endpoint": "grpc://candidate:8500"}}, "name the model as the server knows it"),
        ({"serving_spec": {**LIVE, "modelname": "x"}}, "did you mean 'model_name'"),
        ({"serving_spec": {**LIVE, "endpoint": "candidate:8500"}}, "the scheme is missing"),
        ({"load_spec": {"rate": 5.0}}, "did you mean 'rate_rps'"),
        ({"load_spec": {"rate_rps": -1.0}}, "rate_rps: -1.0"),
        ({"gate_spec": {"margins": {"p59": 0.1}}}, "did you mean 'p99'"),
        ({"gate_spec": {"alpha": float("nan")}}, "alpha"),
        ({"serving_spec": {"tensorflow_serving": {"tgas": ["2"]}, "model_name": "x"}}, "did you mean 'tags'"),
        ({"serving_spec": {"embedded": {}, "model_nme": "x"}}, "did you mean 'model_name'"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        settings(**changes)


def test_settings_that_only_the_run_knows_are_checked_in_the_pod() -> None:
    parameters = settings_to_parameters(settings(baseline="grpc://taxi:8500"))
    with pytest.raises(InputError, match="use the protocol grpc"):
        settings_of_parameters({**parameters, "baseline_endpoint": "http://taxi:8501"})
    with pytest.raises(InputError, match=r"load_spec: .*give JSON"):
        settings_of_parameters({**parameters, "load_spec": "{"})
