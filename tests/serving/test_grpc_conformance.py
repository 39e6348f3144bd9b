"""The gRPC services, asked with tensorflow-serving-api's own stubs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
apis = pytest.importorskip("tensorflow_serving.apis", reason="tensorflow-serving-api is not installed")

from tensorflow_serving.apis import (  # noqa: E402  # after the skips above
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from model_load_test.components.serving.embedded.process import EmbeddedServer  # noqa: E402

X = np.array([[1, 2, 3, 4], [0.5, -1, 0, 2]], np.float32)


@pytest.fixture(scope="module")
def channel(zoo: EmbeddedServer) -> Iterator[Any]:
    with grpc.insecure_channel(zoo.grpc.address) as opened:
        yield opened


@pytest.fixture(scope="module")
def prediction(channel: Any) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def model(channel: Any) -> Any:
    return model_service_pb2_grpc.ModelServiceStub(channel)


@pytest.fixture(scope="module")
def zoo_function(zoo_path) -> Any:
    """What TensorFlow itself answers."""
    loaded = {version: tf.saved_model.load(str(zoo_path / str(version))) for version in (1, 3)}

    def call(version: int, signature: str, **inputs: Any) -> dict[str, Any]:
        return {k: v.numpy() for k, v in loaded[version].signatures[signature](**inputs).items()}

    return call


def predict_request(
    inputs: dict[str, Any],
    signature: str = "",
    version: int | None = None,
    label: str = "",
    name: str = "zoo",
) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def refusal(call: Any, request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=10)
    return raised.value.code().name, raised.value.details()


def example(*values: float) -> Any:
    return tf.train.Example(
        features=tf.train.Features(
            feature={"x": tf.train.Feature(float_list=tf.train.FloatList(value=values))}
        )
    )


def test_predict_answers_what_tensorflow_computes(prediction: Any, zoo_function: Any) -> None:
    response = prediction.Predict(predict_request({"x": X}), timeout=10)
    expected = zoo_function(3, "serving_default", x=tf.constant(X))["y"]
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["y"]), expected, rtol=1e-6)
    assert response.model_spec.name == "zoo"
    assert response.model_spec.signature_name == "serving_default"
    assert response.model_spec.version.value == 3, "without a version, the latest"


def test_outputs_stand_in_typed_fields_as_tf_serving_sends_them(prediction: Any) -> None:
    output = prediction.Predict(predict_request({"x": X}), timeout=10).outputs["y"]
    assert len(output.float_val) == 6
    assert not output.tensor_content


@pytest.mark.parametrize("choice", [{"version": 1}, {"label": "stable"}])
def test_a_version_or_its_label_chooses_the_model(
    prediction: Any, zoo_function: Any, choice: dict[str, Any]
) -> None:
    response = prediction.Predict(predict_request({"x": X}, **choice), timeout=10)
    expected = zoo_function(1, "serving_default", x=tf.constant(X))["y"]
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["y"]), expected, rtol=1e-6)
    assert response.model_spec.version.value == 1


def test_several_inputs_and_outputs(prediction: Any) -> None:
    inputs = {"a": np.array([[1, 2]], np.float32), "b": np.array([7], np.int64)}
    outputs = prediction.Predict(predict_request(inputs, "two"), timeout=10).outputs
    assert tf.make_ndarray(outputs["sum"]).tolist() == [10.0]
    assert tf.make_ndarray(outputs["text"]).tolist() == [b"7"]


def test_an_output_filter(prediction: Any) -> None:
    request = predict_request({"a": np.zeros((1, 2), np.float32), "b": np.array([7], np.int64)}, "two")
    request.output_filter.append("text")
    assert list(prediction.Predict(request, timeout=10).outputs) == ["text"]
    request.output_filter.append("text")
    assert refusal(prediction.Predict, request) == (
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: text",
    )
    request.output_filter[:] = ["nothing"]
    assert refusal(prediction.Predict, request) == (
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: nothing Outputs expected to be in the set {sum,text}.",
    )


def test_strings_scalars_and_every_type(prediction: Any) -> None:
    response = prediction.Predict(predict_request({"text": np.array([b"ab\0", b""])}, "upper"), timeout=10)
    assert tf.make_ndarray(response.outputs["raw_bytes"]).tolist() == [b"ab", b""], "numpy trims S arrays"
    request = predict_request({}, "upper")
    request.inputs["text"].CopyFrom(tf.make_tensor_proto([b"ab\0", "é".encode()]))
    assert tf.make_ndarray(prediction.Predict(request, timeout=10).outputs["raw_bytes"]).tolist() == [
        b"ab\0",
        "é".encode(),
    ]
    doubled = prediction.Predict(predict_request({"scale": np.float32(1.5)}, "scalar"), timeout=10)
    assert tf.make_ndarray(doubled.outputs["doubled"]).tolist() == 3.0
    inputs = {
        f"in_{name}": np.array([[1, 0]], name)
        for name in ("float64", "int32", "int8", "uint8", "int16", "int64", "bool", "uint32")
    }
    outputs = prediction.Predict(predict_request(inputs, "types"), timeout=10).outputs
    for name, value in inputs.items():
        answered = tf.make_ndarray(outputs[name.replace("in_", "out_")])
        assert answered.dtype == value.dtype
        assert answered.tolist() == value.tolist()
    half = prediction.Predict(predict_request({"half": np.array([1.5], np.float16)}, "half"), timeout=10)
    assert tf.make_ndarray(half.outputs["half"]).tolist() == [3.0]


def test_one_value_stands_for_a_whole_tensor(prediction: Any, zoo_function: Any) -> None:
    request = predict_request({})
    request.inputs["x"].dtype = 1
    request.inputs["x"].float_val.append(2.0)
    for size in (3, 4):
        request.inputs["x"].tensor_shape.dim.add(size=size)
    expected = zoo_function(3, "serving_default", x=tf.fill([3, 4], 2.0))["y"]
    np.testing.assert_allclose(
        tf.make_ndarray(prediction.Predict(request, timeout=10).outputs["y"]), expected, rtol=1e-6
    )


def _without_spec() -> Any:
    request = predict_request({"x": X})
    request.ClearField("model_spec")
    return request


def _content_too_short() -> Any:
    request = predict_request({"x": X})
    request.inputs["x"].tensor_content = b"123"
    return request


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (_without_spec(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (
            predict_request({"x": X}, name=""),
            "INVALID_ARGUMENT",
            "ModelSpec has no name specified.",
        ),
        (
            predict_request({"x": X}, name="nope"),
            "NOT_FOUND",
            "Servable not found for request: Latest(nope)",
        ),
        (
            predict_request({"x": X}, version=2),
            "NOT_FOUND",
            "Servable not found for request: Specific(zoo, 2)",
        ),
        (
            predict_request({"x": X}, label="canary"),
            "INVALID_ARGUMENT",
            "Unrecognized servable version label: canary",
        ),
        (
            predict_request({"x": X}, signature="nope"),
            "FAILED_PRECONDITION",
            'Serving signature key "nope" not found.',
        ),
        (
            predict_request({}),
            "INVALID_ARGUMENT",
            "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. "
            "Missing but required: {x}.",
        ),
        (
            predict_request({"x": X, "z": X}),
            "INVALID_ARGUMENT",
            "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. "
            "Missing but required: {}.",
        ),
        (
            predict_request({"z": X}),
            "INVALID_ARGUMENT",
            "Signature input alias: x(feed name: serving_default_x:0) not found in request and no "
            "default value provided. Inputs expected to be in the request {z}, or default input alias set: ",
        ),
        (
            predict_request({"x": X.astype(np.float64)}),
            "INVALID_ARGUMENT",
            "Expects arg[0] to be float but double is provided",
        ),
        (
            predict_request({"x": np.array([["a"]])}),
            "INVALID_ARGUMENT",
            "Expects arg[0] to be float but string is provided",
        ),
        (_content_too_short(), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ],
)
def test_predict_refuses_as_tf_serving_does(prediction: Any, request_: Any, code: str, text: str) -> None:
    assert refusal(prediction.Predict, request_) == (code, text)


def test_a_wrong_shape_is_tensorflows_own_complaint(prediction: Any) -> None:
    code, text = refusal(prediction.Predict, predict_request({"x": X[:, :3]}))
    assert code == "INVALID_ARGUMENT"
    assert "Matrix size-incompatible: In[0]: [2,3], In[1]: [4,3]" in text


def test_status(model: Any) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    assert refusal(model.GetModelStatus, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name = "zoo"
    versions = model.GetModelStatus(request, timeout=10).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert {version.version: version.state for version in versions} == {1: available, 3: available}
    request.model_spec.version.value = 3
    assert [one.version for one in model.GetModelStatus(request, timeout=10).model_version_status] == [3]
    request.model_spec.version.value = 2
    assert refusal(model.GetModelStatus, request) == (
        "NOT_FOUND",
        "Could not find version 2 of model zoo",
    )
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "nope"
    assert refusal(model.GetModelStatus, request) == (
        "NOT_FOUND",
        "Could not find any versions of model nope",
    )


def test_metadata_is_the_saved_models(prediction: Any, zoo_path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "zoo"
    assert refusal(prediction.GetModelMetadata, request) == (
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    )
    request.metadata_field.append("signature_def")
    response = prediction.GetModelMetadata(request, timeout=10)
    assert response.model_spec.name == "zoo"
    assert response.model_spec.version.value == 3
    answered = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(answered)
    saved = saved_model_pb2.SavedModel.FromString((zoo_path / "3" / "saved_model.pb").read_bytes())
    assert dict(answered.signature_def) == dict(saved.meta_graphs[0].signature_def)
    request.metadata_field.append("weights")
    assert refusal(prediction.GetModelMetadata, request) == (
        "INVALID_ARGUMENT",
        "Metadata field weights is not supported",
    )


def test_classify(prediction: Any, zoo_function: Any) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "zoo"
    request.model_spec.signature_name = "classify"
    assert refusal(prediction.Classify, request) == ("INVALID_ARGUMENT", "Input is empty.")
    examples = [example(1, 2, 3, 4), example(0, 0, 0, 1)]
    request.input.example_list.examples.extend(examples)
    response = prediction.Classify(request, timeout=10)
    serialized = tf.constant([one.SerializeToString() for one in examples])
    expected = zoo_function(3, "classify", inputs=serialized)
    assert len(response.result.classifications) == 2
    for row, classification in enumerate(response.result.classifications):
        assert [one.label for one in classification.classes] == ["ant", "bee", "cat"]
        np.testing.assert_allclose([one.score for one in classification.classes], expected["scores"][row])
    assert response.model_spec.signature_name == "classify"


def test_regress_with_a_context(prediction: Any) -> None:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "zoo"
    request.model_spec.signature_name = "regress"
    request.input.example_list_with_context.context.CopyFrom(example(1, 1, 1, 1))
    request.input.example_list_with_context.examples.extend([tf.train.Example(), tf.train.Example()])
    response = prediction.Regress(request, timeout=10)
    assert [one.value for one in response.result.regressions] == [14.0, 14.0], (
        "the context's features, bias 10"
    )


def test_classify_and_regress_refuse_other_signatures(prediction: Any) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "zoo"
    request.input.example_list.examples.append(example(1, 2, 3, 4))
    for signature, text in (
        ("nope", "No signature was found with the name: nope"),
        ("two", "Expected one input Tensor."),
        ("regress", 'outputs to contain at least one of "classes" or "scores"'),
        ("", "No classification inputs found in SignatureDef: "),
    ):
        request.model_spec.signature_name = signature
        code, said = refusal(prediction.Classify, request)
        assert code == "INVALID_ARGUMENT"
        assert text in said
    again = regression_pb2.RegressionRequest(input=request.input)
    again.model_spec.name = "zoo"
    for signature, text in (
        ("two", "Expected one input Tensor."),
        ("classify", "Expected one output Tensor."),
        ("half", "No regression inputs found in SignatureDef: "),
    ):
        again.model_spec.signature_name = signature
        code, said = refusal(prediction.Regress, again)
        assert code == "INVALID_ARGUMENT"
        assert text in said


def test_multi_inference(prediction: Any) -> None:
    request = inference_pb2.MultiInferenceRequest()
    for signature in ("classify", "regress"):
        task = request.tasks.add(method_name=f"tensorflow/serving/{signature}")
        task.model_spec.name = "zoo"
        task.model_spec.signature_name = signature
    request.input.example_list.examples.append(example(1, 1, 1, 1))
    classified, regressed = prediction.MultiInference(request, timeout=10).results
    assert [one.label for one in classified.classification_result.classifications[0].classes] == [
        "ant",
        "bee",
        "cat",
    ]
    assert regressed.regression_result.regressions[0].value == 14.0
    request.tasks[1].model_spec.signature_name = "classify"
    assert refusal(prediction.MultiInference, request) == (
        "INVALID_ARGUMENT",
        "Duplicate evaluation of signature: classify",
    )
