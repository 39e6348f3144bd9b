"""Real generators against real servers of the Open Inference Protocol, and Triton's own times."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from model_load_test.components.load.bottleneck import Bottleneck, bottlenecks_of
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.run import StopDecision, run_load_test
from model_load_test.components.payload.make import make_payload
from model_load_test.components.results.table import RunMetadata

# The first test of a server also makes its environment.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GENERATORS = [("ghz", "grpc"), ("vegeta", "rest"), ("locust", "grpc"), ("locust", "rest")]


def go_on(_table: pa.Table) -> StopDecision:
    return StopDecision(False, "go on")


def load(
    server: Any, tmp_path: Path, tool: str, transport: str, model_name: str, **values: Any
) -> tuple[pa.Table, RunMetadata]:
    """Loads the model as candidate and baseline, with requests made from what the server publishes."""
    if tool == "locust":
        # looked for, not imported: importing it patches the sockets and threads of all later tests
        if importlib.util.find_spec("locust") is None:
            pytest.skip("locust is not installed")
    elif shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on PATH (`make tools` says why it could not be installed)")
    endpoint = getattr(server, transport)
    make_payload(endpoint, model_name=model_name, out_dir=tmp_path / "payload", requests=20)
    spec: dict[str, Any] = {
        "tool": tool,
        "rate_rps": 40,
        "block_seconds": 0.5,
        "looks": (3,),
        "warmup_seconds": 0.3,
    }
    mode = values.pop("mode", "duet")
    test = prepare(
        candidate_endpoint=str(endpoint),
        # One server plays both: the same model at another name is as good as two equal ones.
        baseline_endpoint="" if mode == "single" else str(endpoint).replace("127.0.0.1", "localhost"),
        model_name=model_name,
        signature_name="",
        payload_path=tmp_path / "payload",
        mode=mode,
        metrics={"candidate": server.metrics} if server.metrics else {},
        spec_values={**spec, **values},
        work_path=tmp_path / "work",
    )
    assert test.server_kind == server.kind.replace("mlserver", "")
    return run_load_test(test, go_on, progress=print)


@pytest.mark.parametrize(("tool", "transport"), GENERATORS)
@pytest.mark.parametrize("kind", ["triton", "kserve", "mlserver"])
def test_candidate_and_baseline_are_loaded(
    request: pytest.FixtureRequest, kind: str, tool: str, transport: str, tmp_path: Path
) -> None:
    server = request.getfixturevalue(kind)
    table, metadata = load(server, tmp_path, tool, transport, "digits")
    assert set(table["arm"].to_pylist()) == {"candidate", "baseline"}
    assert table.filter(pc.field("arm") == "candidate").num_rows >= 60
    assert pc.all(table["ok"]).as_py(), set(table["error"].to_pylist())
    assert metadata.payload["requests"] == 20


@pytest.mark.parametrize("tool", ["vegeta", "locust"])
def test_binary_tensors_are_sent_by_each_generator(triton: Any, tool: str, tmp_path: Path) -> None:
    table, _ = load(triton, tmp_path, tool, "rest", "pictures", mode="single")
    assert table.num_rows >= 60
    assert pc.all(table["ok"]).as_py(), set(table["error"].to_pylist())


@pytest.mark.parametrize(("tool", "transport"), GENERATORS[:2])
def test_tritons_own_queue_is_the_bottleneck(triton: Any, tool: str, transport: str, tmp_path: Path) -> None:
    # 40 requests/s of 50 ms each on one instance: twice what it can do, so the queue grows
    found = bottleneck(triton, tmp_path, tool, transport, rate_rps=40, timeout_seconds=20.0)
    assert found.verdict == "server queue", found.detail
    assert found.numbers["in_flight"] > 4, "Little's law shows the queue from outside too"


@pytest.mark.parametrize(("tool", "transport"), GENERATORS[:2])
def test_tritons_own_work_is_the_bottleneck(triton: Any, tool: str, transport: str, tmp_path: Path) -> None:
    found = bottleneck(triton, tmp_path, tool, transport, rate_rps=5)
    assert found.verdict == "server compute", found.detail
    assert found.numbers["server_mean_seconds"] >= 0.05


def bottleneck(server: Any, tmp_path: Path, tool: str, transport: str, **values: Any) -> Bottleneck:
    values = {"mode": "single", "block_seconds": 1.5, "looks": (2,), **values}
    _, metadata = load(server, tmp_path, tool, transport, "slow", **values)
    return bottlenecks_of(metadata.host)["candidate"]
