"""Finds what serves on Vertex AI, by the labels of a deployment or by name, and what can be said of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_load_test.components.errors import InputError
from model_load_test.components.google_cloud.rest import GoogleApiError
from model_load_test.components.protocols.endpoint import Endpoint, parse_endpoint
from model_load_test.components.protocols.vertex import PREDICT, control_address, model_of
from model_load_test.components.serving.vertex.plan import ARM, ARMS, DEPLOYMENT, Arm
from model_load_test.components.serving.vertex.resources import Open, with_label
from model_load_test.components.serving.vertex.spec import VertexSpecError, endpoint_name, location_of


@dataclass(frozen=True)
class Machine:
    """What a deployed model runs on."""

    machine_type: str = ""
    accelerator: str = ""
    """Such as `NVIDIA_TESLA_T4 x 1`; empty for none."""
    least_replicas: int = 1
    most_replicas: int = 1
    pool: str = ""
    """The resource pool that it shares with other models; empty for machines of its own."""


@dataclass(frozen=True)
class VertexServer:
    """An endpoint with its one model."""

    name: str
    """The endpoint's resource name."""
    endpoint: Endpoint
    kind: str
    """shared, dedicated, peered or service-connect."""
    machine: Machine
    model: str
    """The model's resource name, with its version."""
    image: str = ""
    """Of the serving container, by the tag it was given; Vertex AI tells no digest."""
    deployed_model_id: str = ""

    @property
    def flags(self) -> tuple[str, ...]:
        """What decides its speed beside the model and the image, for the fingerprint."""
        machine = self.machine
        told = {
            "endpoint": self.kind,
            "machine_type": machine.machine_type,
            "accelerator": machine.accelerator,
            "replicas": f"{machine.least_replicas}-{machine.most_replicas}",
            "pool": machine.pool,
        }
        return tuple(f"{name}={value}" for name, value in told.items() if value)


def find_servers(
    open_api: Open,
    *,
    project: str,
    location: str,
    deployment: str,
    endpoints: Mapping[Arm, str],
) -> dict[Arm, VertexServer]:
    """The servers of a run: those it deployed, and the live ones it was given.

    Args:
        open_api: Opens the API of a location.
        project: Whose deployment.
        location: Where.
        deployment: Its name, as planned; empty where nothing was deployed.
        endpoints: By arm a live endpoint, by resource name or URL; empty for none.

    Raises:
        VertexSpecError: No candidate is served, or the arms are no equals.
        ModelNotFound: An endpoint has no model that gets traffic.
        UnexpectedAnswer: An endpoint shares its traffic out between models.
        GoogleApiError: The service refuses, or stays away.
    """
    found: dict[Arm, VertexServer] = {}
    deployed = _deployed(open_api, project, location, deployment)
    for arm in ARMS:
        given = endpoints.get(arm, "")
        if given:
            found[arm] = _given(open_api, given, f"{arm}_endpoint")
        elif deployed.get(arm):
            found[arm] = _server(open_api, deployed[arm])
    if "candidate" not in found:
        raise VertexSpecError(
            "candidate_model", "", f"deployment {deployment!r} in {location} has no endpoint of the candidate"
        )
    for arm, server in found.items():
        machine = server.machine
        print(f"{arm}: {server.endpoint}, model {server.model}, {', '.join(server.flags)}")
        if machine.least_replicas != machine.most_replicas:
            print(
                f"{arm}: it may scale from {machine.least_replicas} to {machine.most_replicas} replicas "
                "while it is measured; fix the number to measure the model",
                file=sys.stderr,
            )
    refuse_unequal(found)
    return found


def refuse_unequal(servers: Mapping[Arm, VertexServer]) -> None:
    """Refuses arms on different machines, or reached in different ways.

    Raises:
        VertexSpecError: What would be measured is not the models.
    """
    for field, values in (
        ("server_machine_type", {arm: str(one.machine) for arm, one in servers.items()}),
        ("endpoint_kind", {arm: one.kind for arm, one in servers.items()}),
    ):
        if len(set(values.values())) > 1:
            told = "; ".join(f"{arm}: {value}" for arm, value in values.items())
            raise VertexSpecError(
                field, told, "candidate and baseline are no equals; deploy both, on machines of one type"
            )


