"""Endpoints of Vertex AI over REST: where they listen, and what they say of the models behind them.

An endpoint is known by its address, which is what Google shows plus nothing:

- shared: `https://LOCATION-aiplatform.googleapis.com/v1/projects/P/locations/L/endpoints/ID`,
- dedicated, with a name of its own: `https://ID.LOCATION-NUMBER.prediction.vertexai.goog/v1/projects/...`,
- by Private Service Connect: an address of the user's own network before the same path,
- peered: `http://ID.aiplatform.googleapis.com/v1/models/DEPLOYED_MODEL_ID`, straight to the model server.

`:predict` carries instances, `:rawPredict` any body to the container as it is.
"""

from __future__ import annotations

import http.client
import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.connection import (
    SHOWN_ANSWER_CHARACTERS,
    ModelNotFound,
    UnexpectedAnswer,
    get,
    get_document,
)
from model_load_test.components.protocols.endpoint import Endpoint, vertex_location
from model_load_test.components.protocols.signature import NAMELESS, Signature
from model_load_test.components.protocols.status import VersionStatus

PREDICT: Final = ":predict"
RAW_PREDICT: Final = ":rawPredict"
SERVER_KIND: Final = "vertex"

DEDICATED_SUFFIX: Final = ".prediction.vertexai.goog"
PEERED_SUFFIX: Final = ".aiplatform.googleapis.com"


def speaks_vertex(endpoint: Endpoint) -> bool:
    """Whether the address is one of Vertex AI's; nobody is asked."""
    return vertex_location(endpoint.base_path) is not None or _is_peered(endpoint)


def control_address(location: str) -> str:
    """Host of the API that knows a location's endpoints and models."""
    return f"{location}-aiplatform.googleapis.com"


def versions(endpoint: Endpoint, timeout_seconds: float) -> tuple[VersionStatus, ...]:
    """The version of the one model that gets all of the endpoint's traffic.

    A peered endpoint is asked for its model server's health; the others are looked up in Vertex AI's
    API, for which the token needs aiplatform.endpoints.get.

    Raises:
        ServerUnreachable: Nothing answers there in time.
        ModelNotFound: There is no such endpoint, or no model behind it.
        UnexpectedAnswer: What answers is not Vertex AI's, refuses the token, or shares the traffic out.
    """
    require_rest(endpoint)
    if _is_peered(endpoint):
        status, _, body = get(endpoint, "", timeout_seconds)
        if status == http.client.OK:
            return (VersionStatus("", "AVAILABLE"),)
        said = body.decode(errors="replace")[:SHOWN_ANSWER_CHARACTERS]
        return (VersionStatus("", "UNAVAILABLE", error_message=f"HTTP {status}: {said}"),)
    document = endpoint_resource(endpoint, timeout_seconds)
    _refuse_shared_name(endpoint, document)
    model = model_of(document, str(endpoint))
    return (VersionStatus(str(model.get("modelVersionId", "")), "AVAILABLE"),)


def signatures() -> dict[str, Signature]:
    """The one signature, nameless and without inputs: Vertex AI publishes none."""
    return {NAMELESS: Signature(NAMELESS, "", {}, {})}


