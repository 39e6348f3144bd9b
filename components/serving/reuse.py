"""Model servers that are there already: looked at, checked, loaded, never changed and never removed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from model_load_test.components.cluster.connection import Cluster, in_pod
from model_load_test.components.cluster.failures import ClusterError, ClusterUnreachable, MissingRight
from model_load_test.components.cluster.kinds import (
    INFERENCE_SERVICE,
    INGRESS,
    POD,
    SELDON_DEPLOYMENT,
    SERVICE,
)
from model_load_test.components.cluster.labels import selector_of
from model_load_test.components.cluster.rights import Right, right
from model_load_test.components.errors import InputError
from model_load_test.components.protocols.client import (
    Api,
    ModelNotReady,
    declared_server_kind,
    detect_api,
    model_metadata,
    model_status,
)
from model_load_test.components.protocols.endpoint import Endpoint, parse_endpoint
from model_load_test.components.protocols.signature import find_signature
from model_load_test.components.serving import kserve, seldon
from model_load_test.components.serving.readiness import ServedArm, image_of, node_types

REUSE_RIGHTS: Final[tuple[Right, ...]] = (
    right(SERVICE, "get"),
    right(POD, "list"),
    right(INGRESS, "get"),
    right(INFERENCE_SERVICE, "get"),
    right(SELDON_DEPLOYMENT, "get"),
)
"""To look only; a plain URL needs none of them."""

_SCHEMES: Final = ("service", "inferenceservice", "seldondeployment", "ingress")
_SERVICE_HOST: Final = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)(\.svc(\..+)?)?")
_GRPC_NAMES: Final = re.compile(r"grpc|h2c", re.IGNORECASE)
_HTTP_NAMES: Final = re.compile(r"http|rest|web", re.IGNORECASE)
_GRPC_PORTS: Final = (8500, 8001, 9000, 5001)
_HTTP_PORTS: Final = (8501, 8000, 8080, 80)


class ReuseError(InputError):
    """A server that is not there, or not the one that is meant."""


@dataclass(frozen=True)
class _Found:
    """Where a server listens, and the pods behind it, where they can be seen."""

    endpoint: Endpoint
    kind: str = ""
    namespace: str = ""
    pod_labels: Mapping[str, str] | None = None


def reuse(
    cluster: Cluster | None,
    target: str,
    model_name: str,
    *,
    field: str = "candidate_endpoint",
    protocol: str = "grpc",
    model_version: str = "",
    signature_name: str = "",
    server_kind: str = "",
) -> ServedArm:
    """Finds a model server that runs already and checks that it is the one that is meant.

    Args:
        cluster: To look things up in; None where there is none, then only URLs can be found.
        target: `grpc://HOST:PORT`, `http(s)://HOST:PORT`, `service://NAME[.NAMESPACE][:PORT]`,
            `inferenceservice://NAME[.NAMESPACE]`, `seldondeployment://NAME[.NAMESPACE]` or
            `ingress://NAME[.NAMESPACE]`.
        model_name: The model it must serve.
        field: Name of the parameter, for errors.
        protocol: grpc or http, where the target does not say it.
        model_version: The version that must be the newest one available; empty for any.
        signature_name: The signature it must have; empty for any.
        server_kind: What it is, where neither the target nor the server tell it.

    Returns:
        What can be seen of it; image, flags and replicas only where its pods can be listed.

    Raises:
        ReuseError: It is not there, or another version than the one asked for.
        InputError: It does not answer, or does not serve the model or the signature.
    """
    found = _find(cluster, target, protocol, field)
    # Two questions, and the second only because a name alone does not say which API is spoken.
    api = detect_api(found.endpoint, model_name)
    versions = model_status(found.endpoint, model_name, api=api)
    available = [str(one.version) for one in versions if one.state == "AVAILABLE"]
    if not available:
        states = ", ".join(f"{one.version} {one.state}" for one in versions)
        raise ModelNotReady(
            "model_name", model_name, f"{found.endpoint} has no AVAILABLE version of it ({states})"
        )
    if model_version and available[-1] != model_version:
        raise ReuseError(
            field,
            target,
            f"it serves version {available[-1]} and not {model_version}; push it first, or name it",
        )
    if signature_name:
        _require_signature(found.endpoint, model_name, signature_name, api)
    declared = declared_server_kind(found.endpoint, model_name, api=api)
    pods = _pods(cluster, found)
    return ServedArm(
        endpoint=found.endpoint,
        model_name=model_name,
        server_kind=declared
        or found.kind
        or server_kind
        or ("tf-serving" if api == "tf-serving" else "unknown"),
        image=_image(pods),
        flags=_flags(pods),
        replicas=max(1, len(pods)),
        nodes=tuple(sorted({pod["spec"].get("nodeName", "") for pod in pods} - {""})),
        node_types=node_types(cluster, [pod["spec"].get("nodeName", "") for pod in pods]) if cluster else (),
        versions=versions,
    )


def _find(cluster: Cluster | None, target: str, protocol: str, field: str) -> _Found:
    scheme, separator, rest = target.partition("://")
    if scheme not in _SCHEMES:
        if not separator:
            raise _no_target(field, target)
        return _behind_url(cluster, parse_endpoint(target, field))
    if cluster is None:
        raise ReuseError(field, target, "there is no cluster to look it up in; give grpc://HOST:PORT")
    name, _, port = rest.strip("/").partition(":")
    name, _, namespace = name.partition(".")
    if not name or (port and not port.isdecimal() and scheme != "service"):
        raise _no_target(field, target)
    there = replace(cluster, namespace=namespace or cluster.namespace)
    if scheme == "service":
        return _service(there, name, port, protocol, field, target)
    if scheme == "inferenceservice":
        return _inference_service(there, name, protocol, field, target)
    if scheme == "seldondeployment":
        return _seldon_deployment(there, name, protocol, field, target)
    return _ingress(there, name, field, target)


def _behind_url(cluster: Cluster | None, endpoint: Endpoint) -> _Found:
    """A URL is taken as it is; where it names a Service of the cluster, its pods may be seen."""
    parts = _SERVICE_HOST.fullmatch(endpoint.host)
    if cluster is None or parts is None or endpoint.host.replace(".", "").isdigit():
        return _Found(endpoint)
    try:
        service = replace(cluster, namespace=parts[2]).get(SERVICE, parts[1])
    except ClusterUnreachable:
        raise
    except ClusterError:
        return _Found(endpoint)
    selector = (service or {}).get("spec", {}).get("selector")
    return _Found(endpoint, "", parts[2], selector)


def _service(cluster: Cluster, name: str, port: str, protocol: str, field: str, target: str) -> _Found:
    service = cluster.get(SERVICE, name)
    if service is None:
        raise _absent(field, target, f"Service {name} in namespace {cluster.namespace}")
    ports = service["spec"].get("ports", [])
    chosen = _chosen_port(ports, port, protocol)
    if chosen is None:
        told = ", ".join(f"{one.get('name', '')}:{one['port']}" for one in ports)
        raise ReuseError(
            field, target, f"which of its ports speaks {protocol}? add it as :PORT; it has {told}"
        )
    host = f"{name}.{cluster.namespace}.svc"
    if not in_pod():
        address = service["spec"].get("clusterIP", "None")
        host = address if address != "None" else host
    return _Found(
        Endpoint(protocol, host, int(chosen["port"])),
        "",
        cluster.namespace,
        service["spec"].get("selector"),
    )


def _chosen_port(ports: Sequence[Mapping[str, Any]], wanted: str, protocol: str) -> Mapping[str, Any] | None:
    if wanted:
        return next((one for one in ports if wanted in (str(one["port"]), one.get("name"))), None)
    if len(ports) == 1:
        return ports[0]
    names, numbers = (_GRPC_NAMES, _GRPC_PORTS) if protocol == "grpc" else (_HTTP_NAMES, _HTTP_PORTS)
    named = [one for one in ports if names.search(f"{one.get('name', '')} {one.get('appProtocol', '')}")]
    if len(named) == 1:
        return named[0]
    return next((one for number in numbers for one in ports if one["port"] == number), None)


def _inference_service(cluster: Cluster, name: str, protocol: str, field: str, target: str) -> _Found:
    thing = cluster.get(INFERENCE_SERVICE, name)
    if thing is None:
        raise _absent(field, target, f"InferenceService {name} in namespace {cluster.namespace}")
    if not kserve.is_ready(thing):
        why = kserve.failure(thing) or _condition_texts(thing)
        raise ReuseError(field, target, f"it is not ready ({why}); wait for it, or mend it")
    parts = urlsplit(kserve.url(thing))
    if not parts.hostname:
        raise ReuseError(field, target, "it has no address inside of the cluster; give its URL")
    if protocol == "grpc":
        endpoint = Endpoint("grpc", parts.hostname, parts.port or kserve.grpc_port(thing))
    else:
        scheme = parts.scheme or "http"
        endpoint = Endpoint(scheme, parts.hostname, parts.port or {"https": 443}.get(scheme, 80))
    return _Found(endpoint, "kserve", cluster.namespace, {kserve.PREDICTOR_LABEL: name})


def _seldon_deployment(cluster: Cluster, name: str, protocol: str, field: str, target: str) -> _Found:
    thing = cluster.get(SELDON_DEPLOYMENT, name)
    if thing is None:
        raise _absent(field, target, f"SeldonDeployment {name} in namespace {cluster.namespace}")
    if not seldon.is_ready(thing):
        why = seldon.failure(thing) or _condition_texts(thing)
        raise ReuseError(field, target, f"it is not available ({why}); wait for it, or mend it")
    parts = urlsplit(str(thing.get("status", {}).get("address", {}).get("url", "")))
    predictors = thing["spec"].get("predictors", [])
    predictor = predictors[0]["name"] if predictors else seldon.PREDICTOR
    host = parts.hostname or f"{name}-{predictor}.{cluster.namespace}.svc"
    port = 5001 if protocol == "grpc" else parts.port or 8000
    return _Found(
        Endpoint(protocol, host, port), "seldon", cluster.namespace, {seldon.DEPLOYMENT_LABEL: name}
    )


def _ingress(cluster: Cluster, name: str, field: str, target: str) -> _Found:
    thing = cluster.get(INGRESS, name)
    if thing is None:
        raise _absent(field, target, f"Ingress {name} in namespace {cluster.namespace}")
    rules = thing["spec"].get("rules", [])
    paths = [
        (rule.get("host", ""), path)
        for rule in rules
        for path in rule.get("http", {}).get("paths", [])
        if path.get("backend", {}).get("service")
    ]
    if len(paths) != 1:
        raise ReuseError(field, target, f"it has {len(paths)} paths; give the URL of the one that is meant")
    host, path = paths[0]
    secure = any(not one.get("hosts") or host in one["hosts"] for one in thing["spec"].get("tls", []))
    balancer = thing.get("status", {}).get("loadBalancer", {}).get("ingress", [])
    if not host and not balancer:
        raise ReuseError(field, target, "it has neither a host nor an address yet; give its URL")
    shown = host or balancer[0].get("hostname") or balancer[0].get("ip")
    base_path = str(path.get("path", "/")).rstrip("/")
    scheme = "https" if secure else "http"
    endpoint = parse_endpoint(f"{scheme}://{shown}:{443 if secure else 80}{base_path}", field)
    backend = cluster.get(SERVICE, path["backend"]["service"]["name"])
    return _Found(endpoint, "", cluster.namespace, (backend or {}).get("spec", {}).get("selector"))


def _require_signature(endpoint: Endpoint, model_name: str, signature_name: str, api: Api) -> None:
    # Only TF Serving names its signatures.
    if api == "tf-serving":
        find_signature(model_metadata(endpoint, model_name, api=api), signature_name, model_name)


def _pods(cluster: Cluster | None, found: _Found) -> list[dict[str, Any]]:
    if cluster is None or not found.pod_labels:
        return []
    try:
        pods = replace(cluster, namespace=found.namespace).list(POD, selector_of(found.pod_labels))
    except MissingRight:
        return []
    return [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]


def _server_container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """The container that has the ports: sidecars that bring themselves in are not first."""
    containers = pod["spec"]["containers"]
    with_ports = [one for one in containers if one.get("ports") and "istio" not in one["name"]]
    return with_ports[0] if with_ports else containers[0]  # type: ignore[no-any-return]  # JSON


def _image(pods: Sequence[Mapping[str, Any]]) -> str:
    return image_of(pods, str(_server_container(pods[0])["name"])) if pods else ""


def _flags(pods: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    if not pods:
        return ()
    container = _server_container(pods[0])
    return tuple(
        one for one in (*container.get("command", []), *container.get("args", [])) if str(one).startswith("-")
    )


def _condition_texts(thing: Mapping[str, Any]) -> str:
    conditions = thing.get("status", {}).get("conditions", [])
    bad = [
        f"{one['type']} {one['status']}: {one.get('message', one.get('reason', ''))}"
        for one in conditions
        if one["status"] != "True"
    ]
    return "; ".join(bad) or "it says nothing"


def _absent(field: str, target: str, what: str) -> ReuseError:
    return ReuseError(field, target, f"there is no {what}; check the name")


def _no_target(field: str, target: str) -> ReuseError:
    known = ", ".join(f"{one}://NAME" for one in _SCHEMES)
    return ReuseError(field, target, f"give grpc://HOST:PORT, http://HOST:PORT or {known}")