def _deployed(open_api: Open, project: str, location: str, deployment: str) -> dict[Arm, dict[str, Any]]:
    if not deployment:
        return {}
    found: dict[Arm, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for one in with_label(open_api(location), project, location, "endpoints", DEPLOYMENT, deployment):
        arm = one.get("labels", {}).get(ARM)
        if arm in found:
            found[arm].append(one)
    # A task of GCPC's that was tried again has made another endpoint, and left the first one empty.
    return {
        arm: next((one for one in several if one.get("deployedModels")), several[0])
        for arm, several in found.items()
        if several
    }


def _given(open_api: Open, text: str, field: str) -> VertexServer:
    name = endpoint_name(text, field)
    if name:
        return _server(open_api, open_api(location_of(name)).get(f"/v1/{name}"))
    endpoint = parse_endpoint(text, field)
    name = endpoint.base_path.removeprefix("/v1/")
    if not name.startswith("projects/"):
        raise VertexSpecError(
            field,
            text,
            "give a peered endpoint by its name, projects/PROJECT/locations/LOCATION/endpoints/ID: its "
            "address does not tell what it is",
        )
    return _server(open_api, open_api(location_of(name)).get(f"/v1/{name}"), endpoint)


def _server(open_api: Open, document: Mapping[str, Any], address: Endpoint | None = None) -> VertexServer:
    name = str(document["name"])
    deployed = model_of(document, name)
    kind = _kind(document)
    model = str(deployed.get("model", ""))
    version = str(deployed.get("modelVersionId", ""))
    if version and "@" not in model:
        model = f"{model}@{version}"
    return VertexServer(
        name=name,
        endpoint=address or _address(document, deployed, kind),
        kind=kind,
        machine=_machine(deployed),
        model=model,
        image=_image(open_api, model),
        deployed_model_id=str(deployed.get("id", "")),
    )


def _kind(document: Mapping[str, Any]) -> str:
    if document.get("network"):
        return "peered"
    if document.get("privateServiceConnectConfig", {}).get("enablePrivateServiceConnect"):
        return "service-connect"
    return "dedicated" if document.get("dedicatedEndpointEnabled") else "shared"


def _address(document: Mapping[str, Any], deployed: Mapping[str, Any], kind: str) -> Endpoint:
    name = str(document["name"])
    if kind == "peered":
        uri = str(deployed.get("privateEndpoints", {}).get("predictHttpUri", "")).removesuffix(PREDICT)
        if not uri:
            raise InputError(
                "endpoint", name, "Vertex AI tells no private address of its model; is it deployed?"
            )
        return parse_endpoint(uri, "endpoint")
    if kind == "service-connect":
        raise VertexSpecError(
            "candidate_endpoint",
            name,
            f"it is reached by Private Service Connect; give the URL https://ADDRESS/v1/{name} with the "
            "address or name of your forwarding rule",
        )
    host = str(document.get("dedicatedEndpointDns", "")).removeprefix("https://")
    if kind == "dedicated" and not host:
        raise InputError("endpoint", name, "it has no name of its own yet; wait until it is made")
    return Endpoint("https", host or control_address(location_of(name)), 443, f"/v1/{name}")


def _machine(deployed: Mapping[str, Any]) -> Machine:
    own, automatic = deployed.get("dedicatedResources"), deployed.get("automaticResources")
    if own:
        machine = own.get("machineSpec", {})
        count = int(machine.get("acceleratorCount", 0))
        least = int(own.get("minReplicaCount", 1))
        return Machine(
            machine_type=str(machine.get("machineType", "")),
            accelerator=f"{machine.get('acceleratorType')} x {count}" if count else "",
            least_replicas=least,
            most_replicas=int(own.get("maxReplicaCount", 0)) or least,
        )
    if automatic:
        least = int(automatic.get("minReplicaCount", 1))
        return Machine(
            machine_type="automatic",
            least_replicas=least,
            # None is promised: it may grow as it likes.
            most_replicas=int(automatic.get("maxReplicaCount", 0)) or least + 1,
        )
    return Machine(pool=str(deployed.get("sharedResources", "")))


def _image(open_api: Open, model: str) -> str:
    try:
        document = open_api(location_of(model)).get(f"/v1/{model}")
    except (GoogleApiError, IndexError) as error:
        print(f"the image of {model or 'the model'} is not known: {error}", file=sys.stderr)
        return ""
    return str(document.get("containerSpec", {}).get("imageUri", ""))
