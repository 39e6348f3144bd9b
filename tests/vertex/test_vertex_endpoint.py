"""Vertex AI's endpoints as the project's own clients see them: addresses, state, requests, refusals."""

import json
from dataclasses import replace

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.load.connection import parse_connection_options
from model_load_test.components.load.counters import usual_page
from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.manifest import PayloadError, read_bodies
from model_load_test.components.payload.trial import try_payload
from model_load_test.components.protocols.client import (
    ModelNotFound,
    UnexpectedAnswer,
    declared_server_kind,
    detect_api,
    model_metadata,
    model_status,
)
from model_load_test.components.protocols.endpoint import parse_endpoint
from model_load_test.components.protocols.vertex import model_of

WITH_TOKEN = {"ca_file": "system", "token_source": "google"}
X = {"x": "float32[?, 4]"}


def reached(text):
    return replace(parse_endpoint(text), access=parse_connection_options(WITH_TOKEN).access())


@pytest.mark.parametrize(
    ("text", "base_path"),
    [
        (
            "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/endpoints/1",
            "/v1/projects/p/locations/europe-west4/endpoints/1",
        ),
        (
            "https://mlt-1.europe-west4-12.prediction.vertexai.goog/v1/projects/12/locations/europe-west4/"
            "endpoints/mlt-1/",
            "/v1/projects/12/locations/europe-west4/endpoints/mlt-1",
        ),
        (
            "https://10.1.2.3/v1/projects/my-project/locations/us-central1/endpoints/1",
            "/v1/projects/my-project/locations/us-central1/endpoints/1",
        ),
        ("http://17.aiplatform.googleapis.com/v1/models/42", "/v1/models/42"),
    ],
)
def test_every_address_of_vertex_is_known_by_itself(text, base_path):
    endpoint = parse_endpoint(text)
    assert endpoint.base_path == base_path
    assert detect_api(endpoint, "m") == "vertex"
    assert usual_page(endpoint) is None, "there are no counters to read"


@pytest.mark.parametrize(
    "text",
    [
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/1:predict",
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/1:rawPredict",
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/l/models/1",
        "http://127.0.0.1:8501/v1/models/42",
        "http://server/v1/models/digits:predict",
    ],
)
def test_paths_that_are_not_an_endpoints_are_still_refused(text):
    with pytest.raises(InputError, match="leave the API's own path away"):
        parse_endpoint(text)


def test_an_endpoint_tells_the_version_of_its_one_model(google, deployed):
    endpoint = reached(deployed())
    (version,) = model_status(endpoint, "digits", api="vertex")
    assert (version.version, version.state) == ("1", "AVAILABLE")
    assert list(model_metadata(endpoint, "digits", api="vertex")) == [""]
    assert declared_server_kind(endpoint, "digits", api="vertex") == "vertex"


def test_an_endpoint_of_its_own_name_is_looked_up_at_the_locations(google, deployed):
    address = deployed(dedicated=True)
    assert ".prediction.vertexai.goog/v1/projects/" in address
    assert model_status(reached(address), "digits", api="vertex")[0].state == "AVAILABLE"
    assert google.hosts[-1] == "europe-west4-aiplatform.googleapis.com"


def test_the_common_name_of_an_endpoint_with_its_own_is_refused_with_the_right_one(google, deployed):
    own = deployed(dedicated=True)
    common = f"https://europe-west4-aiplatform.googleapis.com{own[own.index('/v1/') :]}"
    with pytest.raises(UnexpectedAnswer, match=r"answers at no other; write https://.*vertexai\.goog/v1/"):
        model_status(reached(common), "digits", api="vertex")


@pytest.mark.parametrize(
    ("document", "error", "why"),
    [
        ({"name": "e"}, ModelNotFound, "no model is deployed to it"),
        ({"deployedModels": [{"id": "1"}]}, ModelNotFound, "none of its models gets traffic"),
        (
            {"deployedModels": [{"id": "1"}, {"id": "2"}], "trafficSplit": {"1": 90, "2": 10}},
            UnexpectedAnswer,
            r"shared out \(1 90 %, 2 10 %\)",
        ),
    ],
)
def test_an_endpoint_that_is_no_arm_is_refused(document, error, why):
    with pytest.raises(error, match=why):
        model_of(document, "e")


def test_a_model_that_gets_all_traffic_beside_another_is_the_one():
    document = {"deployedModels": [{"id": "1"}, {"id": "2"}], "trafficSplit": {"1": 0, "2": 100}}
    assert model_of(document, "e")["id"] == "2"


