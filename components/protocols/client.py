"""The questions a load test asks a model server before it sends load, whatever API it speaks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal, cast, get_args

from model_load_test.components.errors import InputError
from model_load_test.components.protocols import (
    open_inference_client,
    seldon,
    tf_serving_client,
    vertex,
)
from model_load_test.components.protocols.connection import (
    DEFAULT_TIMEOUT_SECONDS,
    ModelNotFound,
    ModelNotReady,
    ServerUnreachable,
    UnexpectedAnswer,
    open_channel,
    require_model_name,
)
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.protocols.signature import Signature
from model_load_test.components.protocols.status import VersionStatus

__all__ = [
    "DEFAULT_TIMEOUT_SECONDS",
    "METRICS_PATH",
    "SERVER_KIND_KEY",
    "Api",
    "ModelNotFound",
    "ModelNotReady",
    "ServerUnreachable",
    "UnexpectedAnswer",
    "VersionStatus",
    "api_told_by",
    "declared_server_kind",
    "detect_api",
    "model_metadata",
    "model_status",
    "open_channel",
    "parse_api",
    "wait_until_ready",
]

Api = Literal["tf-serving", "oip", "seldon", "vertex"]
"""What a server speaks: TF Serving's API, the Open Inference Protocol (v2), Seldon Core 1's, Vertex AI's."""

SERVER_KIND_KEY: Final = "model-load-test-server-kind"
"""Response metadata in which a server that is no production server says so."""

METRICS_PATH: Final = tf_serving_client.METRICS_PATH

_POLL_SECONDS: Final = 0.1
_KNOWN_SERVERS: Final = ("triton", "kserve")
"""Names by which servers of the Open Inference Protocol introduce themselves and are told apart."""


def parse_api(text: str, field_name: str = "api") -> Api | None:
    """An API by its name; None for `auto`.

    Raises:
        InputError: There is no such API.
    """
    if text == "auto":
        return None
    if text not in get_args(Api):
        raise InputError(field_name, text, f"choose auto, {', '.join(get_args(Api))}")
    return cast(Api, text)


def api_told_by(endpoint: Endpoint, api: str) -> str:
    """The API where the address tells it, for who is to find it out (`auto`); else as it was given."""
    return "vertex" if api == "auto" and vertex.speaks_vertex(endpoint) else api


