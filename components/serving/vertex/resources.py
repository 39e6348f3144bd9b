"""Endpoints and models on Vertex AI, through its REST API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from model_load_test.components.google_cloud.rest import AlreadyExists, RestApi
from model_load_test.components.protocols.vertex import control_address

CREATION_SECONDS: Final = 600.0

Open = Callable[[str], RestApi]
"""Opens the API of a location."""


def open_api(location: str) -> RestApi:
    """Vertex AI's API of a location.

    Raises:
        CredentialsMissing: This process has no Google identity.
    """
    return RestApi(f"https://{control_address(location)}")


def parent_of(project: str, location: str) -> str:
    """The resource name that everything in a location begins with."""
    return f"projects/{project}/locations/{location}"


def with_label(
    api: RestApi, project: str, location: str, kind: str, label: str, value: str
) -> Iterator[dict[str, Any]]:
    """The endpoints or models that have a label.

    Args:
        api: Of the location.
        project: Whose.
        location: Where.
        kind: endpoints or models.
        label: The label's name.
        value: Its value.

    Raises:
        GoogleApiError: The service refuses, or stays away.
    """
    query = {"filter": f'labels.{label}="{value}"'}
    return api.pages(f"/v1/{parent_of(project, location)}/{kind}", kind, query)


def create_dedicated_endpoint(
    api: RestApi, project: str, location: str, endpoint_id: str, display_name: str, labels: Mapping[str, str]
) -> str:
    """Makes an endpoint with a name of its own, which GCPC's components cannot; returns its resource name.

    Called again, by a retried task, it finds the one that is there.

    Raises:
        GoogleApiError: The service refuses, or it is not there in time.
    """
    parent = parent_of(project, location)
    body = {"displayName": display_name, "labels": dict(labels), "dedicatedEndpointEnabled": True}
    try:
        operation = api.post(f"/v1/{parent}/endpoints", body, {"endpointId": endpoint_id})
        return str(api.wait(operation, CREATION_SECONDS)["name"])
    except AlreadyExists:
        return str(api.get(f"/v1/{parent}/endpoints/{endpoint_id}")["name"])
