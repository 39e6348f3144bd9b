"""The body of the serving sweep's container component."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from model_load_test.components.cluster.connection import connect
from model_load_test.components.cluster.interruption import interruptible
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.errors import InputError
from model_load_test.components.executor import ExecutorTask
from model_load_test.components.image import load_test_image
from model_load_test.components.parameters import whole_numbers
from model_load_test.components.payload.make import make_payload
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.serving.model_uri import parse_model_uri, parse_storage
from model_load_test.components.sweep.files import best_serving, write_sweep_files
from model_load_test.components.sweep.journal import Journal
from model_load_test.components.sweep.on_cluster import ClusterServers
from model_load_test.components.sweep.result import SweepReport, metrics_of
from model_load_test.components.sweep.run import Sweeper, run_sweep
from model_load_test.components.sweep.spec import SweepSpec, parse_sweep_spec

_SWEEP: Final[Mapping[str, Any]] = {
    "parameters": {},
    "reference": {},
    "search": "grid",
    "trials": 20,
    "rates_rps": [100.0],
    "mode": "duet",
    "pairs": 15,
    "block_seconds": 0.0,
    "warmup_seconds": 2.0,
    "timeout_seconds": 5.0,
    "connections": 1,
    "objectives": [],
    "goal": "p95",
    "prices": {},
    "alpha": 0.05,
    "seed": 0,
}
_ARTIFACTS: Final = {"page": "sweep.html", "manifests": "best.yaml", "batching": "batching.txt"}


def sweep_serving(task: ExecutorTask) -> None:
    """Deploys, loads and removes one configuration after the other, and writes what came of it.

    Raises:
        InputError: The sweep cannot be run.
        SystemExit: It ended before its end; what was measured is written all the same.
    """
    spec = _spec(task)
    model = parse_model_uri(task.get("candidate_model", ""), "candidate_model")
    storage = parse_storage(task.get("storage", {}), model)
    run_id = task.get("run_id", "")
    if not run_id:
        raise InputError(
            "run_id", "", "give dsl.PIPELINE_JOB_ID_PLACEHOLDER, or any text that is the run's own"
        )
    with tempfile.TemporaryDirectory(prefix="serving-sweep-") as folder, interruptible():
        work_path = Path(folder)
        report = run_sweep(
            Sweeper(
                spec=spec,
                serve=ClusterServers(
                    cluster=connect(task.get("namespace", "")),
                    identity=RunIdentity(run_id, task.get("deployment", "") or "serving-sweep"),
                    model=model,
                    loader_image=task.get("loader_image", "") or load_test_image(),
                    storage=storage,
                    deadline_seconds=task.get("deadline_seconds", 7200),
                ),
                make_payload=lambda endpoint, path: _make_payload(task, spec, endpoint, path),
                journal=Journal(task.get("journal", "") or str(work_path / "journal")),
                work_path=work_path,
                limits={"allowed_hosts": task.get("allowed_hosts", [])},
            )
        )
    print(report.best_text, flush=True)
    files = task.outputs["sweep"].path
    write_sweep_files(files, spec, report, str(model), storage)
    _answer(task, spec, report, files)
    if not report.complete:
        print(f"unfinished: {report.unfinished}", file=sys.stderr, flush=True)
        task.finish()
        sys.exit(1)


def _spec(task: ExecutorTask) -> SweepSpec:
    # What stands for all servers is given apart, as everywhere.
    apart = {
        "tolerations": task.get("server_tolerations", []),
        "node_selector": task.get("server_node_selector", {}),
        "affinity": task.get("server_affinity", {}),
        "resources": task.get("server_resources", {}),
    }
    serving = {**task.get("serving", {}), **{name: value for name, value in apart.items() if value}}
    values = {name: task.get(name, default) for name, default in _SWEEP.items()}
    return parse_sweep_spec({**values, "serving": serving, "model_name": task.get("model_name", "")})


def _make_payload(task: ExecutorTask, spec: SweepSpec, endpoint: Endpoint, path: Path) -> None:
    make_payload(
        endpoint,
        model_name=spec.model_name,
        out_dir=path,
        signature_name=task.get("signature_name", "serving_default"),
        requests=task.get("payload_requests", 1000),
        batch_sizes=whole_numbers("batch_sizes", task.get("batch_sizes", [1, 2, 4])),
        seed=spec.seed,
    )


def _answer(task: ExecutorTask, spec: SweepSpec, report: SweepReport, files: Path) -> None:
    for artifact, name in _ARTIFACTS.items():
        if artifact in task.outputs:
            path = task.outputs[artifact].path
            path.parent.mkdir(parents=True, exist_ok=True)
            if (files / name).exists():
                shutil.copyfile(files / name, path)
            else:
                path.write_text("", encoding="utf-8")
    task.set_metadata("metrics", metrics_of(report))
    best = best_serving(spec, report)
    written = files / "serving.json"
    task.set_output("serving_of_best", json.loads(written.read_text()) if best is not None else {})
    task.set_output("best_configuration", report.configuration(report.best).words if report.best else "")
