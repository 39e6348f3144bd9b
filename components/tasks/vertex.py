"""The bodies of the container components that serve on Vertex AI."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from model_load_test.components.cluster.interruption import interruptible
from model_load_test.components.executor import ExecutorTask
from model_load_test.components.protocols.vertex import SERVER_KIND, control_address
from model_load_test.components.serving.bless import require_blessing
from model_load_test.components.serving.vertex.plan import ARMS, Arm, plan_vertex
from model_load_test.components.serving.vertex.resources import create_dedicated_endpoint, open_api
from model_load_test.components.serving.vertex.servers import VertexServer, find_servers
from model_load_test.components.serving.vertex.spec import (
    VertexSpecError,
    location_of,
    parse_vertex_serving,
)
from model_load_test.components.serving.vertex.teardown import teardown

_PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "project": ("CLOUD_ML_PROJECT_ID", "GOOGLE_CLOUD_PROJECT"),
    "location": ("CLOUD_ML_REGION", "GOOGLE_CLOUD_REGION"),
}
"""Where Vertex AI tells a task its project and location."""
_RESOURCE_NAME: Final = "resourceName"
_WITH_TOKEN: Final[Mapping[str, str]] = {"ca_file": "system", "token_source": "google"}


def plan_vertex_serving(task: ExecutorTask) -> None:
    """Checks everything a deployment needs before anything is created, and names it."""
    require_blessing(task.get("infra_blessing", ""))
    project, location = _place(task, "project"), _place(task, "location")
    spec = parse_vertex_serving(
        task.get("serving", {}),
        model_name=task.get("model_name", ""),
        machine_type=task.get("server_machine_type", "n1-standard-4"),
        accelerator_type=task.get("server_accelerator_type", ""),
        accelerator_count=task.get("server_accelerator_count", 0),
        replicas=task.get("server_replicas", 1),
        endpoint_kind=task.get("endpoint_kind", "shared"),
        network=task.get("endpoint_network", ""),
    )
    plan = plan_vertex(
        project=project,
        location=location,
        spec=spec,
        models={arm: task.get(f"{arm}_model", "") for arm in ARMS},
        endpoints={arm: task.get(f"{arm}_endpoint", "") for arm in ARMS},
        run_id=_resolved(task.get("run_id", "")),
        deadline_seconds=task.get("deadline_seconds", 7200),
    )
    for arm in ARMS:
        model = plan.models[arm]
        task.set_output(f"{arm}_source", model.source)
        task.set_output(f"{arm}_name", plan.shown_name(arm))
        task.set_output(f"{arm}_labels", plan.labels(arm))
        task.set_output(f"{arm}_endpoint_id", plan.endpoint_id(arm))
        if model.source == "upload":
            task.set_metadata(f"{arm}_container", {"containerSpec": spec.container_spec()}, model.text)
            print(f"{arm}: {model.text} in {spec.image}")
        elif model.source == "registry":
            address = f"https://{control_address(location)}/v1/{model.text}"
            task.set_metadata(f"{arm}_registered", {_RESOURCE_NAME: model.text}, address)
            print(f"{arm}: {model.text}")
    task.set_output("deployment", plan.deployment)
    task.set_output("place_project", project)
    task.set_output("place_location", location)
    task.set_output("signature_of", plan.saved_model(task.get("saved_model", "")))


def create_vertex_endpoint(task: ExecutorTask) -> None:
    """Makes an endpoint with a name of its own, or finds the one that an earlier try made."""
    project, location = _place(task, "project"), _place(task, "location")
    with interruptible():
        name = create_dedicated_endpoint(
            open_api(location),
            project,
            location,
            task.get("endpoint_id", ""),
            task.get("display_name", ""),
            task.get("labels", {}),
        )
    print(f"endpoint {name}")
    address = f"https://{control_address(location)}/v1/{name}"
    task.set_metadata("endpoint", {_RESOURCE_NAME: name}, address)


def find_vertex_servers(task: ExecutorTask) -> None:
    """Finds candidate and baseline, checks that they are equals, and says how they are reached."""
    endpoints: dict[Arm, str] = {arm: task.get(f"{arm}_endpoint", "") for arm in ARMS}
    servers = find_servers(
        open_api,
        project=_place(task, "project"),
        location=_place(task, "location"),
        deployment=task.get("deployment", ""),
        endpoints=endpoints,
    )
    candidate, baseline = servers["candidate"], servers.get("baseline")
    task.set_output("endpoint_of_candidate", str(candidate.endpoint))
    task.set_output("endpoint_of_baseline", str(baseline.endpoint) if baseline else "")
    task.set_output("served_model_name", task.get("model_name", ""))
    task.set_output("server_kind", SERVER_KIND)
    task.set_output("server_image", candidate.image)
    task.set_output("server_flags", list(candidate.flags))
    task.set_output("server_replicas", candidate.machine.least_replicas)
    task.set_output("model_sha256", "")
    task.set_output("resources", "\n".join(one.name for one in servers.values()))
    task.set_output("hosts", _hosts(task.get("allowed_hosts", []), servers))
    task.set_output("monitored_by", _monitoring(task, servers))
    task.set_output("reached_by", _connection(task.get("connection", {}), candidate))


def teardown_vertex_servers(task: ExecutorTask) -> None:
    """Undeploys and deletes what the deployment has created; nothing where there is no deployment."""
    deployment = task.get("deployment", "")
    if not deployment:
        print("nothing was deployed")
        return
    location = _place(task, "location")
    removed = teardown(open_api(location), _place(task, "project"), location, deployment)
    print(f"removed {len(removed)} resources of {deployment}")


def _hosts(allowed: list[Any], servers: Mapping[Arm, VertexServer]) -> list[Any]:
    """The hosts that may be loaded: those that were allowed, and those of the endpoints that are meant."""
    return [*allowed, *(host for host in {one.endpoint.host: None for one in servers.values()})]


def _monitoring(task: ExecutorTask, servers: Mapping[Arm, VertexServer]) -> dict[str, Any]:
    """Where the endpoints' own numbers are: as given, or in Cloud Monitoring."""
    given: dict[str, Any] = task.get("resource_sources", {})
    if given:
        return given
    arms = {
        arm: {
            "endpoint_id": one.name.rpartition("/")[2],
            "deployed_model_id": one.deployed_model_id,
            "location": location_of(one.name),
        }
        for arm, one in servers.items()
    }
    return {"cloud_monitoring": {"project": _place(task, "project"), **arms}}


def _connection(given: Mapping[str, Any], candidate: VertexServer) -> dict[str, Any]:
    """How to reach the endpoints: as given, or with tokens of the run's service account over TLS."""
    if given or not candidate.endpoint.secure:
        return dict(given)
    return dict(_WITH_TOKEN)


def _place(task: ExecutorTask, name: str) -> str:
    given = _resolved(task.get(name, ""))
    found = given or next((os.environ[one] for one in _PLACES[name] if os.environ.get(one)), "")
    if not found:
        raise VertexSpecError(name, "", f"give the {name}: nothing around this task tells it")
    return found


def _resolved(text: str) -> str:
    """Text without a placeholder that a backend has left as it is."""
    return "" if text.startswith("{{$") else text
