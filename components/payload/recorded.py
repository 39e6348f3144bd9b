"""Recorded REST bodies, of any of the APIs, as the inputs of whole requests."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_load_test.components.payload.content import Row
from model_load_test.components.payload.encoding import takes_examples
from model_load_test.components.payload.json_rows import array_of, is_base64
from model_load_test.components.payload.manifest import PayloadError
from model_load_test.components.payload.tf_records import example_row, refuse_other_tensor
from model_load_test.components.payload.values import has_open_batch
from model_load_test.components.protocols import seldon
from model_load_test.components.protocols.open_inference_tensors import datatype_of_array, from_json
from model_load_test.components.protocols.signature import NAMELESS, Signature, TensorSpec
from model_load_test.components.protocols.tensors import Array, TensorError, numpy_dtype
from model_load_test.components.protocols.tf_serving import Example


def is_request(value: Any) -> bool:
    """Whether a JSON value is the body of a request of one of the APIs."""
    if not isinstance(value, Mapping):
        return False
    data = value.get("data")
    return (
        isinstance(value.get("instances"), list)
        or isinstance(value.get("examples"), list)
        or "inputs" in value
        or (isinstance(data, Mapping) and ("tensor" in data or "ndarray" in data))
    )


def request_inputs(body: Mapping[str, Any], signature: Signature, place: str) -> Row | None:
    """The inputs of a recorded request, batch dimension and all; None where it calls another signature.

    The body is TF Serving's (`instances`, `inputs`, or `examples` for classify and regress), Open
    Inference's (`inputs` as a list of tensors) or Seldon's (`data`).

    Raises:
        PayloadError: The body is not of that form, or does not fit the signature.
    """
    asked = body.get("signature_name")
    if asked and signature.name not in (asked, NAMELESS):
        return None
    if isinstance(body.get("data"), Mapping):
        return _seldon_inputs(body, signature, place)
    if is_open_inference(body):
        return _open_inference_inputs(body["inputs"], signature, place)
    if isinstance(body.get("examples"), list):
        return _example_inputs(body["examples"], signature, place)
    if isinstance(body.get("instances"), list):
        return _instances(body["instances"], signature, place)
    if "inputs" in body:
        return _columns(body["inputs"], signature, place)
    raise PayloadError("examples", place, "it has neither instances nor inputs nor examples nor data")


def is_open_inference(body: Mapping[str, Any]) -> bool:
    """Whether the body is of the Open Inference Protocol."""
    inputs = body.get("inputs")
    return (
        isinstance(inputs, list)
        and bool(inputs)
        and all(isinstance(one, Mapping) and {"name", "datatype", "data"} <= set(one) for one in inputs)
    )


def signature_of_request(body: Mapping[str, Any]) -> Signature | None:
    """The signature that a recorded request itself tells: dtypes and ranks, every size open.

    None for TF Serving's bodies, which tell neither names nor dtypes.

    Raises:
        PayloadError: A tensor of it cannot be read.
    """
    if isinstance(body.get("data"), Mapping):
        array, columns = _read_seldon(body, "recorded request")
        dtype = "string" if array.dtype == object else "float64"
        spec = TensorSpec(dtype, (-1, *array.shape[1:]))
        return Signature(NAMELESS, "", {seldon.INPUT_NAME: spec}, {}, columns)
    if not is_open_inference(body):
        return None
    specs = {}
    for tensor in body["inputs"]:
        array = _read_open_inference(tensor, "recorded request")
        dtype = "string" if array.dtype == object else array.dtype.name
        specs[str(tensor["name"])] = TensorSpec(dtype, (-1,) * array.ndim)
    return Signature(NAMELESS, "", specs, {})


def _instances(instances: Sequence[Any], signature: Signature, place: str) -> Row:
    if not instances:
        raise PayloadError("examples", place, "its instances are empty; record a request that has some")
    names = set(signature.inputs)
    rows = []
    for number, instance in enumerate(instances):
        named = isinstance(instance, Mapping) and not (len(names) == 1 and is_base64(instance))
        if not named and len(names) > 1:
            raise PayloadError(
                "examples",
                f"{place}[{number}]",
                f"make it an object with the inputs {', '.join(sorted(names))}",
            )
        row = instance if named else {next(iter(names)): instance}
        if set(row) != names:
            raise PayloadError(
                "examples",
                f"{place}[{number}]",
                f"it has {sorted(row)}, the signature wants {sorted(names)}",
            )
        rows.append(row)
    return {
        name: array_of([row[name] for row in rows], spec, False, f"{place}.{name}")
        for name, spec in signature.inputs.items()
    }


def _columns(inputs: Any, signature: Signature, place: str) -> Row:
    by_name = inputs
    if len(signature.inputs) == 1 and not (isinstance(inputs, Mapping) and not is_base64(inputs)):
        by_name = {next(iter(signature.inputs)): inputs}
    if not isinstance(by_name, Mapping) or set(by_name) != set(signature.inputs):
        found = sorted(by_name) if isinstance(by_name, Mapping) else type(by_name).__name__
        raise PayloadError(
            "examples", place, f"its inputs are {found}, the signature wants {sorted(signature.inputs)}"
        )
    return {
        name: array_of(by_name[name], spec, False, f"{place}.{name}")
        for name, spec in signature.inputs.items()
    }


def _example_inputs(examples: Sequence[Any], signature: Signature, place: str) -> Row:
    if not takes_examples(signature):
        raise PayloadError(
            "examples",
            place,
            f"it has examples, which classify and regress take; {signature.name!r} is neither",
        )
    if not examples:
        raise PayloadError("examples", place, "its examples are empty; record a request that has some")
    rows = []
    for number, document in enumerate(examples):
        example = _example(document, f"{place}[{number}]")
        rows.append(example_row(example.SerializeToString(), example, signature, place))
    batched = has_open_batch(signature)
    return {
        name: np.stack([row[name] for row in rows]) if batched else rows[0][name] for name in signature.inputs
    }


def _example(document: Any, place: str) -> Any:
    """A tf.Example of TF Serving's JSON: whole numbers are int64, others float, text is bytes."""
    if not isinstance(document, Mapping):
        raise PayloadError("examples", place, "an example is an object of features")
    example = Example()
    for name, value in document.items():
        values = value if isinstance(value, list) else [value]
        feature = example.features.feature[str(name)]
        if all(isinstance(one, int) and not isinstance(one, bool) for one in values):
            feature.int64_list.value.extend(values)
        elif all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in values):
            feature.float_list.value.extend(values)
        else:
            spec = TensorSpec("string", (-1,))
            feature.bytes_list.value.extend(array_of(values, spec, False, f"{place}.{name}").tolist())
    return example


