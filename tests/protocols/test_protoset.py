"""The protoset is tensorflow-serving-api's, and reading it needs no TensorFlow."""

from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from model_load_test.components.protocols.make_protoset import (
    PROTOSET_PATH,
    file_descriptor_set,
    main,
)
from model_load_test.components.protocols.open_inference import PROTOSET_PATH as OPEN_INFERENCE_PATH
from model_load_test.components.protocols.protoset import protoset_of_method


def test_the_protoset_is_what_the_installed_package_describes() -> None:
    kept = descriptor_pb2.FileDescriptorSet.FromString(PROTOSET_PATH.read_bytes())
    made = {file.name: file for file in file_descriptor_set().file}
    assert {file.name for file in kept.file} == set(made)
    for file in kept.file:
        assert file == made[file.name], file.name


def test_each_file_comes_after_those_it_needs() -> None:
    seen: set[str] = set()
    for file in descriptor_pb2.FileDescriptorSet.FromString(PROTOSET_PATH.read_bytes()).file:
        assert seen.issuperset(file.dependency), file.name
        seen.add(file.name)


def test_it_holds_the_services_the_warmup_log_and_the_saved_model() -> None:
    kept = descriptor_pb2.FileDescriptorSet.FromString(PROTOSET_PATH.read_bytes())
    names = {message.name for file in kept.file for message in (*file.message_type, *file.service)}
    assert {"PredictionService", "ModelService", "PredictionLog", "SavedModel"} <= names


@pytest.mark.parametrize(
    ("path", "method", "share"),
    [
        (PROTOSET_PATH, "/tensorflow.serving.PredictionService/Predict", 0.2),
        (PROTOSET_PATH, "/tensorflow.serving.PredictionService/Classify", 0.2),
        (OPEN_INFERENCE_PATH, "/inference.GRPCInferenceService/ModelInfer", 1.0),
    ],
)
def test_the_part_that_a_method_needs_describes_it_in_full(path, method: str, share: float) -> None:
    whole = path.read_bytes()
    part = protoset_of_method(whole, method)
    assert len(part) < share * len(whole)
    pools = []
    for content in (whole, part):
        pools.append(descriptor_pool.DescriptorPool())
        for file in descriptor_pb2.FileDescriptorSet.FromString(content).file:
            pools[-1].Add(file)
    described = []
    for pool in pools:
        called = pool.FindMethodByName(method.removeprefix("/").replace("/", "."))
        for message in (called.input_type, called.output_type):
            text = descriptor_pb2.DescriptorProto()
            message.CopyToProto(text)
            described.append((message.full_name, text))
    assert described[:2] == described[2:]


def test_a_method_that_is_not_there_is_no_empty_protoset() -> None:
    with pytest.raises(KeyError):
        protoset_of_method(PROTOSET_PATH.read_bytes(), "/tensorflow.serving.PredictionService/Guess")


def test_it_is_made_in_one_step(tmp_path) -> None:
    main(tmp_path / "made.protoset")
    assert (tmp_path / "made.protoset").read_bytes() == PROTOSET_PATH.read_bytes()


def test_the_room_works_without_tensorflow() -> None:
    script = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['tensorflow_serving'] = None\n"
        "from model_load_test.components.protocols import client, saved_model, tensors, tf_serving\n"
        "request = tf_serving.PredictRequest()\n"
        "request.inputs['x'].CopyFrom(tensors.to_tensor_proto([[1.5, 2.5]]))\n"
        "again = tf_serving.PredictRequest.FromString(request.SerializeToString())\n"
        "print(tensors.from_tensor_proto(again.inputs['x']).tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[[1.5, 2.5]]\n"
