"""How a model is to be served on Vertex AI, and where it is: in Cloud Storage or in the registry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from model_load_test.components.errors import InputError
from model_load_test.components.parameters import refuse_unknown

EndpointKind = Literal["shared", "dedicated", "peered"]
"""Reached by the location's common name, by a name of its own, or from a peered network only."""
Source = Literal["upload", "registry", ""]
"""Where an arm's model comes from; empty where it is not deployed."""

DEFAULT_IMAGE: Final = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
"""Google's TensorFlow server; it publishes no other tags of it."""

_LOCATION: Final = re.compile(r"[a-z]+(-[a-z]+)+[0-9]+")
_PROJECT: Final = re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]|[0-9]{4,}")
_REGISTERED: Final = re.compile(
    r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/models/(?P<model>[A-Za-z0-9_-]+)"
    r"(@(?P<version>[A-Za-z0-9-]+))?"
)
_ENDPOINT: Final = re.compile(r"projects/[^/]+/locations/(?P<location>[^/]+)/endpoints/[A-Za-z0-9-]+")
_NETWORK: Final = re.compile(r"projects/[0-9]+/global/networks/[a-z]([a-z0-9-]*[a-z0-9])?")
_IMAGE: Final = re.compile(r"[a-z0-9][a-z0-9./_:@-]*", re.IGNORECASE)
_ROUTE: Final = re.compile(r"/\S*")
_MOST_REPLICAS: Final = 100
_DISPLAY_CHARACTERS: Final = 128


class VertexSpecError(InputError):
    """Something that Vertex AI could not serve."""


class VertexServing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way to serve a model on Vertex AI. Candidate and baseline are both served by the same one."""

    model_name: str
    """Name of the model, for people and for the baselines; Vertex AI calls it by numbers."""
    image: str = DEFAULT_IMAGE
    """Of the serving container; a model from the registry brings its own."""
    predict_route: str = ""
    """Where a custom container takes requests; Google's own know theirs."""
    health_route: str = ""
    port: int = 0
    """Where a custom container listens; 0 for 8080."""
    command: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    machine_type: str = "n1-standard-4"
    accelerator_type: str = ""
    accelerator_count: int = 0
    replicas: int = 1
    """Of each arm, all the time: a server that scales while it is measured is not one server."""
    endpoint_kind: EndpointKind = "shared"
    network: str = ""
    """The peered network, as projects/NUMBER/global/networks/NAME."""

    def container_spec(self) -> dict[str, Any]:
        """The serving container as the artifact google.UnmanagedContainerModel has it."""
        spec: dict[str, Any] = {"imageUri": self.image}
        if self.command:
            spec["command"] = list(self.command)
        if self.arguments:
            spec["args"] = list(self.arguments)
        if self.environment:
            spec["env"] = [{"name": name, "value": value} for name, value in sorted(self.environment.items())]
        if self.port:
            spec["ports"] = [{"containerPort": self.port}]
        if self.predict_route:
            spec |= {"predictRoute": self.predict_route, "healthRoute": self.health_route}
        return spec

    @property
    def runs_tensorflow(self) -> bool:
        """Whether the image is one of Google's for SavedModels."""
        return re.search(r"/tf(2|_opt)-", self.image) is not None


@dataclass(frozen=True)
class VertexModel:
    """A model as the user named it."""

    text: str
    source: Source

    @property
    def location(self) -> str:
        """Of a registered model; empty for a folder."""
        found = _REGISTERED.fullmatch(self.text)
        return found["location"] if found else ""


def parse_vertex_serving(values: Mapping[str, Any], **fields: Any) -> VertexServing:
    """Parses and validates how to serve.

    Args:
        values: The fields of a `VertexServing` that stand together in one parameter.
        fields: Fields that are parameters of their own; given twice is refused.

    Raises:
        VertexSpecError: A field is unknown, of the wrong type or out of range.
    """
    known = [name for name in VertexServing.__struct_fields__ if name != "model_name"]
    refuse_unknown("serving spec for Vertex AI", values, known, VertexSpecError)
    for name in values:
        if name in fields:
            raise VertexSpecError(
                f"serving.{name}", values[name], f"it has a parameter of its own: server_{name}"
            )
    given = {**values, **fields}
    for name in ("port", "accelerator_count", "replicas"):
        if isinstance(given.get(name), float) and float(given[name]).is_integer():
            given[name] = int(given[name])
    try:
        spec = msgspec.convert(given, VertexServing)
    except msgspec.ValidationError as error:
        raise VertexSpecError("serving", dict(given), f"mend the field that is named here: {error}") from None
    _validate(spec)
    return spec


