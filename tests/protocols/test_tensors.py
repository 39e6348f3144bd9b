"""TensorProtos against TensorFlow's own make_tensor_proto and make_ndarray."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_load_test.components.protocols.tensors import (
    TensorError,
    dtype_name,
    dtype_number,
    from_tensor_proto,
    to_tensor_proto,
)
from model_load_test.components.protocols.tf_serving import TensorProto

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

NUMERIC = [
    *map(np.dtype, ["float16", "float32", "float64", "int8", "int16", "int32", "int64"]),
    *map(np.dtype, ["uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128"]),
]

numbers = st.sampled_from(NUMERIC).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
strings = arrays.arrays(
    object,
    arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4),
    elements=st.binary(max_size=9),
)


def theirs(proto: Any) -> Any:
    return tf.make_ndarray(_as_tensorflow(proto))


def _as_tensorflow(proto: Any) -> Any:
    from tensorflow.core.framework import tensor_pb2

    return tensor_pb2.TensorProto.FromString(proto.SerializeToString())


def ours(proto: Any) -> Any:
    return from_tensor_proto(TensorProto.FromString(proto.SerializeToString()))


def assert_same(left: Any, right: Any) -> None:
    assert left.shape == right.shape
    if left.dtype == object or right.dtype == object:
        assert left.ravel().tolist() == right.ravel().tolist()
    else:
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes()


@settings(max_examples=200, deadline=None)
@given(numbers, st.booleans())
def test_numbers_arrive_in_tensorflow_as_they_were(array: Any, typed_field: bool) -> None:
    proto = to_tensor_proto(array, typed_field=typed_field)
    assert_same(theirs(proto), array)
    assert_same(from_tensor_proto(proto), array)


@settings(max_examples=100, deadline=None)
@given(strings)
def test_strings_arrive_in_tensorflow_as_they_were(array: Any) -> None:
    proto = to_tensor_proto(array)
    if array.size:
        assert_same(theirs(proto), array)
    assert_same(from_tensor_proto(proto), array)


@settings(max_examples=200, deadline=None)
@given(numbers | strings)
def test_what_tensorflow_makes_is_read_as_tensorflow_reads_it(array: Any) -> None:
    dtype = tf.string if array.dtype == object else None
    proto = tf.make_tensor_proto(array, dtype=dtype)
    assert_same(ours(proto), tf.make_ndarray(proto))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(NUMERIC), st.data())
def test_fewer_values_than_elements_are_filled_up_as_in_tensorflow(dtype: Any, data: Any) -> None:
    given_values = data.draw(arrays.arrays(dtype, st.integers(0, 4)))
    proto = to_tensor_proto(given_values, typed_field=True)
    proto.tensor_shape.dim[0].size = 5
    assert_same(from_tensor_proto(proto), theirs(proto))


def test_fewer_strings_than_elements_are_filled_up_with_the_last() -> None:
    proto = to_tensor_proto(["a", "b"])
    proto.tensor_shape.dim[0].size = 4
    assert_same(from_tensor_proto(proto), theirs(proto))


@settings(max_examples=50, deadline=None)
@given(strings.filter(lambda array: array.size > 0))
def test_packed_strings_are_read_as_tensorflow_packs_them(array: Any) -> None:
    """Session results serialised by C++ with AsProtoTensorContent pack strings so."""
    flat = array.ravel().tolist()
    proto = to_tensor_proto(array)
    del proto.string_val[:]
    proto.tensor_content = b"".join(_varint(len(value)) for value in flat) + b"".join(flat)
    in_tensorflow = tf.io.parse_tensor(proto.SerializeToString(), tf.string).numpy()
    assert_same(from_tensor_proto(proto), np.asarray(in_tensorflow, object))


def _varint(number: int) -> bytes:
    return bytes([number])


@pytest.mark.parametrize("typed_field", [False, True])
def test_bfloat16(typed_field: bool) -> None:
    array = np.array([[1.5, -2.25], [0.0, 3e38]], ml_dtypes.bfloat16)
    proto = to_tensor_proto(array, typed_field=typed_field)
    assert_same(theirs(proto), array)
    assert_same(from_tensor_proto(proto), array)


def test_python_values_and_text() -> None:
    assert to_tensor_proto([1.5]).dtype == tf.float64.as_datatype_enum
    assert from_tensor_proto(to_tensor_proto(["é", "b"])).tolist() == ["é".encode(), b"b"]
    assert from_tensor_proto(to_tensor_proto(np.array([b"a", b"bc"]))).tolist() == [b"a", b"bc"]


def test_big_endian_arrays_keep_their_values() -> None:
    assert from_tensor_proto(to_tensor_proto(np.array([1, 2], ">i4"))).tolist() == [1, 2]


@pytest.mark.parametrize("number", [tf.dtypes.as_dtype(name).as_datatype_enum for name in NUMERIC])
def test_names_and_numbers_are_tensorflows(number: int) -> None:
    assert dtype_name(number) == tf.dtypes.as_dtype(number).name
    assert dtype_number(dtype_name(number)) == number
    assert dtype_name(number + 100) == dtype_name(number), "a reference type is its value's type"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tensor_content": b"123"}, "tensor_content"),
        ({"float_val": [1.0, 2.0, 3.0]}, "float_val"),
        ({"dtype": 20}, "dtype"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], field: str) -> None:
    proto = TensorProto(**{"dtype": 1, **change})
    proto.tensor_shape.dim.add(size=2)
    with pytest.raises(TensorError) as raised:
        from_tensor_proto(proto)
    assert raised.value.field == field


def test_an_open_shape_and_foreign_objects_are_refused() -> None:
    proto = TensorProto(dtype=1)
    proto.tensor_shape.dim.add(size=-1)
    with pytest.raises(TensorError, match="tensor_shape"):
        from_tensor_proto(proto)
    with pytest.raises(TensorError, match="str and bytes"):
        to_tensor_proto(np.array([{}], object))
    with pytest.raises(TensorError, match="dtype"):
        to_tensor_proto(np.array(["2020-01-01"], "datetime64[D]"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_message_is_read_or_refused(blob: bytes) -> None:
    from google.protobuf.message import DecodeError

    try:
        proto = TensorProto.FromString(blob)
    except DecodeError:
        return
    if math.prod(max(size.size, 1) for size in proto.tensor_shape.dim) > 1000:
        return
    with contextlib.suppress(TensorError):
        from_tensor_proto(proto)
