"""Makes a payload set from a signature: valid requests, varied in content and batch size."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast
from urllib.parse import quote

import msgspec
import numpy as np

from model_load_test.components.payload.examples import Row, batch_of, read_examples
from model_load_test.components.payload.manifest import (
    GRPC_REQUESTS_NAME,
    HTTP_BODIES_NAME,
    MANIFEST_NAME,
    PROTOSET_NAME,
    PayloadError,
    PayloadInput,
    PayloadManifest,
    write_manifest,
)
from model_load_test.components.payload.values import (
    RandomValues,
    batch_size_of,
    has_open_batch,
    random_inputs,
)
from model_load_test.components.protocols.client import model_metadata
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.protocols.saved_model import read_signatures
from model_load_test.components.protocols.signature import (
    INIT_OP_SIGNATURE,
    Signature,
    find_signature,
)
from model_load_test.components.protocols.tensors import Array, to_tensor_proto
from model_load_test.components.protocols.tf_serving import (
    CLASSIFY_METHOD_NAME,
    DEFAULT_SIGNATURE_NAME,
    PREDICT,
    PROTOSET_PATH,
    REGRESS_METHOD_NAME,
    PredictRequest,
)

MAX_CONTENT_BYTES: Final = 1 << 30
"""A load generator holds the whole set in memory."""

_MAX_REQUESTS: Final = 10_000_000
_JSON_DTYPES: Final = frozenset(
    ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool", "string")
)
"""What TF Serving's REST API converts from JSON."""

Protocol = Literal["grpc", "http"]
BodyFormat = Literal["auto", "row", "columnar"]


@dataclass(frozen=True)
class _Encoding:
    """How a request lies in the file of its protocol."""

    file_name: str
    method: str
    path: str
    body_format: Literal["", "row", "columnar"]
    record: Callable[[Mapping[str, Array]], bytes]


def make_payload(
    source: Endpoint | Path | str,
    *,
    model_name: str,
    out_dir: Path | str,
    protocol: str = "",
    signature_name: str = DEFAULT_SIGNATURE_NAME,
    requests: int = 1000,
    batch_sizes: Sequence[int] = (1, 2, 4),
    seed: int = 0,
    body_format: str = "auto",
    examples: Path | str | None = None,
) -> PayloadManifest:
    """Makes a payload set and writes it with its manifest into a folder.

    Args:
        source: Where the signature comes from: a running server's endpoint, or a SavedModel's
            folder (or its base path: then the latest version).
        model_name: The model's name on the server.
        out_dir: Folder to write into; made where it is missing.
        protocol: grpc or http; empty for the endpoint's own.
        signature_name: The signature to call.
        requests: How many different requests to make.
        batch_sizes: Batch sizes to draw from, each equally likely.
        seed: The same seed makes the same requests, on every machine.
        body_format: TF Serving's REST format, row or columnar; auto is row where it is possible.
        examples: File of the user's own examples to draw from, as `read_examples` reads it; without
            one the values are random.

    Returns:
        The manifest, as it was written.

    Raises:
        InputError: Something given cannot be used, the server does not answer, or it has no such
            model or signature.
    """
    chosen = _protocol(source, protocol)
    _refuse_out_of_range(requests, batch_sizes, seed)
    signature = _predict_signature(source, model_name, signature_name)
    encoding = _encoding(chosen, model_name, signature, body_format)
    rows = read_examples(Path(examples), signature) if examples else ()
    contents = _requests(signature, rows, requests, batch_sizes, seed)
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        return _write(folder, encoding, chosen, model_name, signature, requests, contents, seed)
    except OSError as error:
        raise PayloadError("out_dir", str(folder), f"cannot be written ({error.strerror})") from None


