"""Model servers on a cluster: deployed as equals, looked at, refused with a reason, gone afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_api import Kube, wait_for
from cluster_fixtures import Server, restricted_pod
from serving_place import Place, is_ready, place

from model_load_test.components.cluster.connection import Cluster
from model_load_test.components.cluster.failures import MissingRight, QuotaExceeded
from model_load_test.components.cluster.kinds import JOB
from model_load_test.components.cluster.ownership import anchor_name
from model_load_test.components.cluster.reference import read_reference
from model_load_test.components.cluster.waiting import DidNotComeUp
from model_load_test.components.errors import InputError
from model_load_test.components.protocols.client import model_status
from model_load_test.components.serving.bless import validate
from model_load_test.components.serving.deploy import Deployment, deploy
from model_load_test.components.serving.model_uri import parse_model_uri
from model_load_test.components.serving.reuse import reuse
from model_load_test.components.serving.teardown import teardown

__all__ = ["place"]

GONE_SECONDS = 30.0
HALFWAY_SECONDS = 60.0


def left_of(kube: Kube, wanted: Deployment, namespace: str) -> list[str]:
    return kube.objects_of_runs(namespace, wanted.identity.run)


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["embedded", "tf-serving"])
def test_both_arms_come_up_as_equals_and_go_without_a_trace(
    kind: str, kube: Kube, place: Place, namespace: str, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    # The embedded server stands in for TF Serving: same layout, ports and entry point.
    flags = ["--backend=numpy"]
    wanted = place.deployment(kind=kind, flags=flags, monitoring=False)
    started = time.monotonic()
    served = deploy(place.cluster, wanted, reference_path=tmp_path / "resources")
    record_property("deploy_to_ready_seconds", round(time.monotonic() - started, 1))
    candidate, baseline = served["candidate"], served["baseline"]
    assert candidate.image == baseline.image
    assert "@sha256:" in candidate.image or "sha256" in candidate.image
    assert candidate.flags == baseline.flags == tuple(flags)
    assert candidate.model_sha256 and baseline.model_sha256
    assert candidate.model_sha256 != baseline.model_sha256, "each has its own model"
    assert candidate.server_kind == "embedded", "it says what it is, whatever was asked for"
    assert str(candidate.endpoint) != str(baseline.endpoint)
    for one in served.values():
        assert [version.state for version in model_status(one.endpoint, "digits")] == ["AVAILABLE"]
    reference = read_reference(tmp_path / "resources")
    assert reference is not None
    for name in ("Deployment", "Service"):
        assert len([kind for kind, _ in reference.objects if kind == name]) == 2
    anchor = place.cluster.get(JOB, anchor_name(wanted.identity))
    assert anchor is not None
    for path in ("/apis/apps/v1/namespaces/{}/deployments", "/api/v1/namespaces/{}/services"):
        for one in kube.items(path.format(namespace), wanted.identity.selector):
            assert one["metadata"]["ownerReferences"][0]["uid"] == anchor["metadata"]["uid"]
    started = time.monotonic()
    removal = teardown(place.cluster, wanted.identity)
    record_property("teardown_seconds", round(time.monotonic() - started, 1))
    assert len(removal.removed) >= 7
    assert left_of(kube, wanted, namespace) == []


def test_every_replica_is_asked_and_the_arms_keep_apart(
    disposable_cluster: Kube, place: Place, namespace: str
) -> None:
    wanted = place.deployment(replicas=2, arrangement="apart")
    served = deploy(place.cluster, wanted)
    assert not set(served["candidate"].nodes) & set(served["baseline"].nodes)
    pods = disposable_cluster.pods(namespace, wanted.identity.selector)
    assert len(pods) == 4
    teardown(place.cluster, wanted.identity)


@pytest.mark.sampled
def test_two_runs_at_once_do_not_meet(kube: Kube, place: Place, namespace: str) -> None:
    one, other = place.deployment("run-1"), place.deployment("run-2")
    endpoints = [
        str(served.endpoint) for wanted in (one, other) for served in deploy(place.cluster, wanted).values()
    ]
    assert len(set(endpoints)) == 4
    teardown(place.cluster, one.identity)
    assert left_of(kube, one, namespace) == []
    pods = kube.pods(namespace, other.identity.selector)
    assert len(pods) == 2
    assert all(is_ready(pod) for pod in pods), "tearing one down leaves the other in peace"
    teardown(place.cluster, other.identity)


def test_a_deadline_removes_what_nobody_took_down(kube: Kube, place: Place, namespace: str) -> None:
    wanted = replace(place.deployment(), deadline_seconds=25)
    deploy(place.cluster, wanted)
    assert left_of(kube, wanted, namespace)
    wait_for("the cluster's own clean-up", 25 + GONE_SECONDS, lambda: not left_of(kube, wanted, namespace))


def test_what_a_workflow_made_goes_with_it(
    kube: Kube, place: Place, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Any object will do for a workflow: what is meant is the owner of the task's pod.
    workflow = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "workflow"}}
    kube.create(workflow, namespace=namespace)
    path = f"/api/v1/namespaces/{namespace}/configmaps/workflow"
    owner = {**workflow, "uid": kube.get(path)["metadata"]["uid"]}
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "workflow", "uid": owner["uid"]}
    task = restricted_pod("task", place.images.load_test, ["sleep", "300"])
    task["metadata"]["ownerReferences"] = [reference]
    kube.create(task, namespace=namespace)
    monkeypatch.setenv("KFP_POD_NAME", "task")
    wanted = place.deployment()
    deploy(place.cluster, wanted)
    kube.delete(path)
    wait_for("removal with the workflow", GONE_SECONDS, lambda: not left_of(kube, wanted, namespace))


def test_a_node_pool_that_does_not_exist_is_named_within_a_minute(place: Place) -> None:
    wanted = place.deployment(node_selector={"pool": "none-such"})
    started = time.monotonic()
    with pytest.raises(DidNotComeUp) as caught:
        deploy(place.cluster, wanted)
    assert time.monotonic() - started < 60
    assert "pool=none-such" in str(caught.value)
    assert caught.value.troubles[0].cause == "unschedulable"


def test_the_taint_that_is_not_tolerated_is_named_within_a_minute(
    disposable_cluster: Kube, place: Place
) -> None:
    node = disposable_cluster.nodes()[-1]["metadata"]["name"]
    path = f"/api/v1/nodes/{node}"
    taint = {"key": "mlt-test/reserved", "value": "yes", "effect": "NoSchedule"}
    before = disposable_cluster.get(path)["spec"].get("taints", [])
    disposable_cluster.patch(path, {"spec": {"taints": [*before, taint]}})
    try:
        selector = {"kubernetes.io/hostname": node}
        started = time.monotonic()
        with pytest.raises(DidNotComeUp) as caught:
            deploy(place.cluster, place.deployment(node_selector=selector))
        assert time.monotonic() - started < 60
        assert "mlt-test/reserved=yes:NoSchedule" in str(caught.value)
        tolerations = [{"key": "mlt-test/reserved", "operator": "Exists"}]
        wanted = place.deployment(node_selector=selector, tolerations=tolerations)
        assert deploy(place.cluster, wanted)["candidate"].nodes == (node,)
        teardown(place.cluster, wanted.identity)
    finally:
        disposable_cluster.patch(path, {"spec": {"taints": before or None}})


def test_an_image_that_does_not_exist_is_named(place: Place) -> None:
    wanted = place.deployment(image="localhost/none-such:1", image_pull_policy="Never")
    with pytest.raises(DidNotComeUp, match="localhost/none-such:1"):
        deploy(place.cluster, wanted)


@pytest.mark.parametrize(
    ("archive", "named"), [("none.tar.gz", "no model is there"), ("missing.tar.gz", "404")]
)
def test_a_uri_without_a_model_fails_at_once_with_the_loaders_words(
    archive: str, named: str, place: Place
) -> None:
    wanted = place.deployment()
    model = parse_model_uri(f"{place.models}/{archive}")
    with pytest.raises(DidNotComeUp) as caught:
        deploy(place.cluster, replace(wanted, models={"candidate": model}))
    assert named in str(caught.value)
    assert caught.value.troubles[0].cause == "configuration"


def test_another_model_than_the_checksum_says_is_not_served(place: Place) -> None:
    model = parse_model_uri(f"{place.models}/new.tar.gz#sha256={'0' * 64}")
    with pytest.raises(DidNotComeUp, match="is it the right model"):
        deploy(place.cluster, replace(place.deployment(), models={"candidate": model}))


def test_a_server_that_crashes_is_shown_with_its_log(place: Place) -> None:
    wanted = place.deployment(flags=["--no-such-flag=1"])
    with pytest.raises(DidNotComeUp) as caught:
        deploy(place.cluster, wanted)
    assert "unrecognized arguments: --no-such-flag=1" in str(caught.value)
    assert caught.value.troubles[0].cause == "crashed"


def test_a_quota_that_is_used_up_is_said(kube: Kube, place: Place, namespace: str) -> None:
    for name, hard in (("pods", {"pods": "1"}), ("maps", {"count/services": "1"})):
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": name},
            "spec": {"hard": hard},
        }
        kube.create(quota, namespace=namespace)
        path = f"/api/v1/namespaces/{namespace}/resourcequotas/{name}"
        wait_for("the quota to count", 30, lambda path=path: kube.get(path).get("status", {}).get("hard"))
        with pytest.raises((DidNotComeUp, QuotaExceeded), match=f"exceeded quota: {name}"):
            deploy(place.cluster, place.deployment())
        kube.delete(path)


def account_of(kube: Kube, namespace: str, name: str) -> Cluster:
    """A connection as a ServiceAccount of the namespace, as a pod has it."""
    import kubernetes

    kube.create(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}, namespace=namespace
    )
    answer = kube.api.call_api(
        f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
        "POST",
        body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
        header_params={"Accept": "application/json", "Content-Type": "application/json"},
        auth_settings=["BearerToken"],
        _preload_content=False,
        _return_http_data_only=True,
    )
    admin = kube.api.configuration
    configuration = kubernetes.client.Configuration()
    configuration.host, configuration.ssl_ca_cert = admin.host, admin.ssl_ca_cert
    configuration.verify_ssl = admin.verify_ssl
    configuration.api_key = {"authorization": f"Bearer {json.loads(answer.data)['status']['token']}"}
    configuration.retries = False
    return Cluster(kubernetes.client.ApiClient(configuration), namespace)


@pytest.mark.sampled
def test_without_rights_every_missing_verb_is_named_and_the_role_printed_is_enough(
    kube: Kube, place: Place, namespace: str
) -> None:
    account = account_of(kube, namespace, "runner")
    wanted = place.deployment()
    with pytest.raises(MissingRight) as caught:
        deploy(account, wanted)
    assert "create deployments.apps" in str(caught.value)
    assert "get pods/log" in str(caught.value)
    assert left_of(kube, wanted, namespace) == [], "nothing was begun"
    for document in yaml.safe_load_all(caught.value.role):
        kube.create(document, namespace=namespace)
    wait_for("the rights", 30, lambda: not account.needing(rights_of(wanted)).missing_rights())
    assert set(deploy(account, wanted)) == {"candidate", "baseline"}
    teardown(account, wanted.identity)
    assert left_of(kube, wanted, namespace) == []


def rights_of(wanted: Deployment) -> Any:
    from model_load_test.components.serving.backends import BACKENDS

    return BACKENDS[wanted.spec.kind].rights


def executor_input(place: Place, folder: Path, run: str, **parameters: Any) -> str:
    given = {
        "model_name": "digits",
        "candidate_model": f"{place.models}/new.tar.gz",
        "baseline_model": f"{place.models}/old.tar.gz",
        "serving": {"kind": "embedded", "image": place.images.embedded_server, "grace_seconds": 1},
        "namespace": place.cluster.namespace,
        "loader_image": place.images.load_test,
        "deployment": "deploy",
        "run_id": run,
        **parameters,
    }
    outputs = ("endpoint_of_candidate", "endpoint_of_baseline", "resources", "server_image")
    document = {
        "inputs": {"parameterValues": given},
        "outputs": {
            "parameters": {name: {"outputFile": str(folder / name)} for name in outputs},
            "outputFile": str(folder / "output.json"),
        },
    }
    return json.dumps(document)


def start_task(name: str, given: str) -> subprocess.Popen[str]:
    """The component's command, on this machine."""
    command = [sys.executable, "-u", "-m", "model_load_test.components.tasks", name, given]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    )


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def deployments(kube: Kube, namespace: str, run: str) -> list[dict[str, Any]]:
    return kube.items(f"/apis/apps/v1/namespaces/{namespace}/deployments", f"model-load-test/run={run}")


