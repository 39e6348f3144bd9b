"""Tensors that fit a signature, drawn from named distributions: the same seed makes the same everywhere."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from model_load_test.components.payload.distributions import (
    Choice,
    Distribution,
    Uniform,
    draw_whole,
    parse_distribution,
    parse_sizes,
)
from model_load_test.components.payload.manifest import PayloadError
from model_load_test.components.protocols.signature import Signature, TensorSpec
from model_load_test.components.protocols.tensors import Array, TensorError, dtype_number, numpy_dtype

DEFAULT_BATCH_SIZE: Final = Choice((1.0, 2.0, 4.0), (1.0, 1.0, 1.0))
DEFAULT_SEQUENCE_LENGTH: Final = Choice((8.0, 16.0, 32.0), (1.0, 1.0, 1.0))
DEFAULT_STRING_LENGTH: Final = Uniform(4.0, 24.0)

SIZES: Final = ("batch_size", "sequence_length", "image_size", "string_length")
"""What a distribution of sizes may be given for."""
VALUE: Final = "value"
"""What a distribution of numbers is given for: `value`, or `value.INPUT` for one input."""

_FRACTIONS: Final = 10_000
"""Floats are whole ten-thousandths from 0 to 1: as short in JSON as a pixel, exact to the client."""
_INTEGERS: Final = 10
"""Integers are 0 to 9: few, so that they are indices into most vocabularies too."""
_LETTERS: Final = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz ", np.uint8)
_DRAWN_AHEAD: Final = 256
_IMAGE_RANK: Final = 4
_CHANNELS: Final = (1, 3, 4)
_MAX_SIZE: Final = 1 << 20
_JPEG_QUALITY: Final = 90


@dataclass(frozen=True)
class Variation:
    """What varies between requests, and how."""

    batch_size: Distribution = DEFAULT_BATCH_SIZE
    sequence_length: Distribution = DEFAULT_SEQUENCE_LENGTH
    """Of dimensions that the signature leaves open, other than the batch's."""
    string_length: Distribution = DEFAULT_STRING_LENGTH
    """In bytes."""
    image_size: Distribution | None = None
    """Pixels, drawn for width and height each; where it is given, string inputs that can be images are."""
    values: Mapping[str, Distribution] = field(default_factory=dict)
    """Of numbers, by input name; for all other inputs by the empty name."""
    given: frozenset[str] = frozenset()
    """The names of what the user asked for."""

    def value_of(self, name: str) -> Distribution | None:
        """What the numbers of an input are drawn from; None for the default."""
        return self.values.get(name) or self.values.get("")


def parse_variation(distributions: Mapping[str, Any], field_name: str = "distributions") -> Variation:
    """Parses distributions by what they are for, as `distributions.parse_distribution` each.

    Raises:
        InputError: Something else is to vary, or a distribution cannot be used.
    """
    parsed: dict[str, Any] = {}
    values: dict[str, Distribution] = {}
    for name, value in distributions.items():
        place = f"{field_name}.{name}"
        if name in SIZES:
            parsed[name] = parse_sizes(value, place, least=0 if name == "string_length" else 1)
        elif name == VALUE or name.startswith(f"{VALUE}."):
            values[name.removeprefix(VALUE).removeprefix(".")] = parse_distribution(value, place)
        else:
            raise PayloadError(
                field_name, name, f"what can vary is {', '.join(SIZES)}, {VALUE} and {VALUE}.INPUT"
            )
    return Variation(**parsed, values=values, given=frozenset(distributions))


class RandomValues:
    """A stream of values from a seed.

    Drawn from the generator's raw words, which numpy never changes; its distributions may.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)
        self._ahead: dict[int, tuple[Distribution, list[int]]] = {}

    def index(self, count: int) -> int:
        """A number from 0 to below `count`, each equally likely."""
        return int(self._below(count, 1)[0])

    def fractions(self, count: int) -> npt.NDArray[np.float64]:
        """Numbers from 0 to below 1."""
        words: npt.NDArray[np.uint64] = self._bits.random_raw(count)
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def whole(self, distribution: Distribution) -> int:
        """One whole number."""
        # Drawn many at a time: a single draw costs as much as the values of a small request.
        kept = self._ahead.get(id(distribution))
        if kept is None or not kept[1]:
            drawn = draw_whole(distribution, self.fractions(_DRAWN_AHEAD))[::-1].tolist()
            kept = self._ahead[id(distribution)] = (distribution, drawn)
        return kept[1].pop()

    def tensor(
        self,
        dtype: str,
        shape: Sequence[int],
        value: Distribution | None = None,
        string_length: Distribution = DEFAULT_STRING_LENGTH,
    ) -> Array:
        """A tensor of numpy's dtype `dtype` (`string`: an object array of bytes)."""
        count = math.prod(shape)
        if dtype == "string":
            flat: Array = self._strings(draw_whole(string_length, self.fractions(count)).tolist())
        elif value is not None:
            flat = self._drawn(dtype, count, value)
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

    def image(self, width: int, height: int) -> bytes:
        """A JPEG of that size: a smooth random picture with some grain, so that it compresses like a photo.

        Raises:
            PayloadError: pillow is not installed.
        """
        image_module = _pillow()
        coarse = self._below(256, 6 * 6 * 3).astype(np.uint8).reshape(6, 6, 3)
        smooth = image_module.fromarray(coarse).resize((width, height), image_module.Resampling.BICUBIC)
        grain = self._below(17, width * height).astype(np.int16).reshape(height, width, 1) - 8
        pixels = np.clip(np.asarray(smooth, np.int16) + grain, 0, 255).astype(np.uint8)
        encoded = io.BytesIO()
        image_module.fromarray(pixels).save(encoded, "JPEG", quality=_JPEG_QUALITY)
        return encoded.getvalue()

    def _drawn(self, dtype: str, count: int, value: Distribution) -> Array:
        fractions = self.fractions(count)
        if dtype == "bool" or dtype.startswith(("int", "uint")):
            whole = draw_whole(value, fractions)
            wanted: Array = whole.astype(numpy_dtype(dtype))
            if (wanted != whole).any():
                raise PayloadError(
                    f"distributions.{VALUE}", str(value), f"it draws numbers that are no {dtype}; bound it"
                )
            return wanted
        return np.round(value.quantile(fractions), 4).astype(numpy_dtype(dtype))

    def _below(self, limit: int, count: int) -> npt.NDArray[np.uint64]:
        words: npt.NDArray[np.uint64] = self._bits.random_raw(count)
        return words % np.uint64(limit)

    def _strings(self, lengths: Sequence[int]) -> Array:
        letters = _LETTERS[self._below(len(_LETTERS), sum(lengths))].tobytes()
        strings = np.empty(len(lengths), object)
        position = 0
        for number, length in enumerate(lengths):
            strings[number] = letters[position : position + length]
            position += length
        return strings


