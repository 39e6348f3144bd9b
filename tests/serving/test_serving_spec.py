"""Serving specs: ours, TFX's, and those that cannot be deployed."""

from __future__ import annotations

from typing import Any

import pytest

from model_load_test.components.cluster.placement import PlacementError
from model_load_test.components.errors import InputError
from model_load_test.components.serving.spec import (
    ServingSpecError,
    parse_request_spec,
    parse_serving_spec,
)

TFX = {
    "tensorflow_serving": {"tags": ["2.19.1", "latest-gpu"], "digests": ["sha256:" + "a" * 64]},
    "kubernetes": {
        "service_account_name": "runner",
        "serving_pod_overrides": {
            "annotations": {"camelCase": "kept"},
            "env": [
                {"name": "A", "value": "b"},
                {"name": "TOKEN", "value_from": {"secret_key_ref": {"name": "s", "key": "k"}}},
            ],
        },
    },
    "model_name": "digits",
    "validation_spec": {"max_loading_time_seconds": 60, "num_tries": 3},
}
TFX_CAMEL = {
    "tensorflowServing": {"imageName": "mirror/serving", "tags": ["2.19.1"]},
    "kubernetes": {"servingPodOverrides": {"env": [{"name": "A", "value": "b"}]}},
    "modelName": "digits",
}


def test_an_empty_spec_is_tf_serving_with_its_default_image() -> None:
    spec = parse_serving_spec({}, model_name="digits")
    assert (spec.kind, spec.server_image, spec.replicas) == ("tf-serving", "tensorflow/serving:2.19.1", 1)
    assert spec.speaks_tf_serving


def test_tfx_own_spec_is_taken_as_it_is() -> None:
    spec = parse_serving_spec(TFX)
    assert spec.image == "tensorflow/serving:2.19.1"
    assert spec.also_validate == ("tensorflow/serving:latest-gpu", f"tensorflow/serving@sha256:{'a' * 64}")
    assert (spec.service_account, spec.model_name) == ("runner", "digits")
    assert (spec.ready_seconds, spec.tries) == (60, 3)
    assert spec.annotations == {"camelCase": "kept"}
    assert spec.environment[1]["valueFrom"] == {"secretKeyRef": {"name": "s", "key": "k"}}


def test_protobufs_other_spelling_is_the_same() -> None:
    spec = parse_serving_spec(TFX_CAMEL)
    assert spec.image == "mirror/serving:2.19.1"
    assert spec.environment == ({"name": "A", "value": "b"},)


def test_tfx_classes_agree_where_tfx_is_installed() -> None:
    pb = pytest.importorskip("tfx.proto.infra_validator_pb2", reason="TFX is not installed")
    from google.protobuf import json_format

    message = json_format.ParseDict({**TFX, "validation_spec": None}, pb.ServingSpec())
    for preserving in (True, False):
        written = json_format.MessageToDict(message, preserving_proto_field_name=preserving)
        assert parse_serving_spec(written).image == "tensorflow/serving:2.19.1"


def test_whole_numbers_survive_kfps_doubles() -> None:
    tolerations = [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300.0}]
    spec = parse_serving_spec({"replicas": 2.0, "tolerations": tolerations}, model_name="m")
    assert spec.replicas == 2
    assert spec.tolerations[0]["tolerationSeconds"] == 300
    assert isinstance(spec.tolerations[0]["tolerationSeconds"], int)


def test_what_is_given_apart_wins_and_what_is_empty_does_not_count() -> None:
    given = {"node_selector": {"pool": "a"}, "model_name": "m"}
    assert parse_serving_spec(given, node_selector={"pool": "b"}).node_selector == {"pool": "b"}
    assert parse_serving_spec(given, node_selector={}, model_name="").node_selector == {"pool": "a"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"kind": "tf_serving"}, "tf-serving"),
        ({"imag": "x"}, "did you mean 'image'"),
        ({"replicas": 0}, "replicas"),
        ({"replicas": "two"}, "replicas"),
        ({"flags": ["port=1"]}, "--name=value"),
        ({"flags": ["--rest_api_port=1"]}, "set for you"),
        ({"model_name": "a b"}, "model_name"),
        ({"kind": "triton", "batching": {"max_batch_size": 1}}, "batching"),
        ({"environment": [{"value": "x"}]}, r"environment\[0\]"),
        ({"service_account": "A B"}, "service_account"),
        ({"tensorflow_serving": {"tag": ["x"]}}, "did you mean 'tags'"),
        ({"tensorflow_serving": {}, "kubernetes": {"pod": 1}}, "serving.kubernetes.pod"),
        ({"tensorflow_serving": {}, "tensorflowServing": {}}, "twice"),
    ],
)
def test_a_spec_that_cannot_be_deployed_names_the_field(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ServingSpecError, match=named):
        parse_serving_spec({"model_name": "m", **given})


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("tolerations", {"key": "a"}, "give a list"),
        ("tolerations", "pool=load", "give a list"),
        ("tolerations", ["pool"], r"tolerations\[0\]"),
        ("tolerations", [{"key": "a", "effekt": "NoSchedule"}], "did you mean 'effect'"),
        ("tolerations", [{"key": "a", "toleration_seconds": 3}], "tolerationSeconds"),
        ("tolerations", [{"key": "a", "operator": "In"}], "use Equal or Exists"),
        ("tolerations", [{"operator": "Equal", "value": "x"}], "name the taint"),
        ("tolerations", [{"key": "a", "operator": "Exists", "value": "x"}], "leave it out"),
        ("tolerations", [{"key": "a", "effect": "Never"}], "NoSchedule"),
        ("tolerations", [{"key": "a", "tolerationSeconds": 3}], "NoExecute"),
        ("node_selector", {"gpu": True}, "as text"),
        ("node_selector", {"a b": "x"}, "name of a label"),
        ("node_selector", ["a"], "node_selector"),
        ("affinity", {"podAfinity": {}}, "did you mean 'podAffinity'"),
        ("resources", {"cpu": "2"}, "requests"),
        ("resources", {"limits": {"cpu": "2000Mib"}}, "resources.limits.cpu"),
    ],
)
def test_placement_that_kubernetes_would_not_understand_is_refused_by_name(
    field: str, value: object, named: str
) -> None:
    with pytest.raises(PlacementError, match=named):
        parse_serving_spec({"model_name": "m", field: value})


def test_request_specs_of_both_kinds() -> None:
    assert parse_request_spec({}).requests == 1
    ours = parse_request_spec({"requests": 3.0, "signature_names": ["a"]})
    tfx = parse_request_spec({"tensorflow_serving": {"signature_names": ["a"]}, "num_examples": 3})
    camel = parse_request_spec({"tensorflowServing": {"signatureNames": ["a"]}, "numExamples": 3})
    assert ours == tfx == camel


@pytest.mark.parametrize(
    "given",
    [
        {"numExample": 1},
        {"requests": -1},
        {"tensorflow_serving": {"tag_set": ["train"]}},
        {"num_examples": 1, "make_warmup": True},
    ],
)
def test_a_request_spec_that_asks_for_what_is_not_done_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="requests"):
        parse_request_spec(given)
