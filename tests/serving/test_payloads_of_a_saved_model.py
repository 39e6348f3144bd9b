"""Payloads for every signature of a real SavedModel, answered by a server that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.manifest import PayloadError
from model_load_test.components.payload.trial import try_payload
from model_load_test.components.serving.embedded.process import EmbeddedServer

SIGNATURES = ("serving_default", "two", "upper", "scalar", "types", "half", "classify", "regress")
EXAMPLE_SIGNATURES = ("classify", "regress")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tensorflow as tf

    path = tmp_path_factory.mktemp("examples") / "eval.tfrecord.gz"
    with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
        for row in range(6):
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=[row, 0.5, -1.0, 2.0]))
            example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
            writer.write(example.SerializeToString())
    return path


@pytest.fixture(params=["grpc", "rest"])
def endpoint(request: pytest.FixtureRequest, zoo: EmbeddedServer) -> Any:
    return getattr(zoo, request.param)


@pytest.mark.parametrize("signature_name", SIGNATURES)
def test_every_signature_answers(endpoint: Any, tmp_path: Path, examples: Path, signature_name: str) -> None:
    if signature_name == "half" and endpoint.protocol == "http":
        with pytest.raises(PayloadError, match="REST cannot carry input"):
            make_payload(endpoint, model_name="zoo", signature_name="half", out_dir=tmp_path)
        return
    given = examples if signature_name in EXAMPLE_SIGNATURES else None
    make_payload(
        endpoint,
        model_name="zoo",
        signature_name=signature_name,
        out_dir=tmp_path,
        requests=12,
        batch_sizes=[1, 3],
        examples=given,
    )
    assert try_payload(tmp_path, endpoint) == 12


def test_a_mix_of_kinds_goes_by_predict(endpoint: Any, tmp_path: Path, examples: Path) -> None:
    manifest = make_payload(
        endpoint,
        model_name="zoo",
        out_dir=tmp_path,
        requests=20,
        signatures={
            "serving_default": {"weight": 2, "examples": str(examples)},
            "two": 1,
            "classify": {"weight": 1, "examples": str(examples)},
            "regress": {"weight": 1, "examples": str(examples)},
        },
    )
    assert {one.name: one.requests for one in manifest.signatures} == {
        "serving_default": 8,
        "two": 4,
        "classify": 4,
        "regress": 4,
    }
    assert manifest.method.endswith("Predict") or manifest.path.endswith(":predict")
    assert try_payload(tmp_path, endpoint) == 20


def test_the_folder_is_as_good_as_the_server(zoo: EmbeddedServer, zoo_path: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "model_name": "zoo",
        "requests": 10,
        "signature_name": "two",
        "protocol": "grpc",
    }
    from_server = make_payload(zoo.grpc, out_dir=tmp_path / "server", **options)
    from_folder = make_payload(zoo_path, out_dir=tmp_path / "folder", **options)
    assert from_server.hash == from_folder.hash
