"""A model's signature: what it wants and what it answers, whatever protocol told it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.tensors import TensorError, dtype_name
from model_load_test.components.protocols.tf_serving import DataType

INIT_OP_SIGNATURE: Final = "__saved_model_init_op"
"""TensorFlow keeps a model's initialiser among its signatures; nobody calls it."""


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


@dataclass(frozen=True)
class Signature:
    """One way to call a model."""

    name: str
    method_name: str
    """TensorFlow's, such as `tensorflow/serving/predict`; it may be empty."""
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


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

    Raises:
        SignatureNotFound: The model has none of that name; the error names those it has.
    """
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
