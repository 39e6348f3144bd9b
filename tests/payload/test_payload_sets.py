"""Payload sets: valid, varied, the same by seed, and refused where there can be none."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.internal.decoder import _DecodeVarint32

from model_load_test.components.errors import InputError
from model_load_test.components.payload import make
from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.manifest import (
    PayloadError,
    PayloadManifest,
    read_bodies,
    read_manifest,
    read_messages,
)
from model_load_test.components.protocols.client import open_channel
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.protocols.signature import Signature, TensorSpec
from model_load_test.components.protocols.tensors import from_tensor_proto
from model_load_test.components.protocols.tf_serving import (
    PREDICT,
    PROTOSET_PATH,
    PredictRequest,
    PredictResponse,
)
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server

GOLDEN = "76c57c8c43252bf73891b351a5021851d1c4e9c82f6333c72ba7502b99920b9e"
"""Of schema version 2."""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with embedded_server("digits", backend="numpy") as running:
        yield running


@pytest.fixture
def model(tmp_path: Path, write_saved_model: Callable[..., Path]) -> Path:
    return write_saved_model(
        tmp_path / "model",
        {
            "serving_default": ("predict", {"x": ("DT_FLOAT", (-1, 28, 28))}),
            "mixed": (
                "predict",
                {
                    "ids": ("DT_INT64", (-1, -1)),
                    "mask": ("DT_BOOL", (-1, -1)),
                    "text": ("DT_STRING", (-1,)),
                    "any_rank": ("DT_DOUBLE", None),
                },
            ),
            "fixed": ("predict", {"x": ("DT_FLOAT", (2, 3)), "rate": ("DT_FLOAT", ())}),
            "half": ("predict", {"x": ("DT_HALF", (-1, 3))}),
            "table": ("predict", {"x": ("DT_RESOURCE", ())}),
            "empty": ("predict", {}),
            "classify": ("classify", {"inputs": ("DT_STRING", (-1,))}),
        },
    )


def grpc_requests(folder: Path) -> list[Any]:
    """Read by protobuf's own reader of delimited messages, not by ours."""
    data = (folder / "requests.bin").read_bytes()
    requests, position = [], 0
    while position < len(data):
        size, position = _DecodeVarint32(data, position)
        requests.append(PredictRequest.FromString(data[position : position + size]))
        position += size
    assert [request.SerializeToString(deterministic=True) for request in requests] == read_messages(folder)
    return requests


def made(model: Path, out_dir: Path, **options: Any) -> PayloadManifest:
    return make_payload(model, **{"model_name": "m", "protocol": "grpc", "out_dir": out_dir, **options})


def test_grpc_requests_fit_the_signature_and_vary(model: Path, tmp_path: Path) -> None:
    manifest = made(model, tmp_path / "set", requests=50, batch_sizes=[1, 3])
    requests = grpc_requests(tmp_path / "set")
    arrays = [from_tensor_proto(request.inputs["x"]) for request in requests]
    assert len(requests) == manifest.requests == 50
    assert {request.model_spec.name for request in requests} == {"m"}
    assert {request.model_spec.signature_name for request in requests} == {"serving_default"}
    assert {array.shape[1:] for array in arrays} == {(28, 28)}
    sizes = [len(array) for array in arrays]
    assert {str(size): sizes.count(size) for size in set(sizes)} == manifest.batch_sizes
    assert set(sizes) == {1, 3}
    rows = np.concatenate(arrays).reshape(-1, 784)
    assert len(np.unique(rows, axis=0)) == len(rows), "no two rows are the same"
    assert 0 <= rows.min() < 0.01 < 0.99 < rows.max() <= 1
    assert 0 < (tmp_path / "set" / "tf_serving.protoset").stat().st_size < PROTOSET_PATH.stat().st_size


def test_http_bodies_carry_the_same_values_as_grpc_requests(model: Path, tmp_path: Path) -> None:
    made(model, tmp_path / "grpc", requests=20)
    manifest = made(model, tmp_path / "http", requests=20, protocol="http")
    assert manifest.path == "/v1/models/m:predict"
    bodies = [json.loads(body) for body in read_bodies(tmp_path / "http")]
    for body, request in zip(bodies, grpc_requests(tmp_path / "grpc"), strict=True):
        assert body["signature_name"] == "serving_default"
        expected = from_tensor_proto(request.inputs["x"])
        assert np.array_equal(np.array(body["instances"], np.float32), expected)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_seed_alone_decides(model: Path, tmp_path: Path, protocol: str) -> None:
    sets = {
        name: made(model, tmp_path / name, requests=10, protocol=protocol, signature_name="mixed", seed=seed)
        for name, seed in (("a", 7), ("b", 7), ("c", 8))
    }
    content = {
        name: (tmp_path / name / ("requests.bin" if protocol == "grpc" else "bodies.jsonl")).read_bytes()
        for name in sets
    }
    assert sets["a"].hash == sets["b"].hash
    assert content["a"] == content["b"]
    assert sets["a"].hash != sets["c"].hash
    assert content["a"] != content["c"]


