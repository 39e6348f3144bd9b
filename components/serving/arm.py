"""One arm as it is deployed: its names, its labels, its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from model_load_test.components.cluster.labels import RunIdentity, selector_of
from model_load_test.components.cluster.names import object_name
from model_load_test.components.serving.model_uri import ModelUri, Storage

Arm = Literal["candidate", "baseline"]

SERVER_PART: Final = "server"


@dataclass(frozen=True)
class DeployedArm:
    """What tells one arm's objects from the other's; all else is the serving spec's, and equal."""

    arm: Arm
    identity: RunIdentity
    model: ModelUri
    storage: Storage
    loader_image: str
    """Image of the init container that loads the model: ours."""

    @property
    def name(self) -> str:
        """Of its Deployment, Service and the rest."""
        return object_name(f"mlt-{self.arm}", self.identity.run, self.identity.task, self.arm)

    @property
    def labels(self) -> Mapping[str, str]:
        """On everything of this arm, its pods too."""
        return self.identity.labels(SERVER_PART, self.arm)

    @property
    def selector(self) -> str:
        """Selects its pods."""
        return selector_of(self.labels)
