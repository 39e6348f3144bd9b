"""The Open Inference Protocol against real servers, over REST and gRPC: asked, made for, answered."""

from __future__ import annotations

import base64
import http.client
import io
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from model_load_test.components.payload.encoding import encoding_of
from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.manifest import (
    HttpBody,
    PayloadError,
    binary_body,
    read_http_bodies,
    read_messages,
)
from model_load_test.components.payload.trial import try_payload
from model_load_test.components.protocols import open_inference as oip
from model_load_test.components.protocols.client import (
    ModelNotFound,
    declared_server_kind,
    detect_api,
    model_metadata,
    model_status,
    open_channel,
)
from model_load_test.components.protocols.open_inference_tensors import (
    datatype_of,
    from_contents,
    from_json,
    from_raw,
)
from model_load_test.components.protocols.signature import NAMELESS, Signature, TensorSpec

# The first test of a server also makes its environment.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DTYPES = (
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    "bool",
    "float32",
    "float64",
    "string",
)
MESSAGES = {
    "mlserver": "mlserver.grpc.dataplane_pb2",
    "kserve": "kserve.protocol.grpc.grpc_predict_v2_pb2",
    "triton": "tritonclient.grpc.service_pb2",
}
"""The module with the protocol's messages, as each server's project has it."""
OLDER_MESSAGES = ("mlserver", "kserve")
"""Whose copies are of before the parameters got doubles and unsigned numbers."""


@pytest.fixture(params=["mlserver", "triton", "kserve"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["grpc", "rest"])
def endpoint(request: pytest.FixtureRequest, server: Any) -> Any:
    return getattr(server, request.param)


def test_our_protoset_is_the_protocol_it_speaks(server: Any) -> None:
    """Names, numbers and types of all fields; the servers have more messages and some comments."""
    script = (
        "import importlib, sys\n"
        "from google.protobuf import descriptor_pb2\n"
        "file = descriptor_pb2.FileDescriptorProto()\n"
        f"importlib.import_module('{MESSAGES[server.kind]}').DESCRIPTOR.CopyToProto(file)\n"
        "sys.stdout.buffer.write(file.SerializeToString())\n"
    )
    done = subprocess.run([server.python, "-c", script], capture_output=True, check=True)
    theirs = fields(descriptor_pb2.FileDescriptorProto.FromString(done.stdout))
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(oip.PROTOSET_PATH.read_bytes()).file
    ours = fields(file)
    later = {
        key
        for key in ours
        if server.kind in OLDER_MESSAGES
        and key[0] == "InferParameter"
        and key[1] in ("double_param", "uint64_param")
    }
    assert set(ours) - later <= set(theirs)
    assert {key: ours[key] for key in set(ours) - later} == {key: theirs[key] for key in set(ours) - later}


def fields(file: descriptor_pb2.FileDescriptorProto) -> dict[tuple[str, str], tuple[object, ...]]:
    found: dict[tuple[str, str], tuple[object, ...]] = {}

    def collect(messages: Any, prefix: str) -> None:
        for message in messages:
            for field in message.field:
                kind = (field.number, field.type, field.label, field.type_name.rsplit(".", 1)[-1])
                found[prefix + message.name, field.name] = kind
            collect(message.nested_type, f"{prefix}{message.name}.")

    collect(file.message_type, "")
    for service in file.service:
        for method in service.method:
            types = (method.input_type.rsplit(".", 1)[-1], method.output_type.rsplit(".", 1)[-1])
            found[service.name, method.name] = types
    return found


def test_status_metadata_and_kind(server: Any, endpoint: Any) -> None:
    assert detect_api(endpoint, "digits") == "oip"
    assert [one.state for one in model_status(endpoint, "digits", api="oip")] == ["AVAILABLE"]
    assert dict(model_metadata(endpoint, "digits", api="oip")[NAMELESS].inputs) == {
        "images": TensorSpec("float32", (-1, 64))
    }
    if server.kind != "triton":
        assert dict(model_metadata(endpoint, "silent", api="oip")[NAMELESS].inputs) == {}
    assert declared_server_kind(endpoint, "digits", api="oip") == server.kind.replace("mlserver", "")
    for ask in (model_status, model_metadata):
        with pytest.raises(ModelNotFound, match="does not serve it"):
            ask(endpoint, "numbers", api="oip")


@pytest.mark.parametrize("model_name", ["digits", "every_type", "tokens", "pictures"])
@pytest.mark.parametrize(
    ("transport", "body_format"), [("grpc", "auto"), ("grpc", "typed"), ("rest", "auto")]
)
def test_every_request_is_answered(
    server: Any, tmp_path: Path, model_name: str, transport: str, body_format: str
) -> None:
    endpoint = getattr(server, transport)
    manifest = make_payload(
        endpoint, model_name=model_name, out_dir=tmp_path, requests=20, body_format=body_format
    )
    assert manifest.api == "oip"
    assert try_payload(tmp_path, endpoint) == 20
    if endpoint.protocol == "grpc":
        requests = [oip.ModelInferRequest.FromString(message) for message in read_messages(tmp_path)]
        assert all(bool(request.raw_input_contents) == (body_format == "auto") for request in requests)


def test_a_model_that_publishes_nothing_wants_its_inputs_declared(
    server: Any, endpoint: Any, tmp_path: Path
) -> None:
    if server.kind == "triton":
        with pytest.raises(ModelNotFound):
            model_metadata(endpoint, "silent", api="oip")
        return
    with pytest.raises(PayloadError, match="does not publish the inputs of 'silent'; declare them"):
        make_payload(endpoint, model_name="silent", out_dir=tmp_path)
    make_payload(
        endpoint,
        model_name="silent",
        out_dir=tmp_path,
        requests=5,
        inputs={"x": "float32[?, 4]", "n": "int8[?]"},
    )
    assert try_payload(tmp_path, endpoint) == 5
    recorded = tmp_path / "recorded.json"
    body = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2, 1], "data": [1.5, 2.5]}]}
    recorded.write_text(json.dumps(body))
    manifest = make_payload(endpoint, model_name="silent", out_dir=tmp_path, requests=3, examples=recorded)
    assert manifest.signatures[0].inputs[0].dtype == "float64"
    assert try_payload(tmp_path, endpoint) == 3


