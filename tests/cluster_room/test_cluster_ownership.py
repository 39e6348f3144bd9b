"""Anchors, references, removal and waiting: what is written down, found again, and gone."""

from __future__ import annotations

import json
import os
import signal
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer, Asked

from model_load_test.components.cluster.connection import Cluster
from model_load_test.components.cluster.failures import ClusterError
from model_load_test.components.cluster.interruption import Interrupted, interruptible
from model_load_test.components.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    INFERENCE_SERVICE,
    JOB,
    POD,
    SERVICE,
)
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.cluster.ownership import (
    anchor_name,
    create_anchor,
    owned_by,
    planned_objects,
    workflow_owner,
)
from model_load_test.components.cluster.reference import parse_reference, read_reference, write_reference
from model_load_test.components.cluster.removal import kinds_planned, older_than, remove
from model_load_test.components.cluster.waiting import DidNotComeUp, Patience, PodWatch, wait_for
from model_load_test.components.errors import InputError

IDENTITY = RunIdentity("run", "task")
JOBS = "/apis/batch/v1/namespaces/space/jobs"
PODS = "/api/v1/namespaces/space/pods"
ANCHOR = f"{JOBS}/{anchor_name(IDENTITY)}"


def echo(asked: Asked) -> tuple[int, Any]:
    body = dict(asked.body)
    body["metadata"] = {**body["metadata"], "uid": "u-1"}
    return 200, body


def thing(name: str, *, minutes_old: int = 0, controlled: bool = False) -> dict[str, Any]:
    created = datetime.now(timezone.utc) - timedelta(minutes=minutes_old)
    owners = [{"kind": "ReplicaSet", "controller": True}] if controlled else []
    return {
        "metadata": {
            "name": name,
            "labels": IDENTITY.labels("server"),
            "creationTimestamp": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "ownerReferences": owners,
        }
    }


def test_the_anchor_has_no_pods_ends_by_itself_and_says_what_is_to_come(
    api: ApiServer, cluster: Cluster
) -> None:
    api.answers["PATCH", ANCHOR] = echo
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "w", "uid": "w-1"}
    planned = [(DEPLOYMENT, "d"), (SERVICE, "d")]
    reference = create_anchor(
        cluster, IDENTITY, deadline_seconds=60, planned=planned, image="i:1", owner=owner
    )
    assert reference == {"apiVersion": "batch/v1", "kind": "Job", "name": anchor_name(IDENTITY), "uid": "u-1"}
    job = next(one.body for one in api.asked if one.method == "PATCH")
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (0, 0)
    assert job["spec"]["ttlSecondsAfterFinished"] == 60
    assert job["metadata"]["ownerReferences"] == [owner]
    assert planned_objects(job) == [("Deployment", "d"), ("Service", "d")]
    assert owned_by({"metadata": {"name": "d"}}, reference)["metadata"]["ownerReferences"] == [reference]


def test_an_anchor_that_is_being_deleted_is_waited_for(api: ApiServer, cluster: Cluster) -> None:
    api.answers["PATCH", ANCHOR] = echo
    leaving = {"metadata": {"name": "a", "deletionTimestamp": "now"}}
    api.says("GET", ANCHOR, (200, leaving), (200, leaving), (404, {}))
    create_anchor(cluster, IDENTITY, deadline_seconds=60, planned=[], image="i:1")
    assert [one.method for one in api.asked] == ["GET", "GET", "GET", "PATCH"]


@pytest.mark.parametrize("seconds", [0, -1, 10**9])
def test_a_deadline_that_is_none_is_refused(seconds: int, cluster: Cluster) -> None:
    with pytest.raises(InputError, match="deadline_seconds"):
        create_anchor(cluster, IDENTITY, deadline_seconds=seconds, planned=[], image="i:1")


def test_the_workflow_owns_and_not_the_pod_that_ends_first(api: ApiServer, cluster: Cluster) -> None:
    workflow = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "name": "w",
        "uid": "1",
        "controller": True,
    }
    api.says("GET", f"{PODS}/me", (200, {"metadata": {"ownerReferences": [workflow]}}))
    found = workflow_owner(cluster, {"KFP_POD_NAME": "me"})
    assert found == {name: workflow[name] for name in ("apiVersion", "kind", "name", "uid")}
    assert workflow_owner(cluster, {}) is None
    assert workflow_owner(cluster, {"KFP_POD_NAME": "unseen"}) is None


def test_a_reference_is_found_again_by_a_retried_task(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "resources"
    assert read_reference(path) is None
    written = write_reference(path, "space", IDENTITY, [(JOB, "a"), (DEPLOYMENT, "d")])
    assert read_reference(path) == written
    assert written.identity == IDENTITY
    assert not list(path.parent.glob(".*")), "nothing half-written stays"


@pytest.mark.parametrize("text", ["{", "[]", '{"namespace": "x"}'])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="resources"):
        parse_reference(text)


def test_a_reference_of_a_later_release_is_refused() -> None:
    later = {"namespace": "x", "run": "r", "task": "t", "schema_version": 99}
    with pytest.raises(InputError, match="upgrade"):
        parse_reference(json.dumps(later))


