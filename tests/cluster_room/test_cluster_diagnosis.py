"""Why pods do not run, from what the API says of them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from model_load_test.components.cluster.diagnosis import (
    explain_unschedulable,
    is_scaling_up,
    maker_troubles,
    pod_troubles,
    tolerates,
    untolerated_taints,
)

BORN = "2026-11-21T12:00:00Z"
NOW = datetime(2026, 11, 21, 12, 1, tzinfo=timezone.utc)
SCHEDULER = (
    "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
    "1 node(s) had untolerated taint {pool: load}."
)


def pod(status: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "server-1", "creationTimestamp": BORN}, "spec": spec, "status": status}


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {
        "phase": "Pending",
        "containerStatuses": [{"name": "server", "image": "i:1", "state": state, **more}],
    }


def unschedulable(**spec: Any) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": SCHEDULER}
    return pod({"phase": "Pending", "conditions": [condition]}, **spec)


def node(
    name: str, labels: dict[str, str] | None = None, *taints: dict[str, str], ready: str = "True"
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"taints": list(taints)},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


LOAD = {"key": "pool", "value": "load", "effect": "NoSchedule"}


def test_the_taint_that_keeps_a_pod_off_is_named() -> None:
    (trouble,) = pod_troubles([unschedulable()], nodes=[node("a", {}, LOAD)], now=NOW)
    assert trouble.cause == "unschedulable"
    assert "a has the taint pool=load:NoSchedule that no toleration tolerates" in trouble.message
    assert trouble.since_seconds == 60


def test_the_label_that_no_node_has_is_named() -> None:
    text = explain_unschedulable(
        unschedulable(nodeSelector={"pool": "gpu"}), [node("a"), node("b")], SCHEDULER
    )
    assert "no node has the label pool=gpu" in text


def test_a_node_with_the_label_and_another_taint_is_told_apart_from_the_rest() -> None:
    waits = unschedulable(nodeSelector={"pool": "load"})
    text = explain_unschedulable(
        waits, [node("a", {"pool": "load"}, LOAD), node("b", ready="False")], SCHEDULER
    )
    assert "a has the taint pool=load:NoSchedule" in text
    assert "b lacks the label pool=load and is not ready" in text


def test_without_the_right_to_see_nodes_the_scheduler_is_quoted_and_the_selector_shown() -> None:
    text = explain_unschedulable(unschedulable(nodeSelector={"pool": "gpu"}), None, SCHEDULER)
    assert SCHEDULER in text
    assert "tolerate {pool: load}" in text
    assert "its node selector is pool=gpu" in text


def test_a_scheduler_that_names_no_taint_is_quoted_with_what_would_tell_it() -> None:
    newer = "0/1 nodes are available: 1 node(s) had untolerated taint(s)."
    assert "right to list nodes" in explain_unschedulable(unschedulable(), None, newer)
    assert "right to list nodes" not in explain_unschedulable(unschedulable(), None, SCHEDULER)


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"key": "pool", "operator": "Equal", "value": "load", "effect": "NoSchedule"}, True),
        ({"key": "pool", "value": "load"}, True),
        ({"key": "pool", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "pool", "value": "gpu"}, False),
        ({"key": "pool", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations_are_read_as_kubernetes_does(toleration: dict[str, str], tolerated: bool) -> None:
    assert tolerates(toleration, LOAD) is tolerated
    assert (untolerated_taints({"tolerations": [toleration]}, node("a", {}, LOAD)) == []) is tolerated


def test_an_image_that_cannot_be_had_is_named() -> None:
    (trouble,) = pod_troubles([pod(waiting("ImagePullBackOff", "not found"))])
    assert (trouble.cause, trouble.message) == (
        "image",
        "image 'i:1' cannot be had (ImagePullBackOff): not found",
    )


def test_a_container_that_was_killed_for_memory_says_so_even_while_it_restarts() -> None:
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    (trouble,) = pod_troubles([pod(waiting("CrashLoopBackOff", lastState=ended, restartCount=2))])
    assert (trouble.cause, trouble.restarts) == ("out-of-memory", 2)


def test_a_crash_comes_with_its_exit_code_and_last_words() -> None:
    ended = {"terminated": {"reason": "Error", "exitCode": 1, "message": "no such model\n"}}
    (trouble,) = pod_troubles([pod(waiting("CrashLoopBackOff", lastState=ended, restartCount=3))])
    assert trouble.cause == "crashed"
    assert "exit code 1 (no such model)" in trouble.message


def test_an_init_container_that_found_bad_input_will_never_find_good() -> None:
    ended = {"terminated": {"reason": "Error", "exitCode": 2, "message": "model: nothing there"}}
    status = {"phase": "Pending", "initContainerStatuses": [{"name": "model", "state": ended}]}
    (trouble,) = pod_troubles([pod(status)])
    assert trouble.cause == "configuration"
    assert "nothing there" in trouble.message


def test_a_volume_that_cannot_be_mounted_is_told_by_its_event() -> None:
    event = {"reason": "FailedMount", "message": "claim not found", "involvedObject": {"name": "server-1"}}
    (trouble,) = pod_troubles([pod({"phase": "Pending"})], [event])
    assert (trouble.cause, trouble.message) == ("volume", "claim not found")


def test_an_evicted_pod_says_why() -> None:
    (trouble,) = pod_troubles([pod({"phase": "Failed", "reason": "Evicted", "message": "disk pressure"})])
    assert (trouble.cause, trouble.message) == ("evicted", "Evicted: disk pressure")


def test_pods_that_may_not_be_created_are_told_by_what_would_have() -> None:
    said = "exceeded quota: few"
    job = {"reason": "FailedCreate", "message": said, "involvedObject": {"kind": "Job", "name": "load"}}
    assert [str(one) for one in pod_troubles([], [job, job])] == [f"Job load: {said}"]
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": said}
    maker = {"kind": "Deployment", "metadata": {"name": "server"}, "status": {"conditions": [condition]}}
    assert [str(one) for one in maker_troubles([maker])] == [f"Deployment server: {said}"]


def test_a_pod_that_runs_is_no_trouble() -> None:
    running = {"phase": "Running", "containerStatuses": [{"name": "server", "state": {"running": {}}}]}
    assert pod_troubles([pod(running), pod({"phase": "Pending"})]) == []


def test_an_autoscaler_that_brings_a_node_is_heard() -> None:
    assert is_scaling_up([{"reason": "TriggeredScaleUp"}])
    assert not is_scaling_up([{"reason": "NotTriggerScaleUp"}])
