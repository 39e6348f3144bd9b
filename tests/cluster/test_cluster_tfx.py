"""The TFX tasks that deploy: servers come up for them, are judged, and are gone afterwards."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from cluster_api import Kube
from serving_place import Place, place

from model_load_test.components.tasks.__main__ import main

__all__ = ["place"]

WIDE_MARGINS = {"mean": 2.0, "p50": 2.0, "p95": 4.0, "p99": 6.0, "errors": 0.05, "goodput": 0.5}


def serving_spec(place: Place) -> dict[str, Any]:
    return {
        "kind": "embedded",
        "image": place.images.embedded_server,
        "model_name": "digits",
        "ready_seconds": 90,
        "grace_seconds": 1,
    }


def run(
    name: str, place: Place, folder: Path, parameters: dict[str, str], outputs: list[str]
) -> dict[str, Any]:
    """Runs the task here against the cluster; the metadata of its outputs."""
    (folder / "model").mkdir()
    (folder / "model" / "saved_model.pb").touch()
    model = {"uri": f"{place.models}/new.tar.gz", "customPath": str(folder / "model")}
    executor_input = {
        "inputs": {
            "parameterValues": {"loader_image": place.images.load_test, **parameters},
            "artifacts": {"model": {"artifacts": [model]}},
        },
        "outputs": {
            "artifacts": {one: {"artifacts": [{"uri": str(folder / one)}]} for one in outputs},
            "outputFile": str(folder / "output.json"),
        },
    }
    assert main([name, json.dumps(executor_input)]) == 0
    answer = json.loads((folder / "output.json").read_text())["artifacts"]
    return {one: answer[one]["artifacts"][0]["metadata"] for one in answer}


@pytest.fixture
def run_id(place: Place, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run's id; its tasks find the cluster of the test."""
    for module in ("model_load_test.components.tfx.serving", "model_load_test.components.cluster.connection"):
        monkeypatch.setattr(f"{module}.connect", lambda namespace: place.cluster)
    return f"run-{uuid.uuid4().hex[:6]}"


def test_the_gate_deploys_both_models_and_removes_them(
    place: Place, kube: Kube, namespace: str, run_id: str, tmp_path: Path
) -> None:
    parameters = {
        "model_name": "digits",
        "baseline_model": f"{place.models}/old.tar.gz",
        "serving_spec": json.dumps(serving_spec(place)),
        "load_spec": json.dumps(
            {"rate_rps": 100.0, "block_seconds": 0.5, "looks": [8], "warmup_seconds": 0.5}
        ),
        "payload": json.dumps({"payload_requests": 50}),
        "gate_spec": json.dumps({"margins": WIDE_MARGINS, "on_inconclusive": "warn"}),
        "run_id": run_id,
    }
    answer = run("tfx_gate", place, tmp_path, parameters, ["blessing", "metrics", "report"])
    assert answer["blessing"]["blessed"] == 1, answer["blessing"]["reason"]
    assert answer["metrics"]["baseline_p50_ms"] > 0
    assert (tmp_path / "report" / "report.html").exists()
    assert kube.objects_of_runs(namespace, run_id) == []


@pytest.mark.parametrize("blessed", [1, 0])
def test_infra_validator_loads_asks_and_blesses(
    blessed: int, place: Place, kube: Kube, namespace: str, run_id: str, tmp_path: Path
) -> None:
    spec = serving_spec(place)
    if not blessed:
        spec["flags"] = ["--backend=saved-model"]  # there is no TensorFlow in the image, and no model either
    parameters = {
        "serving_spec": json.dumps(spec),
        "request_spec": json.dumps({"requests": 3}),
        "run_id": run_id,
    }
    answer = run("tfx_infra_validator", place, tmp_path, parameters, ["blessing"])
    assert answer["blessing"]["blessed"] == blessed, answer["blessing"]["reason"]
    assert kube.objects_of_runs(namespace, run_id) == []
