"""`auto`: which store the place has."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

import msgspec

from model_load_test.components.baseline.store import AUTO
from model_load_test.components.baseline.surroundings import Surroundings, here

STORE_VARIABLE: Final = "MODEL_LOAD_TEST_BASELINE_STORE"

_MLMD_SERVICE: Final = "metadata-grpc-service.kubeflow"
_MLMD_PORT: Final = "8080"
_API_SERVICE: Final = "ml-pipeline.kubeflow"
API_PORT: Final = "8888"
"""KFP's port for HTTP; the launcher is told the one for gRPC."""


class Discovered(msgspec.Struct, frozen=True, kw_only=True):
    """What `auto` came to."""

    uri: str
    """Address of a store; empty when there is none here."""
    reason: str
    """How it was found, or where nothing was found, as part of a sentence."""


def discover_store(
    surroundings: Surroundings | None = None, resolves: Callable[[str], bool] | None = None
) -> Discovered:
    """Finds the store of this place, the more explicit source first.

    1. `MODEL_LOAD_TEST_BASELINE_STORE`.
    2. Vertex Pipelines: the project and region it puts into the environment.
    3. `METADATA_GRPC_SERVICE_HOST` and `_PORT`, as KFP's profile controller offers them in a config map.
    4. The flags of the KFP launcher that runs this process: MLMD's address up to KFP 2.18, only the API
       server's in later releases.
    5. In a pod: the services of its own namespace, then `metadata-grpc-service` and `ml-pipeline` in
       `kubeflow`, where the cluster's DNS knows them.

    Args:
        surroundings: Instead of this process's, for tests.
        resolves: Instead of the system's resolver, for tests.
    """
    around = here() if surroundings is None else surroundings
    known = around.environment
    if known.get(STORE_VARIABLE):
        return Discovered(uri=known[STORE_VARIABLE], reason=f"{STORE_VARIABLE} names it")
    if known.get("CLOUD_ML_PROJECT_ID") and known.get("CLOUD_ML_REGION"):
        uri = f"vertex://{known['CLOUD_ML_PROJECT_ID']}/{known['CLOUD_ML_REGION']}"
        return Discovered(uri=uri, reason="Vertex runs this process")
    if known.get("METADATA_GRPC_SERVICE_HOST"):
        port = known.get("METADATA_GRPC_SERVICE_PORT") or _MLMD_PORT
        uri = _mlmd(known["METADATA_GRPC_SERVICE_HOST"], port)
        return Discovered(uri=uri, reason="METADATA_GRPC_SERVICE_HOST names it")
    from_launcher = mlmd_of_launcher(around) or _api_of_launcher(around)
    if from_launcher:
        return Discovered(uri=from_launcher, reason="KFP's launcher uses it")
    if not around.in_pod:
        return Discovered(uri="", reason="this is no pod of KFP or Vertex, and no variable names a store")
    return _by_service(around, resolves or _resolves)


def resolve_store(uri: str) -> Discovered:
    """The store that a component's parameter names: itself, for `auto` what the place has, else none."""
    if uri == AUTO:
        return discover_store()
    return Discovered(uri=uri, reason="it was named" if uri else "none was named")


def mlmd_of_launcher(around: Surroundings) -> str:
    """Address of the MLMD service that KFP's launcher was given; empty when it was given none."""
    flags = around.launcher
    if "mlmd_server_address" not in flags:
        return ""
    host, port = flags["mlmd_server_address"], flags.get("mlmd_server_port", _MLMD_PORT)
    if flags.get("metadata_tls_enabled") != "true":
        return _mlmd(host, port)
    authority = f"?ca={quote(flags['ca_cert_path'])}" if "ca_cert_path" in flags else ""
    return f"mlmd+grpcs://{host}:{port}{authority}"


def _api_of_launcher(around: Surroundings) -> str:
    flags = around.launcher
    if "ml_pipeline_server_address" not in flags:
        return ""
    options = ["tls=true"] if flags.get("ml_pipeline_tls_enabled") == "true" else []
    if options and "ca_cert_path" in flags:
        options.append(f"ca={quote(flags['ca_cert_path'])}")
    asked = f"?{'&'.join(options)}" if options else ""
    return f"kfp://{flags['ml_pipeline_server_address']}:{API_PORT}{asked}"


def _by_service(around: Surroundings, resolves: Callable[[str], bool]) -> Discovered:
    known = around.environment
    # Kubernetes names the services of a pod's own namespace so: <SERVICE>_SERVICE_HOST.
    for variable, uri in (
        ("METADATA_GRPC_SERVICE_SERVICE_HOST", _mlmd("metadata-grpc-service", _MLMD_PORT)),
        ("ML_PIPELINE_SERVICE_HOST", f"kfp://ml-pipeline:{API_PORT}"),
    ):
        if known.get(variable):
            return Discovered(uri=uri, reason="it is a service of this pod's namespace")
    for host, uri in (
        (_MLMD_SERVICE, _mlmd(_MLMD_SERVICE, _MLMD_PORT)),
        (_API_SERVICE, f"kfp://{_API_SERVICE}:{API_PORT}"),
    ):
        if resolves(host):
            return Discovered(uri=uri, reason=f"the cluster has {host}")
    return Discovered(uri="", reason=f"the cluster has neither {_MLMD_SERVICE} nor {_API_SERVICE}")


def _mlmd(host: str, port: str) -> str:
    return f"mlmd+grpc://{f'[{host}]' if ':' in host else host}:{port}"


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True
