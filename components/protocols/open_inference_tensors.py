"""numpy arrays to the tensors of the Open Inference Protocol and back: raw, typed and JSON."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from model_load_test.components.protocols.tensors import Array, TensorError, numpy_dtype

_NAME_OF_DATATYPE: Final = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "BF16": "bfloat16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "string",
}
_DATATYPE_OF_NAME: Final = {name: datatype for datatype, name in _NAME_OF_DATATYPE.items()}
_CONTENTS_FIELD: Final = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_LENGTH: Final = struct.Struct("<I")


def dtype_of(datatype: str) -> str:
    """The name this package gives to a datatype: numpy's, `string` for BYTES.

    Raises:
        TensorError: The protocol has no such datatype.
    """
    if datatype not in _NAME_OF_DATATYPE:
        raise TensorError("datatype", datatype, f"choose one of {', '.join(_NAME_OF_DATATYPE)}")
    return _NAME_OF_DATATYPE[datatype]


def datatype_of(dtype: str) -> str:
    """The protocol's name of a dtype.

    Raises:
        TensorError: The protocol cannot carry it.
    """
    if dtype not in _DATATYPE_OF_NAME:
        raise TensorError("dtype", dtype, f"choose one of {', '.join(_DATATYPE_OF_NAME)}")
    return _DATATYPE_OF_NAME[dtype]


def datatype_of_array(array: Array) -> str:
    """The protocol's name of an array's dtype; an array of objects holds bytes.

    Raises:
        TensorError: The protocol cannot carry it.
    """
    return datatype_of("string" if array.dtype == object else array.dtype.name)


def has_contents_field(datatype: str) -> bool:
    """Whether `contents` can carry it; 16-bit floats travel raw only."""
    return datatype in _CONTENTS_FIELD


def raw_contents(array: Array) -> bytes:
    """The array's element of `raw_input_contents`: row-major, little-endian, each string after its length."""
    if array.dtype == object:
        values: list[bytes] = array.ravel().tolist()
        return b"".join(part for value in values for part in (_LENGTH.pack(len(value)), value))
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def from_raw(content: bytes, datatype: str, shape: tuple[int, ...]) -> Array:
    """The array of an element of `raw_input_contents`.

    Raises:
        TensorError: The content does not fit the shape.
    """
    name = dtype_of(datatype)
    elements = math.prod(shape)
    if name == "string":
        return _from_raw_strings(content, elements).reshape(shape)
    dtype = numpy_dtype(name)
    if len(content) != elements * dtype.itemsize:
        raise TensorError(
            "raw_input_contents",
            f"{len(content)} bytes",
            f"shape {list(shape)} of {datatype} wants {elements * dtype.itemsize}",
        )
    return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _from_raw_strings(content: bytes, elements: int) -> Array:
    values: list[bytes] = []
    position = 0
    while position + _LENGTH.size <= len(content):
        (length,) = _LENGTH.unpack_from(content, position)
        position += _LENGTH.size
        values.append(content[position : position + length])
        position += length
    if position != len(content) or len(values) != elements:
        raise TensorError("raw_input_contents", f"{len(content)} bytes", f"not a list of {elements} strings")
    return _object_array(values)


def fill_contents(contents: Any, array: Array) -> None:
    """Fills an InferTensorContents.

    Raises:
        TensorError: No field carries that datatype.
    """
    datatype = datatype_of_array(array)
    if not has_contents_field(datatype):
        raise TensorError("datatype", datatype, "it travels in raw_input_contents only; use the raw format")
    getattr(contents, _CONTENTS_FIELD[datatype]).extend(array.ravel().tolist())


def from_contents(contents: Any, datatype: str, shape: tuple[int, ...]) -> Array:
    """The array of an InferTensorContents.

    Raises:
        TensorError: The contents do not fit the shape, or stand in another field.
    """
    name = dtype_of(datatype)
    if not has_contents_field(datatype):
        raise TensorError("datatype", datatype, "it travels in raw_input_contents only")
    values = list(getattr(contents, _CONTENTS_FIELD[datatype]))
    if len(values) != math.prod(shape):
        raise TensorError(
            "contents", f"{len(values)} values", f"shape {list(shape)} wants {math.prod(shape)}"
        )
    flat = _object_array(values) if name == "string" else np.array(values, numpy_dtype(name))
    return flat.reshape(shape)


def from_json(tensor: Mapping[str, Any]) -> Array:
    """The array of a tensor in JSON, whose data may be flat or nested.

    Raises:
        TensorError: A field is missing or of the wrong kind, or the data does not fit.
    """
    shape, datatype, data = tensor.get("shape"), tensor.get("datatype"), tensor.get("data")
    if not isinstance(shape, list) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise TensorError("shape", shape, "give a list of sizes")
    if not isinstance(datatype, str):
        raise TensorError("datatype", datatype, "name a datatype such as FP32")
    if not isinstance(data, list):
        raise TensorError("data", data, "give a list of values")
    name = dtype_of(datatype)
    flat = _flattened(data)
    if len(flat) != math.prod(shape):
        raise TensorError("data", f"{len(flat)} values", f"shape {shape} wants {math.prod(shape)}")
    if name == "string":
        if not all(isinstance(value, str) for value in flat):
            raise TensorError("data", flat[:3], "BYTES are strings in JSON")
        return _object_array([value.encode() for value in flat]).reshape(shape)
    try:
        array = np.array(flat, numpy_dtype(name))
    except (ValueError, TypeError, OverflowError) as error:
        raise TensorError("data", flat[:3], f"not {datatype} ({error})") from None
    return array.reshape(shape)


def _flattened(data: list[Any]) -> list[Any]:
    flat: list[Any] = []
    for value in data:
        if isinstance(value, list):
            flat.extend(_flattened(value))
        else:
            flat.append(value)
    return flat


def _object_array(values: list[bytes]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array
