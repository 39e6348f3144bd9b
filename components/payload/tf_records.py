"""TFRecord files, plain or gzip: tf.Examples and TF Serving's logs, read without TensorFlow."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, cast

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError

from model_load_test.components.payload.content import Row
from model_load_test.components.payload.encoding import takes_examples
from model_load_test.components.payload.manifest import PayloadError
from model_load_test.components.payload.values import has_open_batch, open_shape
from model_load_test.components.protocols.signature import Signature, TensorSpec
from model_load_test.components.protocols.tensors import (
    Array,
    TensorError,
    from_tensor_proto,
    numpy_dtype,
)
from model_load_test.components.protocols.tf_serving import (
    DEFAULT_SIGNATURE_NAME,
    Example,
    PredictionLog,
)

WARMUP_FILE_NAME: Final = "tf_serving_warmup_requests"

_RECORD_HEADER: Final = struct.Struct("<QI")
_CHECKSUM: Final = struct.Struct("<I")
_CHECKSUM_MASK: Final = 0xA282EAD8
_GZIP_MAGIC: Final = b"\x1f\x8b"
_FITTING_KINDS: Final = {
    "bytes_list": ("string",),
    "int64_list": ("int", "uint", "float", "bool"),
    "float_list": ("float",),
}
"""The dtypes a feature of each kind may become, by how their names begin."""


def is_record_file(path: Path) -> bool:
    """Whether a file's name says that it is a TFRecord file: TFX and TensorFlow agree on no suffix."""
    return path.name == WARMUP_FILE_NAME or "tfrecord" in path.name or path.suffix == ".gz"


def record_rows(path: Path, signature: Signature) -> Iterator[Row]:
    """The examples for `signature` in a TFRecord file.

    A tf.Example becomes one string where the signature takes serialised examples (classify, regress,
    or a single string input that is none of the example's features, as TFX's exported models have),
    else its features become the inputs of their names. A TF Serving log (`tf_serving_warmup_requests`)
    is taken apart into the rows of its batches; requests for other signatures are left out.

    Raises:
        PayloadError: The file is damaged or holds something else, or an example does not fit.
        OSError: It cannot be read.
    """
    for number, record in enumerate(records(path)):
        place = f"{path.name}[{number}]"
        try:
            example = Example.FromString(record)
        except DecodeError:
            example = Example()
        # Of the two only a log has fields beside the first one, which in a tf.Example is its features.
        if example.features.feature and len(example.SerializeToString()) == len(
            Example(features=example.features).SerializeToString()
        ):
            yield example_row(record, example, signature, place)
        else:
            yield from _log_rows(record, signature, place)


def example_row(serialized: bytes, example: Any, signature: Signature, place: str) -> Row:
    """The inputs that a tf.Example gives to a signature.

    Raises:
        PayloadError: It lacks an input, or a feature does not fit it.
    """
    features = example.features.feature
    if _takes_serialized(signature, features):
        (name,) = signature.inputs
        value = np.empty((), object)
        value[()] = serialized
        return {name: value if has_open_batch(signature) else value.reshape((1,))}
    missing = sorted(set(signature.inputs) - set(features))
    if missing:
        raise PayloadError(
            "examples",
            place,
            f"it has no feature {', '.join(missing)}; it has {', '.join(sorted(features)) or 'none'}",
        )
    batched = has_open_batch(signature)
    return {
        name: _feature(features[name], spec, batched, f"{place}.{name}")
        for name, spec in signature.inputs.items()
    }


def _takes_serialized(signature: Signature, features: Any) -> bool:
    if takes_examples(signature):
        return True
    if len(signature.inputs) != 1:
        return False
    ((name, spec),) = signature.inputs.items()
    return spec.dtype == "string" and len(open_shape(spec)) == 1 and name not in features


