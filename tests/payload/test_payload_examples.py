"""Payloads from a user's own data: JSON rows and warm-up files that TensorFlow wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_load_test.components.payload import make
from model_load_test.components.payload.examples import read_examples
from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.manifest import PayloadError, read_bodies, read_messages
from model_load_test.components.payload.tf_records import record_rows
from model_load_test.components.protocols.signature import Signature, TensorSpec
from model_load_test.components.protocols.tensors import from_tensor_proto, to_tensor_proto
from model_load_test.components.protocols.tf_serving import PredictionLog, PredictRequest

MIXED = Signature(
    "serving_default",
    "tensorflow/serving/predict",
    {
        "x": TensorSpec("float32", (-1, 2)),
        "n": TensorSpec("int8", (-1,)),
        "text": TensorSpec("string", (-1,)),
    },
    {},
)
ONE = Signature("serving_default", "", {"x": TensorSpec("float32", (-1, 2))}, {})
FIXED = Signature("serving_default", "", {"x": TensorSpec("float32", (3, 2))}, {})

ROWS = [{"x": [0.1 + row, 1 / 3], "n": row, "text": f"row {row} é"} for row in range(5)]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands for a server that publishes the signature; the rest is real."""

    def publish(signature: Signature) -> str:
        monkeypatch.setattr(make, "read_signatures", lambda path: {signature.name: signature})
        return "model"

    return publish


def write(path: Path, values: list[Any]) -> Path:
    text = "\n".join(map(json.dumps, values)) if path.suffix == ".jsonl" else json.dumps(values)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_every_request_is_made_of_the_users_rows(model: Any, tmp_path: Path, name: str) -> None:
    examples = write(tmp_path / name, ROWS)
    options = {"model_name": "m", "requests": 40, "batch_sizes": [1, 3], "examples": examples}
    manifest = make_payload(model(MIXED), protocol="grpc", out_dir=tmp_path / "grpc", **options)
    make_payload(model(MIXED), protocol="http", out_dir=tmp_path / "http", **options)
    assert set(manifest.batch_sizes) == {"1", "3"}
    seen = set()
    messages = map(PredictRequest.FromString, read_messages(tmp_path / "grpc"))
    for message, body in zip(messages, map(json.loads, read_bodies(tmp_path / "http")), strict=True):
        columns = {name: from_tensor_proto(tensor) for name, tensor in message.inputs.items()}
        assert columns["n"].dtype == np.int8
        for row, instance in enumerate(body["instances"]):
            number = int(columns["n"][row])
            seen.add(number)
            expected = ROWS[number]
            assert columns["x"][row].tolist() == np.float32(expected["x"]).tolist()
            assert columns["text"][row].decode() == expected["text"]
            assert instance["n"] == number
            assert instance["text"] == expected["text"]
            assert np.float32(instance["x"]).tolist() == np.float32(expected["x"]).tolist()
    assert seen == set(range(5))


def test_one_input_needs_no_name_and_a_fixed_batch_is_one_example(model: Any, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [[1, 2], [3.5, 4]])
    make_payload(
        model(ONE),
        model_name="m",
        protocol="http",
        out_dir=tmp_path,
        requests=5,
        batch_sizes=[2],
        examples=rows,
    )
    for body in map(json.loads, read_bodies(tmp_path)):
        assert all(row in ([1.0, 2.0], [3.5, 4.0]) for row in body["instances"])
    whole = write(tmp_path / "whole.json", [{"x": [[1, 2], [3, 4], [5, 6]]}])
    manifest = make_payload(
        model(FIXED), model_name="m", protocol="grpc", out_dir=tmp_path, requests=2, examples=whole
    )
    assert manifest.batch_sizes == {"3": 2}


def write_warmup(path: Path, requests: list[Any]) -> Path:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(request.SerializeToString())
    return path


def predict_log(x: Any, signature_name: str = "") -> Any:
    log = PredictionLog()
    log.predict_log.request.model_spec.name = "other name"
    log.predict_log.request.model_spec.signature_name = signature_name
    log.predict_log.request.inputs["x"].CopyFrom(to_tensor_proto(x))
    return log


