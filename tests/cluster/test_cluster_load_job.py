"""The load Job on a cluster: its rows, its start, where it runs, what it may do, and its errors."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from cluster_api import Kube, wait_for
from cluster_fixtures import Images, Server
from kfp_steps import pipeline_runner
from load_job_pods import ACCOUNT, QUICK, LoadJobPods, LoadJobRun, grant

from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import gate_spec_of_run
from model_load_test.components.results.table import Results
from model_load_test.components.results.validity import validate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

REPOSITORY = Path(__file__).parents[2]
TAINT = {"key": "model-load-test/pool", "value": "load", "effect": "NoSchedule"}
TOLERATION = {**TAINT, "operator": "Equal"}
POOL = {"model-load-test/pool": "load"}


@pytest.fixture
def jobs(kube: Kube, namespace: str, images: Images) -> Iterator[LoadJobPods]:
    grant(kube, namespace, "load-job")
    pods = LoadJobPods(kube, namespace, images.load_test)
    yield pods
    pods.remove()


def by_worker(table: pa.Table) -> dict[int, int]:
    workers, counts = np.unique(table["worker"].to_numpy(), return_counts=True)
    return {int(worker): int(count) for worker, count in zip(workers, counts, strict=True)}


def verdict_of(results: Results) -> str:
    spec = gate_spec_of_run({"margins": {"p50": 3.0}}, results.metadata.load_spec, {})
    return str(judge(results.table, spec, checks=validate(results.table, results.metadata)).verdict)


def first_send_seconds_after_creation(run: LoadJobRun, job_created_at: str, results: Results) -> float:
    import datetime as dt

    created = dt.datetime.fromisoformat(job_created_at.replace("Z", "+00:00")).timestamp()
    return float(pc.min(results.table["sent_at_ns"]).as_py() / 1e9 - created)


@pytest.mark.sampled
def test_six_generators_load_as_one(
    kube: Kube, jobs: LoadJobPods, deploy_server: Callable[..., Server], tmp_path: Path
) -> None:
    candidate, baseline = deploy_server("candidate"), deploy_server("baseline")
    run = jobs.start(candidate, baseline, generators=6, rate_rps=60.0, looks=[6])
    (job,) = wait_for(
        "creation of the Job",
        120,
        lambda: kube.items(f"/apis/batch/v1/namespaces/{jobs.namespace}/jobs"),
    )
    assert run.end() == 0
    results = run.results(tmp_path)
    counts = by_worker(results.table)
    assert set(counts) == set(range(6))
    assert results.table.num_rows == sum(counts.values())
    for arm in ("candidate", "baseline"):
        rows = results.table.filter((pc.field("arm") == arm) & (pc.field("block") >= 0))
        _, of_block = np.unique(rows["block"].to_numpy(), return_counts=True)
        assert len(of_block) == 6
        assert all(abs(count - 30) <= 18 for count in of_block), of_block
    host = results.metadata.host
    assert host["generators"] == 6
    assert verdict_of(results) != "INVALID", results.metadata.checks
    assert results.metadata.fingerprint["generator"] == "6 x ghz"
    assert set(host["bottleneck"]) == {"candidate", "baseline"}
    assert all(found["numbers"]["server_requests"] for found in host["bottleneck"].values()), host[
        "bottleneck"
    ]
    assert host["saturation"]["generator_process_peak"] > 0
    assert "The bottleneck was: " in run.log()
    seconds = first_send_seconds_after_creation(run, job["metadata"]["creationTimestamp"], results)
    print(
        f"FIGURES start skew {host['start_skew_ms']} ms (most {host['start_skew_most_ms']} ms), "
        f"Job creation to first request {seconds:.1f} s (to the second), nodes {host['nodes']}"
    )
    assert host["start_skew_ms"] < 2000
    wait_for("removal of the run's objects", 20, lambda: not run.objects())


def test_generators_keep_to_their_pool_and_off_the_servers(
    disposable_cluster: Kube,
    jobs: LoadJobPods,
    deploy_server: Callable[..., Server],
    tmp_path: Path,
) -> None:
    kube = disposable_cluster
    server = deploy_server("candidate")
    (pod,) = kube.pods(jobs.namespace, "app=candidate")
    names = [node["metadata"]["name"] for node in kube.nodes()]
    others = [name for name in names if name != pod["spec"]["nodeName"]]
    if not others:
        pytest.skip("one node: there is no other to keep to")
    pool = others[0]
    with reserved(kube, pool):
        run = jobs.start(
            server,
            looks=[3],
            node_selector=POOL,
            tolerations=[TOLERATION],
            keep_off_servers="required",
        )
        assert run.end() == 0
    results = run.results(tmp_path)
    assert results.metadata.host["nodes"] == [pool]
    assert not [check for check in results.metadata.checks if check["code"] == "generator-beside-server"]


def test_the_example_network_policies_select_what_they_mean(
    kube: Kube, jobs: LoadJobPods, deploy_server: Callable[..., Server]
) -> None:
    """The test cluster enforces none: that they are accepted and find their pods is what it can show."""
    path = REPOSITORY / "manifests" / "examples" / "network-policy.yaml"
    policies = {one["metadata"]["name"]: one for one in yaml.safe_load_all(path.read_text())}
    kube.create(*policies.values(), namespace=jobs.namespace)
    run = jobs.start(deploy_server("candidate"), looks=[6])
    run.wait_until_loading()
    generators = {pod["metadata"]["name"] for pod in run.generators()}
    assert generators
    selected = policies["model-load-test-generators"]["spec"]["podSelector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in selected.items())
    assert {pod["metadata"]["name"] for pod in kube.pods(jobs.namespace, selector)} == generators
    assert run.end() == 0


class reserved:
    """A node labelled and tainted as a pool, for as long as the block lasts."""

    def __init__(self, kube: Kube, node: str, *, tainted: bool = True) -> None:
        self._kube, self._path, self._tainted = kube, f"/api/v1/nodes/{node}", tainted

    def __enter__(self) -> None:
        self._kube.patch(self._path, {"metadata": {"labels": POOL}})
        if self._tainted:
            self._kube.patch(self._path, {"spec": {"taints": [TAINT]}})

    def __exit__(self, *_: object) -> None:
        self._kube.patch(self._path, {"metadata": {"labels": dict.fromkeys(POOL)}, "spec": {"taints": None}})


def test_a_pool_that_is_not_there_is_reported_by_its_label(
    jobs: LoadJobPods, deploy_server: Callable[..., Server]
) -> None:
    run = jobs.start(deploy_server("candidate"), node_selector={"pool": "no-such-pool"})
    begun = time.monotonic()
    assert run.end(120) == 2
    print(f"FIGURES reported after {time.monotonic() - begun:.0f} s")
    assert "pool=no-such-pool" in run.log()
    assert not run.objects()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"tolerations": {"key": "a"}}, "tolerations"),
        ({"tolerations": [{"key": "a", "operator": "Near"}]}, "tolerations[0].operator"),
        ({"generators": 0}, "generators"),
        ({"candidate_endpoint": "grpc://nobody.nowhere.svc:8500"}, "nobody"),
    ],
)
def test_what_cannot_be_used_is_named_before_anything_is_created(
    kube: Kube,
    jobs: LoadJobPods,
    deploy_server: Callable[..., Server],
    parameters: dict[str, Any],
    said: str,
) -> None:
    run = jobs.start(deploy_server("candidate"), **parameters)
    assert run.end() != 0
    assert said in run.log()
    assert not kube.items(f"/apis/batch/v1/namespaces/{jobs.namespace}/jobs")


@pytest.mark.sampled
def test_missing_rights_are_named_with_the_role_to_apply(
    kube: Kube, namespace: str, images: Images, deploy_server: Callable[..., Server]
) -> None:
    grant(kube, namespace)
    pods = LoadJobPods(kube, namespace, images.load_test)
    run = pods.start(deploy_server("candidate"))
    assert run.end() == 2
    log = run.log()
    assert "create jobs.batch" in log
    assert "kind: Role" in log
    assert "name: model-load-test" in log
    pods.remove()


@pytest.mark.sampled
def test_the_whole_gate_with_two_generators(
    kube: Kube, namespace: str, images: Images, deploy_server: Callable[..., Server], compiled_pipelines: Path
) -> None:
    grant(kube, namespace, "load-job")
    candidate, baseline = deploy_server("candidate", delay_ms=5), deploy_server("baseline", delay_ms=5)
    with pipeline_runner(kube, namespace, images.load_test) as runner:
        run = runner.run(
            compiled_pipelines / "kubeflow.yaml",
            {
                "candidate_endpoint": candidate.grpc,
                "baseline_endpoint": baseline.grpc,
                "model_name": "digits",
                "rate_rps": 60.0,
                "block_seconds": 0.5,
                "looks": [6],
                "warmup_seconds": 0.5,
                "payload_requests": 20,
                "margins": dict(QUICK["margins"]),
                "on_inconclusive": "warn",
                "generators": 2,
                "generator_pods": {"keep_off_servers": "preferred", "resources": QUICK["resources"]},
            },
            service_account=ACCOUNT,
        )
        logs = "\n".join(f"{name}: {step.state}\n{step.log[-2000:]}" for name, step in run.steps.items())
        assert run.succeeded, logs
        rows = pq.read_table(io.BytesIO(run.artifact("run-load-test", "results")))
    assert set(rows["worker"].to_pylist()) == {0, 1}
    assert run.steps["compare-to-baseline"].parameters["verdict"] in ("PASS", "INCONCLUSIVE"), logs