def detect_api(endpoint: Endpoint, model_name: str, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> Api:
    """Asks the server in each API, TF Serving's first, until it understands one; Vertex AI's address tells.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        UnexpectedAnswer: It understands none.
    """
    require_model_name(model_name)
    if vertex.speaks_vertex(endpoint):
        return "vertex"
    if tf_serving_client.speaks_tf_serving(endpoint, model_name, timeout_seconds):
        return "tf-serving"
    if open_inference_client.speaks_open_inference(endpoint, timeout_seconds):
        return "oip"
    if seldon.speaks_seldon(endpoint, timeout_seconds):
        return "seldon"
    raise UnexpectedAnswer(
        "endpoint",
        str(endpoint),
        f"what answers there is no model server over {endpoint.protocol}: neither TF Serving nor Open "
        "Inference (Triton, KServe, MLServer) nor Seldon; check the port",
    )


def model_status(
    endpoint: Endpoint,
    model_name: str,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    *,
    api: Api = "tf-serving",
) -> tuple[VersionStatus, ...]:
    """Asks the server for the states of all versions of a model.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        ModelNotFound: The server has no such model.
        UnexpectedAnswer: What answers does not speak that API over that protocol.
    """
    require_model_name(model_name)
    if api == "oip":
        return open_inference_client.versions(endpoint, model_name, timeout_seconds)
    if api == "seldon":
        return seldon.versions(endpoint, timeout_seconds)
    if api == "vertex":
        return vertex.versions(endpoint, timeout_seconds)
    return tf_serving_client.versions(endpoint, model_name, timeout_seconds)


def model_metadata(
    endpoint: Endpoint,
    model_name: str,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    *,
    api: Api = "tf-serving",
) -> dict[str, Signature]:
    """Asks the server for the signatures of a model's latest version, by name.

    Only TF Serving names signatures; elsewhere there is one, `NAMELESS`, and it has no inputs where
    the server publishes none.

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        ModelNotFound: The server has no such model, or none of its versions is available.
        UnexpectedAnswer: What answers does not speak that API over that protocol.
    """
    require_model_name(model_name)
    if api == "oip":
        return open_inference_client.signatures(endpoint, model_name, timeout_seconds)
    if api == "seldon":
        return seldon.signatures(endpoint, timeout_seconds)
    if api == "vertex":
        return vertex.signatures()
    return tf_serving_client.signatures(endpoint, model_name, timeout_seconds)


def declared_server_kind(
    endpoint: Endpoint,
    model_name: str,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    *,
    api: Api = "tf-serving",
) -> str:
    """What the server says it is: embedded, triton, kserve, vertex; empty for those that say nothing known.

    Raises:
        InputError: As `model_status`.
    """
    require_model_name(model_name)
    if api == "vertex":
        return vertex.SERVER_KIND
    if api == "seldon":
        return seldon.response_headers(endpoint, timeout_seconds).get(SERVER_KIND_KEY, "")
    if api == "tf-serving":
        told = tf_serving_client.response_metadata(endpoint, model_name, timeout_seconds)
        return told.get(SERVER_KIND_KEY, "")
    told = open_inference_client.response_metadata(endpoint, timeout_seconds)
    if SERVER_KIND_KEY in told:
        return told[SERVER_KIND_KEY]
    name = open_inference_client.server_name(endpoint, timeout_seconds).lower()
    return next((kind for kind in _KNOWN_SERVERS if kind in name), "")


def dtypes_as_bytes(endpoint: Endpoint, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> frozenset[str]:
    """The dtypes that JSON cannot carry to an Open Inference server over REST, and binary tensors can.

    Triton, which lists the extension, decodes no base64. KServe takes 16-bit floats so without
    listing it, but no bytes that are not text (tried with 0.21).

    Raises:
        ServerUnreachable: Nothing answers at the endpoint in time.
        UnexpectedAnswer: What answers does not speak this protocol.
    """
    name, extensions = open_inference_client.introduction(endpoint, timeout_seconds)
    if "binary_tensor_data" in extensions:
        return frozenset(("string", "float16", "bfloat16"))
    return frozenset(("float16",) if "kserve" in name.lower() else ())


def wait_until_ready(
    endpoint: Endpoint,
    model_name: str,
    deadline_seconds: float,
    *,
    api: Api = "tf-serving",
    keep_waiting: Callable[[], bool] = lambda: True,
) -> tuple[VersionStatus, ...]:
    """Waits until the server has the model available and is loading no further version of it.

    Args:
        endpoint: Where the server listens, or will.
        model_name: The model it is to serve.
        deadline_seconds: How long to wait at most.
        api: What it speaks, or will.
        keep_waiting: Asked before every try; where it says no (the server's process has ended,
            say) the wait ends as at the deadline.

    Returns:
        The states of the model's versions.

    Raises:
        ModelNotReady: The model failed to load, or is not available at the deadline.
        ServerUnreachable: Nothing answers at the deadline.
        ModelNotFound: The server has no such model at the deadline.
        UnexpectedAnswer: What answers does not speak that API over that protocol.
    """
    deadline = time.monotonic() + deadline_seconds
    while True:
        left_seconds = deadline - time.monotonic()
        try:
            timeout_seconds = max(_POLL_SECONDS, min(left_seconds, DEFAULT_TIMEOUT_SECONDS))
            versions = model_status(endpoint, model_name, timeout_seconds, api=api)
            states = {version.state for version in versions}
            if "AVAILABLE" in states and not states & {"START", "LOADING"}:
                return versions
            failure: InputError = _not_ready(endpoint, model_name, versions)
            if states == {"END"}:
                raise failure
        except (ServerUnreachable, ModelNotFound) as error:
            failure = error
        if time.monotonic() + _POLL_SECONDS >= deadline or not keep_waiting():
            raise failure
        time.sleep(_POLL_SECONDS)


def _not_ready(endpoint: Endpoint, model_name: str, versions: tuple[VersionStatus, ...]) -> ModelNotReady:
    states = ", ".join(
        (f"version {one.version} " if one.version != "" else "")
        + one.state
        + (f" ({one.error_message})" if one.error_message else "")
        for one in versions
    )
    return ModelNotReady(
        "model_name", model_name, f"{endpoint} has it not available: {states or 'no version'}; see its log"
    )
