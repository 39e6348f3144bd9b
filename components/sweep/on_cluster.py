"""A sweep on Kubernetes: each configuration deployed beside the reference, and both removed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from model_load_test.components.cluster.connection import Cluster
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.load.schedule import Arm
from model_load_test.components.protocols.client import METRICS_PATH
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.serving.deploy import Deployment, deploy
from model_load_test.components.serving.model_uri import ModelUri, Storage
from model_load_test.components.serving.spec import ServingSpec
from model_load_test.components.serving.teardown import teardown
from model_load_test.components.serving.tf_serving import REST_PORT
from model_load_test.components.sweep.measurement import Servers
from model_load_test.components.sweep.parameters import TF_SERVING


@dataclass(frozen=True)
class ClusterServers:
    """Serves configurations by Deployments; called with two of them, as `run.Serve` says.

    One name serves the whole sweep, since no two configurations are ever there at once: whoever
    tears that deployment down removes whatever the sweep has left.
    """

    cluster: Cluster
    identity: RunIdentity
    model: ModelUri
    loader_image: str
    storage: Storage = field(default_factory=Storage)
    deadline_seconds: int = 7200
    """After which the cluster removes a configuration's servers by itself."""

    @contextmanager
    def __call__(self, configuration: ServingSpec, reference: ServingSpec) -> Iterator[Servers]:
        """Both servers, for as long as the block takes."""
        teardown(self.cluster, self.identity)
        wanted = Deployment(
            identity=self.identity,
            spec=reference,
            models={"baseline": self.model},
            loader_image=self.loader_image,
            storage=self.storage,
            deadline_seconds=self.deadline_seconds,
        )
        try:
            served = deploy(self.cluster, wanted)
            served |= deploy(
                self.cluster, replace(wanted, spec=configuration, models={"candidate": self.model})
            )
            endpoints: dict[Arm, Endpoint] = {arm: served[arm].endpoint for arm in ("candidate", "baseline")}
            yield Servers(endpoints, _metrics(reference, endpoints))
        finally:
            teardown(self.cluster, self.identity)


def _metrics(spec: ServingSpec, endpoints: Mapping[Arm, Endpoint]) -> dict[str, str]:
    """Where TF Serving shows its metrics: its REST port, whichever port is loaded."""
    if spec.kind not in TF_SERVING or not spec.monitoring:
        return {}
    pages = {arm: Endpoint("http", one.host, REST_PORT) for arm, one in endpoints.items()}
    return {str(arm): f"{page}{METRICS_PATH}" for arm, page in pages.items()}
