"""How the requests of each API lie in the file of a payload set."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast
from urllib.parse import quote

import msgspec
import numpy as np

from model_load_test.components.payload.manifest import (
    BINARY,
    GRPC_REQUESTS_NAME,
    HTTP_BINARY_BODIES_NAME,
    HTTP_BODIES_NAME,
    PayloadError,
)
from model_load_test.components.payload.values import has_open_batch
from model_load_test.components.protocols import open_inference, seldon, tf_serving, vertex
from model_load_test.components.protocols.client import Api
from model_load_test.components.protocols.open_inference_tensors import (
    datatype_of,
    fill_contents,
    has_contents_field,
    raw_contents,
)
from model_load_test.components.protocols.signature import Signature
from model_load_test.components.protocols.tensors import Array, TensorError, to_tensor_proto

Protocol = Literal["grpc", "http"]
Record = Callable[[Signature, Mapping[str, Array]], bytes]
"""Makes one record of the file from a signature and the inputs for it."""

_TF_SERVING_JSON: Final = frozenset(
    ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool", "string")
)
"""What TF Serving's REST API converts from JSON."""
_OPEN_INFERENCE_JSON: Final = frozenset((*_TF_SERVING_JSON, "uint16"))
_EXAMPLE_METHODS: Final = {
    tf_serving.CLASSIFY_METHOD_NAME: (tf_serving.CLASSIFY, "classify"),
    tf_serving.REGRESS_METHOD_NAME: (tf_serving.REGRESS, "regress"),
}


@dataclass(frozen=True)
class Encoding:
    """How the requests of a set are called and written."""

    file_name: str
    method: str
    path: str
    body_format: str
    record: Record
    protoset: Path | None = None


def takes_examples(signature: Signature) -> bool:
    """Whether the signature is TF Serving's classify or regress, which take serialised tf.Examples."""
    return signature.method_name in _EXAMPLE_METHODS


def encoding_of(
    api: Api, protocol: Protocol, model_name: str, signatures: Sequence[Signature], body_format: str
) -> Encoding:
    """The encoding of a set's requests.

    Args:
        api: What the server speaks.
        protocol: Over what.
        model_name: The model's name on the server.
        signatures: The signatures that the set calls.
        body_format: `auto`, or one of the API's choices: row or columnar (TF Serving over REST), raw
            or typed (Open Inference over gRPC), json or binary (over REST), tensor or ndarray
            (Seldon), instances, row, columnar or oip (Vertex AI).

    Raises:
        PayloadError: That API cannot carry the signatures' inputs over that protocol, or has no such
            body format.
    """
    if api == "seldon":
        return _seldon(protocol, signatures[0], body_format)
    if api == "vertex":
        return _vertex(protocol, signatures, body_format)
    if api == "oip":
        make = _open_inference_grpc if protocol == "grpc" else _open_inference_http
        return make(model_name, signatures[0], body_format)
    return _tf_serving(protocol, model_name, signatures, body_format)


def _tf_serving(
    protocol: Protocol, model_name: str, signatures: Sequence[Signature], body_format: str
) -> Encoding:
    methods = {signature.method_name for signature in signatures}
    # Predict takes classify and regress signatures too, as tensors of serialised examples: so a mix has
    # one method for all.
    only = methods.pop() if len(methods) == 1 else ""
    if only in _EXAMPLE_METHODS:
        return _tf_serving_examples(protocol, model_name, only, body_format)
    if protocol == "grpc":
        _refuse_format(body_format)
        return Encoding(
            GRPC_REQUESTS_NAME,
            tf_serving.PREDICT,
            "",
            "",
            _predict_record(model_name),
            tf_serving.PROTOSET_PATH,
        )
    for signature in signatures:
        _refuse_dtypes(signature, _TF_SERVING_JSON, "REST")
    chosen = _row_or_columnar(signatures, body_format)
    path = f"/v1/models/{quote(model_name, safe='')}:predict"
    record = _row_record if chosen == "row" else _columnar_record
    return Encoding(HTTP_BODIES_NAME, "POST", path, chosen, record)


