"""Payloads from a user's own data: tables, TFRecords, images, recorded requests."""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

from model_load_test.components.payload import make
from model_load_test.components.payload.examples import read_examples
from model_load_test.components.payload.locations import local_copy
from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.manifest import PayloadError, read_bodies, read_messages
from model_load_test.components.payload.tf_records import record_rows
from model_load_test.components.payload.values import RandomValues, Variation, parse_variation
from model_load_test.components.protocols.signature import Signature, TensorSpec
from model_load_test.components.protocols.tensors import from_tensor_proto
from model_load_test.components.protocols.tf_serving import (
    ClassificationRequest,
    Example,
    PredictRequest,
    RegressionRequest,
)

PREDICT = "tensorflow/serving/predict"
MIXED = Signature(
    "serving_default",
    PREDICT,
    {
        "x": TensorSpec("float32", (-1, 2)),
        "n": TensorSpec("int8", (-1,)),
        "text": TensorSpec("string", (-1,)),
    },
    {},
)
MATRIX = Signature("serving_default", PREDICT, {"x": TensorSpec("float32", (-1, 3))}, {})
SERIALIZED = Signature("serving_default", PREDICT, {"examples": TensorSpec("string", (-1,))}, {})
CLASSIFY = Signature(
    "serving_default", "tensorflow/serving/classify", {"inputs": TensorSpec("string", (-1,))}, {}
)
REGRESS = Signature(
    "serving_default", "tensorflow/serving/regress", {"inputs": TensorSpec("string", (-1,))}, {}
)
PIXELS = Signature("serving_default", PREDICT, {"image": TensorSpec("float32", (-1, 8, 6, 3))}, {})
FLOWERS = Signature(
    "serving_default",
    PREDICT,
    {"image_bytes": TensorSpec("string", (-1,)), "key": TensorSpec("string", (-1,))},
    {},
)
ROWS = [{"x": [0.5 + row, 1.25], "n": row, "text": f"row {row} é"} for row in range(5)]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[Any]]:
    """Makes a set for a signature that a SavedModel would publish; returns its messages or bodies."""

    def make_set(signature: Signature, examples: Path, protocol: str = "grpc", **options: Any) -> list[Any]:
        monkeypatch.setattr(make, "read_signatures", lambda path: {signature.name: signature})
        folder = tmp_path / "set"
        options = {"requests": 20, "batch_sizes": [1, 3], **options}
        make_payload("model", model_name="m", protocol=protocol, out_dir=folder, examples=examples, **options)
        return read_messages(folder) if protocol == "grpc" else list(map(json.loads, read_bodies(folder)))

    return make_set


def predict_inputs(messages: list[bytes]) -> list[dict[str, np.ndarray]]:
    requests = map(PredictRequest.FromString, messages)
    return [{name: from_tensor_proto(t) for name, t in request.inputs.items()} for request in requests]


