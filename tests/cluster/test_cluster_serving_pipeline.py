"""All of `deploy_and_gate` on a cluster, each step in a pod of its own, with the rights it says it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_api import Kube
from cluster_fixtures import Images
from kfp_steps import PipelineRun, Runner, pipeline_runner
from serving_place import Place, place

from model_load_test.components.cluster.rights import role_document
from model_load_test.components.serving.backends import BACKENDS

__all__ = ["place"]

WIDE_MARGINS = {"mean": 2.0, "p50": 2.0, "p95": 4.0, "p99": 6.0, "errors": 0.05, "goodput": 0.5}
"""A busy machine must not decide these tests: equal is within a factor, slower is far beyond."""
QUICK = {
    "rate_rps": 50.0,
    "block_seconds": 0.5,
    "looks": [8, 16],
    "warmup_seconds": 1.0,
    "payload_requests": 50,
    "margins": WIDE_MARGINS,
}
ACCOUNT = "pipeline-runner"


@pytest.fixture
def runner(kube: Kube, place: Place, images: Images) -> Iterator[Runner]:
    """What runs pipelines as a ServiceAccount that may do what the components say they need."""
    namespace = place.cluster.namespace
    kube.create(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}}, namespace=namespace
    )
    user = f"system:serviceaccount:{namespace}:{ACCOUNT}"
    for document in yaml.safe_load_all(role_document(namespace, BACKENDS["embedded"].rights, user)):
        kube.create(document, namespace=namespace)
    with pipeline_runner(kube, namespace, images.load_test) as running:
        yield running


def run(runner: Runner, pipelines: Path, place: Place, **arguments: Any) -> PipelineRun:
    given = {
        "model_name": "digits",
        "candidate_model": f"{place.models}/new.tar.gz",
        "baseline_model": f"{place.models}/old.tar.gz",
        "serving": {"kind": "embedded", "image": place.images.embedded_server, "grace_seconds": 1},
        "namespace": place.cluster.namespace,
        **QUICK,
        **arguments,
    }
    return runner.run(pipelines / "deploy_and_gate.yaml", given, service_account=ACCOUNT)


def states(finished: PipelineRun) -> dict[str, str]:
    return {path.rpartition("/")[2]: step.state for path, step in finished.steps.items()}


def log_of(finished: PipelineRun, name: str) -> str:
    return next(step.log for path, step in finished.steps.items() if path.endswith(name))


@pytest.mark.sampled
def test_equal_models_pass_and_nothing_stays(
    kube: Kube, runner: Runner, compiled_pipelines: Path, place: Place
) -> None:
    finished = run(runner, compiled_pipelines, place, validation_requests={"requests": 3})
    assert finished.succeeded, {
        path: step.log[-2000:] for path, step in finished.steps.items() if step.state == "FAILED"
    }
    assert finished.outputs["verdict"] == "PASS"
    assert "answered 3 requests" in log_of(finished, "validate-model-server")
    assert kube.objects_of_runs(place.cluster.namespace) == []


def test_a_gate_that_breaks_the_run_leaves_no_servers(
    kube: Kube, runner: Runner, compiled_pipelines: Path, place: Place
) -> None:
    finished = run(runner, compiled_pipelines, place, validate=False, objectives=["p50_ms<=0.001"])
    assert states(finished)["enforce-gate"] == "FAILED"
    assert states(finished)["teardown-model-server"] == "SUCCEEDED"
    assert kube.objects_of_runs(place.cluster.namespace) == []


def test_a_model_that_is_not_blessed_is_never_deployed_beside_the_baseline(
    kube: Kube, runner: Runner, compiled_pipelines: Path, place: Place
) -> None:
    serving = {
        "kind": "embedded",
        "image": place.images.embedded_server,
        "flags": ["--backend=saved-model"],
        "grace_seconds": 1,
    }
    finished = run(runner, compiled_pipelines, place, serving=serving)
    found = states(finished)
    assert found["validate-model-server"] == "SUCCEEDED"
    assert found["deploy-model-server"] == "FAILED"
    assert "refused the model" in log_of(finished, "deploy-model-server")
    assert found["teardown-model-server"] == "SUCCEEDED"
    assert kube.objects_of_runs(place.cluster.namespace) == []


def test_a_blessing_from_upstream_that_is_none_stops_the_run_with_its_reason(
    runner: Runner, compiled_pipelines: Path, place: Place
) -> None:
    finished = run(
        runner, compiled_pipelines, place, infra_blessing='{"blessed": 0, "reason": "it ran out of memory"}'
    )
    assert states(finished)["plan-serving"] == "FAILED"
    assert "it ran out of memory" in log_of(finished, "plan-serving")
