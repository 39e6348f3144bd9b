"""Between numpy and Arrow by their buffers.

`pyarrow.array`, `Array.to_numpy` and `to_pylist` import pandas where it is installed, which takes
longer than reading a small report; casts and filters import its compute module. Buffers do neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

_SIGNED: Final[dict[int, type[np.generic]]] = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}


def integers(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array[Any]:
    """An Arrow array over the same memory; the dtype of `values` must be that of `kind`."""
    contiguous = np.ascontiguousarray(values)
    return pa.Array.from_buffers(kind, len(contiguous), [None, pa.py_buffer(contiguous.data)])


def booleans(values: Bools) -> pa.Array[Any]:
    """An Arrow array of booleans."""
    packed = np.packbits(values, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(packed.data)])


def strings(values: Sequence[str]) -> pa.Array[Any]:
    """An Arrow array of strings."""
    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    return pa.Array.from_buffers(
        pa.string(), len(encoded), [None, pa.py_buffer(offsets.data), pa.py_buffer(b"".join(encoded))]
    )


def dictionary(indices: npt.NDArray[Any], values: Sequence[str], index_kind: pa.DataType) -> pa.Array[Any]:
    """An Arrow dictionary array of strings."""
    return pa.DictionaryArray.from_arrays(integers(indices, index_kind), strings(values))


def numbers(column: pa.ChunkedArray[Any], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """The values of an integer column as numpy; nulls become 0. One chunk is not copied."""
    parts = [_chunk_numbers(chunk, dtype) for chunk in column.chunks]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _chunk_numbers(chunk: pa.Array[Any], dtype: type[np.generic]) -> npt.NDArray[Any]:
    data = chunk.buffers()[1]
    if data is None or len(chunk) == 0:
        return np.zeros(len(chunk), dtype)
    values = np.frombuffer(memoryview(data), dtype, len(chunk), chunk.offset * np.dtype(dtype).itemsize)
    return np.where(present(chunk), values, 0) if chunk.null_count else values


def present(chunk: pa.Array[Any]) -> Bools:
    """True where a chunk holds a value."""
    bitmap = chunk.buffers()[0]
    if bitmap is None:
        return np.ones(len(chunk), dtype=np.bool_)
    return _bits(bitmap, chunk.offset, len(chunk))


def truths(column: pa.ChunkedArray[Any]) -> Bools:
    """The values of a boolean column as numpy; nulls become False."""
    parts = [
        _bits(chunk.buffers()[1], chunk.offset, len(chunk)) & present(chunk)
        for chunk in column.chunks
        if len(chunk)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)


def not_null(column: pa.ChunkedArray[Any]) -> Bools:
    """True where a column holds a value."""
    parts = [present(chunk) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)


def _bits(buffer: pa.Buffer | None, offset: int, length: int) -> Bools:
    if buffer is None:
        return np.zeros(length, dtype=np.bool_)
    used = np.frombuffer(memoryview(buffer), np.uint8, (offset + length + 7) // 8)
    return np.unpackbits(used, count=offset + length, bitorder="little")[offset:].astype(np.bool_)


def texts(column: pa.ChunkedArray[Any]) -> tuple[Int32s, list[str]]:
    """A string or dictionary column as indices into a list of distinct texts."""
    vocabulary: dict[str, int] = {}
    parts = []
    for chunk in column.chunks:
        encoded = chunk if isinstance(chunk, pa.DictionaryArray) else chunk.dictionary_encode()
        words = [word.as_py() or "" for word in encoded.dictionary]
        to_index = np.array(
            [vocabulary.setdefault(word, len(vocabulary)) for word in words] or [0], dtype=np.int32
        )
        parts.append(to_index[_chunk_numbers(encoded.indices, _SIGNED[encoded.indices.type.bit_width])])
    return (np.concatenate(parts) if parts else np.zeros(0, np.int32)), list(vocabulary)


def distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The distinct values in order; `numpy.unique` imports numpy's masked arrays."""
    ordered = np.sort(values)
    first = np.ones(len(ordered), dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]
