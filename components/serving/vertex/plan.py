"""What is to be deployed on Vertex AI, checked and named before anything is created."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from model_load_test.components.serving.vertex.spec import (
    VertexModel,
    VertexServing,
    VertexSpecError,
    endpoint_name,
    parse_vertex_model,
    require_place,
    shown_name,
)

Arm = Literal["candidate", "baseline"]
ARMS: Final[tuple[Arm, ...]] = ("candidate", "baseline")

OURS: Final = "model-load-test"
"""Label on everything we create; its value is the package's own."""
DEPLOYMENT: Final = "model-load-test-deployment"
ARM: Final = "model-load-test-arm"
EXPIRES: Final = "model-load-test-expires"
"""Seconds since 1970 after which it is left over, whatever became of its run."""


@dataclass(frozen=True)
class VertexPlan:
    """One deployment: what it is called, what it makes, where."""

    deployment: str
    project: str
    location: str
    spec: VertexServing
    models: Mapping[Arm, VertexModel]
    expires_at_seconds: int

    def labels(self, arm: Arm) -> dict[str, str]:
        """Labels of an arm's model and endpoint."""
        return {
            OURS: "yes",
            DEPLOYMENT: self.deployment,
            ARM: arm,
            EXPIRES: str(self.expires_at_seconds),
        }

    def endpoint_id(self, arm: Arm) -> str:
        """Of an endpoint with a name of its own: a retried task finds it by that."""
        return f"{self.deployment}-{arm}"

    def shown_name(self, arm: Arm) -> str:
        """What the console shows."""
        return shown_name(self.spec.model_name, arm)

    def saved_model(self, given: str) -> str:
        """Where the requests' signature can be read: as given, or the candidate's own SavedModel."""
        candidate = self.models["candidate"]
        if given or candidate.source != "upload" or not self.spec.runs_tensorflow:
            return given
        return candidate.text


def plan_vertex(
    *,
    project: str,
    location: str,
    spec: VertexServing,
    models: Mapping[Arm, str],
    endpoints: Mapping[Arm, str],
    run_id: str,
    deadline_seconds: float,
    now: float | None = None,
) -> VertexPlan:
    """Parses everything a deployment needs.

    Args:
        project: Id or number.
        location: Such as europe-west4.
        spec: How to serve.
        models: By arm, as `parse_vertex_model` takes them; empty for none.
        endpoints: By arm a live endpoint instead; empty for none.
        run_id: What is the run's own: a retried task gets the same deployment by it.
        deadline_seconds: After which everything is left over.
        now: Seconds since 1970; the clock's when left out.

    Raises:
        VertexSpecError: Something is missing, malformed or given twice.
    """
    require_place(project, location)
    parsed = {arm: parse_vertex_model(models.get(arm, ""), f"{arm}_model") for arm in ARMS}
    for arm in ARMS:
        endpoint = endpoints.get(arm, "")
        if endpoint and parsed[arm].source:
            raise VertexSpecError(f"{arm}_endpoint", endpoint, f"give it or {arm}_model, not both")
        if endpoint:
            endpoint_name(endpoint, f"{arm}_endpoint")
        if parsed[arm].location not in ("", location):
            raise VertexSpecError(
                f"{arm}_model", parsed[arm].text, f"it is registered elsewhere than {location}; copy it there"
            )
    if not parsed["candidate"].source and not endpoints.get("candidate"):
        raise VertexSpecError(
            "candidate_model", "", "give a model to deploy, or a candidate_endpoint that serves one"
        )
    if not run_id:
        raise VertexSpecError("run_id", "", "give the pipeline run's id, or any text that is the run's own")
    return VertexPlan(
        deployment=f"mlt-{hashlib.sha256(f'{project}/{location}/{run_id}'.encode()).hexdigest()[:24]}",
        project=project,
        location=location,
        spec=spec,
        models=parsed,
        expires_at_seconds=int((time.time() if now is None else now) + deadline_seconds),
    )
