"""A model's signature: what it wants and what it answers, whatever protocol told it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.tensors import TensorError, dtype_name, dtype_number
from model_load_test.components.protocols.tf_serving import DEFAULT_SIGNATURE_NAME, DataType

INIT_OP_SIGNATURE: Final = "__saved_model_init_op"
"""TensorFlow keeps a model's initialiser among its signatures; nobody calls it."""


NAMELESS: Final = ""
"""The name of the one signature of a model whose API knows no signatures."""

_SPEC: Final = re.compile(r"(\w+)\s*(?:\[(.*)\])?")


class SignatureNotFound(InputError):
    """The model has no signature of that name."""


@dataclass(frozen=True)
class TensorSpec:
    """What one input or output looks like."""

    dtype: str
    """numpy's name of it, `string` for bytes, or TensorFlow's own name where numpy has none."""
    shape: tuple[int, ...] | None
    """Sizes, -1 where any will do; None where even the rank is open."""

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype}[...]"
        return f"{self.dtype}[{', '.join('?' if size < 0 else str(size) for size in self.shape)}]"


def parse_tensor_spec(text: str, field_name: str) -> TensorSpec:
    """Parses what `TensorSpec` prints: `float32[?, 28, 28]`, `string[?]`, `int64[...]`, `float32[]`.

    Raises:
        InputError: It is not of that form, or of a dtype that no request can carry.
    """
    example = "write it as float32[?, 28, 28], with ? where any size will do"
    found = _SPEC.fullmatch(text.strip())
    if not found:
        raise InputError(field_name, text, example)
    dtype, sizes = found.group(1), (found.group(2) or "").strip()
    try:
        dtype_number(dtype)
    except TensorError as error:
        raise InputError(field_name, text, error.remedy) from None
    if sizes == "...":
        return TensorSpec(dtype, None)
    shape = []
    for size in sizes.split(",") if sizes else ():
        if size.strip() not in ("?", "-1") and not size.strip().isdecimal():
            raise InputError(field_name, text, example)
        shape.append(int(size) if size.strip().isdecimal() else -1)
    return TensorSpec(dtype, tuple(shape))


@dataclass(frozen=True)
class Signature:
    """One way to call a model."""

    name: str
    method_name: str
    """TensorFlow's, such as `tensorflow/serving/predict`; it may be empty."""
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    columns: tuple[str, ...] = ()
    """Names of the last dimension's entries, where the API has them (Seldon)."""


def signatures_from_defs(defs: Mapping[str, Any]) -> dict[str, Signature]:
    """Reads SignatureDef messages, by name and in its order."""
    return {
        name: Signature(
            name=name,
            method_name=defs[name].method_name,
            inputs=_specs(defs[name].inputs),
            outputs=_specs(defs[name].outputs),
        )
        for name in sorted(defs)
    }


def find_signature(signatures: Mapping[str, Signature], name: str, model_name: str) -> Signature:
    """The signature `name` of a model.

    Where the API knows no signatures, `serving_default` and no name at all mean the only one.

    Raises:
        SignatureNotFound: The model has none of that name; the error names those it has.
    """
    if NAMELESS in signatures:
        if name not in (NAMELESS, DEFAULT_SIGNATURE_NAME):
            raise SignatureNotFound(
                "signature_name", name, f"the API of model {model_name!r} knows no signatures; leave it empty"
            )
        return signatures[NAMELESS]
    if name not in signatures:
        have = ", ".join(known for known in signatures if known != INIT_OP_SIGNATURE) or "none"
        raise SignatureNotFound(
            "signature_name", name, f"model {model_name!r} has no such signature; it has: {have}"
        )
    return signatures[name]


def _specs(tensors: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {name: _spec(tensors[name]) for name in sorted(tensors)}


def _spec(info: Any) -> TensorSpec:
    shape = info.tensor_shape
    try:
        dtype = dtype_name(info.dtype)
    except TensorError:
        named = DataType.values_by_number.get(info.dtype)
        dtype = named.name if named else str(info.dtype)
    return TensorSpec(dtype, None if shape.unknown_rank else tuple(size.size for size in shape.dim))