def write_table(path: Path, columns: dict[str, list[Any]]) -> Path:
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path)
    else:
        pa.csv.write_csv(table, path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_tables_columns_are_the_inputs(made: Any, tmp_path: Path, suffix: str) -> None:
    vectors = [row["x"] for row in ROWS]
    path = write_table(
        tmp_path / f"rows{suffix}",
        {
            "id": [100 + number for number in range(5)],
            "text": [row["text"] for row in ROWS],
            "x": [json.dumps(vector) for vector in vectors] if suffix == ".csv" else vectors,
            "n": [row["n"] for row in ROWS],
        },
    )
    seen = set()
    for inputs in predict_inputs(made(MIXED, path)):
        for row, number in enumerate(inputs["n"].tolist()):
            seen.add(number)
            assert inputs["x"][row].tolist() == ROWS[number]["x"]
            assert inputs["text"][row].decode() == ROWS[number]["text"]
    assert seen == set(range(5))


def test_a_tables_columns_are_the_one_matrix(made: Any, tmp_path: Path) -> None:
    path = write_table(tmp_path / "iris.csv", {"a": [1.5, 4.0], "b": [2, 5], "c": [3, 6]})
    for inputs in predict_inputs(made(MATRIX, path)):
        assert all(row in ([1.5, 2, 3], [4, 5, 6]) for row in inputs["x"].tolist())


def test_digits_in_a_text_column_stay_text(made: Any, tmp_path: Path) -> None:
    signature = Signature("serving_default", PREDICT, {"zip": TensorSpec("string", (-1,))}, {})
    (tmp_path / "zips.csv").write_text("zip\n00501\n06390\n")
    for inputs in predict_inputs(made(signature, tmp_path / "zips.csv")):
        assert set(inputs["zip"].tolist()) <= {b"00501", b"06390"}


def test_what_is_wrong_with_a_table(made: Any, tmp_path: Path) -> None:
    for columns, said in (
        ({"x": ["[1, 2]"], "n": [1]}, "it has no column text; it has x, n"),
        ({"x": ["[1, 2]"], "n": [None], "text": ["a"]}, "null is no int8"),
        ({"x": ["[1, 2, 3]"], "n": [1], "text": ["a"]}, "its shape is [3]"),
        ({"x": ["no"], "n": [1], "text": ["a"]}, "its shape is []"),
        ({"x": ["[1, 2]"], "n": [1.5], "text": ["a"]}, "1.5 is no int8"),
    ):
        with pytest.raises(PayloadError) as raised:
            made(MIXED, write_table(tmp_path / "rows.csv", columns))
        assert said in str(raised.value)
        assert "rows.csv[0]" in str(raised.value)
    four = write_table(tmp_path / "four.csv", {name: [1.0] for name in "abcd"})
    with pytest.raises(PayloadError, match=r"it has 4 columns and float32\[\?, 3\] takes 3; drop the others"):
        made(MATRIX, four)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(PayloadError, match="cannot be read"):
        made(MIXED, tmp_path / "broken.parquet")
    (tmp_path / "empty.csv").write_text("x,n,text\n")
    with pytest.raises(PayloadError, match="no example"):
        made(MIXED, tmp_path / "empty.csv")


def example(**features: Any) -> Any:
    made = Example()
    for name, values in features.items():
        feature = made.features.feature[name]
        if isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif isinstance(values[0], float):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    return made


EXAMPLES = [
    example(x=[0.5 + row, 1.25], n=[row], text=[f"row {row} é".encode()], label=[1]) for row in range(5)
]


def write_records(path: Path, messages: list[Any], compression: str = "") -> Path:
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    with tf.io.TFRecordWriter(str(path), options=compression) as writer:
        for message in messages:
            writer.write(message.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("name", "compression"), [("rows.tfrecord", ""), ("data_tfrecord-00000-of-00001.gz", "GZIP")]
)
def test_features_of_tf_examples_are_the_inputs(
    made: Any, tmp_path: Path, name: str, compression: str
) -> None:
    path = write_records(tmp_path / name, EXAMPLES, compression)
    for inputs in predict_inputs(made(MIXED, path)):
        for row, number in enumerate(inputs["n"].tolist()):
            assert inputs["n"].dtype == np.int8
            assert inputs["x"][row].tolist() == ROWS[number]["x"]
            assert inputs["text"][row].decode() == ROWS[number]["text"]


def test_a_tfx_split_is_a_folder_of_files(made: Any, tmp_path: Path) -> None:
    split = tmp_path / "Split-eval"
    split.mkdir()
    for number, part in enumerate((EXAMPLES[:2], EXAMPLES[2:])):
        write_records(split / f"data_tfrecord-0000{number}-of-00002.gz", part, "GZIP")
    seen = {int(n) for inputs in predict_inputs(made(MIXED, split)) for n in inputs["n"]}
    assert seen == set(range(5))
    assert read_examples(split, MIXED).source == "5 examples of Split-eval"


def test_signatures_of_serialized_examples_get_them_whole(made: Any, tmp_path: Path) -> None:
    path = write_records(tmp_path / "rows.tfrecord", EXAMPLES)
    whole = {one.SerializeToString() for one in EXAMPLES}
    for inputs in predict_inputs(made(SERIALIZED, path)):
        assert set(inputs["examples"].tolist()) <= whole
    for body in made(SERIALIZED, path, "http"):
        assert all(base64.b64decode(instance["b64"]) in whole for instance in body["instances"])


@pytest.mark.parametrize(
    ("signature", "request_class", "verb"),
    [(CLASSIFY, ClassificationRequest, "Classify"), (REGRESS, RegressionRequest, "Regress")],
)
def test_classify_and_regress_get_examples(
    made: Any, tmp_path: Path, signature: Signature, request_class: Any, verb: str
) -> None:
    path = write_records(tmp_path / "rows.tfrecord", EXAMPLES)
    for message in made(signature, path):
        request = request_class.FromString(message)
        assert request.model_spec.name == "m"
        assert len(request.input.example_list.examples) in (1, 3)
        assert all(one in EXAMPLES for one in request.input.example_list.examples)
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["method"] == f"/tensorflow.serving.PredictionService/{verb}"
    for body in made(signature, path, "http"):
        for features in body["examples"]:
            (number,) = features["n"]
            assert features["text"] == [ROWS[number]["text"]]
            assert features["x"] == ROWS[number]["x"]
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["path"] == f"/v1/models/m:{verb.lower()}"


def test_what_is_wrong_with_examples(tmp_path: Path) -> None:
    for features, said in (
        ({"x": [1.0, 2.0], "n": [1]}, "it has no feature text; it has n, x"),
        ({"x": [1.0], "n": [1], "text": [b"a"]}, "it has 1 values"),
        (
            {"x": [b"a", b"b"], "n": [1], "text": [b"a"]},
            "the feature is a bytes_list, the input float32[?, 2]",
        ),
        ({"x": [1.0, 2.0], "n": [300], "text": [b"a"]}, "a number is too large for int8"),
        ({"x": [1.0, 2.0], "n": [1.5], "text": [b"a"]}, "the feature is a float_list, the input int8[?]"),
        ({"x": [1.0, 2.0], "n": [1], "text": [5]}, "the feature is a int64_list, the input string[?]"),
    ):
        with pytest.raises(PayloadError) as raised:
            list(record_rows(write_records(tmp_path / "rows.tfrecord", [example(**features)]), MIXED))
        assert said in str(raised.value), features
    with pytest.raises(PayloadError, match=r"neither a tf.Example nor a PredictionLog"):
        path = write_records(tmp_path / "other.tfrecord", [])
        import tensorflow as tf

        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(b"\xff\xff\xff")
        list(record_rows(path, MIXED))


def test_damaged_compression(tmp_path: Path) -> None:
    path = write_records(tmp_path / "rows.tfrecord.gz", EXAMPLES, "GZIP")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PayloadError, match="its compression is damaged"):
        read_examples(path, MIXED)
    path.write_bytes(gzip.compress(b"not records"))
    with pytest.raises(PayloadError, match=r"ends within a record|checksum"):
        read_examples(path, MIXED)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "flowers"
    for number, (name, size) in enumerate(
        (("daisy/1.jpg", (30, 20)), ("rose/2.png", (12, 18)), ("3.PNG", (6, 8)))
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((size[1], size[0], 3), 40 * (number + 1), np.uint8)
        Image.fromarray(pixels).save(path)
    (folder / ".hidden").write_text("not an image")
    return folder


def test_images_are_sent_as_they_are(made: Any, pictures: Path) -> None:
    files = {path.read_bytes() for path in pictures.rglob("*.*") if path.suffix}
    for inputs in predict_inputs(made(FLOWERS, pictures)):
        assert all(content in files for content in inputs["image_bytes"])
        assert len(inputs["key"]) == len(inputs["image_bytes"])
    for body in made(FLOWERS, pictures, "http"):
        assert all(base64.b64decode(row["image_bytes"]["b64"]) in files for row in body["instances"])
        assert all(isinstance(row["key"], str) for row in body["instances"])


def test_images_become_tensors_of_the_signatures_size(made: Any, pictures: Path) -> None:
    values = set()
    for inputs in predict_inputs(made(PIXELS, pictures)):
        assert inputs["image"].shape[1:] == (8, 6, 3)
        assert inputs["image"].dtype == np.float32
        values.update(np.round(inputs["image"].mean(axis=(1, 2, 3)) * 255).tolist())
    assert values == {40.0, 80.0, 120.0}
    first = Signature("serving_default", PREDICT, {"image": TensorSpec("uint8", (-1, 1, 8, 6))}, {})
    for inputs in predict_inputs(made(first, pictures)):
        assert inputs["image"].shape[1:] == (1, 8, 6)
        assert set(np.unique(inputs["image"])) <= {40, 80, 120}


def test_image_size_by_distribution(made: Any, pictures: Path) -> None:
    size = {"distributions": {"image_size": [16, 32]}}
    anyhow = Signature("serving_default", PREDICT, {"image": TensorSpec("float32", (-1, -1, -1, 3))}, {})
    shapes = {inputs["image"].shape[1:3] for inputs in predict_inputs(made(anyhow, pictures, **size))}
    assert shapes == {(16, 16), (16, 32), (32, 16), (32, 32)}
    for inputs in predict_inputs(made(FLOWERS, pictures, **size)):
        for content in inputs["image_bytes"]:
            assert set(Image.open(io.BytesIO(content)).size) <= {16, 32}


def test_what_is_wrong_with_images(made: Any, tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(PayloadError, match="images go to one input"):
        made(MIXED_STRINGS, pictures)
    (pictures / "daisy" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    with pytest.raises(PayloadError, match=r"broken.jpg'?: it does not decode as an image"):
        made(PIXELS, pictures)
    whole = (pictures / "daisy" / "1.jpg").read_bytes()
    (pictures / "daisy" / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PayloadError, match="it does not decode as an image"):
        made(PIXELS, pictures)


MIXED_STRINGS = Signature(
    "serving_default", PREDICT, {"a": TensorSpec("string", (-1,)), "b": TensorSpec("string", (-1,))}, {}
)


def test_what_is_wrong_with_folders(made: Any, tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PayloadError, match="the folder is empty; give a folder of images"):
        made(PIXELS, tmp_path / "empty")
    (pictures / "rows.csv").write_text("x\n1\n")
    with pytest.raises(PayloadError, match="files of another kind too"):
        made(PIXELS, pictures)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "notes.docx").write_text("hello")
    with pytest.raises(PayloadError, match="files of another kind too"):
        made(PIXELS, tmp_path / "odd")
    with pytest.raises(PayloadError, match="what is it"):
        made(PIXELS, tmp_path / "odd" / "notes.docx")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(PayloadError, match=r"has no assets.extra/tf_serving_warmup_requests"):
        made(PIXELS, tmp_path / "model")


RECORDED = {
    "row": {"signature_name": "serving_default", "instances": [ROWS[0], ROWS[1]]},
    "columnar": {"inputs": {name: [ROWS[0][name], ROWS[1][name]] for name in ROWS[0]}},
    "open inference": {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": ROWS[0]["x"] + ROWS[1]["x"]},
            {"name": "n", "datatype": "INT8", "shape": [2], "data": [0, 1]},
            {
                "name": "text",
                "datatype": "BYTES",
                "shape": [2],
                "parameters": {"content_type": "base64"},
                "data": [base64.b64encode(ROWS[row]["text"].encode()).decode() for row in (0, 1)],
            },
        ]
    },
}


@pytest.mark.parametrize("form", list(RECORDED))
def test_a_recorded_request_becomes_a_binary_one(made: Any, tmp_path: Path, form: str) -> None:
    """The job of Seldon's tf_proto_save.py: for any signature, any dtype and whole batches."""
    path = tmp_path / "request.json"
    path.write_text(json.dumps(RECORDED[form]))
    messages = made(MIXED, path, requests=2)
    assert len(set(messages)) == 1
    inputs = predict_inputs(messages)[0]
    assert inputs["x"].tolist() == [ROWS[0]["x"], ROWS[1]["x"]]
    assert inputs["n"].tolist() == [0, 1]
    assert inputs["n"].dtype == np.int8
    assert [text.decode() for text in inputs["text"]] == [ROWS[0]["text"], ROWS[1]["text"]]


def test_seldons_flower_request(made: Any, tmp_path: Path) -> None:
    """The request that tf_proto_save.py was written for."""
    jpeg = b"\xff\xd8\xff\xe0 a picture"
    body = {
        "signature_name": "serving_default",
        "instances": [{"image_bytes": {"b64": base64.b64encode(jpeg).decode()}, "key": "1"}],
    }
    (tmp_path / "flowers.json").write_text(json.dumps(body))
    (inputs,) = predict_inputs(made(FLOWERS, tmp_path / "flowers.json", requests=1))
    assert inputs["image_bytes"].tolist() == [jpeg]
    assert inputs["key"].tolist() == [b"1"]


def test_several_recorded_requests_come_in_their_order(made: Any, tmp_path: Path) -> None:
    bodies = [
        {"instances": [[1, 2, 3]]},
        {"signature_name": "another", "instances": [[0, 0, 0]]},
        {"inputs": [[4, 5, 6], [7, 8, 9]]},
        {"data": {"ndarray": [[1, 1, 1]]}},
        {"data": {"tensor": {"shape": [1, 3], "values": [2, 2, 2]}}},
    ]
    (tmp_path / "requests.jsonl").write_text("\n".join(map(json.dumps, bodies)))
    inputs = predict_inputs(made(MATRIX, tmp_path / "requests.jsonl", requests=5))
    assert [one["x"].tolist() for one in inputs] == [
        [[1, 2, 3]],
        [[4, 5, 6], [7, 8, 9]],
        [[1, 1, 1]],
        [[2, 2, 2]],
        [[1, 2, 3]],
    ]


def test_recorded_examples(made: Any, tmp_path: Path) -> None:
    body = {"examples": [{"x": [0.5, 1.25], "n": 3, "text": "row", "raw": {"b64": "/w=="}}]}
    (tmp_path / "request.json").write_text(json.dumps(body))
    (message,) = made(CLASSIFY, tmp_path / "request.json", requests=1)
    (found,) = ClassificationRequest.FromString(message).input.example_list.examples
    assert found == example(x=[0.5, 1.25], n=[3], text=[b"row"], raw=[b"\xff"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"instances": []}, "its instances are empty"),
        ({"instances": [{"x": [1, 2]}]}, "it has ['x'], the signature wants"),
        ({"instances": [[1, 2]]}, "make it an object with the inputs"),
        ({"instances": [ROWS[0], {**ROWS[1], "x": [1]}]}, "its lists differ in length"),
        ({"instances": [{**ROWS[0], "n": "1"}]}, "is no int8"),
        ({"instances": [{**ROWS[0], "text": {"b64": "!"}}]}, "what stands under b64 is not base64"),
        ({"inputs": {"x": [[1, 2]]}}, "its inputs are ['x'], the signature wants"),
        ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]}, "it has ['x']"),
        (
            {
                "inputs": [
                    {**RECORDED["open inference"]["inputs"][0], "datatype": "FP64"},
                    *RECORDED["open inference"]["inputs"][1:],
                ]
            },
            "it is float64, not float32",
        ),
        (
            {
                "inputs": [
                    {**RECORDED["open inference"]["inputs"][0], "shape": [4]},
                    *RECORDED["open inference"]["inputs"][1:],
                ]
            },
            "its shape is [4]",
        ),
        (
            {
                "inputs": [
                    {**RECORDED["open inference"]["inputs"][0], "shape": [5]},
                    *RECORDED["open inference"]["inputs"][1:],
                ]
            },
            "wants 5",
        ),
        ({"data": {"ndarray": [[1]]}}, "it carries one matrix"),
        ({"data": {"ndarray": [[1], [1, 2]]}}, "its lists differ in length"),
        ({"examples": [{"x": 1}]}, "classify and regress take"),
        ({"signature_name": "other", "instances": [ROWS[0]]}, "no example for 'serving_default' is in it"),
        ({"rows": [1]}, "put the examples into a list"),
    ],
)
def test_recorded_requests_that_do_not_fit(made: Any, tmp_path: Path, body: Any, said: str) -> None:
    (tmp_path / "request.json").write_text(json.dumps(body))
    with pytest.raises(PayloadError) as raised:
        made(MIXED, tmp_path / "request.json")
    assert said in str(raised.value)
    assert raised.value.field == "examples"


