"""Random tensors that fit a signature, the same for the same seed on every machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from model_load_test.components.payload.manifest import PayloadError
from model_load_test.components.protocols.signature import Signature, TensorSpec
from model_load_test.components.protocols.tensors import Array, TensorError, numpy_dtype

OPEN_SIZES: Final = (8, 16, 32)
"""Drawn for a dimension that the signature leaves open, other than the batch's."""

_FRACTIONS: Final = 10_000
"""Floats are whole ten-thousandths from 0 to 1: as short in JSON as a pixel, exact to the client."""
_INTEGERS: Final = 10
"""Integers are 0 to 9: few, so that they are indices into most vocabularies too."""
_STRING_LENGTHS: Final = (4, 24)
_LETTERS: Final = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz ", np.uint8)


class RandomValues:
    """A stream of values from a seed.

    Drawn from the generator's raw words, which numpy never changes; its distributions may.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def choose(self, options: Sequence[int]) -> int:
        """One of `options`, each equally likely."""
        return options[self.index(len(options))]

    def index(self, count: int) -> int:
        """A number from 0 to below `count`, each equally likely."""
        return int(self._below(count, 1)[0])

    def tensor(self, dtype: str, shape: Sequence[int]) -> Array:
        """A tensor of numpy's dtype `dtype` (`string`: an object array of bytes)."""
        count = math.prod(shape)
        if dtype == "string":
            flat: Array = self._strings(count)
        elif dtype == "bool":
            flat = self._below(2, count).astype(bool)
        elif dtype.startswith(("int", "uint")):
            flat = self._below(_INTEGERS, count).astype(numpy_dtype(dtype))
        elif dtype.startswith("complex"):
            parts = self._below(_FRACTIONS, 2 * count) / _FRACTIONS
            flat = (parts[:count] + 1j * parts[count:]).astype(numpy_dtype(dtype))
        else:
            flat = (self._below(_FRACTIONS, count) / _FRACTIONS).astype(numpy_dtype(dtype))
        return flat.reshape(shape)

    def _below(self, limit: int, count: int) -> npt.NDArray[np.uint64]:
        words: npt.NDArray[np.uint64] = self._bits.random_raw(count)
        return words % np.uint64(limit)

    def _strings(self, count: int) -> Array:
        shortest, longest = _STRING_LENGTHS
        lengths = (self._below(longest - shortest + 1, count) + np.uint64(shortest)).tolist()
        letters = _LETTERS[self._below(len(_LETTERS), sum(lengths))].tobytes()
        strings = np.empty(count, object)
        position = 0
        for number, length in enumerate(lengths):
            strings[number] = letters[position : position + length]
            position += length
        return strings


def random_inputs(signature: Signature, batch_size: int, values: RandomValues) -> dict[str, Array]:
    """Inputs of one request.

    An open first dimension takes the batch size. Any other open dimension takes one of
    `OPEN_SIZES`, the same at the same place in all inputs of the request: what the signature
    leaves open together (token ids and their mask) mostly belongs together.

    Raises:
        PayloadError: An input's type cannot be made.
    """
    open_sizes: dict[int, int] = {}
    tensors = {}
    for name, spec in signature.inputs.items():
        shape = [
            size if size >= 0 else _open_size(axis, batch_size, open_sizes, values)
            for axis, size in enumerate(_shape(spec))
        ]
        try:
            tensors[name] = values.tensor(spec.dtype, shape)
        except TensorError:
            raise PayloadError(
                "signature_name",
                signature.name,
                f"input {name!r} is {spec.dtype}, which no request can carry",
            ) from None
    return tensors


def has_open_batch(signature: Signature) -> bool:
    """Whether every input's first dimension is open, as TF Serving's row format and batches want it."""
    return all(_shape(spec)[:1] == (-1,) for spec in signature.inputs.values())


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    """A tensor of open rank is taken for a list of values, one an example."""
    return (-1,) if spec.shape is None else spec.shape


def _open_size(axis: int, batch_size: int, open_sizes: dict[int, int], values: RandomValues) -> int:
    if axis == 0:
        return batch_size
    if axis not in open_sizes:
        open_sizes[axis] = values.choose(OPEN_SIZES)
    return open_sizes[axis]


def batch_size_of(inputs: Mapping[str, Array]) -> int:
    """The size of the first dimension, 1 where there is none."""
    return max((len(tensor) for tensor in inputs.values() if tensor.ndim), default=1)