def test_a_seed_means_the_same_requests_on_every_machine(model: Path, tmp_path: Path) -> None:
    """A stored baseline is found again by this hash; it may change only with a new schema version."""
    manifest = made(model, tmp_path / "set", requests=5, signature_name="mixed", seed=1)
    assert manifest.hash == GOLDEN


def test_the_hash_tells_models_and_signatures_apart(model: Path, tmp_path: Path) -> None:
    options = ({}, {"model_name": "n"}, {"protocol": "http"}, {"protocol": "http", "model_name": "n"})
    hashes = {made(model, tmp_path / "set", requests=2, **option).hash for option in options}
    assert len(hashes) == 4


def test_open_dimensions_agree_within_a_request(model: Path, tmp_path: Path) -> None:
    made(model, tmp_path / "set", requests=30, signature_name="mixed", batch_sizes=[2])
    lengths = set()
    for request in grpc_requests(tmp_path / "set"):
        arrays = {name: from_tensor_proto(tensor) for name, tensor in request.inputs.items()}
        assert arrays["ids"].shape == arrays["mask"].shape
        assert arrays["ids"].dtype == np.int64
        assert arrays["mask"].dtype == np.bool_
        assert arrays["text"].shape == arrays["any_rank"].shape == (2,)
        assert all(isinstance(text, bytes) and 4 <= len(text) <= 24 for text in arrays["text"])
        lengths.add(arrays["ids"].shape[1])
    assert len(lengths) > 1


def test_several_inputs_are_rows_of_objects(model: Path, tmp_path: Path) -> None:
    made(model, tmp_path / "set", requests=3, signature_name="mixed", protocol="http", batch_sizes=[2])
    (first, *_) = (json.loads(body) for body in read_bodies(tmp_path / "set"))
    assert [sorted(row) for row in first["instances"]] == [["any_rank", "ids", "mask", "text"]] * 2


def test_inputs_without_an_open_batch_are_columns(model: Path, tmp_path: Path) -> None:
    manifest = made(model, tmp_path / "set", requests=3, signature_name="fixed", protocol="http")
    body = json.loads(read_bodies(tmp_path / "set")[0])
    assert np.array(body["inputs"]["x"]).shape == (2, 3)
    assert isinstance(body["inputs"]["rate"], float)
    assert manifest.body_format == "columnar"
    assert manifest.batch_sizes == {"2": 3}


def test_columns_on_request(model: Path, tmp_path: Path) -> None:
    made(model, tmp_path / "set", requests=3, protocol="http", body_format="columnar")
    assert list(json.loads(read_bodies(tmp_path / "set")[0])) == ["signature_name", "inputs"]


def test_the_manifest_is_read_back_and_tells_a_person(model: Path, tmp_path: Path) -> None:
    manifest = made(model, tmp_path / "set", requests=10, batch_sizes=[4])
    assert read_manifest(tmp_path / "set") == manifest
    assert manifest.summary == (
        "10 grpc requests for m:serving_default (x float32[?, 28, 28]), batch sizes 4 (100%), "
        f"{manifest.content_bytes / 10:.0f} bytes each on average"
    )
    assert manifest.content_bytes == (tmp_path / "set" / "requests.bin").stat().st_size


@pytest.mark.parametrize("scheme", ["grpc", "rest"])
def test_from_a_running_server_and_answered_by_it(
    server: EmbeddedServer, tmp_path: Path, scheme: str
) -> None:
    endpoint: Endpoint = getattr(server, scheme)
    manifest = make_payload(endpoint, model_name="digits", out_dir=tmp_path, requests=20)
    assert manifest.protocol == endpoint.protocol
    if scheme == "rest":
        connection = http.client.HTTPConnection(endpoint.address, timeout=10)
        for body in read_bodies(tmp_path):
            connection.request(manifest.method, manifest.path, body)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert len(json.load(response)["predictions"]) == len(json.loads(body)["instances"])
        connection.close()
        return
    with open_channel(endpoint) as channel:
        call = channel.unary_unary(
            PREDICT,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=PredictResponse.FromString,
        )
        for request in grpc_requests(tmp_path):
            scores = from_tensor_proto(call(request, timeout=10).outputs["scores"])
            assert len(scores) == len(from_tensor_proto(request.inputs["images"]))