def _feature(feature: Any, spec: TensorSpec, batched: bool, place: str) -> Array:
    kind = feature.WhichOneof("kind")
    if kind is None:
        raise PayloadError("examples", place, "the feature is empty; an input needs a value")
    values = list(getattr(feature, kind).value)
    if not spec.dtype.startswith(_FITTING_KINDS[kind]):
        raise PayloadError("examples", place, f"the feature is a {kind}, the input {spec}")
    if spec.dtype == "string":
        flat: Array = np.empty(len(values), object)
        flat[:] = values
    else:
        found = np.array(values)
        flat = found.astype(numpy_dtype(spec.dtype))
        if kind == "int64_list" and (flat.astype(np.int64) != found).any():
            raise PayloadError("examples", place, f"a number is too large for {spec.dtype}")
    wanted = open_shape(spec)[1:] if batched else open_shape(spec)
    if sum(size < 0 for size in wanted) > 1:
        raise PayloadError(
            "examples", place, f"a feature is a flat list, and {spec} leaves more than one dimension open"
        )
    fixed = math.prod(size for size in wanted if size >= 0)
    fits = len(flat) % fixed == 0 if -1 in wanted and fixed else len(flat) == fixed
    if not fits:
        raise PayloadError("examples", place, f"it has {len(flat)} values; one example of {spec} differs")
    return flat.reshape(wanted)


def _log_rows(record: bytes, signature: Signature, place: str) -> Iterator[Row]:
    try:
        log = PredictionLog.FromString(record)
    except DecodeError:
        raise PayloadError("examples", place, "neither a tf.Example nor a PredictionLog") from None
    kind = log.WhichOneof("log_type")
    if kind not in ("predict_log", "classify_log", "regress_log"):
        return
    request = getattr(log, kind).request
    if (request.model_spec.signature_name or DEFAULT_SIGNATURE_NAME) != signature.name:
        return
    if kind == "predict_log":
        yield from _request_rows(request, signature, place)
        return
    for example in request.input.example_list.examples:
        yield example_row(example.SerializeToString(), example, signature, place)


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
        refuse_other_tensor(tensors[name], spec, f"{place}.{name}")
    if not has_open_batch(signature):
        yield tensors
        return
    sizes = {len(tensor) for tensor in tensors.values()}
    if len(sizes) > 1:
        raise PayloadError("examples", place, f"its inputs have different batch sizes {sorted(sizes)}")
    for row in range(sizes.pop()):
        yield {name: np.asarray(tensor[row], tensor.dtype) for name, tensor in tensors.items()}


def refuse_other_tensor(tensor: Array, spec: TensorSpec, place: str) -> None:
    """Refuses a whole tensor that is not of the signature's dtype and shape.

    Raises:
        PayloadError: It is not.
    """
    if tensor.dtype != numpy_dtype(spec.dtype):
        raise PayloadError("examples", place, f"it is {tensor.dtype}, not {spec.dtype}")
    if spec.shape is None:
        return
    fits = len(spec.shape) == tensor.ndim and all(
        want in (-1, size) for want, size in zip(spec.shape, tensor.shape, strict=True)
    )
    if not fits:
        raise PayloadError("examples", place, f"its shape is {list(tensor.shape)}, the input is {spec}")


def records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: length, its checksum, data, its checksum.

    Raises:
        PayloadError: The file is damaged, or no TFRecord file.
        OSError: It cannot be read.
    """
    with path.open("rb") as plain:
        zipped = plain.read(2) == _GZIP_MAGIC
        plain.seek(0)
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=plain)) if zipped else plain
        try:
            yield from _records(file, path.name)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise PayloadError("examples", path.name, "its compression is damaged; copy it again") from None


def _records(file: IO[bytes], name: str) -> Iterator[bytes]:
    position = 0
    while header := file.read(_RECORD_HEADER.size):
        place = f"{name} at byte {position}"
        if len(header) < _RECORD_HEADER.size:
            raise PayloadError("examples", place, "the file ends within a record; copy it again")
        length, length_checksum = _RECORD_HEADER.unpack(header)
        _refuse_checksum(header[:8], length_checksum, place)
        data, checksum = file.read(length), file.read(_CHECKSUM.size)
        if len(data) < length or len(checksum) < _CHECKSUM.size:
            raise PayloadError("examples", place, "the file ends within a record; copy it again")
        _refuse_checksum(data, _CHECKSUM.unpack(checksum)[0], place)
        yield data
        position += _RECORD_HEADER.size + length + _CHECKSUM.size


def _refuse_checksum(data: bytes, checksum: int, place: str) -> None:
    plain = google_crc32c.value(data)
    masked = ((plain >> 15 | plain << 17) + _CHECKSUM_MASK) & 0xFFFFFFFF
    if masked != checksum:
        raise PayloadError("examples", place, "the checksum is wrong: not a TFRecord file, or a damaged one")
