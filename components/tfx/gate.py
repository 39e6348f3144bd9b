"""The whole gate in one process: make requests, load both servers, find history, judge, report, record."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from model_load_test.components.baseline.fingerprint import collect_fingerprint
from model_load_test.components.baseline.lookup import find_baseline
from model_load_test.components.baseline.missing import becomes_baseline
from model_load_test.components.baseline.noise_floor import noise_floor_key, noise_floor_of_run
from model_load_test.components.baseline.recording import record_run
from model_load_test.components.baseline.run_records import key_of_run, record_of_run
from model_load_test.components.gate.spec import gate_spec_of_run, parse_gate_spec
from model_load_test.components.gate.stopping import load_stop_rule
from model_load_test.components.load.generators import find_generator
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.run import interruptible, run_load_test
from model_load_test.components.parameters import whole_numbers
from model_load_test.components.payload.make import make_payload
from model_load_test.components.protocols.endpoint import parse_endpoint
from model_load_test.components.protocols.tf_serving import DEFAULT_SIGNATURE_NAME
from model_load_test.components.report.html import render_page
from model_load_test.components.report.judging import judge_results
from model_load_test.components.report.markdown import render_summary
from model_load_test.components.report.metrics import metrics
from model_load_test.components.report.model import RunReport
from model_load_test.components.report.writing import encode_report
from model_load_test.components.results.table import RunMetadata, write_results
from model_load_test.components.tfx.settings import Settings

_DEFAULT_REQUESTS: Final = 1000
_DEFAULT_BATCH_SIZES: Final = (1, 2, 4)
_NOT_OF_THE_SPEC: Final = ("mode", "connection", "limits")
_POLICIES: Final = ("on_inconclusive", "on_missing_baseline")


@dataclass(frozen=True)
class Servers:
    """The servers to be loaded, and what is known of them."""

    candidate: str
    baseline: str = ""
    """Empty: compare with recorded runs only."""
    kind: str = "unknown"
    image: str = ""
    flags: tuple[str, ...] = ()
    replicas: int = 1
    own: bool = False
    """The candidate, and a baseline that was given as a model, were deployed for this test: they may be
    loaded wherever they are."""


def run_gate(settings: Settings, servers: Servers, examples: Path | None, folder: Path) -> RunReport:
    """Runs the gate and leaves results.parquet, report.json, report.html and report.md in `folder`.

    Args:
        settings: What to load and to demand.
        servers: Both are up.
        examples: The user's own examples to make requests of; random values without.
        folder: Made where it is missing.

    Raises:
        InputError: Something cannot be used; the error names the field, the value and the remedy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results, history, report_json = (
        folder / "results.parquet",
        folder / "history.json",
        folder / "report.json",
    )
    demands = demands_of(settings)
    with tempfile.TemporaryDirectory(prefix="load-test-") as work_path:
        metadata = _measure(settings, servers, demands, examples, Path(work_path), results)
    key = key_of_run(metadata, settings.namespace, settings.model_name)
    history.write_bytes(msgspec.json.encode(find_baseline(settings.baseline_store, key)))
    report = judge_results(
        results,
        history,
        gate_values=demands,
        model_name=settings.model_name,
        model_version=settings.model_version,
    )
    report_json.write_bytes(encode_report(report))
    (folder / "report.html").write_text(render_page(report), encoding="utf-8")
    (folder / "report.md").write_text(render_summary(report), encoding="utf-8")
    record = record_of_run(
        metadata, key, metrics(report), report.verdict.verdict, model_version=settings.model_version
    )
    policy = parse_gate_spec(settings.gate_spec).on_missing_baseline
    recorded_here = becomes_baseline(report.verdict.verdict, policy)
    print(record_run(settings.baseline_store if recorded_here else "", record, folder).reason)
    return report


def demands_of(settings: Settings) -> dict[str, Any]:
    """The part of the gate spec that the verdict depends on.

    Raises:
        InputError: The gate spec cannot be used.
    """
    parse_gate_spec(settings.gate_spec)
    return {name: value for name, value in settings.gate_spec.items() if name not in _POLICIES}


def _measure(
    settings: Settings,
    servers: Servers,
    demands: Mapping[str, Any],
    examples: Path | None,
    work_path: Path,
    results: Path,
) -> RunMetadata:
    signature_name = settings.payload.get("signature_name", DEFAULT_SIGNATURE_NAME)
    make_payload(
        parse_endpoint(servers.candidate, "candidate_endpoint"),
        model_name=settings.model_name,
        out_dir=work_path / "payload",
        signature_name=signature_name,
        requests=settings.payload.get("payload_requests", _DEFAULT_REQUESTS),
        batch_sizes=whole_numbers("batch_sizes", settings.payload.get("batch_sizes", _DEFAULT_BATCH_SIZES)),
        seed=settings.load_spec.get("seed", 0),
        examples=examples,
    )
    test = prepare(
        candidate_endpoint=servers.candidate,
        baseline_endpoint=servers.baseline,
        model_name=settings.model_name,
        signature_name=signature_name,
        payload_path=work_path / "payload",
        mode=settings.load_spec.get("mode", "auto"),
        spec_values={
            name: value for name, value in settings.load_spec.items() if name not in _NOT_OF_THE_SPEC
        },
        work_path=work_path,
        connection=settings.load_spec.get("connection"),
        limits=_limits(settings, servers),
    )
    load_spec = msgspec.to_builtins(test.spec)
    generator = find_generator(test.spec.tool)
    fingerprint = collect_fingerprint(
        test.server_kind or servers.kind,
        server_image=servers.image,
        server_flags=servers.flags,
        replicas=servers.replicas,
        generator=generator.tool,
        generator_version=generator.version,
    )
    noise_floor = noise_floor_of_run(
        settings.baseline_store,
        noise_floor_key(settings.namespace, settings.model_name, load_spec, fingerprint),
    )
    stop_rule = load_stop_rule(gate_spec_of_run(demands, load_spec, noise_floor))
    with interruptible() as interruption:
        table, metadata = run_load_test(test, stop_rule, interruption=interruption)
        metadata = msgspec.structs.replace(
            metadata, fingerprint=msgspec.to_builtins(fingerprint), noise_floor=noise_floor
        )
        write_results(results, table, metadata)
    return metadata


def _limits(settings: Settings, servers: Servers) -> dict[str, Any]:
    limits = dict(settings.load_spec.get("limits", {}))
    if servers.own:
        ends = [servers.candidate, *([servers.baseline] if settings.baseline_model else [])]
        hosts = [parse_endpoint(end).host for end in ends]
        limits["allowed_hosts"] = [*limits.get("allowed_hosts", ()), *hosts]
    return limits