def test_a_refused_request_is_named(endpoint: Any, tmp_path: Path) -> None:
    make_payload(endpoint, model_name="picky", out_dir=tmp_path, requests=3)
    with pytest.raises(PayloadError, match=r"refuses request \d \(.*this input is forbidden"):
        try_payload(tmp_path, endpoint)


@pytest.mark.parametrize("told_by", ["server", "saved_model"])
def test_images_arrive_as_images(
    server: Any, endpoint: Any, tmp_path: Path, told_by: str, write_saved_model: Callable[..., Path]
) -> None:
    inputs = {"picture": ("DT_STRING", (-1,))}
    manifest = make_payload(
        endpoint
        if told_by == "server"
        else write_saved_model(tmp_path / "model", {"serving_default": ("predict", inputs)}),
        server=endpoint,
        api="oip",
        model_name="pictures",
        out_dir=tmp_path,
        requests=5,
        batch_sizes=[1, 2],
        distributions={"image_size": {"distribution": "uniform", "low": 20, "high": 60}},
    )
    assert manifest.varied["image_size"] == "uniform from 20 to 60"
    http_format = "binary" if server.kind == "triton" else "json"
    assert manifest.body_format == {"grpc": "raw", "http": http_format}[endpoint.protocol]
    # KServe takes over REST no bytes that are not text, so base64 is left to its models to decode.
    decoded = base64.b64decode if (server.kind, endpoint.protocol) == ("kserve", "http") else bytes
    arrived = [
        Image.open(io.BytesIO(decoded(bytes.fromhex(text.decode()))))
        for outputs in answers(endpoint, tmp_path, "pictures")
        for text in outputs["picture_hex"].ravel()
    ]
    assert len(arrived) == sum(int(size) * count for size, count in manifest.batch_sizes.items())
    for image in arrived:
        image.load()
        assert image.format == "JPEG"
        assert 20 <= image.width <= 60


def tensors() -> st.SearchStrategy[dict[str, np.ndarray]]:
    def array(dtype: str, rows: int, width: int) -> st.SearchStrategy[np.ndarray]:
        if dtype == "string":
            texts = st.lists(st.text(max_size=8), min_size=rows * width, max_size=rows * width)
            return texts.map(lambda values: strings([value.encode() for value in values], (rows, width)))
        elements = {"allow_nan": False, "allow_infinity": False} if dtype.startswith("float") else {}
        return npst.arrays(dtype, (rows, width), elements=npst.from_dtype(np.dtype(dtype), **elements))

    sizes = st.tuples(st.integers(1, 3), st.integers(1, 4))
    return sizes.flatmap(lambda size: st.fixed_dictionaries({dtype: array(dtype, *size) for dtype in DTYPES}))


