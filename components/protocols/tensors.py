"""numpy arrays to TensorProtos and back, as TensorFlow does it, without TensorFlow."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.tf_serving import DataType, TensorProto

Array = npt.NDArray[Any]

_BY_REFERENCE: Final = 100
"""A reference type (a variable's) is its value's type plus this."""


class _Kind(NamedTuple):
    """How one data type lies in a TensorProto."""

    name: str
    """numpy's name of it; `string` for bytes."""
    field: str
    """The repeated field of its values."""


_KINDS: Final[dict[str, _Kind]] = {
    "DT_FLOAT": _Kind("float32", "float_val"),
    "DT_DOUBLE": _Kind("float64", "double_val"),
    "DT_INT32": _Kind("int32", "int_val"),
    "DT_UINT8": _Kind("uint8", "int_val"),
    "DT_INT16": _Kind("int16", "int_val"),
    "DT_INT8": _Kind("int8", "int_val"),
    "DT_STRING": _Kind("string", "string_val"),
    "DT_COMPLEX64": _Kind("complex64", "scomplex_val"),
    "DT_INT64": _Kind("int64", "int64_val"),
    "DT_BOOL": _Kind("bool", "bool_val"),
    "DT_BFLOAT16": _Kind("bfloat16", "half_val"),
    "DT_UINT16": _Kind("uint16", "int_val"),
    "DT_COMPLEX128": _Kind("complex128", "dcomplex_val"),
    "DT_HALF": _Kind("float16", "half_val"),
    "DT_UINT32": _Kind("uint32", "uint32_val"),
    "DT_UINT64": _Kind("uint64", "uint64_val"),
}
_KIND_OF_NUMBER: Final = {DataType.values_by_name[name].number: kind for name, kind in _KINDS.items()}
_NUMBER_OF_NAME: Final = {kind.name: number for number, kind in _KIND_OF_NUMBER.items()}
_STRING: Final = _NUMBER_OF_NAME["string"]


class TensorError(InputError):
    """An array or TensorProto that cannot be converted."""


def dtype_name(number: int) -> str:
    """The numpy name of TensorFlow's data type `number` (`string` for DT_STRING).

    Raises:
        TensorError: The data type has no array (resource, variant, quantized).
    """
    kind = _KIND_OF_NUMBER.get(number % _BY_REFERENCE)
    if kind is None:
        named = DataType.values_by_number.get(number)
        raise TensorError(
            "dtype",
            named.name if named else number,
            f"use a tensor of one of {', '.join(sorted(_NUMBER_OF_NAME))}",
        )
    return kind.name


def dtype_number(name: str) -> int:
    """TensorFlow's number of the data type that numpy calls `name`.

    Raises:
        TensorError: TensorFlow has no such data type.
    """
    if name not in _NUMBER_OF_NAME:
        raise TensorError("dtype", name, f"choose one of {', '.join(sorted(_NUMBER_OF_NAME))}")
    number: int = _NUMBER_OF_NAME[name]
    return number


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype called `name` by `dtype_name`; object for `string`.

    Raises:
        TensorError: There is none of that name, or it is bfloat16 and ml_dtypes is not installed.
    """
    dtype_number(name)
    if name == "string":
        return np.dtype(object)
    if name == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise TensorError("dtype", name, "install ml-dtypes to read bfloat16 tensors") from None
        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


def to_tensor_proto(array: npt.ArrayLike, *, typed_field: bool = False) -> Any:
    """Makes the TensorProto of `array`.

    Args:
        array: Numbers, booleans, or strings (str, bytes, or an object array of them).
        typed_field: Fill the value field of the data type, as TF Serving answers, and not
            `tensor_content`, which is faster. Strings always stand in `string_val`.

    Raises:
        TensorError: TensorFlow has no such data type, or an object is not a string.
    """
    values = np.asarray(array)
    proto = TensorProto()
    if values.dtype.kind in "OSU":
        proto.dtype = _STRING
        proto.string_val.extend([_as_bytes(value) for value in values.ravel().tolist()])
    else:
        proto.dtype = dtype_number(values.dtype.name)
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        if typed_field:
            _extend_typed_field(proto, little)
        else:
            proto.tensor_content = little.tobytes()
    dimensions = proto.tensor_shape.dim
    for size in values.shape:
        dimensions.add().size = size
    return proto


def _as_bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise TensorError("array", value, "an array of objects may hold only str and bytes")


def _extend_typed_field(proto: Any, values: Array) -> None:
    kind = _KIND_OF_NUMBER[proto.dtype]
    flat = values.ravel()
    if kind.field == "half_val":
        flat = flat.view(np.uint16)
    elif values.dtype.kind == "c":
        flat = flat.view(np.float32 if kind.name == "complex64" else np.float64)
    getattr(proto, kind.field).extend(flat.tolist())


def from_tensor_proto(proto: Any) -> Array:
    """Makes the array of a TensorProto; strings become an object array of bytes.

    As in TensorFlow, fewer values than the shape wants are filled up with the last one, or with
    zeros where there is none.

    Raises:
        TensorError: The data type has no array, the shape is not fully known, or the values do
            not fit it.
    """
    name = dtype_name(proto.dtype)
    shape = _shape_of(proto)
    elements = math.prod(shape)
    if name == "string":
        return _strings(proto, elements).reshape(shape)
    dtype = numpy_dtype(name)
    if proto.tensor_content:
        content: bytes = proto.tensor_content
        if len(content) != elements * dtype.itemsize:
            raise TensorError(
                "tensor_content",
                f"{len(content)} bytes",
                f"shape {list(shape)} of {name} wants {elements * dtype.itemsize}",
            )
        return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)
    return _numbers(proto, dtype, elements).reshape(shape)


def _shape_of(proto: Any) -> tuple[int, ...]:
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise TensorError("tensor_shape", list(shape), "give every dimension a size")
    return shape


def _numbers(proto: Any, dtype: np.dtype[Any], elements: int) -> Array:
    field = _KIND_OF_NUMBER[proto.dtype % _BY_REFERENCE].field
    values = getattr(proto, field)
    if field == "half_val":
        flat = np.array(values, np.uint16).view(dtype)
    elif dtype.kind == "c":
        parts = np.array(values, np.float32 if dtype.name == "complex64" else np.float64)
        if len(parts) % 2:
            raise TensorError(field, f"{len(parts)} numbers", "a complex number is a pair of numbers")
        flat = parts.view(dtype)
    elif dtype.kind in "iu" and dtype.itemsize < 4:
        flat = np.array(values, np.int32).astype(dtype)
    else:
        flat = np.array(values, dtype)
    return _filled(flat, elements, field)


def _strings(proto: Any, elements: int) -> Array:
    if proto.tensor_content:
        values = _decoded_string_list(proto.tensor_content, elements)
    else:
        values = list(proto.string_val)
    flat = np.empty(len(values), object)
    flat[:] = values
    return _filled(flat, elements, "string_val")


def _decoded_string_list(content: bytes, elements: int) -> list[bytes]:
    """TensorFlow's packed strings: all lengths as varints, then all bytes."""
    lengths: list[int] = []
    position = 0
    for _ in range(elements):
        length = shift = 0
        while True:
            if position >= len(content) or shift > 63:
                raise TensorError("tensor_content", f"{len(content)} bytes", "not a list of strings")
            byte = content[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise TensorError("tensor_content", f"{len(content)} bytes", "not a list of strings")
    values = []
    for length in lengths:
        values.append(content[position : position + length])
        position += length
    return values


def _filled(flat: Array, elements: int, field: str) -> Array:
    if len(flat) == elements:
        return flat
    if len(flat) > elements:
        raise TensorError(field, f"{len(flat)} values", f"the shape has room for {elements}")
    if len(flat) == 0:
        empty: Any = b"" if flat.dtype == object else 0
        return np.full(elements, empty, flat.dtype)
    return np.concatenate([flat, np.repeat(flat[-1:], elements - len(flat))])