def _write(
    folder: Path,
    encoding: _Encoding,
    protocol: Protocol,
    model_name: str,
    signature: Signature,
    requests: int,
    contents: Iterator[Mapping[str, Array]],
    seed: int,
) -> PayloadManifest:
    digest = hashlib.sha256("\0".join((protocol, encoding.method, encoding.path, "")).encode())
    sizes: Counter[int] = Counter()
    content_bytes = 0
    path = folder / encoding.file_name
    with path.open("wb") as file:
        for inputs in contents:
            record = encoding.record(inputs)
            digest.update(record)
            file.write(record)
            sizes[batch_size_of(inputs)] += 1
            content_bytes += len(record)
            if content_bytes > MAX_CONTENT_BYTES:
                file.truncate(0)
                raise PayloadError(
                    "requests",
                    requests,
                    f"after {sum(sizes.values())} requests the set has {MAX_CONTENT_BYTES >> 30} GiB; "
                    "make fewer, or smaller batches",
                )
    if protocol == "grpc":
        shutil.copyfile(PROTOSET_PATH, folder / PROTOSET_NAME)
    manifest = PayloadManifest(
        protocol=protocol,
        model_name=model_name,
        signature_name=signature.name,
        method=encoding.method,
        path=encoding.path,
        requests=requests,
        batch_sizes={str(size): sizes[size] for size in sorted(sizes)},
        inputs=tuple(PayloadInput(name, spec.dtype, spec.shape) for name, spec in signature.inputs.items()),
        seed=seed,
        content_bytes=content_bytes,
        hash=digest.hexdigest(),
        summary=_summary(protocol, model_name, signature, requests, sizes, content_bytes),
        body_format=encoding.body_format,
    )
    write_manifest(folder, manifest)
    return manifest


def _requests(
    signature: Signature, rows: Sequence[Row], requests: int, batch_sizes: Sequence[int], seed: int
) -> Iterator[Mapping[str, Array]]:
    values = RandomValues(seed)
    for _ in range(requests):
        batch_size = values.choose(batch_sizes)
        if rows:
            yield batch_of(rows, signature, batch_size, values)
        else:
            yield random_inputs(signature, batch_size, values)


def _protocol(source: Endpoint | Path | str, protocol: str) -> Protocol:
    if not protocol:
        if isinstance(source, Endpoint):
            return cast(Protocol, source.protocol)
        raise PayloadError("protocol", protocol, "a folder does not tell it; choose grpc or http")
    if protocol not in ("grpc", "http"):
        raise PayloadError("protocol", protocol, "choose grpc or http")
    return cast(Protocol, protocol)


def _refuse_out_of_range(requests: int, batch_sizes: Sequence[int], seed: int) -> None:
    if not 1 <= requests <= _MAX_REQUESTS:
        raise PayloadError("requests", requests, f"give a number from 1 to {_MAX_REQUESTS}")
    if not batch_sizes or min(batch_sizes) < 1:
        raise PayloadError("batch_sizes", list(batch_sizes), "give one batch size or more, each at least 1")
    if seed < 0:
        raise PayloadError("seed", seed, "give 0 or a positive number")


def _predict_signature(source: Endpoint | Path | str, model_name: str, signature_name: str) -> Signature:
    if isinstance(source, Endpoint):
        signatures = model_metadata(source, model_name)
    else:
        signatures = read_signatures(Path(source))
    signature = find_signature(signatures, signature_name, model_name)
    if not signature.inputs:
        raise PayloadError("signature_name", signature_name, "it has no inputs; choose one that has")
    if signature.method_name in (CLASSIFY_METHOD_NAME, REGRESS_METHOD_NAME):
        others = [
            name
            for name, other in signatures.items()
            if name != INIT_OP_SIGNATURE
            and other.method_name not in (CLASSIFY_METHOD_NAME, REGRESS_METHOD_NAME)
        ]
        raise PayloadError(
            "signature_name",
            signature_name,
            "it takes serialised tf.Examples, whose features no signature tells; choose a predict "
            f"signature of the model: {', '.join(others) or 'it has none'}",
        )
    return signature


