"""What kind of machine a pod or a Vertex job stands on, asked of those who know."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

NODE_NAME_VARIABLE: Final = "MODEL_LOAD_TEST_NODE_NAME"
"""Filled through the downward API from `spec.nodeName`."""

TIME_LIMIT_SECONDS: Final = 6.0
"""Longest time that all questions together may take: a run waits for them."""

_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_NODE_TYPE_LABELS: Final = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
_ACCELERATOR_LABELS: Final = (
    "nvidia.com/gpu.product",
    "cloud.google.com/gke-accelerator",
    "k8s.amazonaws.com/accelerator",
)
_VERTEX_METADATA: Final = "metadata.google.internal"

_log = logging.getLogger(__name__)


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The machine; empty text for what could not be found out."""

    node_type: str = ""
    accelerator: str = ""
    reason: str = ""
    """Why something is not known, and what to do about it; empty when nothing was to be asked."""


def node_facts(
    environment: Mapping[str, str],
    service_account: Path = _SERVICE_ACCOUNT,
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
) -> NodeFacts:
    """Asks the Kubernetes API for the labels of this pod's node, or Vertex for its machine type.

    Never fails: a pod that may not read nodes goes on without.

    Args:
        environment: The process's; it tells whether this is a pod or a Vertex job.
        service_account: Folder with the pod's token and the authority of the API server.
        time_limit_seconds: Longest time for all questions.
    """
    if "KUBERNETES_SERVICE_HOST" in environment and (service_account / "token").is_file():
        facts = _of_kubernetes(environment, service_account, time.monotonic() + time_limit_seconds)
    elif environment.get("CLOUD_ML_PROJECT_ID"):
        facts = _of_vertex(environment, time_limit_seconds)
    else:
        return NodeFacts()
    if facts.reason:
        _log.info("the node's type is not known: %s", facts.reason)
    return facts


def _of_kubernetes(environment: Mapping[str, str], service_account: Path, deadline: float) -> NodeFacts:
    try:
        from kubernetes import client, config
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError
    except ImportError as error:
        return NodeFacts(reason=f"install kubernetes, or set MODEL_LOAD_TEST_NODE_TYPE ({error})")
    try:
        settings = client.Configuration()
        config.incluster_config.InClusterConfigLoader(
            token_filename=str(service_account / "token"),
            cert_filename=str(service_account / "ca.crt"),
            environ=dict(environment),
        ).load_and_set(settings)
        settings.retries = False
        with client.ApiClient(settings) as api:
            labels = _node_labels(client.CoreV1Api(api), environment, service_account, deadline)
    except config.ConfigException as error:
        return NodeFacts(reason=f"the service account cannot be used: {error}")
    except ApiException as error:
        if not error.status:
            # So the client says that TLS failed.
            return NodeFacts(reason=f"the Kubernetes API does not answer: {error.reason}")
        what = f"the Kubernetes API answered {error.status} {error.reason}"
        return NodeFacts(reason=f"{what}: allow get on nodes, or set MODEL_LOAD_TEST_NODE_TYPE")
    except (HTTPError, OSError, TimeoutError) as error:
        return NodeFacts(reason=f"the Kubernetes API does not answer: {type(error).__name__}: {error}")
    return NodeFacts(
        node_type=_first(labels, _NODE_TYPE_LABELS), accelerator=_first(labels, _ACCELERATOR_LABELS)
    )


def _node_labels(
    api: Any, environment: Mapping[str, str], service_account: Path, deadline: float
) -> Mapping[str, str]:
    name = environment.get(NODE_NAME_VARIABLE)
    if not name:
        pod = environment.get("KFP_POD_NAME") or environment.get("HOSTNAME", "")
        namespace = (service_account / "namespace").read_text(encoding="utf-8").strip()
        name = api.read_namespaced_pod(pod, namespace, _request_timeout=_left(deadline)).spec.node_name
    node = api.read_node(name, _request_timeout=_left(deadline))
    return node.metadata.labels or {}


def _left(deadline: float) -> tuple[float, float]:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time limit is over")
    # A single number must be whole for this client: it ignores others, and would wait for ever.
    return left, left


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def _of_vertex(environment: Mapping[str, str], time_limit_seconds: float) -> NodeFacts:
    import urllib3

    host = environment.get("GCE_METADATA_HOST") or _VERTEX_METADATA
    url = f"http://{host}/computeMetadata/v1/instance/machine-type"
    try:
        answer = urllib3.PoolManager(retries=False).request(
            "GET",
            url,
            headers={"Metadata-Flavor": "Google"},
            timeout=urllib3.Timeout(total=time_limit_seconds),
        )
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return NodeFacts(reason=f"the metadata server does not answer: {type(error).__name__}")
    if answer.status != 200 or answer.headers.get("Metadata-Flavor") != "Google":
        return NodeFacts(reason=f"the metadata server answered {answer.status}")
    # projects/NUMBER/machineTypes/n1-standard-4
    return NodeFacts(node_type=answer.data.decode(errors="replace").strip().rpartition("/")[2])
