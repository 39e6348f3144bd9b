"""JSON numbers as TF Serving writes and reads them, for any value."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_load_test.components.protocols.tensors import from_tensor_proto, to_tensor_proto
from model_load_test.components.protocols.tf_serving import PredictRequest
from model_load_test.components.serving.embedded.failure import ServingError
from model_load_test.components.serving.embedded.json_tensors import (
    fill_predict_inputs,
    parse_object,
    predict_json,
)

DTYPES = [
    *map(np.dtype, ("float32", "float64", "bool", "int8", "int16", "int32", "int64")),
    *map(np.dtype, ("uint8", "uint32", "uint64")),
]
tensors = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(max_dims=3, max_side=4))
)


def read_back(body: bytes, dtype: int) -> Any:
    request = PredictRequest()
    fill_predict_inputs(parse_object(body), {"x": SimpleNamespace(dtype=dtype)}, request.inputs)
    return from_tensor_proto(request.inputs["x"])


@settings(max_examples=300, deadline=None)
@given(tensors, st.sampled_from(["row", "columnar"]))
def test_what_is_written_is_read_back_to_the_last_bit(array: Any, body_format: Any) -> None:
    proto = to_tensor_proto(array, typed_field=True)
    answer = predict_json({"y": proto}, body_format).decode()
    key, again = ("predictions", "instances") if body_format == "row" else ("outputs", "inputs")
    body = answer.replace(key, again, 1).encode()
    assert np.array_equal(read_back(body, proto.dtype), array, equal_nan=array.dtype.kind == "f")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.2, "0.2"),
        (9_000_000.0, "9e+06"),
        (0.00003, "3e-05"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (123456.0, "123456.0"),
        (1 / 3, "0.333333343"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (math.nan, "NaN"),
    ],
)
def test_floats_look_as_tf_serving_writes_them(value: float, text: str) -> None:
    answer = predict_json({"y": to_tensor_proto(np.float32([value]), typed_field=True)}, "row")
    assert answer.decode() == f'{{\n    "predictions": [{text}\n    ]\n}}'


def test_doubles_have_seventeen_digits_only_where_they_need_them() -> None:
    answer = predict_json({"y": to_tensor_proto(np.array([0.1, 1 / 3]), typed_field=True)}, "row")
    assert json.loads(answer) == {"predictions": [0.1, 1 / 3]}
    assert b"[0.1, 0.33333333333333331" in answer


def test_rows_need_a_common_batch_dimension() -> None:
    scalar, two, three = (to_tensor_proto(np.zeros(shape), typed_field=True) for shape in ((), 2, 3))
    with pytest.raises(ServingError, match="Tensor name: a has no shape information"):
        predict_json({"a": scalar}, "row")
    with pytest.raises(ServingError, match="Tensor name: b has inconsistent batch size: 3 expecting: 2"):
        predict_json({"a": two, "b": three}, "row")
    with pytest.raises(ServingError, match="empty tensor map"):
        predict_json({}, "row")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    try:
        assert isinstance(parse_object(body), dict)
    except ServingError as error:
        assert error.code.name == "INVALID_ARGUMENT"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["instances", "inputs"]), values, st.sampled_from([1, 2, 3, 4, 7, 9, 10, 19, 22, 23]))
def test_any_value_is_read_or_refused(key: str, value: Any, dtype: int) -> None:
    body = json.dumps({key: value}).encode()
    try:
        read_back(body, dtype)
    except ServingError as error:
        assert error.code.name in ("INVALID_ARGUMENT", "UNIMPLEMENTED")


def test_very_deep_nesting_is_refused() -> None:
    with pytest.raises(ServingError):
        parse_object(b'{"instances": ' + b"[" * 100_000)
