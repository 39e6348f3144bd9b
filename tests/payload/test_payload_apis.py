"""Payloads for servers of every API: made from what the server says, answered by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.manifest import PayloadError, read_bodies, read_messages
from model_load_test.components.payload.trial import try_payload
from model_load_test.components.protocols.client import ServerUnreachable
from model_load_test.components.protocols.open_inference import ModelInferRequest
from model_load_test.components.protocols.open_inference_tensors import from_contents, from_raw
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server


@pytest.fixture(scope="module")
def oip() -> Iterator[EmbeddedServer]:
    with embedded_server("digits", backend="numpy", api="oip") as running:
        yield running


@pytest.fixture(scope="module")
def seldon() -> Iterator[EmbeddedServer]:
    with embedded_server("digits", backend="numpy", api="seldon") as running:
        yield running


def test_open_inference_over_grpc_raw_and_typed(oip: EmbeddedServer, tmp_path: Path) -> None:
    arrays = {}
    for body_format in ("auto", "typed"):
        folder = tmp_path / body_format
        manifest = make_payload(
            oip.grpc, model_name="digits", out_dir=folder, requests=10, body_format=body_format
        )
        assert manifest.api == "oip"
        assert manifest.call == "inference.GRPCInferenceService/ModelInfer"
        assert manifest.protoset == "open_inference.protoset"
        assert (folder / manifest.protoset).exists()
        assert manifest.summary.startswith("10 grpc requests for digits (images float32[?, 64])")
        assert try_payload(folder, oip.grpc) == 10
        requests = [ModelInferRequest.FromString(message) for message in read_messages(folder)]
        arrays[body_format] = [
            from_raw(request.raw_input_contents[0], "FP32", tuple(request.inputs[0].shape))
            if body_format == "auto"
            else from_contents(request.inputs[0].contents, "FP32", tuple(request.inputs[0].shape))
            for request in requests
        ]
    for raw, typed in zip(arrays["auto"], arrays["typed"], strict=True):
        assert np.array_equal(raw, typed)


def test_open_inference_over_rest(oip: EmbeddedServer, tmp_path: Path) -> None:
    manifest = make_payload(oip.rest, model_name="digits", out_dir=tmp_path, requests=10)
    assert manifest.path == "/v2/models/digits/infer"
    assert manifest.call == ""
    (tensor,) = json.loads(read_bodies(tmp_path)[0])["inputs"]
    assert tensor["datatype"] == "FP32"
    assert len(tensor["data"]) == tensor["shape"][0] * 64
    assert try_payload(tmp_path, oip.rest) == 10


@pytest.mark.parametrize("body_format", ["auto", "tensor", "ndarray"])
def test_seldon(seldon: EmbeddedServer, tmp_path: Path, body_format: str) -> None:
    manifest = make_payload(
        seldon.rest, model_name="digits", out_dir=tmp_path, requests=10, body_format=body_format
    )
    assert manifest.api == "seldon"
    assert manifest.path == "/api/v1.0/predictions"
    data = json.loads(read_bodies(tmp_path)[0])["data"]
    assert set(data) == {"ndarray" if body_format == "ndarray" else "tensor"}
    assert try_payload(tmp_path, seldon.rest) == 10


def test_seldon_from_rows_alone(
    tmp_path: Path, seldon: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most Seldon servers publish nothing: rows, a table or a recorded request tell enough."""
    from model_load_test.components.payload import make
    from model_load_test.components.protocols.signature import NAMELESS, Signature

    silent = {NAMELESS: Signature(NAMELESS, "", {}, {})}
    monkeypatch.setattr(make, "model_metadata", lambda *_, **__: silent)
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([[float(i)] * 64 for i in range(3)]))
    recorded = tmp_path / "recorded.json"
    recorded.write_text(
        json.dumps({"data": {"names": list(map(str, range(64))), "ndarray": [[1.0] * 64] * 2}})
    )
    table = tmp_path / "rows.csv"
    table.write_text(
        ",".join(f"pixel{i}" for i in range(64)) + "\n" + ",".join("1" for _ in range(64)) + "\n"
    )
    for examples in (rows, recorded, table):
        manifest = make_payload(
            seldon.rest, model_name="digits", out_dir=tmp_path / "set", requests=4, examples=examples
        )
        assert manifest.signatures[0].inputs[0].name == "data"
        assert try_payload(tmp_path / "set", seldon.rest) == 4
        names = json.loads(read_bodies(tmp_path / "set")[0])["data"].get("names", [])
        assert len(names) == (0 if examples is rows else 64)
    with pytest.raises(PayloadError, match="does not publish the inputs of 'digits'"):
        make_payload(seldon.rest, model_name="digits", out_dir=tmp_path / "set")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"api": "v2"}, "api"),
        ({"api": "oip", "body_format": "row"}, "body_format"),
        ({"signature_name": "classify"}, "signature_name"),
        ({"inputs": {"x": "float32[?, 3]"}}, "inputs"),
    ],
)
def test_what_cannot_be_made(
    oip: EmbeddedServer, tmp_path: Path, options: dict[str, Any], field: str
) -> None:
    from model_load_test.components.errors import InputError

    with pytest.raises(InputError) as raised:
        make_payload(oip.grpc, **{"model_name": "digits", "out_dir": tmp_path, **options})
    assert raised.value.field == field