def parse_vertex_model(text: str, field: str) -> VertexModel:
    """Parses where a model is.

    Args:
        text: A folder `gs://...`, a registered model `projects/P/locations/L/models/ID[@VERSION]`, or
            nothing.
        field: Name of the parameter, for the error.

    Raises:
        VertexSpecError: It is none of these.
    """
    if not text:
        return VertexModel("", "")
    if text.startswith("gs://") and len(text.removeprefix("gs://").strip("/")) > 0:
        return VertexModel(text.rstrip("/"), "upload")
    if _REGISTERED.fullmatch(text):
        return VertexModel(text, "registry")
    raise VertexSpecError(
        field,
        text,
        "give a folder in Cloud Storage (gs://BUCKET/FOLDER) or a registered model "
        "(projects/PROJECT/locations/LOCATION/models/ID@VERSION)",
    )


def endpoint_name(text: str, field: str) -> str:
    """The resource name of a live endpoint that was given by it; empty for what is an address.

    Raises:
        VertexSpecError: It is neither.
    """
    if _ENDPOINT.fullmatch(text):
        return text
    if "://" in text:
        return ""
    raise VertexSpecError(
        field, text, "give projects/PROJECT/locations/LOCATION/endpoints/ID, or the endpoint's URL"
    )


def location_of(name: str) -> str:
    """The location in a resource name."""
    return name.split("/")[3]


def require_place(project: str, location: str) -> None:
    """Refuses what is no project or location.

    Raises:
        VertexSpecError: One of them is empty or malformed.
    """
    if not _PROJECT.fullmatch(project):
        raise VertexSpecError("project", project, "give the project's id, such as my-project, or its number")
    if not _LOCATION.fullmatch(location):
        raise VertexSpecError("location", location, "give a location such as europe-west4")


def shown_name(model_name: str, arm: str) -> str:
    """What the console shows for an arm's model and endpoint."""
    return f"load test of {model_name}: {arm}"[:_DISPLAY_CHARACTERS]


def _validate(spec: VertexServing) -> None:
    _require(bool(spec.model_name.strip()), "model_name", spec.model_name, "give the model a name")
    # These travel through JSON that GCPC's components glue together from texts.
    for field in ("model_name", "machine_type", "accelerator_type", "network", "image"):
        value = getattr(spec, field)
        printable = value.isprintable() and not set(value) & set('"\\')
        _require(printable, field, value, "leave out quotes, backslashes and control characters")
    _require(bool(_IMAGE.fullmatch(spec.image)), "image", spec.image, "name a container image")
    _require(1 <= spec.replicas <= _MOST_REPLICAS, "replicas", spec.replicas, "give a number from 1 to 100")
    _require(bool(spec.machine_type), "machine_type", "", "give a type such as n1-standard-4")
    _require(
        bool(spec.accelerator_type) == (spec.accelerator_count > 0) and spec.accelerator_count >= 0,
        "accelerator_count",
        spec.accelerator_count,
        "give accelerator_type and a count above 0, or neither",
    )
    _require(
        bool(spec.predict_route) == bool(spec.health_route)
        and all(not route or _ROUTE.fullmatch(route) for route in (spec.predict_route, spec.health_route)),
        "predict_route",
        spec.predict_route,
        "a custom container has predict_route and health_route, each beginning with a slash",
    )
    peered = spec.endpoint_kind == "peered"
    _require(
        bool(_NETWORK.fullmatch(spec.network)) if peered else not spec.network,
        "network",
        spec.network,
        "a peered endpoint has one, as projects/NUMBER/global/networks/NAME, and no other kind does",
    )
    _require(0 <= spec.port < 1 << 16, "port", spec.port, "give a port, or 0 for 8080")


def _require(holds: bool, field: str, value: object, remedy: str) -> None:
    if not holds:
        raise VertexSpecError(field, value, remedy)