def strings(values: list[bytes], shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inputs=tensors())
@pytest.mark.parametrize(
    ("protocol", "body_format"), [("grpc", "raw"), ("grpc", "typed"), ("http", "json"), ("http", "binary")]
)
def test_it_reads_back_what_was_sent(
    server: Any, protocol: str, body_format: str, inputs: dict[str, np.ndarray]
) -> None:
    if (server.kind, body_format) == ("mlserver", "binary"):
        pytest.skip("MLServer takes no binary tensors over REST")
    signature = Signature(NAMELESS, "", {name: TensorSpec(name, (-1, -1)) for name in inputs}, {})
    encoding = encoding_of("oip", protocol, "echo", [signature], body_format)  # type: ignore[arg-type]
    record = encoding.record(signature, inputs)
    if protocol == "grpc":
        request = oip.ModelInferRequest.FromString(without_length(record))
        outputs = grpc_answer(server.grpc, request)
    else:
        body = binary_body(without_length(record)) if body_format == "binary" else HttpBody(record)
        outputs = http_answer(server.rest, encoding.path, body)
    for name, array in inputs.items():
        if name == "string":
            found = [bytes.fromhex(text.decode()) for text in outputs["string_hex"].ravel()]
            assert found == array.ravel().tolist()
        else:
            assert outputs[name].dtype == array.dtype
            if (server.kind, body_format, name) == ("triton", "json", "float64"):
                # its JSON parser reads a double with an error of one unit in the last place
                np.testing.assert_array_max_ulp(outputs[name], array, 2)
            else:
                assert np.array_equal(outputs[name], array), name


def without_length(record: bytes) -> bytes:
    position = 0
    while record[position] & 0x80:
        position += 1
    return record[position + 1 :]


def answers(endpoint: Any, folder: Path, model_name: str) -> list[dict[str, np.ndarray]]:
    if endpoint.protocol == "grpc":
        requests = [oip.ModelInferRequest.FromString(message) for message in read_messages(folder)]
        return [grpc_answer(endpoint, request) for request in requests]
    path = f"{oip.model_path(model_name)}/infer"
    return [http_answer(endpoint, path, body) for body in read_http_bodies(folder)]


def grpc_answer(endpoint: Any, request: Any) -> dict[str, np.ndarray]:
    with open_channel(endpoint) as channel:
        call = channel.unary_unary(
            oip.MODEL_INFER,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=oip.ModelInferResponse.FromString,
        )
        response = call(request, timeout=20)
    if response.raw_output_contents:
        pairs = zip(response.outputs, response.raw_output_contents, strict=True)
        return {one.name: from_raw(raw, one.datatype, tuple(one.shape)) for one, raw in pairs}
    return {one.name: from_contents(one.contents, one.datatype, tuple(one.shape)) for one in response.outputs}


def http_answer(endpoint: Any, path: str, body: HttpBody) -> dict[str, np.ndarray]:
    connection = http.client.HTTPConnection(endpoint.address, timeout=20)
    try:
        connection.request("POST", path, body.content, dict(body.headers))
        response = connection.getresponse()
        text = response.read()
        assert response.status == 200, text
        json_bytes = int(response.headers.get(oip.JSON_LENGTH_HEADER, len(text)))
        return dict(read_outputs(json.loads(text[:json_bytes])["outputs"], text[json_bytes:]))
    finally:
        connection.close()


def read_outputs(outputs: list[dict[str, Any]], contents: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Each output by its name, from JSON or from the bytes behind it."""
    for tensor in outputs:
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is None:
            yield tensor["name"], from_json(tensor)
        else:
            yield tensor["name"], from_raw(contents[:size], tensor["datatype"], tuple(tensor["shape"]))
            contents = contents[size:]


def test_every_numpy_type_has_a_datatype() -> None:
    assert {datatype_of(dtype) for dtype in DTYPES} == {
        "BOOL",
        "UINT8",
        "UINT16",
        "UINT32",
        "UINT64",
        "INT8",
        "INT16",
        "INT32",
        "INT64",
        "FP32",
        "FP64",
        "BYTES",
    }
