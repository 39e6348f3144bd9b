"""The body of the load Job's container component."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from model_load_test.components.baseline.fingerprint import Fingerprint, collect_fingerprint
from model_load_test.components.baseline.nodes import NODE_NAME_VARIABLE
from model_load_test.components.baseline.noise_floor import noise_floor_key, noise_floor_of_run
from model_load_test.components.cluster.connection import connect
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.errors import InputError
from model_load_test.components.executor import ExecutorTask, TaskArtifact
from model_load_test.components.gate.spec import GateSpec, gate_spec_of_run, parse_gate_spec
from model_load_test.components.gate.stopping import load_stop_rule
from model_load_test.components.load.blocks import rows_of_arm
from model_load_test.components.load.job.coordinator import LoadJob, Measured
from model_load_test.components.load.job.coordinator import run_load_job as run
from model_load_test.components.load.job.spec import JobSpec, parse_job_spec
from model_load_test.components.load.run import StopRule
from model_load_test.components.parameters import refuse_unknown, whole_numbers
from model_load_test.components.protocols.endpoint import parse_endpoint
from model_load_test.components.resources.spec import parse_resource_spec
from model_load_test.components.resources.watch import ResourceWatch, keep_resources
from model_load_test.components.results.summary import summarize_blocks, to_json_values
from model_load_test.components.results.table import write_results

_LOAD: Final[Mapping[str, Any]] = {
    "rate_rps": 200.0,
    "block_seconds": 0.0,
    "warmup_seconds": 2.0,
    "timeout_seconds": 5.0,
    "connections": 1,
    "rate_profile": {},
    "concurrency": 0,
    "http_version": "1.1",
    "keep_alive": True,
    "max_connections": 0,
    "workers": 1,
    "users": 0,
    "seed": 0,
}
_LIMITS: Final[Mapping[str, Any]] = {
    "allowed_hosts": [],
    "max_rate_rps": 5000.0,
    "max_requests": 2_000_000,
    "max_seconds": 3600.0,
    "max_error_share": 0.5,
}
_JOB: Final[Mapping[str, Any]] = {
    "generators": 2,
    "service_account": "",
    "tolerations": [],
    "node_selector": {},
    "affinity": {},
    "resources": {},
    "avoid": [],
    "keep_off_servers": "required",
    "spread": "preferred",
    "secrets": {},
    "pod": {},
    "annotations": {},
    "start_timeout_seconds": 60.0,
    "ttl_seconds": 300,
}


def load_from_pods(
    parameters: Mapping[str, Any],
    pods: Mapping[str, Any],
    payload: Path,
    results: Path,
    resource_usage: Path,
) -> None:
    """What `run_load_test` does where it has more than one generator.

    Args:
        parameters: Its own, by name.
        pods: Parameters of `run_load_job` that say where and how the generators' pods run.
        payload: The payload set.
        results: Where the rows are to be written.
        resource_usage: Where the samples of the servers' resources are.

    Raises:
        InputError: As `run_load_job`, or a name in `pods` means nothing.
    """
    names = ("generator_image", "generator_namespace", *(name for name in _JOB if name != "generators"))
    refuse_unknown("generator_pods", pods, names, prefix="generator_pods.")
    run_load_job(
        ExecutorTask(
            parameters={**parameters, **pods},
            inputs={"payload": TaskArtifact("payload", "", payload, {})},
            outputs={
                "results": TaskArtifact("results", "", results, {}),
                "resource_usage": TaskArtifact("resource_usage", "", resource_usage, {}),
            },
            output_files={},
            executor_output=results.with_name("executor_output.json"),
        )
    )


def run_load_job(task: ExecutorTask) -> None:
    """Loads from the pods of a Job and writes the rows of all of them.

    Raises:
        InputError: The load could not begin, or its rows could not be kept.
    """
    spec = parse_job_spec(
        {
            **_given(task, _JOB),
            "image": task.get("generator_image", ""),
            "namespace": task.get("generator_namespace", ""),
        }
    )
    identity = RunIdentity(task.get("run_id", ""), task.get("task_id", ""))
    with tempfile.TemporaryDirectory(prefix="load-job-") as folder:
        job = LoadJob(
            spec=spec,
            identity=identity,
            cluster=connect(spec.namespace),
            preparation=_preparation(task),
            payload_path=task.inputs["payload"].path,
            work_path=Path(folder) / "work",
            metrics_port=task.get("metrics_port", 0),
        )
        watch = _resource_watch(task)
        floor: dict[str, float] = {}

        def stop_rule_of(found: Measured) -> StopRule:
            floor.update(_noise_floor(task, spec, found))
            return load_stop_rule(_gate_spec(task, found, floor), watch.cpu_so_far)

        with watch:
            measured = run(job, stop_rule_of)
            _write(task, spec, measured, floor)
            if "resource_usage" in task.outputs:
                keep_resources(watch, task.outputs["results"].path, task.outputs["resource_usage"].path)


def _resource_watch(task: ExecutorTask) -> ResourceWatch:
    endpoints = {
        arm: parse_endpoint(text, f"{arm}_endpoint")
        for arm in ("candidate", "baseline")
        if (text := task.get(f"{arm}_endpoint", ""))
    }
    spec = parse_resource_spec(task.get("resource_sources", {}), endpoints, run_id=task.get("run_id", ""))
    watch = ResourceWatch(spec, task.get("model_name", ""))
    if "cpu" in parse_gate_spec(_demands(task)).margins:
        watch.require()
    return watch


def _preparation(task: ExecutorTask) -> dict[str, Any]:
    """The arguments of `load.preflight.prepare`, as every generator gets them too."""
    load: dict[str, Any] = _given(task, _LOAD)
    if task.get("tool", ""):
        load["tool"] = task.get("tool", "")
    load["looks"] = whole_numbers("looks", task.get("looks", [10, 15, 20, 30, 60]))
    return {
        "candidate_endpoint": task.get("candidate_endpoint", ""),
        "baseline_endpoint": task.get("baseline_endpoint", ""),
        "model_name": task.get("model_name", ""),
        "signature_name": task.get("signature_name", "serving_default"),
        "mode": task.get("mode", "auto"),
        "spec_values": load,
        "connection": task.get("connection", {}),
        "locustfile": task.get("locustfile", ""),
        "limits": _given(task, _LIMITS),
    }


def _given(task: ExecutorTask, defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: task.get(name, default) for name, default in defaults.items()}


def _gate_spec(task: ExecutorTask, measured: Measured, noise_floor: dict[str, float]) -> GateSpec:
    return gate_spec_of_run(_demands(task), measured.metadata.load_spec, noise_floor)


def _demands(task: ExecutorTask) -> dict[str, Any]:
    return {
        "margins": task.get("margins", {}),
        "alpha": task.get("alpha", 0.05),
        "objectives": task.get("objectives", []),
    }


def _noise_floor(task: ExecutorTask, spec: JobSpec, measured: Measured) -> dict[str, float]:
    if not task.get("baseline_store", ""):
        return {}
    key = noise_floor_key(
        task.get("namespace", "default"),
        task.get("model_name", ""),
        measured.metadata.load_spec,
        _fingerprint(task, spec, measured),
    )
    return noise_floor_of_run(task.get("baseline_store", ""), key)


def _fingerprint(task: ExecutorTask, spec: JobSpec, measured: Measured) -> Fingerprint:
    """The circumstances of the generators, not of this task, which sends nothing."""
    found = collect_fingerprint(
        measured.test.server_kind or task.get("server_kind", "unknown"),
        server_image=task.get("server_image", ""),
        server_flags=task.get("server_flags", []),
        replicas=task.get("server_replicas", 1),
        # Other numbers of generators are other connections, other arrivals: another load.
        generator=f"{spec.generators} x {measured.metadata.tool}",
        generator_version=measured.metadata.tool_version,
        environment={**os.environ, NODE_NAME_VARIABLE: measured.nodes[0]},
    )
    models = sorted({str(host.get("cpu_model", "")) for host in measured.hosts})
    cores = sorted({int(host.get("cores", 0)) for host in measured.hosts})
    return msgspec.structs.replace(found, cpu_model=", ".join(models), cpu_cores=cores[0] if cores else 0)


def _write(task: ExecutorTask, spec: JobSpec, measured: Measured, noise_floor: dict[str, float]) -> None:
    metadata = msgspec.structs.replace(
        measured.metadata,
        fingerprint=msgspec.to_builtins(_fingerprint(task, spec, measured)),
        noise_floor=noise_floor,
    )
    path = task.outputs["results"].path
    try:
        write_results(path, measured.table, metadata)
    except OSError as error:
        path.unlink(missing_ok=True)
        for arm in measured.test.endpoints:
            # The last place that is left for what was measured is the log.
            summary = summarize_blocks(rows_of_arm(measured.table, arm), metadata.load_spec)
            print(f"{arm}: {msgspec.json.encode(to_json_values(summary)).decode()}", flush=True)
        raise InputError(
            "results",
            str(path),
            f"{measured.table.num_rows} rows cannot be written ({error.strerror}); "
            "give the task more room, and see above for what they come to",
        ) from None
