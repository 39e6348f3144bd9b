"""The Open Inference Protocol against a real MLServer, over REST and gRPC: asked, made for, answered."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from model_load_test.components.payload.encoding import encoding_of
from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.manifest import PayloadError, read_bodies, read_messages
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

# The first test also makes the environment.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DTYPES = (
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    "bool",
    "float32",
    "float64",
    "string",
)


@pytest.fixture(params=["grpc", "rest"])
def endpoint(request: pytest.FixtureRequest, mlserver: Any) -> Any:
    return getattr(mlserver, request.param)


def test_our_protoset_is_the_protocol_mlserver_speaks(mlserver_python: Path) -> None:
    """Names, numbers and types of all fields; MLServer has more messages and some comments."""
    script = (
        "import sys\n"
        "from google.protobuf import descriptor_pb2\n"
        "from mlserver.grpc import dataplane_pb2\n"
        "file = descriptor_pb2.FileDescriptorProto()\n"
        "dataplane_pb2.DESCRIPTOR.CopyToProto(file)\n"
        "sys.stdout.buffer.write(file.SerializeToString())\n"
    )
    done = subprocess.run([mlserver_python, "-c", script], capture_output=True, check=True)
    theirs = fields(descriptor_pb2.FileDescriptorProto.FromString(done.stdout))
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(oip.PROTOSET_PATH.read_bytes()).file
    ours = fields(file)
    # MLServer's copy is of before the parameters got doubles and unsigned numbers.
    later = {key for key in ours if key[0] == "InferParameter" and key[1] in ("double_param", "uint64_param")}
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


def test_status_metadata_and_kind(endpoint: Any) -> None:
    assert detect_api(endpoint, "digits") == "oip"
    assert [one.state for one in model_status(endpoint, "digits", api="oip")] == ["AVAILABLE"]
    assert dict(model_metadata(endpoint, "digits", api="oip")[NAMELESS].inputs) == {
        "images": TensorSpec("float32", (-1, 64))
    }
    assert dict(model_metadata(endpoint, "silent", api="oip")[NAMELESS].inputs) == {}
    assert declared_server_kind(endpoint, "digits", api="oip") == ""
    for ask in (model_status, model_metadata):
        with pytest.raises(ModelNotFound, match="does not serve it"):
            ask(endpoint, "numbers", api="oip")


@pytest.mark.parametrize("model_name", ["digits", "every_type", "tokens", "pictures"])
@pytest.mark.parametrize(
    ("transport", "body_format"), [("grpc", "auto"), ("grpc", "typed"), ("rest", "auto")]
)
def test_every_request_is_answered(
    mlserver: Any, tmp_path: Path, model_name: str, transport: str, body_format: str
) -> None:
    endpoint = getattr(mlserver, transport)
    manifest = make_payload(
        endpoint, model_name=model_name, out_dir=tmp_path, requests=20, body_format=body_format
    )
    assert manifest.api == "oip"
    assert try_payload(tmp_path, endpoint) == 20
    if endpoint.protocol == "grpc":
        requests = [oip.ModelInferRequest.FromString(message) for message in read_messages(tmp_path)]
        assert all(bool(request.raw_input_contents) == (body_format == "auto") for request in requests)


def test_a_model_that_publishes_nothing_wants_its_inputs_declared(endpoint: Any, tmp_path: Path) -> None:
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


def test_images_arrive_byte_for_byte(endpoint: Any, tmp_path: Path) -> None:
    manifest = make_payload(
        endpoint,
        model_name="pictures",
        out_dir=tmp_path,
        requests=5,
        batch_sizes=[1, 2],
        distributions={"image_size": {"distribution": "uniform", "low": 20, "high": 60}},
    )
    assert manifest.varied["image_size"] == "uniform from 20 to 60"
    for sent, outputs in zip(
        sent_inputs(endpoint, tmp_path), answers(endpoint, tmp_path, "pictures"), strict=True
    ):
        values = sent["picture"].ravel().tolist()
        assert all(value.startswith(b"\xff\xd8") for value in values)
        assert [bytes.fromhex(text.decode()) for text in outputs["picture_hex"].ravel()] == values


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
@pytest.mark.parametrize(("protocol", "body_format"), [("grpc", "raw"), ("grpc", "typed"), ("http", "auto")])
def test_mlserver_reads_back_what_was_sent(
    mlserver: Any, protocol: str, body_format: str, inputs: dict[str, np.ndarray]
) -> None:
    signature = Signature(NAMELESS, "", {name: TensorSpec(name, (-1, -1)) for name in inputs}, {})
    encoding = encoding_of("oip", protocol, "silent", [signature], body_format)  # type: ignore[arg-type]
    record = encoding.record(signature, inputs)
    if protocol == "grpc":
        request = oip.ModelInferRequest.FromString(without_length(record))
        outputs = grpc_answer(mlserver.grpc, request)
    else:
        outputs = http_answer(mlserver.rest, encoding.path, record)
    for name, array in inputs.items():
        if name == "string":
            found = [bytes.fromhex(text.decode()) for text in outputs["string_hex"].ravel()]
            assert found == array.ravel().tolist()
        else:
            assert np.array_equal(outputs[name], array), name
            assert outputs[name].dtype == array.dtype


def test_ghz_loads_mlserver(mlserver: Any, tmp_path: Path) -> None:
    ghz = shutil.which("ghz")
    if not ghz:
        pytest.skip("ghz is neither on PATH nor in .tools/bin (run `make tools`)")
    manifest = make_payload(mlserver.grpc, model_name="digits", out_dir=tmp_path, requests=20)
    command = [
        ghz,
        "--insecure",
        f"--protoset={tmp_path / manifest.protoset}",
        f"--call={manifest.call}",
        f"--binary-file={tmp_path / 'requests.bin'}",
        "--async",
        "--concurrency=1",
        "--rps=50",
        "--total=60",
        "--format=json",
        mlserver.grpc.address,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["statusCodeDistribution"] == {"OK": 60}


def without_length(record: bytes) -> bytes:
    position = 0
    while record[position] & 0x80:
        position += 1
    return record[position + 1 :]


def sent_inputs(endpoint: Any, folder: Path) -> list[dict[str, np.ndarray]]:
    import base64

    if endpoint.protocol == "grpc":
        requests = [oip.ModelInferRequest.FromString(message) for message in read_messages(folder)]
        return [
            {
                tensor.name: from_raw(raw, tensor.datatype, tuple(tensor.shape))
                for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
            }
            for request in requests
        ]
    documents = [json.loads(body) for body in read_bodies(folder)]
    return [
        {
            tensor["name"]: strings(
                [base64.b64decode(text) for text in tensor["data"]], tuple(tensor["shape"])
            )
            for tensor in document["inputs"]
        }
        for document in documents
    ]


def answers(endpoint: Any, folder: Path, model_name: str) -> list[dict[str, np.ndarray]]:
    if endpoint.protocol == "grpc":
        requests = [oip.ModelInferRequest.FromString(message) for message in read_messages(folder)]
        return [grpc_answer(endpoint, request) for request in requests]
    path = f"{oip.model_path(model_name)}/infer"
    return [http_answer(endpoint, path, body) for body in read_bodies(folder)]


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


def http_answer(endpoint: Any, path: str, body: bytes) -> dict[str, np.ndarray]:
    connection = http.client.HTTPConnection(endpoint.address, timeout=20)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        assert response.status == 200, text
        return {tensor["name"]: from_json(tensor) for tensor in json.loads(text)["outputs"]}
    finally:
        connection.close()


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