def _encoding(protocol: Protocol, model_name: str, signature: Signature, body_format: str) -> _Encoding:
    if protocol == "grpc":
        return _Encoding(GRPC_REQUESTS_NAME, PREDICT, "", "", _grpc_record(model_name, signature))
    for name, spec in signature.inputs.items():
        if spec.dtype not in _JSON_DTYPES:
            raise PayloadError(
                "protocol", protocol, f"REST cannot carry input {name!r}, which is {spec.dtype}; use grpc"
            )
    return _Encoding(
        HTTP_BODIES_NAME,
        "POST",
        f"/v1/models/{quote(model_name, safe='')}:predict",
        chosen := _body_format(signature, body_format),
        _row_record(signature) if chosen == "row" else _columnar_record(signature),
    )


def _body_format(signature: Signature, body_format: str) -> Literal["row", "columnar"]:
    if body_format == "auto":
        return "row" if has_open_batch(signature) else "columnar"
    if body_format not in ("row", "columnar"):
        raise PayloadError("body_format", body_format, "choose auto, row or columnar")
    if body_format == "row" and not has_open_batch(signature):
        raise PayloadError(
            "body_format", body_format, "an input of the signature has no open batch dimension; use columnar"
        )
    return cast(Literal["row", "columnar"], body_format)


def _grpc_record(model_name: str, signature: Signature) -> Callable[[Mapping[str, Array]], bytes]:
    base = PredictRequest()
    base.model_spec.name = model_name
    base.model_spec.signature_name = signature.name

    def record(inputs: Mapping[str, Array]) -> bytes:
        request = PredictRequest()
        request.CopyFrom(base)
        for name, tensor in inputs.items():
            request.inputs[name].CopyFrom(to_tensor_proto(tensor))
        message: bytes = request.SerializeToString(deterministic=True)
        return _varint(len(message)) + message

    return record


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _row_record(signature: Signature) -> Callable[[Mapping[str, Array]], bytes]:
    def record(inputs: Mapping[str, Array]) -> bytes:
        columns = {name: _json_values(tensor) for name, tensor in inputs.items()}
        if len(columns) == 1:
            (instances,) = columns.values()
        else:
            rows = zip(*columns.values(), strict=True)
            instances = [dict(zip(columns, row, strict=True)) for row in rows]
        return _json_line({"signature_name": signature.name, "instances": instances})

    return record


def _columnar_record(signature: Signature) -> Callable[[Mapping[str, Array]], bytes]:
    def record(inputs: Mapping[str, Array]) -> bytes:
        columns = {name: _json_values(tensor) for name, tensor in inputs.items()}
        return _json_line({"signature_name": signature.name, "inputs": columns})

    return record


def _json_line(document: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(document) + b"\n"


def _json_values(tensor: Array) -> Any:
    if tensor.dtype == object:
        return np.vectorize(bytes.decode, otypes=[object])(tensor).tolist()
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        raise PayloadError("examples", tensor.tolist(), "JSON has only finite numbers; use grpc")
    if tensor.dtype == np.float32:
        # As doubles, so that 0.1234 is written as such and not as 0.12340000271797180176.
        exact = tensor.astype(np.float64)
        short = np.round(exact, 4)
        return (short if np.array_equal(short.astype(np.float32), tensor) else exact).tolist()
    return tensor.tolist()


def _summary(
    protocol: Protocol,
    model_name: str,
    signature: Signature,
    requests: int,
    sizes: Mapping[int, int],
    content_bytes: int,
) -> str:
    inputs = ", ".join(f"{name} {spec}" for name, spec in signature.inputs.items())
    batches = ", ".join(f"{size} ({sizes[size] / requests:.0%})" for size in sorted(sizes))
    return (
        f"{requests} {protocol} requests for {model_name}:{signature.name} ({inputs}), "
        f"batch sizes {batches}, {content_bytes / requests:.0f} bytes each on average"
    )
