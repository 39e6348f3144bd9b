"""Requests from a user's own data: rows of JSON, or the requests a SavedModel is warmed up with."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError

from model_load_test.components.payload.manifest import PayloadError
from model_load_test.components.payload.values import RandomValues, has_open_batch
from model_load_test.components.protocols.signature import Signature, TensorSpec
from model_load_test.components.protocols.tensors import (
    Array,
    TensorError,
    from_tensor_proto,
    numpy_dtype,
)
from model_load_test.components.protocols.tf_serving import DEFAULT_SIGNATURE_NAME, PredictionLog

Row = Mapping[str, Array]
"""The inputs of one example, without the batch dimension where the signature has an open one."""

WARMUP_FILE_NAME: Final = "tf_serving_warmup_requests"

_RECORD_HEADER: Final = struct.Struct("<QI")
_CHECKSUM: Final = struct.Struct("<I")
_CHECKSUM_MASK: Final = 0xA282EAD8


def read_examples(path: Path, signature: Signature) -> list[Row]:
    """Reads examples for `signature`.

    Args:
        path: A .jsonl file with one example a line, a .json file with a list of them (each an
            object by input name, or for one input its value), or a `tf_serving_warmup_requests`
            file, whose batches are taken apart.
        signature: What they are for.

    Raises:
        PayloadError: The file cannot be read, has no examples, or one does not fit the signature;
            the error tells which.
    """
    try:
        if path.name == WARMUP_FILE_NAME or path.suffix == ".tfrecord":
            rows = list(_warmup_rows(path, signature))
        else:
            rows = [
                _json_row(value, signature, f"{path.name}[{number}]")
                for number, value in enumerate(_json_values(path))
            ]
    except OSError as error:
        raise PayloadError("examples", str(path), f"cannot be read ({error.strerror})") from None
    if not rows:
        raise PayloadError("examples", str(path), f"no example for {signature.name!r} is in it; add some")
    return rows


def batch_of(rows: Sequence[Row], signature: Signature, batch_size: int, values: RandomValues) -> Row:
    """The inputs of one request: as many rows as the batch size, drawn with replacement.

    Where a batch cannot be formed (the signature has no open batch dimension, or rows differ in
    shape) it is one row.
    """
    first = rows[values.index(len(rows))]
    if not has_open_batch(signature):
        return first
    chosen = [first]
    for _ in range(batch_size - 1):
        row = rows[values.index(len(rows))]
        if all(row[name].shape == tensor.shape for name, tensor in first.items()):
            chosen.append(row)
    return {name: np.stack([row[name] for row in chosen]) for name in first}


def _json_values(path: Path) -> list[Any]:
    text = path.read_bytes()
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        values = json.loads(text)
    except ValueError as error:
        raise PayloadError("examples", str(path), f"not JSON ({error})") from None
    if not isinstance(values, list):
        raise PayloadError("examples", str(path), "put the examples into a list, or one a line into a .jsonl")
    return values


def _json_row(value: Any, signature: Signature, place: str) -> Row:
    if isinstance(value, dict):
        by_name = value
    elif len(signature.inputs) == 1:
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
        name: _array(by_name[name], spec, batched, f"{place}.{name}")
        for name, spec in signature.inputs.items()
    }


def _array(value: Any, spec: TensorSpec, batched: bool, place: str) -> Array:
    try:
        found = np.array(value, object) if spec.dtype == "string" else np.array(value)
    except ValueError:
        raise PayloadError("examples", place, f"its lists differ in length; make it {spec}") from None
    _refuse_shape(found.shape, spec, batched, place)
    kinds = {"float": "fiu", "int": "iu", "uint": "iu", "bool": "b", "string": "O", "complex": "fiuc"}
    if found.size and found.dtype.kind not in kinds.get(spec.dtype.rstrip("0123456789"), "fiu"):
        raise PayloadError("examples", place, f"{json.dumps(value)[:80]} is no {spec.dtype}")
    if spec.dtype == "string":
        return _bytes(found, place)
    converted: Array = found.astype(numpy_dtype(spec.dtype))
    if found.dtype.kind in "iu" and spec.dtype.startswith(("int", "uint")) and (converted != found).any():
        raise PayloadError("examples", place, f"a number is too large for {spec.dtype}")
    return converted


def _bytes(array: Array, place: str) -> Array:
    encoded = np.empty(array.shape, object)
    for index, value in np.ndenumerate(array):
        if not isinstance(value, str):
            raise PayloadError("examples", place, f"{value!r} is no string")
        encoded[index] = value.encode()
    return encoded


def _refuse_shape(shape: tuple[int, ...], spec: TensorSpec, batched: bool, place: str) -> None:
    if spec.shape is None:
        return
    wanted = spec.shape[1:] if batched else spec.shape
    fits = len(shape) == len(wanted) and all(
        want in (-1, size) for want, size in zip(wanted, shape, strict=True)
    )
    if not fits:
        raise PayloadError(
            "examples", place, f"its shape is {list(shape)}; one example of {spec} has {list(wanted)}"
        )


def _warmup_rows(path: Path, signature: Signature) -> Iterator[Row]:
    for number, record in enumerate(_records(path)):
        place = f"{path.name}[{number}]"
        try:
            log = PredictionLog.FromString(record)
        except DecodeError:
            raise PayloadError("examples", place, "not a PredictionLog") from None
        request = log.predict_log.request
        asked = request.model_spec.signature_name or DEFAULT_SIGNATURE_NAME
        if log.WhichOneof("log_type") != "predict_log" or asked != signature.name:
            continue
        yield from _request_rows(request, signature, place)


def _request_rows(request: Any, signature: Signature, place: str) -> Iterator[Row]:
    if set(request.inputs) != set(signature.inputs):
        raise PayloadError(
            "examples",
            place,
            f"it has {sorted(request.inputs)}, the signature wants {sorted(signature.inputs)}",
        )
    tensors: dict[str, Array] = {}
    for name, spec in signature.inputs.items():
        try:
            tensors[name] = from_tensor_proto(request.inputs[name])
        except TensorError as error:
            raise PayloadError("examples", f"{place}.{name}", str(error)) from None
        if tensors[name].dtype != numpy_dtype(spec.dtype):
            raise PayloadError(
                "examples", f"{place}.{name}", f"it is {tensors[name].dtype}, not {spec.dtype}"
            )
        _refuse_shape(tensors[name].shape, spec, False, f"{place}.{name}")
    if not has_open_batch(signature):
        yield tensors
        return
    sizes = {len(tensor) for tensor in tensors.values()}
    if len(sizes) > 1:
        raise PayloadError("examples", place, f"its inputs have different batch sizes {sorted(sizes)}")
    for row in range(sizes.pop()):
        yield {name: np.asarray(tensor[row], tensor.dtype) for name, tensor in tensors.items()}


def _records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: length, its checksum, data, its checksum."""
    content = path.read_bytes()
    position = 0
    while position < len(content):
        place = f"{path.name} at byte {position}"
        if position + _RECORD_HEADER.size > len(content):
            raise PayloadError("examples", place, "the file ends within a record; copy it again")
        length, length_checksum = _RECORD_HEADER.unpack_from(content, position)
        start = position + _RECORD_HEADER.size
        end = start + length
        _refuse_checksum(content[position : position + 8], length_checksum, place)
        if end + _CHECKSUM.size > len(content):
            raise PayloadError("examples", place, "the file ends within a record; copy it again")
        _refuse_checksum(content[start:end], _CHECKSUM.unpack_from(content, end)[0], place)
        yield content[start:end]
        position = end + _CHECKSUM.size


def _refuse_checksum(data: bytes, checksum: int, place: str) -> None:
    plain = google_crc32c.value(data)
    masked = ((plain >> 15 | plain << 17) + _CHECKSUM_MASK) & 0xFFFFFFFF
    if masked != checksum:
        raise PayloadError("examples", place, "the checksum is wrong: not a TFRecord file, or a damaged one")