def test_ghz_sends_every_request_of_the_set(server: EmbeddedServer, tmp_path: Path) -> None:
    ghz = shutil.which("ghz")
    if not ghz:
        pytest.skip("ghz is neither on PATH nor in .tools/bin (run `make tools`)")
    make_payload(server.grpc, model_name="digits", out_dir=tmp_path, requests=40)
    command = [
        ghz,
        "--insecure",
        f"--protoset={tmp_path / 'tf_serving.protoset'}",
        "--call=tensorflow.serving.PredictionService.Predict",
        f"--binary-file={tmp_path / 'requests.bin'}",
        "--async",
        "--concurrency=1",
        "--rps=200",
        "--total=120",
        "--format=json",
        server.grpc.address,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["statusCodeDistribution"] == {"OK": 120}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"protocol": "rest"}, "protocol"),
        ({"protocol": ""}, "protocol"),
        ({"requests": 0}, "requests"),
        ({"requests": -5}, "requests"),
        ({"batch_sizes": []}, "batch_sizes"),
        ({"batch_sizes": [1, 0]}, "batch_sizes"),
        ({"seed": -1}, "seed"),
        ({"signature_name": "nope"}, "signature_name"),
        ({"signature_name": "classify"}, "signature_name"),
        ({"signature_name": "empty"}, "signature_name"),
        ({"signature_name": "table"}, "signature_name"),
        ({"signature_name": "half", "protocol": "http"}, "protocol"),
        ({"protocol": "http", "body_format": "rows"}, "body_format"),
        ({"protocol": "http", "body_format": "row", "signature_name": "fixed"}, "body_format"),
    ],
)
def test_what_cannot_be_made_names_field_value_and_remedy(
    model: Path, tmp_path: Path, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError) as raised:
        made(model, tmp_path / "set", **options)
    assert raised.value.field == field
    assert raised.value.remedy


def test_other_sources_that_cannot_be_used(server: EmbeddedServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="saved_model"):
        made(tmp_path / "missing", tmp_path / "set")
    with pytest.raises(InputError, match="model_name: 'nope'"):
        make_payload(server.grpc, model_name="nope", out_dir=tmp_path / "set")
    with pytest.raises(InputError, match="it has: serving_default"):
        make_payload(server.rest, model_name="digits", signature_name="nope", out_dir=tmp_path / "set")
    with pytest.raises(InputError, match="no model server answers there"):
        make_payload(Endpoint("grpc", "127.0.0.1", 1), model_name="m", out_dir=tmp_path / "set")
    (tmp_path / "file").write_text("")
    with pytest.raises(PayloadError, match="out_dir"):
        make_payload(server.grpc, model_name="digits", out_dir=tmp_path / "file")


def test_a_set_too_large_for_a_generators_memory_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(model, tmp_path / "set", requests=1)
    monkeypatch.setattr(make, "MAX_CONTENT_BYTES", 50_000)
    with pytest.raises(PayloadError, match="make fewer, or smaller batches"):
        made(model, tmp_path / "set", requests=100)
    assert (tmp_path / "set" / "requests.bin").stat().st_size == 0
    with pytest.raises(PayloadError, match="no such file"):
        read_manifest(tmp_path / "set")


def test_unreadable_sets(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match="no such file"):
        read_manifest(tmp_path / "missing")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(PayloadError, match="cannot be read"):
        read_manifest(tmp_path)
    made(model, tmp_path, requests=3, protocol="http")
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_bytes(bodies.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(PayloadError, match="bytes where the manifest says"):
        read_bodies(tmp_path)
    bodies.unlink()
    with pytest.raises(PayloadError, match="cannot be read"):
        read_bodies(tmp_path)
    made(model, tmp_path, requests=3, protocol="http")
    with pytest.raises(PayloadError, match="make one for grpc"):
        read_messages(tmp_path)
    made(model, tmp_path, requests=3)
    with pytest.raises(PayloadError, match="make one for http"):
        read_bodies(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 99}))
    with pytest.raises(PayloadError, match="schema_version"):
        read_manifest(tmp_path)


def test_every_numpy_type_can_be_made() -> None:
    from model_load_test.components.payload.values import RandomValues, Variation, random_inputs

    kinds = ("float16", "float32", "float64", "bool", "complex64", "complex128")
    names = [*kinds, *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))]
    signature = Signature("s", "", {name: TensorSpec(name, (-1, 2)) for name in names}, {})
    for name, array in random_inputs(signature, 3, RandomValues(0), Variation()).items():
        assert array.dtype.name == name
        assert array.shape == (3, 2)
