"""What a load Job makes of faults: the right verdict, the rows measured so far, and nothing left behind."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from cluster_api import Kube, Manifest, wait_for
from cluster_fixtures import Images, Server
from load_job_pods import ACCOUNT, FEATURES, LoadJobPods, LoadJobRun, grant

from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import gate_spec_of_run
from model_load_test.components.gate.verdict import Verdict
from model_load_test.components.results.table import Results
from model_load_test.components.results.validity import validate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

GONE_SECONDS = 40.0
"""A generator may take its grace period to end, then its Job is collected."""
AWAY_SECONDS = 60.0
POOL = {"model-load-test/pool": "unreserved"}
TOLERATION = {"key": "model-load-test/pool", "operator": "Exists", "effect": "NoSchedule"}

Deploy = Callable[..., Server]


@pytest.fixture
def jobs(kube: Kube, namespace: str, images: Images) -> Iterator[LoadJobPods]:
    grant(kube, namespace, "load-job")
    pods = LoadJobPods(kube, namespace, images.load_test)
    yield pods
    pods.remove()


def judged(results: Results) -> Verdict:
    spec = gate_spec_of_run({"margins": {"p50": 9.0}}, results.metadata.load_spec, {})
    return judge(results.table, spec, checks=validate(results.table, results.metadata))


def assert_invalid_with_its_rows(run: LoadJobRun, folder: Path, code: str, *words: str) -> None:
    """The task succeeds, for only so are its artifacts kept; the gate then says INVALID.

    Code and words are regular expressions.
    """
    assert run.end() == 0, run.log()
    results = run.results(folder)
    assert results.table.num_rows > 0
    verdict = judged(results)
    assert verdict.verdict == "INVALID"
    found = [check for check in results.metadata.checks if check["consequence"] == "INVALID"]
    assert any(re.fullmatch(code, check["code"]) for check in found), found
    told = " ".join(check["detail"] for check in found)
    assert all(re.search(word, told) for word in words), told
    assert_nothing_left(run)


def told_of(pod: str) -> tuple[str, str]:
    """The API server tells of a pod that goes, or the generator in it does, whoever is heard first."""
    return "generator-lost|generator-failed", f"{pod}|told to end"


def assert_clear_failure(run: LoadJobRun, *words: str) -> None:
    assert run.end() != 0
    log = run.log()
    assert all(word in log for word in words), log
    assert "Traceback" not in log
    assert_nothing_left(run)


def assert_nothing_left(run: LoadJobRun) -> None:
    wait_for(f"removal of everything of {run.run_id}", GONE_SECONDS, lambda: not run.objects())


@pytest.mark.sampled
def test_a_generators_pod_is_deleted_amid_the_load(
    kube: Kube, jobs: LoadJobPods, deploy_server: Deploy, tmp_path: Path
) -> None:
    run = jobs.start(deploy_server("candidate"), deploy_server("baseline"))
    run.wait_until_loading()
    victim = run.generators()[1]["metadata"]["name"]
    kube.delete(f"/api/v1/namespaces/{jobs.namespace}/pods/{victim}")
    assert_invalid_with_its_rows(run, tmp_path, *told_of(victim))


def test_a_generator_is_told_to_end_and_says_so(
    kube: Kube, jobs: LoadJobPods, deploy_server: Deploy, tmp_path: Path
) -> None:
    run = jobs.start(
        deploy_server("candidate"), pod={"activeDeadlineSeconds": 45}, start_timeout_seconds=60.0
    )
    run.wait_until_loading()
    assert_invalid_with_its_rows(run, tmp_path, "generator-failed", "told to end", "SIGTERM")


def test_a_servers_pod_is_deleted_amid_the_load(
    kube: Kube, jobs: LoadJobPods, deploy_server: Deploy, tmp_path: Path
) -> None:
    run = jobs.start(deploy_server("candidate"), deploy_server("baseline"))
    run.wait_until_loading()
    (pod,) = kube.pods(jobs.namespace, "app=candidate")
    kube.delete(f"/api/v1/namespaces/{jobs.namespace}/pods/{pod['metadata']['name']}")
    assert_invalid_with_its_rows(run, tmp_path, "server-changed", pod["metadata"]["name"])


def test_a_server_is_killed_for_lack_of_memory(
    kube: Kube, jobs: LoadJobPods, deploy_server: Deploy, tmp_path: Path
) -> None:
    server = deploy_server("candidate", leak_kib=600)
    deployment = f"/apis/apps/v1/namespaces/{jobs.namespace}/deployments/candidate"
    container = kube.get(deployment)["spec"]["template"]["spec"]["containers"][0]
    limited = {**container, "resources": {"limits": {"memory": "320Mi"}}}
    kube.patch(deployment, {"spec": {"template": {"spec": {"containers": [limited]}}}})
    wait_for("the limited server", 60, lambda: _rolled_out(kube.get(deployment)))
    run = jobs.start(server)
    assert_invalid_with_its_rows(run, tmp_path, "server-changed", "OOMKilled")


def _rolled_out(deployment: Manifest) -> bool:
    status = deployment["status"]
    current = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return bool(
        current and status.get("updatedReplicas") == status.get("readyReplicas") == status["replicas"]
    )


def test_a_node_is_drained(
    disposable_cluster: Kube, jobs: LoadJobPods, deploy_server: Deploy, tmp_path: Path
) -> None:
    kube = disposable_cluster
    run = jobs.start(deploy_server("candidate"))
    run.wait_until_loading()
    pod = run.generators()[0]
    node, name = f"/api/v1/nodes/{pod['spec']['nodeName']}", pod["metadata"]["name"]
    kube.patch(node, {"spec": {"unschedulable": True}})
    try:
        for one in run.generators():
            if one["spec"]["nodeName"] == pod["spec"]["nodeName"]:
                evict(kube, jobs.namespace, one["metadata"]["name"])
        assert_invalid_with_its_rows(run, tmp_path, *told_of(name))
    finally:
        kube.patch(node, {"spec": {"unschedulable": None}})


def evict(kube: Kube, namespace: str, pod: str) -> None:
    """As `kubectl drain` does."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    kube.api.call_api(
        path,
        "POST",
        body=body,
        auth_settings=["BearerToken"],
        header_params={"Accept": "application/json", "Content-Type": "application/json"},
        _preload_content=False,
    )


