"""The requests of an infrastructure validation, against a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.serving.embedded.process import embedded_server
from model_load_test.components.serving.readiness import ServedArm
from model_load_test.components.serving.spec import parse_request_spec
from model_load_test.components.tasks.requests import request_sender


def test_requests_are_made_for_the_server_and_answered(tmp_path: Path) -> None:
    examples = tmp_path / "rows.jsonl"
    examples.write_text('{"images": ' + str([0.5] * 64) + "}\n")
    with embedded_server("digits", backend="numpy") as server:
        for endpoint in (server.grpc, server.rest):
            arm = ServedArm(endpoint, "digits", "embedded")
            for given in (None, examples):
                send = request_sender(parse_request_spec({"requests": 3}), given)
                assert send is not None
                assert send(arm) == 3
        unknown = request_sender(parse_request_spec({"signature_names": ["no_such"]}), None)
        assert unknown is not None
        with pytest.raises(InputError, match="no_such"):
            unknown(ServedArm(server.grpc, "digits", "embedded"))


def test_none_at_all_only_loads_the_model() -> None:
    assert request_sender(parse_request_spec({"requests": 0}), None) is None