def test_recorded_requests_and_rows_do_not_mix(made: Any, tmp_path: Path) -> None:
    (tmp_path / "both.jsonl").write_text('[1, 2, 3]\n{"instances": [[1, 2, 3]]}\n')
    with pytest.raises(PayloadError, match="recorded requests and single rows"):
        made(MATRIX, tmp_path / "both.jsonl")


def test_a_saved_models_own_warmup_requests(made: Any, tmp_path: Path) -> None:
    from model_load_test.components.payload.encoding import takes_examples
    from model_load_test.components.protocols.tf_serving import PredictionLog

    log = PredictionLog()
    log.classify_log.request.model_spec.signature_name = "serving_default"
    log.classify_log.request.input.example_list.examples.extend(EXAMPLES[:3])
    folder = tmp_path / "model" / "assets.extra"
    folder.mkdir(parents=True)
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"")
    write_records(folder / "tf_serving_warmup_requests", [log])
    assert takes_examples(CLASSIFY)
    for message in made(CLASSIFY, tmp_path / "model"):
        request = ClassificationRequest.FromString(message)
        assert all(one in EXAMPLES[:3] for one in request.input.example_list.examples)


def test_base64_in_rows(made: Any, tmp_path: Path) -> None:
    signature = Signature("serving_default", PREDICT, {"raw": TensorSpec("string", (-1,))}, {})
    (tmp_path / "rows.json").write_text('[{"b64": "/9g="}, {"raw": {"b64": "AAE="}}]')
    seen = {
        value for inputs in predict_inputs(made(signature, tmp_path / "rows.json")) for value in inputs["raw"]
    }
    assert seen == {b"\xff\xd8", b"\x00\x01"}


