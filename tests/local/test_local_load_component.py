"""The body of the component `run_load_test` with values as KFP hands them over: every number a double."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model_load_test.components import run_load_test
from model_load_test.components.errors import InputError
from model_load_test.components.results import table
from model_load_test.components.results.table import Results, read_results
from model_load_test.components.serving.embedded.process import EmbeddedServer
from model_load_test.components.tfx import gate
from model_load_test.components.tfx.settings import Settings


def run(payload: Path, results: Path, **values: Any) -> Results:
    defaults = {"model_name": "digits", "block_seconds": 0.5, "looks": [1.0], "warmup_seconds": 0.0}
    run_load_test.python_func(
        payload=SimpleNamespace(path=str(payload)),
        results=SimpleNamespace(path=str(results)),
        resource_usage=SimpleNamespace(path=str(results.with_name("resource-usage.parquet"))),
        **{**defaults, **values},
    )
    return read_results(results)


def test_a_profile_reaches_the_generators_and_the_results(
    protocol: str,
    payload: Callable[[str], Path],
    tmp_path: Path,
    start_server: Callable[..., EmbeddedServer],
) -> None:
    server = start_server()
    endpoint = str(server.grpc if protocol == "grpc" else server.rest)
    found = run(
        payload(endpoint),
        tmp_path / "results.parquet",
        candidate_endpoint=endpoint,
        rate_profile={"shape": "ramp", "from_rps": 20.0, "to_rps": 60.0, "seconds": 1.0},
        max_requests=1000.0,
    )
    spec = found.metadata.load_spec
    assert spec["rate_profile"] == "ramp from 20 to 60 requests/s in 1 s"
    assert list(spec["block_rates_rps"]) == [30, 50]
    assert set(found.table["block"].to_pylist()) == {-1, 0, 1}
    assert found.metadata.fingerprint["generator"] == {"grpc": "ghz", "http": "vegeta"}[protocol]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"rate_rps": 6000.0}, "max_rate_rps"),
        ({"max_seconds": 0.0}, "max_seconds"),
        ({"candidate_endpoint": "grpc://models.example.com:8500"}, "candidate_endpoint"),
        ({"candidate_endpoint": "grpcs://localhost:8500"}, "candidate_endpoint"),
        ({"connection": {"token": "abc"}}, "token"),
        ({"rate_profile": {"shape": "ramp", "from_rps": 1.0, "to_rps": -1.0, "seconds": 3.0}},
         "rate_profile.to_rps"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_any_load(
    values: dict[str, Any],
    field: str,
    payload: Callable[[str], Path],
    tmp_path: Path,
    start_server: Callable[..., EmbeddedServer],
) -> None:
    endpoint = str(start_server().grpc)
    with pytest.raises(InputError) as caught:
        run(payload(endpoint), tmp_path / "results", **{"candidate_endpoint": endpoint, **values})
    assert caught.value.field == field
    assert not (tmp_path / "results").exists()


def test_a_signal_after_the_load_does_not_lose_its_rows(
    payload: Callable[[str], Path],
    tmp_path: Path,
    start_server: Callable[..., EmbeddedServer],
    sigterm: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = table.write_results

    def write_late(*arguments: Any) -> None:
        sigterm()
        write(*arguments)

    monkeypatch.setattr(table, "write_results", write_late)
    endpoint = str(start_server().grpc)
    found = run(payload(endpoint), tmp_path / "results.parquet", candidate_endpoint=endpoint)
    assert 0 in found.table["block"].to_pylist()


def test_nor_does_one_after_the_load_of_a_gate_in_one_process(
    tmp_path: Path,
    start_server: Callable[..., EmbeddedServer],
    sigterm: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write_late(*arguments: Any) -> None:
        sigterm()
        table.write_results(*arguments)

    monkeypatch.setattr(gate, "write_results", write_late)
    settings = Settings(
        model_name="digits",
        payload={"payload_requests": 50},
        load_spec={"block_seconds": 0.5, "looks": [10], "warmup_seconds": 0.0},
    )
    gate.run_gate(settings, gate.Servers(str(start_server().grpc)), None, tmp_path)
    assert read_results(tmp_path / "results.parquet").table.num_rows