def random_inputs(
    signature: Signature, batch_size: int, values: RandomValues, variation: Variation
) -> dict[str, Array]:
    """Inputs of one request.

    An open first dimension takes the batch size. Any other open dimension takes a size that is
    drawn once a request, the same at the same place in all inputs: what the signature leaves open
    together (token ids and their mask) mostly belongs together. Width and height of images are
    drawn apart.

    Raises:
        PayloadError: An input's type cannot be made, or a drawn size is beyond all reason.
    """
    open_sizes: dict[tuple[str, int], int] = {}
    image_input = image_input_of(signature) if variation.image_size else None
    tensors: dict[str, Array] = {}
    for name, spec in signature.inputs.items():
        axis_kind = "image_size" if variation.image_size and looks_like_image(spec) else "sequence_length"
        distribution = variation.image_size if axis_kind == "image_size" else variation.sequence_length
        assert distribution is not None
        shape = []
        for axis, size in enumerate(open_shape(spec)):
            if size >= 0:
                shape.append(size)
            elif axis == 0:
                shape.append(batch_size)
            else:
                if (axis_kind, axis) not in open_sizes:
                    open_sizes[axis_kind, axis] = bounded_size(values.whole(distribution), axis_kind)
                shape.append(open_sizes[axis_kind, axis])
        if name == image_input and variation.image_size:
            tensors[name] = _random_images(shape, variation.image_size, values)
        else:
            tensors[name] = values.tensor(
                spec.dtype, shape, variation.value_of(name), variation.string_length
            )
    return tensors


def refuse_unmakeable(signature: Signature) -> None:
    """Refuses a signature with an input that no request can carry.

    Raises:
        PayloadError: It has one; the error names it.
    """
    for name, spec in signature.inputs.items():
        try:
            dtype_number(spec.dtype)
        except TensorError:
            raise PayloadError(
                "signature_name",
                signature.name,
                f"input {name!r} is {spec.dtype}, which no request can carry",
            ) from None


def image_input_of(signature: Signature) -> str | None:
    """The string input that takes encoded images: the only one, or the only one called `..._bytes`."""
    strings = [name for name, spec in signature.inputs.items() if spec.dtype == "string"]
    called = [name for name in strings if name.endswith("_bytes")]
    for candidates in (strings, called):
        if len(candidates) == 1:
            return candidates[0]
    return None


def looks_like_image(spec: TensorSpec) -> bool:
    """Whether it is a batch of pixels: height, width and 1, 3 or 4 channels, or channels first."""
    shape = spec.shape or ()
    return (
        len(shape) == _IMAGE_RANK
        and spec.dtype != "string"
        and (shape[3] in _CHANNELS or shape[1] in _CHANNELS)
    )


def has_open_batch(signature: Signature) -> bool:
    """Whether every input's first dimension is open, as TF Serving's row format and batches want it."""
    return all(open_shape(spec)[:1] == (-1,) for spec in signature.inputs.values())


def open_shape(spec: TensorSpec) -> tuple[int, ...]:
    """The shape; a tensor of open rank is taken for a list of values, one an example."""
    return (-1,) if spec.shape is None else spec.shape


def batch_size_of(inputs: Mapping[str, Array]) -> int:
    """The size of the first dimension, 1 where there is none."""
    return max((len(tensor) for tensor in inputs.values() if tensor.ndim), default=1)


def bounded_size(size: int, name: str) -> int:
    """`size`, if a request can be that large.

    Raises:
        PayloadError: It cannot.
    """
    if not 0 <= size <= _MAX_SIZE:
        raise PayloadError(f"distributions.{name}", size, f"give it bounds, such as low 1 and high {1024}")
    return size


def _random_images(shape: Sequence[int], size: Distribution, values: RandomValues) -> Array:
    images = np.empty(math.prod(shape), object)
    for number in range(len(images)):
        width, height = (bounded_size(values.whole(size), "image_size") for _ in range(2))
        images[number] = values.image(width, height)
    return images.reshape(shape)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise PayloadError(
            "distributions.image_size", "pillow", "it is not installed; install it to make images"
        ) from None
    return Image
