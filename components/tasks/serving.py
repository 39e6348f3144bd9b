"""The bodies of the serving room's container components."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from model_load_test.components.cluster.connection import Cluster, connect
from model_load_test.components.cluster.failures import MissingRight
from model_load_test.components.cluster.kinds import SERVICE
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.errors import InputError
from model_load_test.components.executor import ExecutorTask
from model_load_test.components.image import load_test_image
from model_load_test.components.payload.locations import local_copy
from model_load_test.components.serving.arm import Arm
from model_load_test.components.serving.bless import (
    Blessing,
    require_blessed,
    require_blessing,
    validate,
    write_blessing,
)
from model_load_test.components.serving.deploy import (
    Deployment,
    deploy,
    planned_manifests,
    refuse_two_names,
)
from model_load_test.components.serving.model_uri import ModelUri, parse_model_uri, parse_storage
from model_load_test.components.serving.readiness import ServedArm
from model_load_test.components.serving.reuse import reuse
from model_load_test.components.serving.spec import (
    ServingSpec,
    parse_request_spec,
    parse_serving_spec,
)
from model_load_test.components.serving.teardown import teardown
from model_load_test.components.tasks.requests import request_sender

ARMS: Final[tuple[Arm, ...]] = ("candidate", "baseline")

_VALIDATION: Final = "-validation"
"""Ends the name of the deployment in which the candidate is validated."""
_LOOKING_PATIENCE_SECONDS: Final = 10.0


def plan_serving(task: ExecutorTask) -> None:
    """Parses everything a deployment needs before anything is created, and names it."""
    require_blessing(task.get("infra_blessing", ""))
    wanted = _deployment(task)
    _refuse_double(task)
    if wanted.models:
        refuse_two_names(wanted)
        planned_manifests(wanted)
    for arm, model in wanted.models.items():
        print(f"{arm}: {model} in {wanted.spec.server_image or wanted.spec.kind}")
    task.set_output("deployment", wanted.identity.task)


def deploy_model_server(task: ExecutorTask) -> None:
    """Deploys the arms that are given as models, looks up those given as endpoints."""
    require_blessing(task.get("infra_blessing", ""))
    _refuse_double(task)
    wanted = _deployment(task)
    reused = {arm: task.get(f"{arm}_endpoint", "") for arm in ARMS}
    looking = _cluster_to_look_at(task) if any(reused.values()) else None
    served: dict[str, ServedArm] = {}
    for arm in ARMS:
        if reused[arm]:
            served[arm] = reuse(
                looking,
                reused[arm],
                wanted.spec.model_name,
                field=f"{arm}_endpoint",
                protocol=wanted.spec.protocol,
                model_version=task.get("model_version", "") if arm == "candidate" else "",
                signature_name=task.get("signature_name", ""),
                server_kind=wanted.spec.kind,
            )
    if wanted.models:
        served |= deploy(_cluster(task), wanted, reference_path=task.output_files.get("resources"))
    if "candidate" not in served:
        raise InputError("candidate_model", "", "give a model to deploy, or a candidate_endpoint to reuse")
    _write_servers(task, served)


def validate_model_server(task: ExecutorTask) -> None:
    """Loads the candidate into a server of its own, sends requests, blesses it or not."""
    if not task.get("validate", True) or not task.get("candidate_model", ""):
        blessing = Blessing(True, "no validation was asked for")
    else:
        wanted = _deployment(task)
        identity = RunIdentity(wanted.identity.run, f"{wanted.identity.task}{_VALIDATION}")
        requests = parse_request_spec(task.get("requests", {}))
        with ExitStack() as copies:
            given = requests.examples
            examples = copies.enter_context(local_copy(given, "examples")) if given else None
            send = request_sender(requests, examples)
            blessing = validate(_cluster(task), replace(wanted, identity=identity), send)
    print(blessing.reason, file=sys.stdout if blessing.blessed else sys.stderr)
    if "blessing" in task.outputs:
        write_blessing(task.outputs["blessing"].path, blessing)
        task.set_metadata("blessing", blessing.metadata)
    task.set_output("blessed", int(blessing.blessed))
    said = {"blessed": int(blessing.blessed), "reason": blessing.reason}
    task.set_output("infra_blessing", json.dumps(said))


def require_infra_blessing(task: ExecutorTask) -> None:
    """Stops the run when the artifact from upstream is not blessed."""
    blessing = task.inputs["blessing"]
    require_blessed(blessing.metadata, blessing.path)
    task.set_output("blessed", 1)


def teardown_model_server(task: ExecutorTask) -> None:
    """Removes what the deployment has created; nothing where there is no deployment."""
    deployment = task.get("deployment", "")
    if not deployment:
        print("nothing was deployed")
        return
    cluster = _cluster(task)
    for name in (deployment, f"{deployment}{_VALIDATION}"):
        teardown(cluster, RunIdentity(_run_id(task), name))


def _deployment(task: ExecutorTask) -> Deployment:
    spec = _spec(task)
    models = {arm: uri for arm in ARMS if (uri := _model(task, arm)) is not None}
    storage = parse_storage(task.get("storage", {}), next(iter(models.values()), None))
    return Deployment(
        identity=RunIdentity(_run_id(task), _deployment_name(task)),
        spec=spec,
        models=models,
        loader_image=task.get("loader_image", "") or load_test_image(),
        storage=storage,
        deadline_seconds=task.get("deadline_seconds", 7200),
    )


def _run_id(task: ExecutorTask) -> str:
    """The run's id; where KFP did not put it in, the workflow's name in the name of this pod."""
    given = _resolved(task.get("run_id", ""))
    pod = os.environ.get("KFP_POD_NAME", "")
    if not given and not pod:
        raise InputError(
            "run_id", "", "give dsl.PIPELINE_JOB_ID_PLACEHOLDER, or any text that is the run's own"
        )
    # Argo names a workflow's pods after it: NAME-STEP-NUMBER.
    return given or "-".join(pod.split("-")[:-2]) or pod


def _deployment_name(task: ExecutorTask) -> str:
    """A name that a retried task has again: given, of the task, or of what is to be deployed."""
    given = task.get("deployment", "") or _resolved(task.get("task_id", ""))
    return given or hashlib.sha256(json.dumps(task.parameters, sort_keys=True).encode()).hexdigest()[:16]


def _resolved(text: str) -> str:
    """Text without a placeholder that a backend has left as it is."""
    return "" if text.startswith("{{$") else text


def _spec(task: ExecutorTask) -> ServingSpec:
    return parse_serving_spec(
        task.get("serving", {}),
        model_name=task.get("model_name", ""),
        tolerations=task.get("server_tolerations", []),
        node_selector=task.get("server_node_selector", {}),
        affinity=task.get("server_affinity", {}),
        resources=task.get("server_resources", {}),
    )


def _model(task: ExecutorTask, arm: Arm) -> ModelUri | None:
    text = task.get(f"{arm}_model", "")
    return parse_model_uri(text, f"{arm}_model") if text else None


def _refuse_double(task: ExecutorTask) -> None:
    for arm in ARMS:
        if task.get(f"{arm}_model", "") and task.get(f"{arm}_endpoint", ""):
            raise InputError(
                f"{arm}_endpoint", task.get(f"{arm}_endpoint", ""), f"give it or {arm}_model, not both"
            )
    if not task.get("candidate_model", "") and not task.get("candidate_endpoint", ""):
        raise InputError("candidate_model", "", "give a model to deploy, or a candidate_endpoint to reuse")


def _cluster(task: ExecutorTask) -> Cluster:
    return connect(task.get("namespace", ""))


def _cluster_to_look_at(task: ExecutorTask) -> Cluster | None:
    """None where there is no cluster, or none that answers: a plain URL can be loaded all the same."""
    try:
        cluster = connect(task.get("namespace", ""), patience_seconds=_LOOKING_PATIENCE_SECONDS)
        cluster.list(SERVICE, "model-load-test/none")
    except MissingRight:
        return cluster
    except InputError:
        return None
    return cluster


def _write_servers(task: ExecutorTask, served: Mapping[str, ServedArm]) -> None:
    candidate, baseline = served["candidate"], served.get("baseline")
    names = {one.model_name for one in served.values()}
    if len(names) > 1:
        raise InputError("model_name", sorted(names), "both servers must know the model by one name")
    images = {one.image for one in served.values()} - {""}
    if len(images) > 1:
        told = "; ".join(f"{arm}: {one.image}" for arm, one in served.items())
        print(f"the servers do not run the same image, which is measured too ({told})", file=sys.stderr)
    task.set_output("endpoint_of_candidate", str(candidate.endpoint))
    task.set_output("endpoint_of_baseline", str(baseline.endpoint) if baseline else "")
    task.set_output("served_model_name", candidate.model_name)
    task.set_output("server_kind", candidate.server_kind)
    task.set_output("server_image", candidate.image)
    task.set_output("server_flags", list(candidate.flags))
    task.set_output("server_replicas", candidate.replicas)
    task.set_output("model_sha256", candidate.model_sha256)
    if "resources" in task.output_files and not task.output_files["resources"].exists():
        task.set_output("resources", "")
