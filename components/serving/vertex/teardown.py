"""Removes what was deployed on Vertex AI: undeployed, the endpoints deleted, the uploaded models too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from model_load_test.components.google_cloud.rest import GoogleApiError, NotFound, RestApi
from model_load_test.components.serving.vertex.plan import DEPLOYMENT, EXPIRES, OURS
from model_load_test.components.serving.vertex.resources import parent_of, with_label

DEADLINE_SECONDS: Final = 1800.0
"""Undeploying takes minutes, and waits for a deployment that is still going on."""

_OPERATION_SECONDS: Final = 900.0
_PAUSE_SECONDS: Final = 20.0


class NotRemoved(GoogleApiError):
    """Something is left, and costs money."""


@dataclass(frozen=True)
class Found:
    """An endpoint or a model of ours."""

    name: str
    kind: str
    """endpoints or models."""
    display_name: str
    deployment: str
    expires_at_seconds: int


def teardown(
    api: RestApi,
    project: str,
    location: str,
    deployment: str,
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> list[str]:
    """Removes the endpoints and models of a deployment, and returns their names when they are gone.

    Models that were in the registry before have no label of ours, and stay.

    Args:
        api: Of the location.
        project: Whose.
        location: Where.
        deployment: As it was planned.
        deadline_seconds: How long to go on trying.

    Raises:
        NotRemoved: Something is left at the deadline; the error names it.
        GoogleApiError: They cannot even be listed.
    """

    def look() -> list[Found]:
        return _found(api, project, location, DEPLOYMENT, deployment)

    return _remove(api, look, deadline_seconds)


def expired(api: RestApi, project: str, location: str, now: float | None = None) -> list[Found]:
    """Everything of ours, of whatever run, whose time is over.

    Raises:
        GoogleApiError: The service refuses, or stays away.
    """
    moment = time.time() if now is None else now
    return [one for one in _found(api, project, location, OURS, "yes") if one.expires_at_seconds <= moment]


def remove_all(api: RestApi, found: list[Found], *, deadline_seconds: float = DEADLINE_SECONDS) -> list[str]:
    """Removes what was found, and returns the names of what is gone.

    Raises:
        NotRemoved: Something is left at the deadline.
    """
    left = list(found)

    def look() -> list[Found]:
        return [one for one in left if _exists(api, one)]

    return _remove(api, look, deadline_seconds)


def _remove(api: RestApi, look: Callable[[], list[Found]], deadline_seconds: float) -> list[str]:
    deadline = time.monotonic() + deadline_seconds
    removed: dict[str, None] = {}
    while True:
        failures = {}
        # Endpoints before models: a model that is deployed cannot be deleted.
        for one in sorted(look(), key=lambda each: each.kind):
            try:
                _undeploy_and_delete(api, one)
                removed[one.name] = None
            except GoogleApiError as error:
                failures[one.name] = error
        if not failures:
            return list(removed)
        if time.monotonic() >= deadline:
            told = "; ".join(f"{name}: {error.remedy}" for name, error in failures.items())
            raise NotRemoved(
                "deployment", ", ".join(failures), f"it is left and costs money: delete it by hand ({told})"
            )
        api.pause(_PAUSE_SECONDS)


def _undeploy_and_delete(api: RestApi, one: Found) -> None:
    try:
        if one.kind == "endpoints":
            document = api.get(f"/v1/{one.name}")
            shares = document.get("trafficSplit", {})
            # Only the last one may be taken away while it gets traffic.
            for deployed in sorted(
                document.get("deployedModels", []), key=lambda it: shares.get(it["id"], 0)
            ):
                operation = api.post(f"/v1/{one.name}:undeployModel", {"deployedModelId": deployed["id"]})
                api.wait(operation, _OPERATION_SECONDS)
        api.wait(api.delete(f"/v1/{one.name}"), _OPERATION_SECONDS)
    except NotFound:
        return
    print(f"removed {one.kind.removesuffix('s')} {one.name} ({one.display_name})", flush=True)


def _found(api: RestApi, project: str, location: str, label: str, value: str) -> list[Found]:
    return [
        _of(document, kind)
        for kind in ("endpoints", "models")
        for document in _listed(api, project, location, kind, label, value)
    ]


def _listed(
    api: RestApi, project: str, location: str, kind: str, label: str, value: str
) -> Iterator[dict[str, Any]]:
    for document in with_label(api, project, location, kind, label, value):
        # Nothing is deleted because a filter was taken for another one.
        in_place = (
            str(document.get("name", "")).split("/")[2:4] == parent_of(project, location).split("/")[2:]
        )
        if document.get("labels", {}).get(label) == value and in_place:
            yield document


def _of(document: dict[str, Any], kind: str) -> Found:
    labels = document.get("labels", {})
    expires = str(labels.get(EXPIRES, ""))
    return Found(
        name=str(document["name"]),
        kind=kind,
        display_name=str(document.get("displayName", "")),
        deployment=str(labels.get(DEPLOYMENT, "")),
        # What does not say when it ends is never taken for ended.
        expires_at_seconds=int(expires) if expires.isdecimal() else 1 << 62,
    )


def _exists(api: RestApi, one: Found) -> bool:
    try:
        api.get(f"/v1/{one.name}")
    except NotFound:
        return False
    return True
