"""Rows as users write them: objects by input name, or values, in JSON."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from model_load_test.components.payload.content import Row
from model_load_test.components.payload.manifest import PayloadError
from model_load_test.components.payload.values import has_open_batch
from model_load_test.components.protocols.signature import Signature, TensorSpec
from model_load_test.components.protocols.tensors import Array, numpy_dtype

_FITTING_KINDS: Final = {
    "float": "fiu",
    "bfloat": "fiu",
    "int": "iu",
    "uint": "iu",
    "bool": "b",
    "string": "O",
    "complex": "fiuc",
}
"""numpy's kinds of what may become a dtype, by the dtype's name without its bits."""


def read_json(path: Path) -> Any:
    """What a .json file holds, or the list of what the lines of a .jsonl file do.

    Raises:
        PayloadError: It is not JSON.
        OSError: It cannot be read.
    """
    content = path.read_bytes()
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in content.splitlines() if line.strip()]
        return json.loads(content)
    except ValueError as error:
        raise PayloadError("examples", str(path), f"not JSON ({error})") from None


def json_row(value: Any, signature: Signature, place: str) -> Row:
    """The inputs of one example.

    Raises:
        PayloadError: It does not fit the signature.
    """
    single = len(signature.inputs) == 1
    if isinstance(value, Mapping) and not (single and is_base64(value)):
        by_name = value
    elif single:
        by_name = {next(iter(signature.inputs)): value}
    else:
        raise PayloadError(
            "examples", place, f"make it an object with the inputs {', '.join(signature.inputs)}"
        )
    if set(by_name) != set(signature.inputs):
        raise PayloadError(
            "examples", place, f"it has {sorted(by_name)}, the signature wants {sorted(signature.inputs)}"
        )
    batched = has_open_batch(signature)
    return {
        name: array_of(by_name[name], spec, batched, f"{place}.{name}")
        for name, spec in signature.inputs.items()
    }


def array_of(value: Any, spec: TensorSpec, batched: bool, place: str) -> Array:
    """The array of a JSON value: one example of `spec` if `batched`, else all of it.

    Raises:
        PayloadError: It is not of that dtype and shape.
    """
    try:
        found = np.array(value, object) if spec.dtype == "string" else np.array(value)
    except ValueError:
        raise PayloadError("examples", place, f"its lists differ in length; make it {spec}") from None
    _refuse_shape(found.shape, spec, batched, place)
    if spec.dtype == "uint64" and found.dtype.kind in "fO":
        # numpy makes doubles of what lies on both sides of 2**63.
        found = _as_uint64(np.array(value, object), found)
    kinds = _FITTING_KINDS[spec.dtype.rstrip("0123456789")]
    if found.size and found.dtype.kind not in kinds:
        raise PayloadError("examples", place, f"{_shown(value)} is no {spec.dtype}")
    if spec.dtype == "string":
        return _bytes(found, place)
    converted: Array = found.astype(numpy_dtype(spec.dtype))
    if found.dtype.kind in "iu" and spec.dtype.startswith(("int", "uint")) and (converted != found).any():
        raise PayloadError("examples", place, f"a number is too large for {spec.dtype}")
    return converted


def _as_uint64(exact: Array, rounded: Array) -> Array:
    numbers = exact.ravel().tolist()
    fits = all(type(number) is int and 0 <= number < 1 << 64 for number in numbers)
    return exact.astype(np.uint64) if fits else rounded


def is_base64(value: Any) -> bool:
    """Whether it is TF Serving's way to write bytes: `{"b64": ...}`."""
    return isinstance(value, Mapping) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _bytes(array: Array, place: str) -> Array:
    encoded = np.empty(array.shape, object)
    for index, value in np.ndenumerate(array):
        encoded[index] = _as_bytes(value, place)
    return encoded


def _as_bytes(value: Any, place: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if is_base64(value):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error:
            raise PayloadError("examples", place, "what stands under b64 is not base64") from None
    raise PayloadError("examples", place, f"{value!r} is no string")


def _refuse_shape(shape: tuple[int, ...], spec: TensorSpec, batched: bool, place: str) -> None:
    if spec.shape is None:
        return
    wanted = spec.shape[1:] if batched else spec.shape
    fits = len(shape) == len(wanted) and all(
        want in (-1, size) for want, size in zip(wanted, shape, strict=True)
    )
    if not fits:
        what = "one example of " if batched else ""
        raise PayloadError("examples", place, f"its shape is {list(shape)}; {what}{spec} has {list(wanted)}")


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)[:80]