def endpoint_resource(endpoint: Endpoint, timeout_seconds: float) -> dict[str, Any]:
    """What Vertex AI's API says of an endpoint: its resource, as JSON.

    Raises:
        ServerUnreachable: Nothing answers there in time.
        ModelNotFound: There is no such endpoint.
        UnexpectedAnswer: What answers is not Vertex AI's API, or refuses the token.
    """
    asked = _control(endpoint)
    status, document, text = get_document(asked, "", timeout_seconds)
    error = (document or {}).get("error")
    said = (str(error.get("message", "")) if isinstance(error, dict) else text)[:SHOWN_ANSWER_CHARACTERS]
    if status == http.client.OK and document is not None and "name" in document:
        return document
    if status == http.client.NOT_FOUND and isinstance(error, dict):
        raise ModelNotFound(
            "endpoint", str(endpoint), f"there is no such endpoint ({said}); check project, location and ID"
        )
    if status == http.client.UNAUTHORIZED:
        raise UnexpectedAnswer(
            "endpoint",
            str(endpoint),
            'it wants a token; set connection to {"ca_file": "system", "token_source": "google"}',
        )
    if status == http.client.FORBIDDEN:
        raise UnexpectedAnswer(
            "endpoint",
            str(endpoint),
            f"the identity may not look at it ({said}); roles/aiplatform.user has it",
        )
    raise UnexpectedAnswer(
        "endpoint",
        str(endpoint),
        f"what answers at {asked.host} is not Vertex AI's API (HTTP {status}: {said})",
    )


def model_of(document: Mapping[str, Any], shown: str) -> Mapping[str, Any]:
    """The one deployed model of an endpoint's resource that gets its traffic.

    Args:
        document: The resource.
        shown: The endpoint, for errors.

    Raises:
        ModelNotFound: No model is deployed to it, or none gets traffic.
        UnexpectedAnswer: Several get a share: then nobody can tell whose latency it is.
    """
    deployed = {str(one.get("id", "")): one for one in document.get("deployedModels", [])}
    shares = {model: int(share) for model, share in document.get("trafficSplit", {}).items() if int(share)}
    # An endpoint in a peered network has one model and no split.
    loaded = shares or (
        dict.fromkeys(deployed, 100) if len(deployed) == 1 and document.get("network") else {}
    )
    if not loaded:
        why = "no model is deployed to it" if not deployed else "none of its models gets traffic"
        raise ModelNotFound("endpoint", shown, f"{why}; deploy one with traffic_split {{'0': 100}}")
    if len(loaded) > 1:
        split = ", ".join(f"{model} {share} %" for model, share in sorted(loaded.items()))
        raise UnexpectedAnswer(
            "endpoint",
            shown,
            f"its traffic is shared out ({split}); an arm is one model, give it an endpoint",
        )
    (model,) = loaded
    found: Mapping[str, Any] = deployed.get(model, {"id": model})
    return found


def require_rest(endpoint: Endpoint) -> None:
    """Refuses gRPC.

    Raises:
        InputError: The endpoint is not HTTP's.
    """
    if endpoint.protocol != "http":
        raise InputError(
            "endpoint",
            str(endpoint),
            "Vertex AI is loaded over REST; write it as "
            "https://LOCATION-aiplatform.googleapis.com/v1/projects/PROJECT/locations/LOCATION/endpoints/ID",
        )


def _refuse_shared_name(endpoint: Endpoint, document: Mapping[str, Any]) -> None:
    own = str(document.get("dedicatedEndpointDns", "")).removeprefix("https://")
    shared = endpoint.host == control_address(vertex_location(endpoint.base_path) or "")
    if own and shared and document.get("dedicatedEndpointEnabled"):
        raise UnexpectedAnswer(
            "endpoint",
            str(endpoint),
            f"it has a name of its own and answers at no other; write https://{own}{endpoint.base_path}",
        )


def _is_peered(endpoint: Endpoint) -> bool:
    return endpoint.host.endswith(PEERED_SUFFIX) and endpoint.base_path.startswith("/v1/models/")


def _control(endpoint: Endpoint) -> Endpoint:
    """Where to ask about an endpoint: names and addresses of its own answer predictions only."""
    location = vertex_location(endpoint.base_path)
    if location and (endpoint.host.endswith(DEDICATED_SUFFIX) or _is_private_address(endpoint.host)):
        headers = {name: value for name, value in endpoint.access.headers.items() if name != "Host"}
        access = replace(endpoint.access, server_name="", headers=headers)
        return replace(endpoint, scheme="https", host=control_address(location), port=443, access=access)
    return endpoint


def _is_private_address(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
