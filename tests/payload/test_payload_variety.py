"""Several signatures in one set, and sizes and content by named distributions."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model_load_test.components.errors import InputError
from model_load_test.components.payload import make
from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.manifest import read_messages
from model_load_test.components.payload.mix import proportioned
from model_load_test.components.protocols.signature import Signature, TensorSpec
from model_load_test.components.protocols.tensors import from_tensor_proto
from model_load_test.components.protocols.tf_serving import PredictRequest

PREDICT = "tensorflow/serving/predict"
SIGNATURES = {
    "embed": Signature("embed", PREDICT, {"ids": TensorSpec("int64", (-1, -1))}, {}),
    "score": Signature("score", PREDICT, {"x": TensorSpec("float32", (-1, 3))}, {}),
    "see": Signature("see", PREDICT, {"pixels": TensorSpec("uint8", (-1, -1, -1, 3))}, {}),
    "flowers": Signature(
        "flowers",
        PREDICT,
        {"image_bytes": TensorSpec("string", (-1,)), "key": TensorSpec("string", (-1,))},
        {},
    ),
    "tell": Signature("tell", PREDICT, {"text": TensorSpec("string", (-1,))}, {}),
}


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for a SavedModel that publishes the signatures; the rest is real."""
    monkeypatch.setattr(make, "read_signatures", lambda path: SIGNATURES)


def made(folder: Path, **options: Any) -> tuple[Any, list[tuple[str, dict[str, np.ndarray]]]]:
    manifest = make_payload("model", model_name="m", protocol="grpc", out_dir=folder, **options)
    requests = [PredictRequest.FromString(message) for message in read_messages(folder)]
    return manifest, [
        (
            request.model_spec.signature_name,
            {name: from_tensor_proto(tensor) for name, tensor in request.inputs.items()},
        )
        for request in requests
    ]


def test_a_mix_has_its_signatures_in_exact_proportion_and_well_mixed(tmp_path: Path) -> None:
    manifest, requests = made(tmp_path, signatures={"score": 3, "embed": 1, "tell": 0}, requests=80)
    names = [name for name, _ in requests]
    assert Counter(names) == {"score": 60, "embed": 20}
    for start in range(0, 80, 4):
        assert Counter(names[start : start + 4]) == {"score": 3, "embed": 1}
    assert {one.name: one.requests for one in manifest.signatures} == {"score": 60, "embed": 20}
    assert manifest.signature_name == "score, embed"
    assert manifest.summary.startswith(
        "80 grpc requests for 75% m:score (x float32[?, 3]); 25% m:embed (ids int64[?, ?]), batch sizes"
    )


def test_any_weights_are_kept_to_within_one_request() -> None:
    weights = (0.17, 5.0, 1.3)
    for count in (1, 7, 100, 1001):
        counts = Counter(proportioned(weights, count))
        assert all(abs(counts[i] - count * w / sum(weights)) <= 1 for i, w in enumerate(weights))


