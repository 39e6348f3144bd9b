"""Each parameter stands in its place, and what a server would not take is refused before it is started."""

from __future__ import annotations

from typing import Any

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.sweep.parameters import (
    MACHINE_TYPE,
    configuration_id,
    configure,
    in_words,
)


def configured(parameters: dict[str, Any], **serving: Any) -> Any:
    return configure(serving, "digits", parameters)


def test_batching_parameters_make_the_batching_file() -> None:
    spec = configured(
        {
            "enable_batching": True,
            "max_batch_size": 32.0,
            "allowed_batch_sizes": [8, 32],
            "num_batch_threads": 4,
        }
    )
    assert spec.batching == {"max_batch_size": 32, "allowed_batch_sizes": [8, 32], "num_batch_threads": 4}
    assert spec.flags == ()


def test_batching_without_parameters_is_a_flag() -> None:
    spec = configured({"enable_batching": True})
    assert spec.batching == {}
    assert spec.flags == ("--enable_batching=true",)


def test_batching_can_be_turned_off() -> None:
    spec = configured({"enable_batching": False}, batching={"max_batch_size": 8})
    assert (spec.batching, spec.flags) == ({}, ())


def test_batching_parameters_change_those_of_the_serving_spec() -> None:
    spec = configured({"batch_timeout_micros": 100}, batching={"max_batch_size": 8})
    assert spec.batching == {"max_batch_size": 8, "batch_timeout_micros": 100}


def test_a_flag_takes_the_place_of_the_same_flag() -> None:
    flags = ["--tensorflow_intra_op_parallelism=1", "--rest_api_num_threads=8"]
    spec = configured({"tensorflow_intra_op_parallelism": 4, "flush_filesystem_caches": False}, flags=flags)
    assert spec.flags == (
        "--rest_api_num_threads=8",
        "--tensorflow_intra_op_parallelism=4",
        "--flush_filesystem_caches=false",
    )


def test_triton_parameters_make_its_model_configuration() -> None:
    spec = configured(
        {
            "max_batch_size": 8,
            "dynamic_batching": True,
            "preferred_batch_size": [4, 8],
            "max_queue_delay_microseconds": 100,
            "instance_count": 2,
            "instance_kind": "KIND_GPU",
        },
        kind="triton",
    )
    assert spec.model_configuration == {
        "max_batch_size": 8,
        "dynamic_batching": {"preferred_batch_size": [4, 8], "max_queue_delay_microseconds": 100},
        "instance_group": [{"count": 2, "kind": "KIND_GPU"}],
    }


def test_resources_replicas_and_nodes() -> None:
    spec = configured(
        {
            "replicas": 3,
            "cpu_request": 2,
            "cpu_limit": "2500m",
            "memory_request": "1Gi",
            "gpus": 1,
            "machine_type": "n2-standard-4",
            "node_selector": {"pool": "model"},
        },
        resources={"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}},
    )
    assert spec.replicas == 3
    assert spec.resources["requests"] == {
        "cpu": "2",
        "ephemeral-storage": "1Gi",
        "memory": "1Gi",
        "nvidia.com/gpu": "1",
    }
    assert spec.resources["limits"] == {"cpu": "2500m", "nvidia.com/gpu": "1"}
    assert spec.node_selector == {"pool": "model", MACHINE_TYPE: "n2-standard-4"}


@pytest.mark.parametrize(
    ("parameters", "serving", "named"),
    [
        ({"max_batch_size": 8}, {}, "without enable_batching"),
        ({"enable_batching": False, "num_batch_threads": 2}, {}, "without enable_batching"),
        ({"max_batch": 8}, {}, "did you mean 'max_batch_size'"),
        ({"enable_batching": True, "max_batch_size": 0}, {}, "whole number from 1"),
        ({"enable_batching": True, "max_batch_size": True}, {}, "whole number from 1"),
        (
            {"enable_batching": True, "max_batch_size": 32, "allowed_batch_sizes": [8, 16]},
            {},
            "must be max_batch_size",
        ),
        ({"enable_batching": True, "allowed_batch_sizes": 8}, {}, "list of sizes"),
        (
            {"tensorflow_session_parallelism": 2, "tensorflow_intra_op_parallelism": 2},
            {},
            "leave tensorflow_session_parallelism out",
        ),
        ({"enable_batching": True}, {"kind": "triton"}, "no such name in the parameters of triton"),
        ({"max_queue_delay_microseconds": 5}, {"kind": "triton"}, "nothing without dynamic_batching"),
        (
            {"dynamic_batching": True, "preferred_batch_size": [16], "max_batch_size": 8},
            {"kind": "triton"},
            "max_batch_size, 8",
        ),
        ({"dynamic_batching": True, "max_batch_size": 0}, {"kind": "triton"}, "needs 1 or more"),
        ({"instance_kind": "CPU"}, {"kind": "triton"}, "KIND_CPU"),
        ({"instance_kind": "KIND_CPU", "instance_gpus": [0]}, {"kind": "triton"}, "has none"),
        ({"cpu_request": "two"}, {}, "cpu"),
        ({"replicas": 0}, {}, "from 1"),
        ({"enable_batching": True}, {"kind": "kserve"}, "no such name in the parameters of kserve"),
        ({}, {"kind": "torchserve"}, "tf-serving"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    parameters: dict[str, Any], serving: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        configured(parameters, **serving)


def test_a_configuration_has_the_same_name_in_any_order() -> None:
    one = configuration_id({"max_batch_size": 8, "num_batch_threads": 2})
    assert one == configuration_id({"num_batch_threads": 2.0, "max_batch_size": 8.0})
    assert one != configuration_id({"num_batch_threads": 2, "max_batch_size": 9})


def test_a_configuration_in_words() -> None:
    words = in_words({"enable_batching": True, "allowed_batch_sizes": [1, 8], "replicas": None})
    assert words == "enable_batching=true allowed_batch_sizes=[1,8]"
    assert in_words({}) == "as the reference"