def test_removal_deletes_what_it_finds_and_leaves_pods_to_their_makers(
    api: ApiServer, cluster: Cluster
) -> None:
    api.says("GET", PODS, (200, {"items": [thing("p", controlled=True)]}), (200, {"items": []}))
    api.says("GET", JOBS, (200, {"items": [thing("a")]}), (200, {"items": []}))
    api.says("DELETE", f"{JOBS}/a", (200, {}))
    removal = remove(cluster, IDENTITY.selector, kinds=(POD, JOB))
    assert [one.name for one in removal.removed] == ["p", "a"]
    assert [one.path for one in api.asked if one.method == "DELETE"] == [f"{JOBS}/a"]
    assert all(one.query["labelSelector"] == IDENTITY.selector for one in api.asked if one.method == "GET")


def test_a_dry_run_deletes_nothing(api: ApiServer, cluster: Cluster) -> None:
    api.says("GET", JOBS, (200, {"items": [thing("a")]}))
    removal = remove(cluster, IDENTITY.selector, kinds=(JOB,), dry_run=True)
    assert [str(one) for one in removal.removed] == ["Job a of run run"]
    assert not [one for one in api.asked if one.method == "DELETE"]


def test_what_is_young_stays(api: ApiServer, cluster: Cluster) -> None:
    old, young = thing("old", minutes_old=130), thing("young", minutes_old=5)
    api.says("GET", JOBS, (200, {"items": [old, young]}), (200, {"items": [young]}))
    api.says("DELETE", f"{JOBS}/old", (200, {}))
    removal = remove(cluster, "a=b", kinds=(JOB,), keep=older_than(7200))
    assert [one.name for one in removal.removed] == ["old"]


def test_what_does_not_go_is_named(api: ApiServer, cluster: Cluster) -> None:
    api.says("GET", JOBS, (200, {"items": [thing("stuck")]}))
    api.says("DELETE", f"{JOBS}/stuck", (200, {}))
    with pytest.raises(ClusterError, match="Job stuck of run run"):
        remove(cluster, "a=b", kinds=(JOB,), deadline_seconds=0.1)


def test_kinds_that_may_not_be_listed_are_said_to_be_unseen(api: ApiServer, cluster: Cluster) -> None:
    refused = (
        'x is forbidden: User "u" cannot list resource "configmaps" in API group "" in the namespace "space"'
    )
    api.says("GET", "/api/v1/namespaces/space/configmaps", (403, {"message": refused}))
    assert remove(cluster, "a=b", kinds=(CONFIG_MAP, JOB)).unseen == (CONFIG_MAP,)


def test_teardown_looks_for_what_the_anchor_says_was_planned(api: ApiServer, cluster: Cluster) -> None:
    anchor = thing("a")
    anchor["metadata"]["annotations"] = {"model-load-test/planned": '[["InferenceService", "x"]]'}
    api.says("GET", JOBS, (200, {"items": [anchor]}))
    assert kinds_planned(cluster, "s", (JOB,)) == (INFERENCE_SERVICE, JOB)


def test_waiting_ends_with_what_was_waited_for(api: ApiServer, cluster: Cluster) -> None:
    api.says("GET", PODS, (200, {"items": []}), (200, {"items": [thing("p")]}))
    watch = PodWatch(cluster, "a=b")
    assert (
        wait_for(lambda pods: pods or None, watch, what="x", deadline_seconds=30)[0]["metadata"]["name"]
        == "p"
    )


def test_a_pod_that_can_never_run_is_not_waited_for_and_brings_its_log(
    api: ApiServer, cluster: Cluster
) -> None:
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s" not found'}}
    pod = {
        **thing("p"),
        "spec": {},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "c", "state": waiting}]},
    }
    api.says("GET", PODS, (200, {"items": [pod]}))
    api.says("GET", f"{PODS}/p/log", (200, "what it said"))
    event = {
        "reason": "Failed",
        "message": "told so",
        "involvedObject": {"name": "p"},
        "metadata": {},
        "lastTimestamp": "1",
    }
    api.says("GET", "/api/v1/namespaces/space/events", (200, {"items": [event]}))
    with pytest.raises(DidNotComeUp) as caught:
        wait_for(lambda _: None, PodWatch(cluster, "a=b"), what="the server", deadline_seconds=60)
    for part in ('secret "s" not found', "log of p/c:", "what it said", "event Failed of p: told so"):
        assert part in str(caught.value)
    assert caught.value.troubles[0].cause == "configuration"


def test_a_missing_image_is_given_up_on_after_a_while(api: ApiServer, cluster: Cluster) -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    pod = {
        **thing("p"),
        "spec": {},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "c", "state": waiting}]},
    }
    api.says("GET", PODS, (200, {"items": [pod]}))
    watch = PodWatch(cluster, "a=b", patience=Patience(image_seconds=0.1))
    with pytest.raises(DidNotComeUp, match="cannot be had"):
        wait_for(lambda _: None, watch, what="the server", deadline_seconds=60)


def test_the_deadline_says_how_far_it_came(api: ApiServer, cluster: Cluster) -> None:
    api.says("GET", PODS, (200, {"items": []}))
    with pytest.raises(DidNotComeUp, match=r"not ready after .*\nthere is no pod"):
        wait_for(lambda _: None, PodWatch(cluster, "a=b"), what="x", deadline_seconds=0.1)


def test_sigterm_becomes_an_exception_once_and_clean_up_is_left_in_peace() -> None:
    steps = []
    with pytest.raises(Interrupted) as caught, interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("cleaned up")
    assert steps == ["cleaned up"]
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