def test_the_pools_taint_is_missing(
    disposable_cluster: Kube, jobs: LoadJobPods, deploy_server: Deploy
) -> None:
    kube = disposable_cluster
    node = kube.nodes()[0]["metadata"]["name"]
    kube.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": POOL}})
    try:
        with nodes_may_be_read(kube, jobs.namespace):
            run = jobs.start(deploy_server("candidate"), node_selector=POOL, tolerations=[TOLERATION])
            assert_clear_failure(run, f"node {node}", "no such taint", "kubectl taint nodes")
    finally:
        kube.patch(f"/api/v1/nodes/{node}", {"metadata": {"labels": dict.fromkeys(POOL)}})


@contextmanager
def nodes_may_be_read(kube: Kube, namespace: str) -> Iterator[None]:
    """The optional feature `nodes`, under a name of this test's own."""
    name = f"model-load-test-nodes-{namespace}"
    role = yaml.safe_load((FEATURES / "nodes" / "cluster-role.yaml").read_text())
    binding = yaml.safe_load((FEATURES / "nodes" / "cluster-role-binding.yaml").read_text())
    role["metadata"]["name"] = binding["metadata"]["name"] = binding["roleRef"]["name"] = name
    binding["subjects"] = [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}]
    kube.create(role, binding)
    try:
        yield
    finally:
        for kind in ("clusterrolebindings", "clusterroles"):
            kube.delete(f"/apis/rbac.authorization.k8s.io/v1/{kind}/{name}")


def test_the_generators_image_does_not_exist(jobs: LoadJobPods, deploy_server: Deploy) -> None:
    run = jobs.start(deploy_server("candidate"), generator_image="localhost/no-such-image:1")
    assert_clear_failure(run, "localhost/no-such-image:1", "cannot be had")


def test_the_quota_is_used_up(kube: Kube, jobs: LoadJobPods, deploy_server: Deploy) -> None:
    server = deploy_server("candidate")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "three-pods"},
        "spec": {"hard": {"pods": "3"}},
    }
    kube.create(quota, namespace=jobs.namespace)
    run = jobs.start(server)
    assert_clear_failure(run, "exceeded quota", "three-pods")


def test_the_api_server_is_away_for_a_minute(
    jobs: LoadJobPods, deploy_server: Deploy, tmp_path: Path
) -> None:
    run = jobs.start(deploy_server("candidate"), behind_proxy=True, looks=[45])
    run.wait_until_loading()
    run.execute("keeper", "touch", "/scratch/api-away")
    time.sleep(AWAY_SECONDS)
    run.execute("keeper", "rm", "/scratch/api-away")
    assert run.end(200) == 0
    results = run.results(tmp_path)
    assert judged(results).verdict != "INVALID", results.metadata.checks
    assert set(results.table["block"].to_pylist()) >= set(range(45))
    assert_nothing_left(run)