def test_a_task_that_is_told_to_stop_takes_down_what_it_put_up(
    kube: Kube, place: Place, namespace: str, tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    # No node has that label: it would go on waiting.
    given = executor_input(place, tmp_path, "stopped", server_node_selector={"none": "such"})
    task = start_task("deploy_model_server", given)
    processes.append(task)
    wait_for("half a deployment", HALFWAY_SECONDS, lambda: deployments(kube, namespace, "stopped"))
    assert (tmp_path / "resources").exists(), "the reference is written before anything is created"
    task.send_signal(signal.SIGTERM)
    said, _ = task.communicate(timeout=60)
    assert task.returncode == 143, said
    assert kube.objects_of_runs(namespace, "stopped") == []


@pytest.mark.sampled
def test_a_retried_task_takes_up_what_is_there(
    kube: Kube, place: Place, namespace: str, tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    given = executor_input(place, tmp_path, "retried")
    first = start_task("deploy_model_server", given)
    processes.append(first)
    wait_for("half a deployment", HALFWAY_SECONDS, lambda: deployments(kube, namespace, "retried"))
    first.kill()
    first.wait()
    halfway = {one["metadata"]["uid"] for one in deployments(kube, namespace, "retried")}
    second = start_task("deploy_model_server", given)
    processes.append(second)
    said, _ = second.communicate(timeout=120)
    assert second.returncode == 0, said
    assert "taking up what an earlier try began" in said
    found = {one["metadata"]["uid"] for one in deployments(kube, namespace, "retried")}
    assert halfway <= found
    assert len(found) == 2
    torn_down = start_task("teardown_model_server", given)
    processes.append(torn_down)
    said, _ = torn_down.communicate(timeout=120)
    assert torn_down.returncode == 0, said
    assert kube.objects_of_runs(namespace, "retried") == []


def test_a_live_server_is_loaded_and_never_changed(
    kube: Kube, place: Place, namespace: str, deploy_server: Callable[..., Server]
) -> None:
    deploy_server("production")
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/production"
    before = kube.get(path)["metadata"]
    found = reuse(place.cluster, "service://production", "digits", protocol="grpc", model_version="1")
    assert found.server_kind == "embedded"
    assert found.replicas == 1
    assert "sha256" in found.image
    wanted = place.deployment()
    deploy(place.cluster, replace(wanted, models={"candidate": wanted.models["candidate"]}))
    teardown(place.cluster, wanted.identity)
    after = kube.get(path)["metadata"]
    assert (before["uid"], before["generation"]) == (after["uid"], after["generation"])
    assert [version.state for version in model_status(found.endpoint, "digits")] == ["AVAILABLE"]


def test_a_model_is_blessed_by_the_server_that_will_serve_it(
    kube: Kube, place: Place, namespace: str
) -> None:
    wanted = place.deployment()
    blessing = validate(place.cluster, wanted, lambda served: len(model_status(served.endpoint, "digits")))
    assert (blessing.blessed, blessing.requests) == (True, 1)
    assert left_of(kube, wanted, namespace) == []


def test_a_model_that_cannot_be_loaded_or_refuses_requests_is_not_blessed_and_nothing_stays(
    kube: Kube, place: Place, namespace: str
) -> None:
    # The image has no TensorFlow, and the file is no SavedModel: two reasons to refuse it.
    unloadable = place.deployment(flags=["--backend=saved-model"])
    refused = validate(place.cluster, unloadable, None)
    assert not refused.blessed
    assert "log of" in refused.reason

    def send(_: Any) -> int:
        raise InputError("payload", "x", "the server refuses request 1")

    wanted = place.deployment()
    assert "refuses request 1" in validate(place.cluster, wanted, send).reason
    assert left_of(kube, wanted, namespace) == left_of(kube, unloadable, namespace) == []


def test_a_server_that_could_not_be_run_blesses_nothing_and_refuses_nothing(place: Place) -> None:
    wanted = place.deployment(image="localhost/none-such:1", image_pull_policy="Never")
    with pytest.raises(DidNotComeUp):
        validate(place.cluster, wanted, None)


def test_the_broom_finds_what_a_run_has_left(kube: Kube, place: Place, namespace: str) -> None:
    wanted, other = place.deployment("left-behind"), place.deployment("in-use")
    deploy(place.cluster, wanted)
    deploy(place.cluster, other)
    command = [
        sys.executable,
        "-m",
        "model_load_test.pipelines.command_line",
        "cleanup",
        "--namespace",
        namespace,
    ]

    def sweep(*options: str) -> str:
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "would remove" in sweep("--run", "left-behind", "--dry-run")
    assert left_of(kube, wanted, namespace)
    assert "removed 0 objects" in sweep("--older-than", "2h")
    said = sweep("--run", "left-behind")
    assert "run left-behind" in said
    assert "in-use" not in said
    assert left_of(kube, wanted, namespace) == []
    assert left_of(kube, other, namespace)
    sweep("--older-than", "0s")
    assert left_of(kube, other, namespace) == []
