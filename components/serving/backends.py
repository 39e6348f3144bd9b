"""The kinds of servers: what each is made of, and where the requests of an arm go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from model_load_test.components.cluster.connection import Cluster, in_pod
from model_load_test.components.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    INFERENCE_SERVICE,
    JOB,
    POD,
    SELDON_DEPLOYMENT,
    SELDON_MODEL,
    SERVICE,
    Kind,
)
from model_load_test.components.cluster.ownership import ANCHOR_RIGHTS
from model_load_test.components.cluster.rights import Right, right
from model_load_test.components.protocols.client import Api
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.serving import kserve, seldon, tf_serving, triton
from model_load_test.components.serving.arm import DeployedArm
from model_load_test.components.serving.server_pod import SERVER
from model_load_test.components.serving.spec import ServingSpec

BASE_KINDS: Final[tuple[Kind, ...]] = (DEPLOYMENT, POD, SERVICE, CONFIG_MAP, JOB)
"""What may be there of any deployment of ours."""

SELDON_MESH: Final = "seldon-mesh"
"""The Service through which Seldon v2 is reached."""

_CHANGE: Final = ("get", "list", "create", "patch", "delete")


@dataclass(frozen=True)
class Backend:
    """One kind of server."""

    manifests: Callable[[DeployedArm, ServingSpec], list[dict[str, Any]]]
    """Everything of one arm, in the order of creation."""
    flags: Callable[[ServingSpec], tuple[str, ...]]
    """The flags its servers run with, for the fingerprint."""
    kinds: tuple[Kind, ...]
    """What the manifests are of."""
    resource: Kind | None = None
    """The custom resource that says whether it is up; none where we look at the pods ourselves."""
    failure: Callable[[Mapping[str, Any]], str] = lambda _: ""
    """Why that resource cannot come up; empty while it may."""
    is_ready: Callable[[Mapping[str, Any]], bool] = lambda _: True
    ports: Mapping[str, int] | None = None
    """The server's own ports by protocol, where we made the pod."""
    container: str = SERVER
    """The server's container in its pods; empty where it is named after the model."""

    @property
    def rights(self) -> tuple[Right, ...]:
        """What deploying, watching and removing it needs."""
        anchors = {one.resource for one in ANCHOR_RIGHTS}
        return (
            *ANCHOR_RIGHTS,
            *(right(kind, *_CHANGE) for kind in self.kinds if kind.plural not in anchors),
            right(POD, "get", part="log"),
            right(EVENT, "list"),
        )


def _spec_flags(spec: ServingSpec) -> tuple[str, ...]:
    return spec.flags


_TF_SERVING: Final = Backend(
    manifests=tf_serving.manifests,
    flags=tf_serving.server_flags,
    kinds=(DEPLOYMENT, SERVICE, CONFIG_MAP),
    ports={"grpc": tf_serving.GRPC_PORT, "http": tf_serving.REST_PORT},
)

BACKENDS: Final[Mapping[str, Backend]] = {
    "tf-serving": _TF_SERVING,
    "embedded": _TF_SERVING,
    "triton": Backend(
        manifests=triton.manifests,
        flags=triton.server_flags,
        kinds=(DEPLOYMENT, SERVICE),
        ports={"grpc": triton.GRPC_PORT, "http": triton.HTTP_PORT},
    ),
    "kserve": Backend(
        manifests=kserve.manifests,
        flags=_spec_flags,
        kinds=(INFERENCE_SERVICE,),
        resource=INFERENCE_SERVICE,
        failure=kserve.failure,
        is_ready=kserve.is_ready,
        container="kserve-container",
    ),
    "seldon": Backend(
        manifests=seldon.manifests,
        flags=_spec_flags,
        kinds=(SELDON_DEPLOYMENT,),
        resource=SELDON_DEPLOYMENT,
        failure=seldon.failure,
        is_ready=seldon.is_ready,
        container="",
    ),
    "seldon-v2": Backend(
        manifests=seldon.model_manifests,
        flags=_spec_flags,
        kinds=(SELDON_MODEL,),
        resource=SELDON_MODEL,
        failure=seldon.model_failure,
        is_ready=seldon.model_is_ready,
        container="",
    ),
}


def api_of(spec: ServingSpec) -> Api:
    """Which API the server speaks."""
    return "tf-serving" if spec.speaks_tf_serving else "oip"


def served_name(arm: DeployedArm, spec: ServingSpec) -> str:
    """The name by which the server knows the model; Seldon v2 names it after its resource."""
    if spec.kind == "kserve":
        return kserve.served_name(arm, spec)
    return arm.name if spec.kind == "seldon-v2" else spec.model_name


def endpoint_of(
    cluster: Cluster, arm: DeployedArm, spec: ServingSpec, resource: Mapping[str, Any] | None
) -> Endpoint | None:
    """Where the requests of an arm go; None while that is not known.

    From outside of the cluster, whose names mean nothing there, by the Service's address.

    Args:
        cluster: Where the arm is.
        arm: Whose.
        spec: How it is served.
        resource: The custom resource, where the kind has one.
    """
    namespace = cluster.namespace
    backend = BACKENDS[spec.kind]
    if backend.ports is not None:
        host, port = f"{arm.name}.{namespace}.svc", backend.ports[spec.protocol]
    elif spec.kind == "kserve":
        parts = urlsplit(kserve.url(resource or {}))
        if not parts.hostname:
            return None
        host, port = parts.hostname, parts.port or {"https": 443}.get(parts.scheme, 80)
        if spec.protocol == "grpc":
            port = parts.port or kserve.grpc_port(resource or {})
        elif parts.scheme == "https":
            return Endpoint("https", host, port)
    elif spec.kind == "seldon":
        host, port = seldon.host_and_port(arm, spec, namespace)
    else:
        host, port = f"{SELDON_MESH}.{namespace}.svc", 80
    return Endpoint(spec.protocol, host if in_pod() else cluster_address(cluster, host), port)


def cluster_address(cluster: Cluster, host: str) -> str:
    """The address of the Service that `host` means, for those who cannot ask the cluster's DNS."""
    name, _, rest = host.partition(".")
    if rest.split(".")[0] != cluster.namespace:
        return host
    service = cluster.get(SERVICE, name)
    address = (service or {}).get("spec", {}).get("clusterIP", "")
    return str(address) if address and address != "None" else host