def test_a_signature_of_a_mix_may_have_its_own_examples_and_distributions(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    rows.write_text("[[1, 2, 3], [4, 5, 6]]")
    manifest, requests = made(
        tmp_path / "set",
        signatures={
            "score": {"weight": 1, "examples": str(rows), "distributions": {"batch_size": 2}},
            "embed": {"distributions": {"sequence_length": 5}},
        },
        batch_sizes=[1],
        requests=20,
    )
    for name, inputs in requests:
        if name == "score":
            assert len(inputs["x"]) == 2
            assert all(row in ([1, 2, 3], [4, 5, 6]) for row in inputs["x"].tolist())
        else:
            assert inputs["ids"].shape == (1, 5)
    assert manifest.varied == {
        "score: batch_size": "2",
        "embed: batch_size": "one of 1",
        "embed: sequence_length": "5",
    }
    assert [one.source for one in manifest.signatures] == ["2 examples of rows.json", "random values"]


def test_sizes_and_values_follow_their_distributions(tmp_path: Path) -> None:
    manifest, requests = made(
        tmp_path,
        signature_name="embed",
        requests=300,
        distributions={
            "batch_size": {"distribution": "uniform", "low": 1, "high": 3},
            "sequence_length": {
                "distribution": "lognormal",
                "median": 40,
                "sigma": 0.8,
                "low": 4,
                "high": 200,
            },
            "value.ids": {"distribution": "zipf", "low": 0, "high": 30521},
        },
    )
    lengths = [inputs["ids"].shape[1] for _, inputs in requests]
    assert 4 <= min(lengths) < 15 < 90 < max(lengths) <= 200
    assert abs(np.median(lengths) - 40) < 10
    assert {len(inputs["ids"]) for _, inputs in requests} == {1, 2, 3}
    ids = np.concatenate([inputs["ids"].ravel() for _, inputs in requests])
    assert ids.min() == 0
    assert 1000 < ids.max() <= 30521
    assert abs((ids == 0).sum() / (ids == 1).sum() - 2) < 0.3
    assert manifest.varied["sequence_length"] == "lognormal, median 40, sigma 0.8, from 4 to 200"


def test_floats_are_drawn_too(tmp_path: Path) -> None:
    _, requests = made(
        tmp_path,
        signature_name="score",
        requests=200,
        distributions={"value": {"distribution": "normal", "mean": -5, "stddev": 2}},
    )
    values = np.concatenate([inputs["x"].ravel() for _, inputs in requests])
    assert values.dtype == np.float32
    assert abs(values.mean() + 5) < 0.3


def test_image_sizes_vary_in_width_and_height(tmp_path: Path) -> None:
    size = {"image_size": {"distribution": "choice", "values": [16, 24, 40]}}
    _, requests = made(tmp_path / "pixels", signature_name="see", requests=40, distributions=size)
    shapes = {inputs["pixels"].shape[1:] for _, inputs in requests}
    assert {shape[2] for shape in shapes} == {3}
    assert {shape[0] for shape in shapes} == {shape[1] for shape in shapes} == {16, 24, 40}
    assert any(shape[0] != shape[1] for shape in shapes)
    _, requests = made(
        tmp_path / "files", signature_name="flowers", requests=10, batch_sizes=[2], distributions=size
    )
    sizes = set()
    for _, inputs in requests:
        assert all(4 <= len(key) <= 24 for key in inputs["key"])
        for content in inputs["image_bytes"]:
            image = Image.open(io.BytesIO(content))
            image.load()
            assert image.format == "JPEG"
            sizes.update(image.size)
    assert sizes == {16, 24, 40}


def test_string_lengths_vary(tmp_path: Path) -> None:
    _, requests = made(
        tmp_path, signature_name="tell", requests=100, distributions={"string_length": [0, 300]}
    )
    assert {len(text) for _, inputs in requests for text in inputs["text"]} == {0, 300}


@pytest.mark.parametrize("signature_name", ["embed", "flowers"])
def test_the_seed_decides_all_of_it(tmp_path: Path, signature_name: str) -> None:
    options = {
        "signature_name": signature_name,
        "requests": 8,
        "distributions": {
            "image_size": {"distribution": "uniform", "low": 8, "high": 20},
            "sequence_length": {"distribution": "normal", "mean": 12, "stddev": 4},
        },
    }
    first, second, other = (
        made(tmp_path / name, seed=seed, **options)[0] for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first.hash == second.hash != other.hash


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"signatures": {"score": -1}}, "signatures.score.weight"),
        ({"signatures": {"score": "half"}}, "signatures.score.weight"),
        ({"signatures": {"score": 0}}, "signatures"),
        ({"signatures": {"score": {"wait": 1}}}, "signatures.score.wait"),
        ({"signatures": {"score": {"distributions": 5}}}, "signatures.score.distributions"),
        (
            {"signatures": {"score": {"distributions": {"batch_size": []}}}},
            "signatures.score.distributions.batch_size.values",
        ),
        ({"signatures": {"scare": 1}}, "signature_name"),
        ({"distributions": {"length": 5}}, "distributions"),
        ({"distributions": {"batch_size": 0}}, "distributions.batch_size.value"),
        (
            {"signature_name": "embed", "distributions": {"sequence_length": 1e9}},
            "distributions.sequence_length",
        ),
        ({"signature_name": "see", "distributions": {"value": 300}}, "distributions.value"),
        ({"inputs": {"x": "float32[?, 4]"}, "signature_name": "score"}, "inputs"),
        ({"inputs": {"x": "float"}, "signature_name": "score"}, "inputs.x"),
    ],
)
def test_what_cannot_be_made_names_field_value_and_remedy(
    tmp_path: Path, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError) as raised:
        made(tmp_path, **{"signature_name": "score", **options})
    assert raised.value.field == field
    assert raised.value.remedy
