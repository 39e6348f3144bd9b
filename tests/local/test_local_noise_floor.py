"""A calibrated infrastructure's noise floor reaches the run, its results table and every later judgement."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from kfp import dsl

from model_load_test.components import run_load_test
from model_load_test.components.baseline.fingerprint import collect_fingerprint
from model_load_test.components.baseline.noise_floor import noise_floor_key, record_noise_floor
from model_load_test.components.baseline.store import open_store
from model_load_test.components.gate.spec import gate_spec_of_run
from model_load_test.components.load.generators import find_generator
from model_load_test.components.load.preflight import prepare
from model_load_test.components.results.table import read_results
from model_load_test.components.serving.embedded.process import EmbeddedServer

QUICK = {"rate_rps": 100.0, "block_seconds": 0.4, "warmup_seconds": 0.0, "looks": (2,)}


def test_margins_of_a_run_are_never_below_twice_its_stored_noise_floor(
    payload: Callable[[str], Path],
    tmp_path: Path,
    start_server: Callable[..., EmbeddedServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = start_server()
    requests = payload(str(server.grpc))
    planned = prepare(
        candidate_endpoint=str(server.grpc),
        baseline_endpoint="",
        model_name="digits",
        signature_name="serving_default",
        payload_path=requests,
        mode="auto",
        spec_values=QUICK,
        work_path=tmp_path,
    )
    load_spec = msgspec.to_builtins(planned.spec)
    fingerprint = collect_fingerprint(
        "embedded", generator="ghz", generator_version=find_generator("ghz").version
    )
    uri = f"file://{tmp_path / 'store'}"
    record_noise_floor(
        open_store(uri),
        noise_floor_key("default", "digits", load_spec, fingerprint),
        {"p50": 0.08},
        fingerprint=fingerprint,
        load_spec=load_spec,
        measured_at_ns=1,
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    results = dsl.Dataset(name="results", uri=str(tmp_path / "results.parquet"))
    run_load_test.python_func(
        payload=dsl.Dataset(name="payload", uri=str(requests)),
        results=results,
        resource_usage=dsl.Dataset(name="resource_usage", uri=str(tmp_path / "resource_usage.parquet")),
        candidate_endpoint=str(server.grpc),
        model_name="digits",
        baseline_store=uri,
        **{**QUICK, "looks": [2.0]},
    )
    assert not list(scratch.iterdir()), "the run left its scratch folder behind"
    metadata = read_results(Path(results.path)).metadata
    assert metadata.noise_floor == {"p50": 0.08}
    spec = gate_spec_of_run({}, metadata.load_spec, metadata.noise_floor)
    assert spec.margin("p50") == 0.16
    assert spec.margin("p95") == 0.10