def test_a_webhook_refuses_the_job(kube: Kube, jobs: LoadJobPods, deploy_server: Deploy) -> None:
    name = f"refuses-{jobs.namespace}.example.com"
    labels = {"kubernetes.io/metadata.name": jobs.namespace}
    webhook = {
        "name": name,
        "clientConfig": {"service": {"name": "nobody", "namespace": jobs.namespace, "path": "/"}},
        "rules": [
            {
                "apiGroups": ["batch"],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["jobs"],
            }
        ],
        "namespaceSelector": {"matchLabels": labels},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "timeoutSeconds": 2,
        "admissionReviewVersions": ["v1"],
    }
    kind = "ValidatingWebhookConfiguration"
    kube.create(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "webhooks": [webhook],
        }
    )
    try:
        run = jobs.start(deploy_server("candidate"))
        assert_clear_failure(run, "webhook", name)
    finally:
        kube.delete(f"/apis/admissionregistration.k8s.io/v1/{kind.lower()}s/{name}")


def test_dns_is_gone_for_the_generators(jobs: LoadJobPods, deploy_server: Deploy) -> None:
    options = [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "1"}]
    nowhere = {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"], "options": options}}
    run = jobs.start(deploy_server("candidate"), pod=nowhere)
    assert_clear_failure(run, "enerator", "no model server answers")


def test_the_servers_name_is_gone_amid_the_load(
    kube: Kube, jobs: LoadJobPods, deploy_server: Deploy, tmp_path: Path
) -> None:
    run = jobs.start(deploy_server("candidate"))
    run.wait_until_loading()
    kube.delete(f"/api/v1/namespaces/{jobs.namespace}/services/candidate")
    assert run.end() == 0
    results = run.results(tmp_path)
    assert results.table.num_rows > 0
    assert judged(results).verdict == "INVALID"
    assert_nothing_left(run)


def test_the_results_volume_is_full(jobs: LoadJobPods, deploy_server: Deploy) -> None:
    full = {"emptyDir": {"medium": "Memory", "sizeLimit": "4Ki"}}
    run = jobs.start(deploy_server("candidate"), looks=[3], results_volume=full)
    assert_clear_failure(run, "cannot be written", "No space left", "candidate: {", '"requests":')


def test_a_task_is_tried_again_after_half_a_deploy(
    kube: Kube, jobs: LoadJobPods, deploy_server: Deploy, tmp_path: Path
) -> None:
    server = deploy_server("candidate")
    first = jobs.start(server, owned=False)
    wait_for("the first try's generators", 90, first.generators)
    kube.delete(first.path, gracePeriodSeconds=0)
    assert any("jobs/" in one for one in first.objects()), "there is something left to be found"
    second = jobs.start(server, owned=False, run_id=first.run_id, looks=[3])
    assert second.end() == 0
    assert "earlier try" in second.log()
    results = second.results(tmp_path)
    assert judged(results).verdict != "INVALID", results.metadata.checks
    assert set(results.table["block"].to_pylist()) == {-1, 0, 1, 2}
    assert_nothing_left(second)


def test_a_task_is_killed_and_never_tried_again(kube: Kube, jobs: LoadJobPods, deploy_server: Deploy) -> None:
    run = jobs.start(deploy_server("candidate"))
    wait_for("generators", 90, run.generators)
    kube.delete(run.path, gracePeriodSeconds=0)
    assert_nothing_left(run)


@pytest.mark.sampled
def test_a_run_is_cancelled(jobs: LoadJobPods, deploy_server: Deploy, tmp_path: Path) -> None:
    run = jobs.start(deploy_server("candidate"), deploy_server("baseline"))
    run.wait_until_loading()
    run.execute("main", "sh", "-c", "kill -TERM 1")
    assert_invalid_with_its_rows(run, tmp_path, "load-stopped", "SIGTERM")


def test_a_run_is_cancelled_before_its_load_began(jobs: LoadJobPods, deploy_server: Deploy) -> None:
    run = jobs.start(deploy_server("candidate"), node_selector={"pool": "none"})
    wait_for("the Job", 60, run.objects)
    run.execute("main", "sh", "-c", "kill -TERM 1")
    assert_clear_failure(run, "SIGTERM")


def test_two_runs_at_once_do_not_meet(jobs: LoadJobPods, deploy_server: Deploy, tmp_path: Path) -> None:
    server, other = deploy_server("candidate"), deploy_server("other")
    runs = [jobs.start(one, rate_rps=30.0, looks=[4]) for one in (server, other)]
    for run in runs:
        assert run.end() == 0
        results = run.results(tmp_path)
        verdict = judged(results)
        assert verdict.verdict != "INVALID", verdict.checks
        assert set(results.table["worker"].to_pylist()) == {0, 1}
        assert results.metadata.command, "each has its own"
        assert_nothing_left(run)