def test_of_a_large_file_the_first_rows_are_kept(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_load_test.components.payload import content

    monkeypatch.setattr(content, "MAX_ROWS", 3)
    path = write_table(tmp_path / "rows.csv", {"a": list(range(50)), "b": [0] * 50, "c": [0] * 50})
    assert read_examples(path, MATRIX).source == "3 examples of rows.csv"


def test_images_of_one_batch_share_a_size(pictures: Path) -> None:
    anyhow = Signature("serving_default", PREDICT, {"image": TensorSpec("uint8", (-1, -1, -1, 3))}, {})
    content = read_examples(pictures, anyhow, parse_variation({"batch_size": 3}))
    assert content.draw(RandomValues(0))["image"].shape[0] == 3
    assert content.source == "3 images"
    assert Variation().image_size is None


def test_locations(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/examples/Split-eval/data_tfrecord-0.gz", b"one")
    memory.pipe("/examples/Split-eval/deeper/data_tfrecord-1.gz", b"two")
    with local_copy("memory://examples/Split-eval", "examples") as path:
        assert path.name == "Split-eval"
        assert (path / "data_tfrecord-0.gz").read_bytes() == b"one"
        assert (path / "deeper" / "data_tfrecord-1.gz").read_bytes() == b"two"
    assert not path.exists()
    with local_copy("memory://examples/Split-eval/data_tfrecord-0.gz", "examples") as path:
        assert path.name == "data_tfrecord-0.gz"
        assert path.read_bytes() == b"one"
    with local_copy(f"file://{tmp_path}", "examples") as path:
        assert path == tmp_path
    for place in ("/nowhere/at/all", "memory://nowhere"):
        with (
            pytest.raises(PayloadError, match="there is nothing there") as raised,
            local_copy(place, "examples"),
        ):
            pass
        assert raised.value.field == "examples"
    with pytest.raises(PayloadError, match="give a path"), local_copy("nosuch://x", "examples"):
        pass