def _predict_record(model_name: str) -> Record:
    def record(signature: Signature, inputs: Mapping[str, Array]) -> bytes:
        request = tf_serving.PredictRequest()
        request.model_spec.name = model_name
        request.model_spec.signature_name = signature.name
        for name, tensor in inputs.items():
            request.inputs[name].CopyFrom(to_tensor_proto(tensor))
        return delimited(request)

    return record


def _tf_serving_examples(protocol: Protocol, model_name: str, method_name: str, body_format: str) -> Encoding:
    _refuse_format(body_format)
    grpc_method, verb = _EXAMPLE_METHODS[method_name]
    if protocol == "http":
        path = f"/v1/models/{quote(model_name, safe='')}:{verb}"
        return Encoding(HTTP_BODIES_NAME, "POST", path, "", _examples_body)
    request_class = tf_serving.ClassificationRequest if verb == "classify" else tf_serving.RegressionRequest

    def record(signature: Signature, inputs: Mapping[str, Array]) -> bytes:
        request = request_class()
        request.model_spec.name = model_name
        request.model_spec.signature_name = signature.name
        for serialized in _only(inputs).ravel().tolist():
            request.input.example_list.examples.add().ParseFromString(serialized)
        return delimited(request)

    return Encoding(GRPC_REQUESTS_NAME, grpc_method, "", "", record, tf_serving.PROTOSET_PATH)


def _examples_body(signature: Signature, inputs: Mapping[str, Array]) -> bytes:
    examples = [_example_document(serialized) for serialized in _only(inputs).ravel().tolist()]
    return _json_line({"signature_name": signature.name, "examples": examples})


def _example_document(serialized: bytes) -> dict[str, Any]:
    features = tf_serving.Example.FromString(serialized).features.feature
    document: dict[str, Any] = {}
    for name in sorted(features):
        kind = features[name].WhichOneof("kind")
        values = list(getattr(features[name], kind).value) if kind else []
        document[name] = _texts(values) if kind == "bytes_list" else values
    return document


def _row_or_columnar(signatures: Sequence[Signature], body_format: str) -> str:
    open_batch = all(has_open_batch(signature) for signature in signatures)
    if body_format == "auto":
        return "row" if open_batch else "columnar"
    if body_format not in ("row", "columnar"):
        raise PayloadError("body_format", body_format, "choose auto, row or columnar")
    if body_format == "row" and not open_batch:
        raise PayloadError(
            "body_format", body_format, "an input of the signature has no open batch dimension; use columnar"
        )
    return body_format


def _row_record(signature: Signature, inputs: Mapping[str, Array]) -> bytes:
    return _json_line({**_called(signature), "instances": _instances(inputs)})


def _instances_record(_signature: Signature, inputs: Mapping[str, Array]) -> bytes:
    return _json_line({"instances": _instances(inputs)})


def _instances(inputs: Mapping[str, Array]) -> Any:
    columns = {name: _json_values(tensor) for name, tensor in inputs.items()}
    if len(columns) == 1:
        (instances,) = columns.values()
        return instances
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _columnar_record(signature: Signature, inputs: Mapping[str, Array]) -> bytes:
    columns = {name: _json_values(tensor) for name, tensor in inputs.items()}
    return _json_line({**_called(signature), "inputs": columns})


def _called(signature: Signature) -> dict[str, str]:
    return {"signature_name": signature.name} if signature.name else {}


def _open_inference_grpc(model_name: str, signature: Signature, body_format: str) -> Encoding:
    chosen = "raw" if body_format == "auto" else body_format
    if chosen not in ("raw", "typed"):
        raise PayloadError("body_format", body_format, "choose auto, raw or typed")
    for name, spec in signature.inputs.items():
        datatype = _datatype(name, spec.dtype)
        if chosen == "typed" and not has_contents_field(datatype):
            raise PayloadError(
                "body_format", body_format, f"input {name!r} is {datatype}, which travels raw only; use raw"
            )

    def record(signature: Signature, inputs: Mapping[str, Array]) -> bytes:
        request = open_inference.ModelInferRequest(model_name=model_name)
        for name, array in inputs.items():
            tensor = request.inputs.add(
                name=name, datatype=datatype_of(signature.inputs[name].dtype), shape=array.shape
            )
            if chosen == "raw":
                request.raw_input_contents.append(raw_contents(array))
            else:
                fill_contents(tensor.contents, array)
        return delimited(request)

    return Encoding(
        GRPC_REQUESTS_NAME, open_inference.MODEL_INFER, "", chosen, record, open_inference.PROTOSET_PATH
    )