def test_a_warmup_file_is_taken_apart_into_examples(model: Any, tmp_path: Path) -> None:
    path = write_warmup(
        tmp_path / "tf_serving_warmup_requests",
        [
            predict_log(np.float32([[1, 2], [3, 4]])),
            predict_log(np.float32([[5, 6]]), "serving_default"),
            predict_log(np.float32([[7, 8]]), "another_signature"),
            PredictionLog(),
        ],
    )
    assert [row["x"].tolist() for row in record_rows(path, ONE)] == [[1, 2], [3, 4], [5, 6]]
    assert read_examples(path, ONE).source == "3 examples of tf_serving_warmup_requests"
    make_payload(model(ONE), model_name="m", protocol="grpc", out_dir=tmp_path, requests=20, examples=path)
    for request in map(PredictRequest.FromString, read_messages(tmp_path)):
        assert request.model_spec.name == "m"
        assert all(row in ([1, 2], [3, 4], [5, 6]) for row in from_tensor_proto(request.inputs["x"]).tolist())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "no example for 'serving_default' is in it"),
        ([[1, 2]], "rows.json[0]"),
        ([ROWS[0], {"x": [1, 2], "n": 1}], "rows.json[1]"),
        ([{**ROWS[0], "x": [1, 2, 3]}], "its shape is [3]; one example of float32[?, 2] has [2]"),
        ([{**ROWS[0], "x": [[1], [2, 3]]}], "its lists differ in length"),
        ([{**ROWS[0], "x": ["a", "b"]}], "is no float32"),
        ([{**ROWS[0], "n": 1.5}], "is no int8"),
        ([{**ROWS[0], "n": True}], "is no int8"),
        ([{**ROWS[0], "n": 300}], "a number is too large for int8"),
        ([{**ROWS[0], "text": 5}], "5 is no string"),
    ],
)
def test_examples_that_do_not_fit_are_named(tmp_path: Path, values: list[Any], said: str) -> None:
    with pytest.raises(PayloadError) as raised:
        read_examples(write(tmp_path / "rows.json", values), MIXED)
    assert said in str(raised.value)
    assert raised.value.field == "examples"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match="cannot be read"):
        read_examples(tmp_path / "missing.json", ONE)
    for name, text, said in (
        ("a.json", "{", "not JSON"),
        ("b.jsonl", "[1, 2]\n{", "not JSON"),
        ("c.json", "{}", "put the examples into a list"),
        ("d.tfrecord", "not a record file at all", "checksum"),
        ("e.tfrecord", "short", "ends within a record"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(PayloadError, match=said):
            read_examples(tmp_path / name, ONE)


def test_a_damaged_warmup_file_is_refused(tmp_path: Path) -> None:
    path = write_warmup(tmp_path / "tf_serving_warmup_requests", [predict_log(np.float32([[1, 2]]))])
    whole = path.read_bytes()
    path.write_bytes(whole[:-6])
    with pytest.raises(PayloadError, match="ends within a record"):
        read_examples(path, ONE)
    path.write_bytes(whole[:20] + bytes([whole[20] ^ 1]) + whole[21:])
    with pytest.raises(PayloadError, match="the checksum is wrong"):
        read_examples(path, ONE)
    for request, said in (
        (predict_log(np.float64([[1, 2]])), "it is float64, not float32"),
        (predict_log(np.float32([[1, 2, 3]])), "its shape is"),
    ):
        with pytest.raises(PayloadError, match=said):
            read_examples(write_warmup(path, [request]), ONE)


def test_numbers_that_json_lacks_are_refused_over_rest(model: Any, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text("[[NaN, 1]]")
    options = {"model_name": "m", "out_dir": tmp_path, "requests": 1, "examples": rows}
    with pytest.raises(PayloadError, match="JSON has only finite numbers"):
        make_payload(model(ONE), protocol="http", **options)
    assert make_payload(model(ONE), protocol="grpc", **options).requests == 1
