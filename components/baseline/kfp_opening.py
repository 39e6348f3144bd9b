"""Opening the store of a KFP installation: its artifact API, or the ML Metadata of an older one.

The older servers' API tells of runs and tasks, but not what the tasks put out: up to KFP 2.18 the
tasks of a run come from the workflow's nodes, and their artifacts are left out on the way (in
`toModelTask`, "TODO: parse input and output artifacts"). What is recorded there is in the
installation's ML Metadata, so that is where an older server's runs are found and kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from model_load_test.components.baseline.discovery import API_PORT, mlmd_of_launcher
from model_load_test.components.baseline.kfp_api import KfpApi
from model_load_test.components.baseline.kfp_artifacts import KfpStore, Place, serves_artifacts
from model_load_test.components.baseline.store import FIELD, BaselineStore, open_store
from model_load_test.components.baseline.surroundings import Surroundings
from model_load_test.components.errors import InputError

ENDPOINT_VARIABLE: Final = "KF_PIPELINES_ENDPOINT"
TOKEN_VARIABLE: Final = "KF_PIPELINES_SA_TOKEN_PATH"
"""The two that KFP's own client reads."""

_TOKEN_FILES: Final = (
    Path("/var/run/secrets/kfp/token"),
    Path("/var/run/secrets/kubeflow/pipelines/token"),
)
_SERVICE: Final = "ml-pipeline"
_MLMD_SERVICE: Final = "metadata-grpc-service"
_MLMD_PORT: Final = 8080


class KfpAddress(msgspec.Struct, frozen=True, kw_only=True):
    """What a `kfp:` URI says; empty where the place must tell."""

    host: str = ""
    port: int | None = None
    path: str = ""
    """Prefix of every path, where the server stands behind a proxy."""
    tls: bool = False
    authority_file: str | None = None
    token_file: str | None = None
    namespace: str = ""
    run_id: str = ""
    task_id: str = ""
    mlmd: str = ""
    """`host:port` of the ML Metadata beside an older server."""


def open_kfp_store(uri: str, address: KfpAddress, around: Surroundings) -> BaselineStore:
    """Opens the store that a `kfp:` URI names.

    Args:
        uri: For errors.
        address: What the URI says.
        around: Where this process runs.

    Raises:
        InputError: No address is known, or the server refuses the namespace.
        StoreUnavailable: The server does not answer.
    """
    base = _base_address(uri, address, around)
    api = KfpApi(
        base,
        uri,
        authority_file=address.authority_file or _launchers_authority(address, around),
        token_file=_token_file(address, around),
    )
    namespace = address.namespace or around.namespace
    if serves_artifacts(api, namespace):
        return KfpStore(api, uri, namespace=namespace, place=_place(address, around))
    api.close()
    return open_store(_mlmd_beside(uri, base, address, around))


def _base_address(uri: str, address: KfpAddress, around: Surroundings) -> str:
    if address.host:
        scheme = "https" if address.tls else "http"
        host = f"[{address.host}]" if ":" in address.host else address.host
        port = f":{address.port}" if address.port else ""
        return f"{scheme}://{host}{port}{address.path.rstrip('/')}"
    known = around.environment
    if known.get(ENDPOINT_VARIABLE):
        endpoint = known[ENDPOINT_VARIABLE].rstrip("/")
        return endpoint if "://" in endpoint else f"http://{endpoint}"
    if around.launcher.get("ml_pipeline_server_address"):
        scheme = "https" if around.launcher.get("ml_pipeline_tls_enabled") == "true" else "http"
        return f"{scheme}://{around.launcher['ml_pipeline_server_address']}:{API_PORT}"
    if known.get("ML_PIPELINE_SERVICE_HOST"):
        return f"http://{_SERVICE}:{API_PORT}"
    if around.in_pod:
        return f"http://{_SERVICE}.kubeflow:{API_PORT}"
    raise InputError(FIELD, uri, f"name the API server, as kfp://HOST:{API_PORT}, or set {ENDPOINT_VARIABLE}")


def _launchers_authority(address: KfpAddress, around: Surroundings) -> str | None:
    return None if address.host else around.launcher.get("ca_cert_path")


def _token_file(address: KfpAddress, around: Surroundings) -> Path | None:
    named = address.token_file or around.environment.get(TOKEN_VARIABLE)
    if named:
        return Path(named)
    return next((file for file in _TOKEN_FILES if file.is_file()), None)


def _place(address: KfpAddress, around: Surroundings) -> Place | None:
    if address.run_id:
        return Place(address.run_id, address.task_id)
    if around.launcher.get("run_id"):
        return Place(around.launcher["run_id"], around.launcher.get("task_id", ""))
    return None


def _mlmd_beside(uri: str, base: str, address: KfpAddress, around: Surroundings) -> str:
    if address.mlmd:
        return f"mlmd+grpc://{address.mlmd}"
    from_launcher = mlmd_of_launcher(around)
    if from_launcher:
        return from_launcher
    known = around.environment
    if known.get("METADATA_GRPC_SERVICE_HOST"):
        port = known.get("METADATA_GRPC_SERVICE_PORT") or _MLMD_PORT
        return f"mlmd+grpc://{known['METADATA_GRPC_SERVICE_HOST']}:{port}"
    host = base.partition("://")[2].partition("/")[0].partition(":")[0]
    if host == _SERVICE or host.startswith(f"{_SERVICE}."):
        return f"mlmd+grpc://{_MLMD_SERVICE}{host.removeprefix(_SERVICE)}:{_MLMD_PORT}"
    raise InputError(
        FIELD, uri, "this server is older than KFP's artifact API: name its metadata by ?mlmd=HOST:8080"
    )