def _open_inference_http(model_name: str, signature: Signature, body_format: str) -> Encoding:
    chosen = "json" if body_format == "auto" else body_format
    if chosen not in ("json", BINARY):
        raise PayloadError("body_format", body_format, "choose auto, json or binary")
    for name, spec in signature.inputs.items():
        _datatype(name, spec.dtype)
    path = f"{open_inference.model_path(model_name)}/infer"
    if chosen == BINARY:
        return Encoding(HTTP_BINARY_BODIES_NAME, "POST", path, BINARY, _binary_record)
    _refuse_dtypes(signature, _OPEN_INFERENCE_JSON, "Open Inference's JSON")

    def record(signature: Signature, inputs: Mapping[str, Array]) -> bytes:
        tensors = []
        for name, array in inputs.items():
            tensor: dict[str, Any] = {
                "name": name,
                "shape": list(array.shape),
                "datatype": datatype_of(signature.inputs[name].dtype),
            }
            flat = array.ravel()
            if array.dtype == object and not _is_text(flat.tolist()):
                # MLServer and its like decode what says that it is base64.
                tensor["parameters"] = {"content_type": "base64"}
                tensor["data"] = [base64.b64encode(value).decode() for value in flat.tolist()]
            else:
                tensor["data"] = _json_values(flat)
            tensors.append(tensor)
        return _json_line({"inputs": tensors})

    return Encoding(HTTP_BODIES_NAME, "POST", path, chosen, record)


def _binary_record(signature: Signature, inputs: Mapping[str, Array]) -> bytes:
    """The body of the binary tensor data extension, after its length: a line of JSON, then the bytes.

    The answer is asked for in bytes, too.

    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
    """
    contents = [raw_contents(array) for array in inputs.values()]
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": datatype_of(signature.inputs[name].dtype),
            "parameters": {"binary_data_size": len(content)},
        }
        for (name, array), content in zip(inputs.items(), contents, strict=True)
    ]
    # what comes back in bytes need not be of a dtype that JSON carries
    document = {"inputs": tensors, "parameters": {"binary_data_output": True}}
    return _after_its_length(b"".join((_json_line(document), *contents)))


def _datatype(name: str, dtype: str) -> str:
    try:
        return datatype_of(dtype)
    except TensorError:
        raise PayloadError(
            "api", "oip", f"the Open Inference Protocol cannot carry input {name!r}, which is {dtype}"
        ) from None


def _seldon(protocol: Protocol, signature: Signature, body_format: str) -> Encoding:
    if protocol == "grpc":
        raise PayloadError("protocol", protocol, "Seldon's tensor and ndarray are JSON; use http")
    if len(signature.inputs) != 1:
        raise PayloadError(
            "inputs",
            list(signature.inputs),
            "a Seldon request carries one matrix; declare one input, such as {'data': 'float64[?, 4]'}",
        )
    ((name, spec),) = signature.inputs.items()
    chosen = body_format
    if body_format == "auto":
        chosen = "ndarray" if spec.dtype == "string" else "tensor"
    if chosen not in ("tensor", "ndarray"):
        raise PayloadError("body_format", body_format, "choose auto, tensor or ndarray")
    if chosen == "tensor" and spec.dtype == "string":
        raise PayloadError("body_format", chosen, f"a tensor carries numbers, {name!r} is text; use ndarray")
    if spec.dtype.startswith("complex"):
        raise PayloadError("inputs", str(spec), "JSON has no complex numbers")

    def record(signature: Signature, inputs: Mapping[str, Array]) -> bytes:
        array = _only(inputs)
        if array.dtype.kind == "f":
            array = np.array(_json_values(array), np.float64).reshape(array.shape)
        try:
            document = seldon.message(array, signature.columns, cast(seldon.DataFormat, chosen))
        except TensorError as error:
            raise PayloadError(error.field, error.value, error.remedy) from None
        return _json_line(document)

    return Encoding(HTTP_BODIES_NAME, "POST", seldon.PREDICT_PATH, chosen, record)


