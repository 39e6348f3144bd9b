"""Opening the metadata store of a Vertex project."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from model_load_test.components.baseline.store import FIELD, StoreUnavailable
from model_load_test.components.baseline.surroundings import Surroundings
from model_load_test.components.errors import InputError

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1.services.metadata_service import MetadataServiceClient

    from model_load_test.components.baseline.vertex import VertexStore

_LOCATION: Final = re.compile(r"[a-z]+(-[a-z0-9]+)+")


class VertexAddress(msgspec.Struct, frozen=True, kw_only=True):
    """What a `vertex:` URI says; empty where the place must tell."""

    project: str = ""
    """The project's id or number."""
    location: str = ""
    metadata_store: str = "default"
    endpoint: str = ""
    """`host:port` of a private endpoint; the location's public one when empty."""
    stand_in: str = ""
    """`host:port` of a local stand-in, reached without TLS and credentials."""


def open_vertex_store(uri: str, address: VertexAddress, around: Surroundings) -> VertexStore:
    """Opens the store that a `vertex:` URI names; the service is not asked yet.

    Args:
        uri: For errors.
        address: What the URI says.
        around: Where this process runs.

    Raises:
        InputError: Project or location is not known, or google-cloud-aiplatform is not installed.
        StoreUnavailable: There are no credentials.
    """
    known = around.environment
    project = address.project or known.get("CLOUD_ML_PROJECT_ID", "") or known.get("GOOGLE_CLOUD_PROJECT", "")
    location = address.location or known.get("CLOUD_ML_REGION", "") or known.get("GOOGLE_CLOUD_REGION", "")
    if not project or not location:
        raise InputError(FIELD, uri, "name project and location, as vertex://my-project/europe-west4")
    if not _LOCATION.fullmatch(location):
        raise InputError(FIELD, uri, f"{location!r} is no location; write one like europe-west4")
    try:
        from model_load_test.components.baseline.vertex import VertexStore

        client = _client(uri, address, location)
    except ImportError as error:
        raise InputError(FIELD, uri, f"pip install 'model-load-test[vertex]' ({error})") from error
    parent = f"projects/{project}/locations/{location}/metadataStores/{address.metadata_store}"
    return VertexStore(client, parent, uri)


def _client(uri: str, address: VertexAddress, location: str) -> MetadataServiceClient:
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.aiplatform_v1.services.metadata_service import MetadataServiceClient
    from google.cloud.aiplatform_v1.services.metadata_service.transports import MetadataServiceGrpcTransport

    if address.stand_in:
        import grpc

        channel = grpc.insecure_channel(address.stand_in)
        return MetadataServiceClient(transport=MetadataServiceGrpcTransport(channel=channel))
    endpoint = address.endpoint or f"{location}-aiplatform.googleapis.com"
    try:
        return MetadataServiceClient(client_options={"api_endpoint": endpoint})
    except GoogleAuthError as error:
        raise StoreUnavailable(uri, f"{type(error).__name__}: {error}") from error
