"""Real generators against servers of the other APIs: the payload alone tells them what to call."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.run import StopDecision, run_load_test
from model_load_test.components.payload.make import make_payload
from model_load_test.components.protocols.endpoint import parse_endpoint
from model_load_test.components.serving.embedded.process import EmbeddedServer


def go_on(_table: pa.Table) -> StopDecision:
    return StopDecision(False, "go on")


@pytest.mark.parametrize(
    ("api", "protocol", "tool"),
    [
        ("oip", "grpc", "ghz"),
        ("oip", "http", "vegeta"),
        ("seldon", "http", "vegeta"),
        ("oip", "grpc", "locust"),
        ("oip", "http", "locust"),
        ("seldon", "http", "locust"),
    ],
)
def test_candidate_and_baseline_are_loaded_in_their_own_api(
    api: str, protocol: str, tool: str, tmp_path: Path, start_server: Callable[..., EmbeddedServer]
) -> None:
    if tool == "locust":
        # looked for, not imported: importing it patches the sockets and threads of all later tests
        if importlib.util.find_spec("locust") is None:
            pytest.skip("locust is not installed")
    elif shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on PATH (`make tools` says why it could not be installed)")
    servers = [start_server(api=api) for _ in range(2)]
    candidate, baseline = (str(one.grpc if protocol == "grpc" else one.rest) for one in servers)
    make_payload(parse_endpoint(candidate), model_name="digits", out_dir=tmp_path / "payload", requests=20)
    test = prepare(
        candidate_endpoint=candidate,
        baseline_endpoint=baseline,
        model_name="digits",
        signature_name="",
        payload_path=tmp_path / "payload",
        mode="auto",
        spec_values={
            "tool": tool,
            "rate_rps": 50,
            "block_seconds": 0.5,
            "looks": (3,),
            "warmup_seconds": 0.3,
        },
        work_path=tmp_path / "work",
    )
    assert test.server_kind == "embedded"
    table, metadata = run_load_test(test, go_on, progress=print)
    assert set(table["arm"].to_pylist()) == {"candidate", "baseline"}
    assert table.filter(pc.field("arm") == "candidate").num_rows >= 60
    assert pc.all(table["ok"]).as_py(), set(table["error"].to_pylist())
    assert metadata.payload["requests"] == 20


def test_a_payload_of_another_api_or_signature_is_refused(
    tmp_path: Path, start_server: Callable[..., EmbeddedServer]
) -> None:
    if shutil.which("ghz") is None:
        pytest.skip("ghz is not on PATH (`make tools` says why it could not be installed)")
    candidate, other = start_server(api="oip"), start_server()
    make_payload(candidate.grpc, model_name="digits", out_dir=tmp_path, requests=5)
    values: dict[str, Any] = {
        "candidate_endpoint": str(candidate.grpc),
        "baseline_endpoint": "",
        "model_name": "digits",
        "signature_name": "serving_default",
        "payload_path": tmp_path,
        "mode": "auto",
        "spec_values": {},
        "work_path": tmp_path / "work",
    }
    assert prepare(**values).server_kind == "embedded"
    with pytest.raises(InputError, match="does not speak the Open Inference Protocol"):
        prepare(**{**values, "baseline_endpoint": str(other.grpc)})
    with pytest.raises(InputError, match="signature_name: 'classify'"):
        prepare(**{**values, "signature_name": "classify"})
