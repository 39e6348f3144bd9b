"""Round trips against tensorflow-serving-api's own types: what we write is what TensorFlow reads."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from model_load_test.components.payload import make
from model_load_test.components.payload.encoding import encoding_of
from model_load_test.components.payload.manifest import PayloadError, binary_body
from model_load_test.components.payload.recorded import request_inputs
from model_load_test.components.payload.requests import predict_request, read_requests, request_type
from model_load_test.components.payload.tf_records import record_rows
from model_load_test.components.protocols.open_inference_tensors import from_raw
from model_load_test.components.protocols.signature import Signature, TensorSpec

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
apis = pytest.importorskip("tensorflow_serving.apis", reason="tensorflow-serving-api is not installed")

PREDICT = "tensorflow/serving/predict"
JSON_DTYPES = (
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint32",
    "uint64",
    "bool",
    "string",
)
BINARY_DTYPES = (*JSON_DTYPES, "uint16", "float16")
DTYPES = (*BINARY_DTYPES, "complex64", "complex128")


def arrays(dtype: str, finite: bool) -> st.SearchStrategy[np.ndarray]:
    shapes = npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)
    if dtype == "string":
        texts = st.text(max_size=6).map(str.encode) if finite else st.binary(max_size=6)
        return shapes.flatmap(
            lambda shape: st.lists(texts, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
                lambda values: strings(values, shape)
            )
        )
    limits = {"allow_nan": False, "allow_infinity": False} if finite and dtype.startswith("float") else {}
    return npst.arrays(dtype, shapes, elements=npst.from_dtype(np.dtype(dtype), **limits))


def strings(values: list[bytes], shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def inputs_of(dtypes: tuple[str, ...], finite: bool = False) -> st.SearchStrategy[dict[str, np.ndarray]]:
    pairs = st.sampled_from(dtypes).flatmap(lambda dtype: arrays(dtype, finite))
    return st.dictionaries(st.text("abcdef_", min_size=1, max_size=8), pairs, min_size=1, max_size=3)


def signature_of(inputs: dict[str, np.ndarray], batched: bool = False) -> Signature:
    return Signature(
        "serving_default",
        PREDICT,
        {
            name: TensorSpec(
                "string" if array.dtype == object else array.dtype.name,
                (-1,) * array.ndim if batched else array.shape,
            )
            for name, array in inputs.items()
        },
        {},
    )


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    if expected.dtype == object:
        return found.tolist() == expected.tolist()
    return found.dtype == expected.dtype and np.array_equal(
        found, expected, equal_nan=expected.dtype.kind in "fc"
    )


def without_length(record: bytes) -> bytes:
    position = 0
    while record[position] & 0x80:
        position += 1
    size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(record[: position + 1]))
    assert size == len(record) - position - 1
    return record[position + 1 :]


@settings(max_examples=60, deadline=None)
@given(inputs=inputs_of(DTYPES))
def test_tensorflow_reads_what_we_write(inputs: dict[str, np.ndarray]) -> None:
    from tensorflow_serving.apis import predict_pb2

    signature = signature_of(inputs)
    encoding = encoding_of("tf-serving", "grpc", "m", [signature], "auto")
    request = predict_pb2.PredictRequest.FromString(without_length(encoding.record(signature, inputs)))
    assert request.model_spec.name == "m"
    assert request.model_spec.signature_name == "serving_default"
    assert set(request.inputs) == set(inputs)
    for name, array in inputs.items():
        assert same(tf.make_ndarray(request.inputs[name]), array), name


@settings(max_examples=60, deadline=None)
@given(inputs=inputs_of(JSON_DTYPES, finite=True), data=st.data())
def test_a_rest_body_is_read_back_as_the_request_it_was(inputs: dict[str, np.ndarray], data: Any) -> None:
    """Body formats of all APIs: written, recorded, and turned into a binary request again."""
    batched = len({len(array) for array in inputs.values()}) == 1
    signature = signature_of(inputs, batched)
    choices = [("tf-serving", "columnar"), ("oip", "auto")]
    if batched:
        choices.append(("tf-serving", "row"))
    if len(inputs) == 1 and all(array.dtype == np.float64 for array in inputs.values()):
        choices += [("seldon", "tensor"), ("seldon", "ndarray")]
    api, body_format = data.draw(st.sampled_from(choices))
    encoding = encoding_of(api, "http", "m", [signature], body_format)
    body = json.loads(encoding.record(signature, inputs))
    found = request_inputs(body, signature, "body")
    assert found is not None
    for name, array in inputs.items():
        assert same(found[name], array), (api, body_format, name)


@settings(max_examples=60, deadline=None)
@given(inputs=inputs_of(BINARY_DTYPES))
def test_binary_tensors_lie_behind_the_line_that_describes_them(inputs: dict[str, np.ndarray]) -> None:
    signature = signature_of(inputs)
    record = encoding_of("oip", "http", "m", [signature], "binary").record(signature, inputs)
    body = binary_body(without_length(record))
    json_bytes = int(body.headers["Inference-Header-Content-Length"])
    described = json.loads(body.content[:json_bytes])["inputs"]
    assert [tensor["name"] for tensor in described] == list(inputs)
    place = json_bytes
    for tensor in described:
        end = place + tensor["parameters"]["binary_data_size"]
        found = from_raw(body.content[place:end], tensor["datatype"], tuple(tensor["shape"]))
        assert same(found, inputs[tensor["name"]]), tensor["name"]
        place = end
    assert place == len(body.content)


@settings(max_examples=40, deadline=None)
@given(
    floats=st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=2),
    number=st.integers(-(2**31), 2**31 - 1),
    text=st.binary(max_size=20),
    compression=st.sampled_from(["", "GZIP"]),
)
def test_tensorflows_examples_are_read(
    tmp_path_factory: Any, floats: list[float], number: int, text: bytes, compression: str
) -> None:
    features = {
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=floats)),
        "n": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
        "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[text])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    path = tmp_path_factory.mktemp("records") / "rows.tfrecord"
    with tf.io.TFRecordWriter(str(path), options=compression) as writer:
        writer.write(example.SerializeToString())
    specs = {
        "x": TensorSpec("float32", (-1, 2)),
        "n": TensorSpec("int32", (-1,)),
        "text": TensorSpec("string", (-1,)),
    }
    (row,) = record_rows(path, Signature("s", PREDICT, specs, {}))
    assert row["x"].tolist() == np.float32(floats).tolist()
    assert int(row["n"]) == number
    assert row["text"][()] == text
    serialized = Signature("s", PREDICT, {"examples": TensorSpec("string", (-1,))}, {})
    (row,) = record_rows(path, serialized)
    assert tf.train.Example.FromString(row["examples"][()]) == example


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=4))
def test_classify_requests_are_tensorflows(values: list[float]) -> None:
    from tensorflow_serving.apis import classification_pb2

    feature = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
    signature = Signature("s", "tensorflow/serving/classify", {"inputs": TensorSpec("string", (-1,))}, {})
    encoding = encoding_of("tf-serving", "grpc", "m", [signature], "auto")
    inputs = {"inputs": strings([example.SerializeToString()] * 2, (2,))}
    request = classification_pb2.ClassificationRequest.FromString(
        without_length(encoding.record(signature, inputs))
    )
    assert list(request.input.example_list.examples) == [example, example]


def test_public_parts_are_of_tensorflow_servings_own_types(tmp_path: Any) -> None:
    from tensorflow_serving.apis import classification_pb2, predict_pb2

    signature = Signature(
        "serving_default",
        PREDICT,
        {"image_bytes": TensorSpec("string", (-1,)), "scale": TensorSpec("float16", (-1,))},
        {},
    )
    body = {"instances": [{"image_bytes": {"b64": "/9j/"}, "scale": 1.5}, {"image_bytes": "x", "scale": 2}]}
    request = predict_request(json.dumps(body), signature, "flowers")
    assert isinstance(request, predict_pb2.PredictRequest)
    assert request.model_spec.name == "flowers"
    assert tf.make_ndarray(request.inputs["image_bytes"]).tolist() == [b"\xff\xd8\xff", b"x"]
    assert tf.make_ndarray(request.inputs["scale"]).dtype == np.float16
    classify = Signature("s", "tensorflow/serving/classify", {"inputs": TensorSpec("string", (-1,))}, {})
    found = predict_request('{"examples": [{"x": 1.5}]}', classify, "m")
    assert isinstance(found, classification_pb2.ClassificationRequest)
    for wrong in ("{", "[1]", '{"rows": 1}', '{"signature_name": "other", "instances": [1]}'):
        with pytest.raises(PayloadError):
            predict_request(wrong, signature, "m")
    recorded = tmp_path / "request.json"
    recorded.write_text(json.dumps({"inputs": [[1.0, 2.0]]}))
    saved = Signature("serving_default", PREDICT, {"x": TensorSpec("float32", (-1, 2))}, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "read_signatures", lambda path: {"serving_default": saved})
        options = {"protocol": "grpc", "out_dir": tmp_path / "set", "requests": 3, "examples": recorded}
        make.make_payload("model", model_name="m", **options)
    requests = list(read_requests(tmp_path / "set"))
    assert [type(one) for one in requests] == [predict_pb2.PredictRequest] * 3
    assert tf.make_ndarray(requests[0].inputs["x"]).tolist() == [[1.0, 2.0]]


def test_without_it_they_are_messages_of_the_same_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    from model_load_test.components.protocols import tf_serving

    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis.predict_pb2", None)
    assert request_type(tf_serving.PREDICT) is tf_serving.PredictRequest
