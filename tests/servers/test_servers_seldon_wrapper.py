"""Seldon's tensor and ndarray against its own model wrapper: asked, made for, answered."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from model_load_test.components.payload.encoding import encoding_of
from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.manifest import PayloadError, read_bodies
from model_load_test.components.payload.trial import try_payload
from model_load_test.components.protocols.client import detect_api, model_metadata, model_status
from model_load_test.components.protocols.seldon import PREDICT_PATH, read_message
from model_load_test.components.protocols.signature import NAMELESS, Signature, TensorSpec

# The first test also makes the environment.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_status_and_metadata(seldon_wrapper: Any) -> None:
    iris = seldon_wrapper("Iris")
    assert detect_api(iris, "iris") == "seldon"
    assert model_status(iris, "iris", api="seldon")[0].state == "AVAILABLE"
    signature = model_metadata(iris, "iris", api="seldon")[NAMELESS]
    assert dict(signature.inputs) == {"data": TensorSpec("float64", (-1, 3))}
    assert signature.columns == ("a", "b", "c")


def test_a_model_without_metadata_is_still_recognised(seldon_wrapper: Any, tmp_path: Path) -> None:
    echo = seldon_wrapper("Echo")
    assert detect_api(echo, "echo") == "seldon"
    assert dict(model_metadata(echo, "echo", api="seldon")[NAMELESS].inputs) == {}
    rows = tmp_path / "rows.jsonl"
    rows.write_text("[1.5, 2]\n[3, 4]\n")
    make_payload(echo, model_name="echo", out_dir=tmp_path / "set", requests=5, examples=rows)
    assert try_payload(tmp_path / "set", echo) == 5


@pytest.mark.parametrize("body_format", ["tensor", "ndarray"])
def test_every_request_is_answered(seldon_wrapper: Any, tmp_path: Path, body_format: str) -> None:
    iris = seldon_wrapper("Iris")
    make_payload(iris, model_name="iris", out_dir=tmp_path, requests=10, body_format=body_format)
    assert json.loads(read_bodies(tmp_path)[0])["data"]["names"] == ["a", "b", "c"]
    assert try_payload(tmp_path, iris) == 10


def test_a_refused_request_is_named(seldon_wrapper: Any, tmp_path: Path) -> None:
    iris = seldon_wrapper("Iris")
    rows = tmp_path / "request.json"
    rows.write_text(json.dumps({"data": {"ndarray": [[1, 2]]}}))
    with pytest.raises(PayloadError, match="its shape is"):
        make_payload(iris, model_name="iris", out_dir=tmp_path / "set", examples=rows)
    echo = seldon_wrapper("Echo")
    make_payload(echo, model_name="iris", out_dir=tmp_path / "set", requests=3, examples=rows)
    with pytest.raises(PayloadError, match="three columns are wanted"):
        try_payload(tmp_path / "set", iris)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6).map(str.encode)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("body_format", ["tensor", "ndarray"])
def test_the_wrapper_reads_back_what_was_sent(seldon_wrapper: Any, body_format: str, data: Any) -> None:
    echo = seldon_wrapper("Echo")
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    if body_format == "ndarray" and data.draw(st.booleans()):
        array = np.empty(shape[0] * shape[1], object)
        array[:] = data.draw(st.lists(TEXTS, min_size=array.size, max_size=array.size))
        array = array.reshape(shape)
        spec = TensorSpec("string", (-1, -1))
    else:
        elements = st.floats(allow_nan=False, allow_infinity=False, width=64)
        array = data.draw(npst.arrays("float64", shape, elements=elements))
        spec = TensorSpec("float64", (-1, -1))
    signature = Signature(NAMELESS, "", {"data": spec}, {})
    record = encoding_of("seldon", "http", "m", [signature], body_format).record(signature, {"data": array})
    connection = http.client.HTTPConnection(echo.address, timeout=20)
    try:
        connection.request("POST", PREDICT_PATH, record, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
    finally:
        connection.close()
    found, _ = read_message(json.loads(answer))
    assert found.tolist() == array.tolist()
