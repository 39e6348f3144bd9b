"""Runs a numpy function as a model: a server that starts at once and needs no TensorFlow."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.signature import Signature, TensorSpec
from model_load_test.components.protocols.tensors import Array, dtype_number
from model_load_test.components.protocols.tf_serving import (
    DEFAULT_SIGNATURE_NAME,
    PREDICT_METHOD_NAME,
    SignatureDef,
)
from model_load_test.components.serving.embedded.failure import invalid_argument
from model_load_test.components.serving.embedded.servables import LoadedModel


@dataclass(frozen=True)
class NumpyModel:
    """A function with the signature it is served by."""

    signature: Signature
    function: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    """Inputs by name to outputs by name; a ValueError it raises is the client's fault."""


def find_numpy_model(place: str) -> NumpyModel:
    """Imports the NumpyModel that `place` names as MODULE:NAME.

    Raises:
        InputError: There is no such module or name, or it is not a NumpyModel.
    """
    module_name, _, name = place.partition(":")
    try:
        model = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError("callable", place, f"write it as MODULE:NAME ({error})") from None
    if not isinstance(model, NumpyModel):
        raise InputError("callable", place, "name a NumpyModel")
    return model


def load_numpy_model(model: NumpyModel) -> LoadedModel:
    """Makes `model` servable."""
    signature = model.signature
    input_names = {_tensor_name(name): name for name in signature.inputs}

    def run(feeds: Mapping[str, Array], fetches: Sequence[str]) -> Sequence[Array]:
        try:
            outputs = model.function({input_names[tensor]: value for tensor, value in feeds.items()})
        except ValueError as error:
            raise invalid_argument(str(error)) from None
        return [outputs[tensor.removesuffix(":0")] for tensor in fetches]

    return LoadedModel({signature.name: _signature_def(signature)}, run)


def _tensor_name(name: str) -> str:
    return f"{name}:0"


def _signature_def(signature: Signature) -> Any:
    message = SignatureDef(method_name=signature.method_name)
    for tensors, specs in ((message.inputs, signature.inputs), (message.outputs, signature.outputs)):
        for name, spec in specs.items():
            info = tensors[name]
            info.name = _tensor_name(name)
            info.dtype = dtype_number(spec.dtype)
            if spec.shape is None:
                info.tensor_shape.unknown_rank = True
            for size in spec.shape or ():
                info.tensor_shape.dim.add(size=size)
    return message


_WEIGHTS = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)


def _classify_digits(inputs: Mapping[str, Array]) -> dict[str, Array]:
    logits = inputs["images"] @ _WEIGHTS
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {
        "scores": exponentials / exponentials.sum(axis=1, keepdims=True),
        "classes": logits.argmax(axis=1),
    }


digits = NumpyModel(
    Signature(
        name=DEFAULT_SIGNATURE_NAME,
        method_name=PREDICT_METHOD_NAME,
        inputs={"images": TensorSpec("float32", (-1, 64))},
        outputs={"classes": TensorSpec("int64", (-1,)), "scores": TensorSpec("float32", (-1, 10))},
    ),
    _classify_digits,
)
"""A linear classifier of 8x8 images with the demo models' signature; its weights mean nothing."""