def _open_inference_inputs(tensors: Sequence[Mapping[str, Any]], signature: Signature, place: str) -> Row:
    arrays = {
        str(tensor["name"]): _read_open_inference(tensor, f"{place}.{tensor['name']}") for tensor in tensors
    }
    if set(arrays) != set(signature.inputs):
        raise PayloadError(
            "examples",
            place,
            f"it has {sorted(arrays)}, the signature wants {sorted(signature.inputs)}",
        )
    for name, spec in signature.inputs.items():
        refuse_other_tensor(arrays[name], spec, f"{place}.{name}")
    return {name: arrays[name] for name in signature.inputs}


def _read_open_inference(tensor: Mapping[str, Any], place: str) -> Array:
    try:
        array = from_json(tensor)
    except TensorError as error:
        raise PayloadError("examples", f"{place}.{error.field}", error.remedy) from None
    parameters = tensor.get("parameters")
    if (
        datatype_of_array(array) == "BYTES"
        and isinstance(parameters, Mapping)
        and parameters.get("content_type") == "base64"
    ):
        decoded = np.empty(array.shape, object)
        for index, value in np.ndenumerate(array):
            try:
                decoded[index] = base64.b64decode(value, validate=True)
            except binascii.Error:
                raise PayloadError(
                    "examples", place, "its content_type is base64 and its data is not"
                ) from None
        return decoded
    return array


def _seldon_inputs(body: Mapping[str, Any], signature: Signature, place: str) -> Row:
    array, _ = _read_seldon(body, place)
    if len(signature.inputs) != 1:
        raise PayloadError("examples", place, "it carries one matrix, and the signature wants more inputs")
    ((name, spec),) = signature.inputs.items()
    if (array.dtype == object) != (spec.dtype == "string"):
        raise PayloadError("examples", place, f"its values are no {spec.dtype}")
    if spec.dtype != "string":
        wanted = array.astype(numpy_dtype(spec.dtype))
        if wanted.dtype.kind in "iub" and not np.array_equal(wanted.astype(np.float64), array):
            raise PayloadError("examples", place, f"its values are no {spec.dtype}")
        array = wanted
    refuse_other_tensor(array, spec, f"{place}.{name}")
    return {name: array}


def _read_seldon(body: Mapping[str, Any], place: str) -> tuple[Array, tuple[str, ...]]:
    try:
        return seldon.read_message(body)
    except TensorError as error:
        raise PayloadError("examples", f"{place}.{error.field}", error.remedy) from None