def test_what_an_api_cannot_carry(tmp_path: Path) -> None:
    from model_load_test.components.payload.encoding import encoding_of
    from model_load_test.components.protocols.signature import NAMELESS, Signature, TensorSpec

    def signature(**specs: TensorSpec) -> Signature:
        return Signature(NAMELESS, "", specs, {})

    half = signature(x=TensorSpec("float16", (-1, 2)))
    text = signature(x=TensorSpec("string", (-1,)))
    for api, protocol, given, body_format, said in (
        ("oip", "http", half, "auto", "use grpc"),
        ("oip", "http", half, "row", "choose auto, json or binary"),
        ("oip", "grpc", half, "typed", "travels raw only"),
        ("oip", "grpc", signature(x=TensorSpec("complex64", (-1,))), "auto", "cannot carry input 'x'"),
        ("seldon", "grpc", text, "auto", "use http"),
        ("seldon", "http", text, "tensor", "use ndarray"),
        ("seldon", "http", text, "row", "choose auto, tensor or ndarray"),
        (
            "seldon",
            "http",
            signature(a=TensorSpec("float32", (-1,)), b=TensorSpec("float32", (-1,))),
            "auto",
            "one matrix",
        ),
        ("seldon", "http", signature(x=TensorSpec("complex64", (-1,))), "auto", "no complex numbers"),
    ):
        with pytest.raises(PayloadError, match=said):
            encoding_of(api, protocol, "m", [given], body_format)  # type: ignore[arg-type]


def test_a_trial_ends_in_time_and_says_how_far_it_came(tmp_path: Path) -> None:
    with embedded_server("digits", backend="numpy", delay_ms=200) as slow:
        make_payload(slow.grpc, model_name="digits", out_dir=tmp_path, requests=200)
        with pytest.raises(
            PayloadError, match=r"answered \d+ of its 200 requests in 1 s; make a payload of fewer"
        ):
            try_payload(tmp_path, slow.grpc, trial_seconds=1)


def test_a_server_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    with embedded_server("digits", backend="numpy", hang_after_requests=5) as hanging:
        for endpoint in (hanging.grpc, hanging.rest):
            make_payload(endpoint, model_name="digits", out_dir=tmp_path, requests=20)
            with pytest.raises(ServerUnreachable, match="no answer to request"):
                try_payload(tmp_path, endpoint, timeout_seconds=0.3)


def test_a_server_that_fails_now_and_then_answers_in_the_end(tmp_path: Path) -> None:
    with embedded_server("digits", backend="numpy", error_rate=0.3) as failing:
        for endpoint in (failing.grpc, failing.rest):
            make_payload(endpoint, model_name="digits", out_dir=tmp_path, requests=30)
            assert try_payload(tmp_path, endpoint) == 30
