"""The REST API over HTTP: answers, refusals and texts as TF Serving's own tests expect them."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
from typing import Any

import numpy as np
import pytest

from model_load_test.components.serving.embedded.process import EmbeddedServer

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")


def call(
    server: EmbeddedServer, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    raw = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
    connection = http.client.HTTPConnection(server.rest.host, server.rest.port, timeout=10)
    try:
        connection.request(method, path, raw, headers or {})
        response = connection.getresponse()
        text = response.read()
        if response.headers.get_content_type() == "application/json":
            return response.status, json.loads(text)
        return response.status, text.decode()
    finally:
        connection.close()


def predict(server: EmbeddedServer, body: Any, path: str = "/v1/models/zoo:predict", **more: Any) -> Any:
    return call(server, "POST", path, body, **more)


def expected_y(x: Any, version: int, zoo_path: Any) -> Any:
    function = tf.saved_model.load(str(zoo_path / str(version))).signatures["serving_default"]
    return function(x=tf.constant(x, tf.float32))["y"].numpy()


X = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 0.0, 2.0]]


def test_rows_and_columns_answer_what_tensorflow_computes(zoo: EmbeddedServer, zoo_path: Any) -> None:
    y = expected_y(X, 3, zoo_path)
    for body, key in (
        ({"instances": X}, "predictions"),
        ({"instances": [{"x": row} for row in X]}, "predictions"),
        ({"inputs": X}, "outputs"),
        ({"inputs": {"x": X}}, "outputs"),
        ({"signature_name": "serving_default", "instances": X}, "predictions"),
    ):
        status, answer = predict(zoo, body)
        assert status == 200
        assert list(answer) == [key]
        assert np.array_equal(np.array(answer[key], np.float32), y), "floats come back to the last bit"


@pytest.mark.parametrize("place", ["versions/1", "labels/stable"])
def test_versions_and_labels_in_the_path(zoo: EmbeddedServer, zoo_path: Any, place: str) -> None:
    status, answer = predict(zoo, {"instances": X}, f"/v1/models/zoo/{place}:predict")
    assert status == 200
    assert np.array_equal(np.array(answer["predictions"], np.float32), expected_y(X, 1, zoo_path))


def test_several_inputs_and_outputs(zoo: EmbeddedServer) -> None:
    rows = [{"a": [1, 2], "b": 7}, {"a": [0.5, 0.25], "b": -1}]
    assert predict(zoo, {"signature_name": "two", "instances": rows}) == (
        200,
        {"predictions": [{"sum": 10.0, "text": "7"}, {"sum": -0.25, "text": "-1"}]},
    )
    columns = {"a": [[1, 2], [0.5, 0.25]], "b": [7, -1]}
    assert predict(zoo, {"signature_name": "two", "inputs": columns}) == (
        200,
        {"outputs": {"sum": [10.0, -0.25], "text": ["7", "-1"]}},
    )


def test_strings_and_bytes(zoo: EmbeddedServer) -> None:
    text = 'quo"te\n é\0'
    encoded = base64.b64encode(text.encode()).decode()
    for instance in (text, {"b64": encoded}, {"b64": encoded.rstrip("=")}):
        assert predict(zoo, {"signature_name": "upper", "instances": [instance]}) == (
            200,
            {"predictions": [{"raw_bytes": {"b64": encoded}, "upper": 'QUO"TE\n é\0'}]},
        )


def test_bytes_that_are_no_text_are_passed_on_as_they_are(zoo: EmbeddedServer) -> None:
    connection = http.client.HTTPConnection(zoo.rest.address, timeout=10)
    body = {"signature_name": "upper", "instances": [{"b64": base64.b64encode(b"\xffa").decode()}]}
    connection.request("POST", "/v1/models/zoo:predict", json.dumps(body))
    assert b'"upper": "\xffA"' in connection.getresponse().read()
    connection.close()


def test_a_scalar_and_every_type(zoo: EmbeddedServer) -> None:
    assert predict(zoo, {"signature_name": "scalar", "inputs": 1.5}) == (200, {"outputs": 3.0})
    values = {
        "in_float64": [1e300, -0.1],
        "in_int32": [-(2**31), 5],
        "in_int8": [-128, 127],
        "in_uint8": [0, 255],
        "in_int16": [-5, 5],
        "in_int64": [-(2**63), 2**63 - 1],
        "in_bool": [True, False],
        "in_uint32": [0, 2**32 - 1],
    }
    status, answer = predict(zoo, {"signature_name": "types", "inputs": values})
    assert status == 200
    assert answer["outputs"] == {name.replace("in_", "out_"): value for name, value in values.items()}


def test_half_floats_have_no_place_in_json(zoo: EmbeddedServer) -> None:
    assert predict(zoo, {"signature_name": "half", "inputs": [1.5]}) == (
        501,
        {"error": "Conversion of JSON Value: 1.5 to type: half"},
    )


def test_classify_and_regress(zoo: EmbeddedServer, zoo_path: Any) -> None:
    examples = [{"x": [1.0, 2.0, 3.0, 4.0]}, {"x": [0.0, 0.0, 0.0, 1.0]}]
    status, answer = call(
        zoo, "POST", "/v1/models/zoo:classify", {"signature_name": "classify", "examples": examples}
    )
    assert status == 200
    assert [[pair[0] for pair in row] for row in answer["results"]] == [["ant", "bee", "cat"]] * 2
    assert all(sum(pair[1] for pair in row) == pytest.approx(1) for row in answer["results"])
    body = {"signature_name": "regress", "examples": [{}, {}], "context": {"x": [1.0, 1.0, 1.0, 2.0]}}
    assert call(zoo, "POST", "/v1/models/zoo:regress", body) == (200, {"results": [15.0, 15.0]})


def test_status_json(zoo: EmbeddedServer) -> None:
    def one(version: str) -> Any:
        return {
            "version": version,
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }

    assert call(zoo, "GET", "/v1/models/zoo") == (200, {"model_version_status": [one("3"), one("1")]})
    assert call(zoo, "GET", "/v1/models/zoo/versions/1") == (200, {"model_version_status": [one("1")]})
    assert call(zoo, "GET", "/v1/models/zoo/versions/2") == (
        404,
        {"error": "Could not find version 2 of model zoo"},
    )
    assert call(zoo, "GET", "/v1/models/nope") == (
        404,
        {"error": "Could not find any versions of model nope"},
    )
    assert call(zoo, "GET", "/v1/models") == (400, {"error": "Missing model name in request."})


def test_metadata_json(zoo: EmbeddedServer) -> None:
    status, answer = call(zoo, "GET", "/v1/models/zoo/versions/1/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "zoo", "signature_name": "", "version": "1"}
    assert list(answer["metadata"]) == ["signature_def"]
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"] == {
        "inputs": {
            "x": {
                "dtype": "DT_FLOAT",
                "tensor_shape": {
                    "dim": [{"size": "-1", "name": ""}, {"size": "4", "name": ""}],
                    "unknown_rank": False,
                },
                "name": "serving_default_x:0",
            }
        },
        "outputs": {
            "y": {
                "dtype": "DT_FLOAT",
                "tensor_shape": {
                    "dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}],
                    "unknown_rank": False,
                },
                "name": signatures["serving_default"]["outputs"]["y"]["name"],
            }
        },
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    assert "__saved_model_init_op" in signatures


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/foo:predict"),
        ("POST", "/v1/models/foo"),
        ("POST", "/v1/models"),
        ("POST", "/v1/models/foo:bar"),
        ("POST", "/v1/models/foo/metadata"),
        ("POST", "/v1/models/foo/version/50:regress"),
        ("POST", "/v1/models/foo/versions/HELLO:regress"),
        ("POST", "/v1/models/foo/versions/50/labels/some:regress"),
        ("POST", "/v1/models/foo:PREDICT"),
        ("PUT", "/v1/models/zoo:predict"),
        ("DELETE", "/v1/models/zoo"),
    ],
)
def test_malformed_requests(zoo: EmbeddedServer, method: str, path: str) -> None:
    assert call(zoo, method, path, {"instances": [1]}) == (
        400,
        {"error": f"Malformed request: {method} {path}"},
    )


def test_a_version_beyond_all_numbers(zoo: EmbeddedServer) -> None:
    status, answer = predict(zoo, {}, f"/v1/models/zoo/versions/{2**64}:predict")
    assert (status, answer) == (400, {"error": f"Failed to convert version: {2**64} to numeric."})


def test_paths_outside_the_api(zoo: EmbeddedServer) -> None:
    assert call(zoo, "GET", "/")[0] == 404
    assert call(zoo, "GET", "/v2/health/ready")[0] == 404


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v1/models/nope:predict", 404, "Servable not found for request: Latest(nope)"),
        ("/v1/models/a%20b:predict", 404, "Servable not found for request: Latest(a b)"),
        ("/v1/models/zoo/versions/99:predict", 404, "Servable not found for request: Specific(zoo, 99)"),
        ("/v1/models/zoo/labels/canary:predict", 400, "Unrecognized servable version label: canary"),
    ],
)
def test_models_versions_and_labels_that_are_not_there(
    zoo: EmbeddedServer, path: str, status: int, text: str
) -> None:
    assert predict(zoo, {"instances": X}, path) == (status, {"error": text})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
        (
            '{"instances": [[1, 2',
            "JSON Parse error: Missing a comma or ] after an array element. at offset: 20",
        ),
        (
            '{"a": {"b": 1 "c"}}',
            "JSON Parse error: Missing a comma or } after an object member. at offset: 14",
        ),
        (
            '{"instances" [1]}',
            "JSON Parse error: Missing a colon after a name of object member. at offset: 13",
        ),
        ("{instances: [1]}", "JSON Parse error: Missing a name for object member. at offset: 1"),
        ("[1, 2]", "JSON Value: [1, 2] Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        (
            {"signature_name": "nope", "instances": [1]},
            'Serving signature name: "nope" not found in signature def',
        ),
        ({"signature_name": 5}, "'signature_name' key must be a string value."),
        (
            {"instances": [1], "inputs": [1]},
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        ),
        ({"instances": 1}, "Expecting 'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        (
            {"instances": ["x"]},
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            'JSON Value: "x" Type: String is not of expected type: float',
        ),
        (
            {"instances": [[1, 2], [True, 1]]},
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON Value: true Type: True is not of expected type: float",
        ),
        (
            {"instances": [[1, 2], [3, 4], [5, 6, 7]]},
            "Failed to process element: 2 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting tensor size: 2 but got: 3",
        ),
        (
            {"instances": [[1, 2], [[3, 4]]]},
            "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting shape [2] but got: [1,2]",
        ),
        (
            {"instances": [[1, [2]]]},
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Encountered list at unexpected level: 1 expected < 1",
        ),
        (
            {"instances": [[[1], [2, 3]]]},
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
        ),
        (
            {"instances": [[[1], 2]]},
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (
            {"instances": [{"x": [1, 2, 3, 4]}, [1, 2, 3, 4]]},
            "Expecting object but got list at item 1 of input list",
        ),
        (
            {"instances": [[1, 2, 3, 4], {"x": [1, 2, 3, 4]}]},
            "Expecting value/list but got object at item 1 of input list",
        ),
        (
            {"instances": [{"z": 1}]},
            "Failed to process element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have named input: z",
        ),
        ({"inputs": {"z": 1}}, "Missing named input: x in 'inputs' object."),
        (
            {"signature_name": "two", "instances": [1]},
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map",
        ),
        (
            {"signature_name": "two", "instances": [{"a": [1, 2]}]},
            "keys must be equal to: a,b",
        ),
        (
            {"signature_name": "two", "inputs": [1]},
            "inputs is a plain value/list, but expecting an object as multiple "
            "input tensors required as per tensorinfo_map",
        ),
        (
            {"signature_name": "types", "inputs": {"in_bool": 1}},
            "JSON Value: 1 Type: Number is not of expected type: bool",
        ),
        (
            {"signature_name": "upper", "instances": [{"b64": "***"}]},
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Unable to base64 decode",
        ),
        (
            {"signature_name": "upper", "instances": [["a", {"b65": "x"}]]},
            "not formatted correctly for base64 data",
        ),
        (
            {"signature_name": "__saved_model_init_op", "inputs": {}},
            "Failed to get input map for signature: __saved_model_init_op",
        ),
        ({"instances": [[1, 2, 3]]}, "Matrix size-incompatible: In[0]: [1,3], In[1]: [4,3]"),
    ],
)
def test_predict_refuses_bodies_as_tf_serving_does(zoo: EmbeddedServer, body: Any, text: str) -> None:
    status, answer = predict(zoo, body)
    assert status == 400
    assert text in answer["error"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "When method is classify, key 'examples' is expected and was not found"),
        ({"examples": {}}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
        ({"examples": [{"x": [[1]]}]}, "Feature: x has element with unexpected JSON type: Array"),
        ({"examples": [{"x": [1, "a"]}]}, "Unexpected element type in feature: x expecting type: int64"),
        ({"examples": [{"x": ["a", 1.5]}]}, "Unexpected element type in feature: x expecting type: bytes"),
        ({"examples": [{"x": [1.5, True]}]}, "Unexpected element type in feature: x expecting type: float"),
        (
            {"examples": [{"x": 2**63}]},
            "Feature: x has uint64_t element. Only int64_t is supported.",
        ),
        ({"signature_name": "nope", "examples": [{}]}, "No signature was found with the name: nope"),
    ],
)
def test_classify_refuses_bodies_as_tf_serving_does(zoo: EmbeddedServer, body: Any, text: str) -> None:
    status, answer = call(zoo, "POST", "/v1/models/zoo:classify", body)
    assert status == 400
    assert text in answer["error"]


def test_a_missing_feature_is_tensorflows_own_complaint(zoo: EmbeddedServer) -> None:
    body = {"signature_name": "classify", "examples": [{"z": 1.0}]}
    status, answer = call(zoo, "POST", "/v1/models/zoo:classify", body)
    assert status == 400
    assert "Feature: x (data type: float) is required but could not be found" in answer["error"]


def test_gzipped_bodies(zoo: EmbeddedServer) -> None:
    body = gzip.compress(json.dumps({"instances": X}).encode())
    status, answer = predict(zoo, body, headers={"Content-Encoding": "gzip"})
    assert status == 200
    assert len(answer["predictions"]) == 2


def test_what_follows_the_object_and_not_a_number_are_let_through(zoo: EmbeddedServer) -> None:
    status, _ = predict(zoo, '{"instances": [[1, 2, 3, 4]]} and more')
    assert status == 200
    status, answer = predict(zoo, '{"instances": [[NaN, 2, 3, 1e999]]}')
    assert status == 200
    assert all(np.isnan(value) for value in answer["predictions"][0])


def test_a_key_given_twice_counts_the_first_time(zoo: EmbeddedServer) -> None:
    assert predict(zoo, '{"signature_name": "scalar", "inputs": 1, "inputs": 2}') == (200, {"outputs": 2.0})


def test_a_connection_serves_many_requests(zoo: EmbeddedServer) -> None:
    connection = http.client.HTTPConnection(zoo.rest.address, timeout=10)
    for _ in range(3):
        connection.request("POST", "/v1/models/zoo:predict", json.dumps({"instances": X}))
        response = connection.getresponse()
        assert response.headers["Content-Type"].startswith("application/json")
        assert response.status == 200
        response.read()
    connection.close()
