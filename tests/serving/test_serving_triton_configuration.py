"""What is put into a model's own config.pbtxt, and what of it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.serving.deploy import Deployment, planned_manifests
from model_load_test.components.serving.model_loading import main
from model_load_test.components.serving.model_uri import parse_model_uri
from model_load_test.components.serving.spec import parse_serving_spec
from model_load_test.components.serving.triton_configuration import (
    TritonConfigurationError,
    configuration_text,
    with_fields,
)

OWN = """name: "digits"  # the model { not a bracket }
backend: "onnxruntime"
max_batch_size: 4
input [ { name: "images" data_type: TYPE_FP32 dims: [ 64 ] } ]
dynamic_batching { preferred_batch_size: [ 2, 4 ]
  max_queue_delay_microseconds: 7 }
instance_group [
  { count: 1, kind: KIND_CPU },
  { count: 3 kind: KIND_GPU gpus: [ 0, 1 ] }
]
parameters: { key: "a" value: { string_value: "dynamic_batching { }" } }
parameters { key: "b" value { string_value: "\\"" } }
version_policy: < latest { num_versions: 1 } >;
"""
WANTED = {
    "max_batch_size": 8,
    "dynamic_batching": {"preferred_batch_size": [4, 8], "max_queue_delay_microseconds": 100},
    "instance_group": [{"count": 2, "kind": "KIND_CPU"}],
}


def test_the_wanted_fields_take_the_place_of_the_models_own() -> None:
    text = with_fields(OWN, configuration_text(WANTED))
    assert text.count("max_batch_size:") == 1
    assert "max_batch_size: 8\n" in text
    assert "max_queue_delay_microseconds: 7" not in text
    assert "KIND_GPU" not in text
    assert "{ count: 2 kind: KIND_CPU }" in text
    for kept in (
        'name: "digits"',
        "dims: [ 64 ]",
        'string_value: "dynamic_batching { }"',
        'key: "b"',
        "num_versions",
    ):
        assert kept in text
    assert with_fields(text, configuration_text(WANTED)) == text


def test_a_model_without_a_configuration_gets_the_wanted_fields_alone() -> None:
    assert with_fields("", "max_batch_size: 2\n") == "max_batch_size: 2\n"


@pytest.mark.parametrize("broken", ["input [ {", "a: 1 }", "name: \x00"])
def test_what_is_no_configuration_is_refused(broken: str) -> None:
    with pytest.raises(TritonConfigurationError, match=r"config\.pbtxt"):
        with_fields(broken, "max_batch_size: 1\n")


def test_the_text_is_what_tritons_own_proto_reads() -> None:
    service = pytest.importorskip(
        "tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed"
    )
    from google.protobuf import text_format

    read = text_format.Parse(with_fields(OWN, configuration_text(WANTED)), service.ModelConfig())
    assert (read.max_batch_size, read.instance_group[0].count) == (8, 2)


def test_the_loader_writes_it_into_the_model(tmp_path: Path) -> None:
    model = tmp_path / "claim" / "digits"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.onnx").write_bytes(b"model")
    (model / "config.pbtxt").write_text(OWN)
    identity = RunIdentity("run", "task")
    spec = parse_serving_spec({"kind": "triton", "model_name": "digits", "model_configuration": WANTED})
    deployment = Deployment(identity, spec, {"candidate": parse_model_uri("pvc://claim/digits")}, "ours:1")
    pod = planned_manifests(deployment)[0]["spec"]["template"]["spec"]
    arguments = pod["initContainers"][0]["args"]
    assert arguments[arguments.index("--configuration") + 1] == configuration_text(WANTED)
    into = tmp_path / "models" / "digits"
    arguments[arguments.index("--into") + 1] = str(into)
    done = main([*arguments, "--claim", str(tmp_path / "claim"), "--report", str(tmp_path / "report")])
    assert done == 0
    assert (into / "config.pbtxt").read_text() == with_fields(OWN, configuration_text(WANTED))