def test_what_is_wrong_with_an_endpoint_is_said(google, deployed):
    address = deployed()
    with pytest.raises(ModelNotFound, match="there is no such endpoint"):
        model_status(reached(address.rpartition("/")[0] + "/77"), "digits", api="vertex")
    with pytest.raises(UnexpectedAnswer, match='"token_source": "google"'):
        model_status(parse_endpoint(address), "digits", api="vertex")
    with pytest.raises(InputError, match="Vertex AI is loaded over REST"):
        model_status(parse_endpoint("grpc://europe-west4-aiplatform.googleapis.com:443"), "m", api="vertex")


@pytest.mark.parametrize(
    ("body_format", "path", "keys"),
    [
        ("auto", ":predict", {"instances"}),
        ("instances", ":predict", {"instances"}),
        ("row", ":rawPredict", {"instances"}),
        ("columnar", ":rawPredict", {"inputs"}),
    ],
)
def test_requests_of_every_form_are_answered(google, deployed, tmp_path, body_format, path, keys):
    endpoint = reached(deployed())
    manifest = make_payload(
        endpoint, model_name="digits", inputs=X, requests=5, body_format=body_format, out_dir=tmp_path
    )
    assert (manifest.api, manifest.path) == ("vertex", path)
    assert set(json.loads(read_bodies(tmp_path)[0])) == keys
    assert try_payload(tmp_path, endpoint) == 5
    assert {way for _, way, _ in google.vertex.predictions} == {path.removeprefix(":")}


def test_several_inputs_are_instances_by_name(google, deployed, tmp_path):
    endpoint = reached(deployed())
    inputs = {"a": "float32[?, 2]", "b": "int64[?]"}
    make_payload(endpoint, model_name="digits", inputs=inputs, requests=3, out_dir=tmp_path)
    assert set(json.loads(read_bodies(tmp_path)[0])["instances"][0]) == {"a", "b"}
    assert try_payload(tmp_path, endpoint) == 3


def test_another_signature_goes_raw_by_its_name(google, deployed, tmp_path):
    endpoint = reached(deployed())
    manifest = make_payload(
        endpoint, model_name="digits", inputs=X, signature_name="other", requests=3, out_dir=tmp_path
    )
    assert (manifest.path, manifest.signature_name) == (":rawPredict", "other")
    assert json.loads(read_bodies(tmp_path)[0])["signature_name"] == "other"
    assert try_payload(tmp_path, endpoint) == 3


def test_open_inference_goes_raw(deployed, tmp_path, google):
    manifest = make_payload(
        reached(deployed()), model_name="digits", inputs=X, requests=3, body_format="oip", out_dir=tmp_path
    )
    assert manifest.path == ":rawPredict"
    assert json.loads(read_bodies(tmp_path)[0])["inputs"][0]["datatype"] == "FP32"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"signature_name": "other", "body_format": "instances"}, ":predict calls the default signature"),
        ({"body_format": "tensor"}, "choose auto, instances, row, columnar or oip"),
        ({"protocol": "grpc"}, "loaded over REST"),
        ({"inputs": {}}, "the server does not publish the inputs"),
        ({"inputs": {"x": "complex64[?]"}}, "cannot carry input"),
    ],
)
def test_what_vertex_cannot_carry_is_refused(google, deployed, tmp_path, options, why):
    given = {"inputs": X, "requests": 1, **options}
    with pytest.raises(PayloadError, match=why):
        make_payload(reached(deployed()), model_name="digits", out_dir=tmp_path, **given)


def test_a_refused_request_is_told_in_googles_words(google, deployed, tmp_path):
    endpoint = reached(deployed())
    make_payload(endpoint, model_name="digits", inputs={"x": "string[?]"}, requests=1, out_dir=tmp_path)
    with pytest.raises(PayloadError, match=r"HTTP 400: '.*' is no number"):
        try_payload(tmp_path, endpoint)


def test_a_request_that_is_too_large_for_the_common_name_is_refused_before_any_load(
    google, deployed, tmp_path
):
    endpoint = reached(deployed())
    inputs = {"x": "float32[?, 300000]"}
    make_payload(endpoint, model_name="digits", inputs=inputs, requests=1, batch_sizes=[1], out_dir=tmp_path)
    with pytest.raises(PayloadError, match="HTTP 413"):
        try_payload(tmp_path, endpoint)
