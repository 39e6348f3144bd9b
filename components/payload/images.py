"""Folders of images: as encoded files for string inputs, or as tensors of pixels."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from model_load_test.components.payload.content import MAX_ROWS, Content, draw_batch_size
from model_load_test.components.payload.distributions import Distribution
from model_load_test.components.payload.manifest import PayloadError
from model_load_test.components.payload.values import (
    RandomValues,
    Variation,
    bounded_size,
    has_open_batch,
    image_input_of,
    looks_like_image,
    open_shape,
    random_inputs,
)
from model_load_test.components.protocols.signature import Signature, TensorSpec
from model_load_test.components.protocols.tensors import Array, numpy_dtype

IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")

_MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}
_JPEG_QUALITY: Final = 90


@dataclass(frozen=True)
class _Pixels:
    """The tensor input that takes pixels."""

    height: int
    """-1 where any will do."""
    width: int
    channels: int
    channels_first: bool
    dtype: str


def image_content(paths: Sequence[Path], signature: Signature, variation: Variation) -> Content:
    """Images drawn from files; what else the signature wants is random.

    A string input takes the files as they are or, where an image size is given, drawn anew at that
    size as JPEG. A tensor input takes pixels: 0 to 255 for whole numbers, 0 to 1 for floats, at the
    signature's size, or where that is open at the drawn one, or else at that of the first image of
    the request.

    Raises:
        PayloadError: No input takes images, or one of the files does not decode.
    """
    name, pixels = _image_input(signature)
    rest = {other: spec for other, spec in signature.inputs.items() if other != name}
    others = Signature(signature.name, signature.method_name, rest, {})
    files = [path.read_bytes() for path in paths[:MAX_ROWS]]
    for path, content in zip(paths, files, strict=False):
        _open(content, path)
    batched = has_open_batch(signature)
    fixed_batch = open_shape(signature.inputs[name])[0] if open_shape(signature.inputs[name]) else 1

    def draw(values: RandomValues) -> Mapping[str, Array]:
        batch_size = draw_batch_size(values, variation) if batched else fixed_batch
        inputs = random_inputs(others, batch_size, values, variation)
        chosen = [files[values.index(len(files))] for _ in range(batch_size)]
        if pixels:
            inputs[name] = _tensor(chosen, pixels, variation.image_size, values)
        else:
            encoded = np.empty(batch_size, object)
            encoded[:] = [_resized(content, variation.image_size, values) for content in chosen]
            inputs[name] = encoded.reshape(()) if not open_shape(signature.inputs[name]) else encoded
        return {wanted: inputs[wanted] for wanted in signature.inputs}

    return Content(draw, f"{len(files)} images")


def _image_input(signature: Signature) -> tuple[str, _Pixels | None]:
    tensors = [name for name, spec in signature.inputs.items() if looks_like_image(spec)]
    if len(tensors) == 1:
        return tensors[0], _pixels(signature.inputs[tensors[0]])
    name = image_input_of(signature)
    if name and not tensors and len(open_shape(signature.inputs[name])) <= 1:
        return name, None
    wants = ", ".join(f"{name} {spec}" for name, spec in signature.inputs.items())
    raise PayloadError(
        "examples",
        wants,
        "images go to one input: pixels such as float32[?, 224, 224, 3], or strings whose name ends in "
        "_bytes; give rows instead",
    )


def _pixels(spec: TensorSpec) -> _Pixels:
    _, first, second, last = open_shape(spec)
    if last in _MODES:
        return _Pixels(first, second, last, False, spec.dtype)
    return _Pixels(second, last, first, True, spec.dtype)


def _tensor(
    contents: Sequence[bytes], pixels: _Pixels, image_size: Distribution | None, values: RandomValues
) -> Array:
    images = [_open(content).convert(_MODES[pixels.channels]) for content in contents]
    width, height = images[0].size
    if image_size:
        width, height = (_drawn_size(image_size, values) for _ in range(2))
    size = (
        pixels.width if pixels.width >= 0 else width,
        pixels.height if pixels.height >= 0 else height,
    )
    arrays = [
        np.asarray(image.resize(size) if image.size != size else image).reshape(
            size[1], size[0], pixels.channels
        )
        for image in images
    ]
    stacked = np.stack(arrays)
    if pixels.channels_first:
        stacked = stacked.transpose(0, 3, 1, 2)
    dtype = numpy_dtype(pixels.dtype)
    if dtype.kind in "iub":
        return stacked.astype(dtype)
    return np.round(stacked / 255, 4).astype(dtype)


def _resized(content: bytes, image_size: Distribution | None, values: RandomValues) -> bytes:
    if image_size is None:
        return content
    size = (_drawn_size(image_size, values), _drawn_size(image_size, values))
    encoded = io.BytesIO()
    _open(content).convert("RGB").resize(size).save(encoded, "JPEG", quality=_JPEG_QUALITY)
    return encoded.getvalue()


def _drawn_size(image_size: Distribution, values: RandomValues) -> int:
    return bounded_size(values.whole(image_size), "image_size")


def _open(content: bytes, path: Path | None = None) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise PayloadError("examples", "pillow", "it is not installed; install it to read images") from None
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PayloadError(
            "examples",
            str(path or "image"),
            f"it does not decode as an image ({error}); take it out or mend it",
        ) from None
    return image
