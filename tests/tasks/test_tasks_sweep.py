"""The body of the serving sweep's container component, run as KFP's launcher runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_load_test.components.executor import parse_executor_input
from model_load_test.components.serving.spec import ServingSpec
from model_load_test.components.sweep.local import LocalServers
from model_load_test.components.sweep.measurement import Servers
from model_load_test.components.sweep.on_cluster import ClusterServers
from model_load_test.components.tasks.__main__ import main
from model_load_test.components.tasks.sweep import sweep_serving

SWEEP: dict[str, Any] = {
    "candidate_model": "gs://bucket/digits",
    "model_name": "digits",
    "run_id": "run",
    "parameters": {"enable_batching": [True], "max_batch_size": [16.0]},
}
ARTIFACTS = ("sweep", "page", "metrics", "manifests", "batching")
VALUES = ("serving_of_best", "best_configuration")


def executor_input(folder: Path, **parameters: Any) -> str:
    document = {
        "inputs": {"parameterValues": {**SWEEP, **parameters}},
        "outputs": {
            "parameters": {name: {"outputFile": str(folder / name)} for name in VALUES},
            "artifacts": {
                name: {"artifacts": [{"name": name, "uri": str(folder / name), "metadata": {}}]}
                for name in ARTIFACTS
            },
            "outputFile": str(folder / "output.json"),
        },
    }
    return json.dumps(document)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", "/nonexistent")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"parameters": {}}, "name at least one"),
        ({"parameters": {"max_batch_size": [8]}}, "KUBECONFIG|cluster|none of 1 combinations"),
        ({"parameters": {"max_batch": [8]}}, "did you mean 'max_batch_size'"),
        ({"rates_rps": []}, "different rates"),
        ({"candidate_model": "digits"}, "candidate_model"),
        ({"run_id": ""}, "PIPELINE_JOB_ID_PLACEHOLDER"),
        ({"goal": "cost"}, "give prices"),
        ({"server_resources": {"requests": {"cpu": "two"}}}, "cpu"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    given: dict[str, Any], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert main(["sweep_serving", executor_input(tmp_path, **given)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert re.search(named, said[-1]), said


@pytest.mark.slow
def test_a_sweep_answers_with_all_its_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = LocalServers(options={"compute_ms": 40.0, "compute_threads": 1})

    @contextmanager
    def on_this_machine(
        _servers: ClusterServers, configuration: ServingSpec, reference: ServingSpec
    ) -> Iterator[Servers]:
        with local(configuration, reference) as servers:
            yield servers

    # The load, the judgement and the files are real; the pods are processes.
    monkeypatch.setattr(ClusterServers, "__call__", on_this_machine)
    monkeypatch.setattr("model_load_test.components.tasks.sweep.connect", lambda namespace: None)
    given = executor_input(
        tmp_path,
        rates_rps=[40.0],
        pairs=6.0,
        block_seconds=1.0,
        warmup_seconds=0.3,
        goal="p50",
        batch_sizes=[1.0],
        payload_requests=50.0,
    )
    task = parse_executor_input(given)
    sweep_serving(task)
    task.finish()
    assert (tmp_path / "best_configuration").read_text() == "enable_batching=true max_batch_size=16"
    assert json.loads((tmp_path / "serving_of_best").read_text())["batching"] == {"max_batch_size": 16}
    assert (tmp_path / "batching").read_text() == "max_batch_size { value: 16 }\n"
    assert "<svg" in (tmp_path / "page").read_text()
    assert [one["kind"] for one in yaml.safe_load_all((tmp_path / "manifests").read_text())][-1] == "Service"
    assert {path.name for path in (tmp_path / "sweep").iterdir()} >= {"sweep.json", "sweep.html", "best.yaml"}
    answer = json.loads((tmp_path / "output.json").read_text())
    numbers = answer["artifacts"]["metrics"]["artifacts"][0]["metadata"]
    assert numbers["best_ratio_p50"] < 1
    assert all(isinstance(value, float) for value in numbers.values())