def _vertex(protocol: Protocol, signatures: Sequence[Signature], body_format: str) -> Encoding:
    """Instances for `:predict`, which knows no signatures; all else goes raw to the container."""
    if protocol == "grpc":
        raise PayloadError("protocol", protocol, "Vertex AI's endpoints are loaded over REST; use http")
    for signature in signatures:
        _refuse_dtypes(signature, _TF_SERVING_JSON, "Vertex AI's JSON")
    plain = all(
        signature.name in ("", tf_serving.DEFAULT_SIGNATURE_NAME) and has_open_batch(signature)
        for signature in signatures
    )
    chosen = body_format
    if body_format == "auto":
        chosen = "instances" if plain else _row_or_columnar(signatures, body_format)
    if chosen == "instances":
        if not plain:
            raise PayloadError(
                "body_format",
                body_format,
                ":predict calls the default signature, with instances one by one; use row or columnar for "
                "another one, or for one without an open batch dimension",
            )
        return Encoding(HTTP_BODIES_NAME, "POST", vertex.PREDICT, chosen, _instances_record)
    if chosen == "oip":
        if len(signatures) > 1:
            raise PayloadError("body_format", chosen, "Open Inference knows no signatures; give one")
        record = _open_inference_http("", signatures[0], "auto").record
    elif chosen in ("row", "columnar"):
        record = _row_record if _row_or_columnar(signatures, chosen) == "row" else _columnar_record
    else:
        raise PayloadError("body_format", body_format, "choose auto, instances, row, columnar or oip")
    return Encoding(HTTP_BODIES_NAME, "POST", vertex.RAW_PREDICT, chosen, record)


def delimited(message: Any) -> bytes:
    """A message behind its length, as protobuf's delimited streams have it."""
    return _after_its_length(message.SerializeToString(deterministic=True))


def _after_its_length(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _refuse_format(body_format: str) -> None:
    if body_format != "auto":
        raise PayloadError("body_format", body_format, "there is no choice here; leave it at auto")


def _refuse_dtypes(signature: Signature, carried: frozenset[str], what: str) -> None:
    for name, spec in signature.inputs.items():
        if spec.dtype not in carried:
            raise PayloadError(
                "protocol", "http", f"{what} cannot carry input {name!r}, which is {spec.dtype}; use grpc"
            )


def _only(inputs: Mapping[str, Array]) -> Array:
    (array,) = inputs.values()
    return array


def _json_line(document: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(document) + b"\n"


def _json_values(tensor: Array) -> Any:
    if tensor.dtype == object:
        texts = np.empty(tensor.size, object)
        texts[:] = _texts(tensor.ravel().tolist())
        return texts.reshape(tensor.shape).tolist()
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        raise PayloadError("examples", tensor.tolist(), "JSON has only finite numbers; use grpc")
    if tensor.dtype == np.float32:
        # As doubles, so that 0.1234 is written as such and not as 0.12340000271797180176.
        exact = tensor.astype(np.float64)
        short = np.round(exact, 4)
        return (short if np.array_equal(short.astype(np.float32), tensor) else exact).tolist()
    return tensor.tolist()


def _texts(values: Sequence[bytes]) -> list[Any]:
    """Text as such; where one of them is none, all as TF Serving's `{"b64": ...}`."""
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        return [{"b64": base64.b64encode(value).decode()} for value in values]


def _is_text(values: Sequence[bytes]) -> bool:
    try:
        for value in values:
            value.decode()
    except UnicodeDecodeError:
        return False
    return True
