"""TensorFlow Serving as Deployment, Service and, for its configuration files, a ConfigMap.

Our embedded server has the same layout, ports and entry point, and is deployed the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from model_load_test.components.cluster.kinds import CONFIG_MAP
from model_load_test.components.protocols.client import METRICS_PATH
from model_load_test.components.serving.arm import DeployedArm
from model_load_test.components.serving.server_pod import MODELS, deployment, service, startup_probe
from model_load_test.components.serving.spec import ServingSpec, ServingSpecError

GRPC_PORT: Final = 8500
REST_PORT: Final = 8501

_CONFIGURATION_FOLDER: Final = "/serving-configuration"
_BATCHING_FILE: Final = "batching.pbtxt"
_MONITORING_FILE: Final = "monitoring.pbtxt"
_WRAPPED: Final = (
    "max_batch_size",
    "batch_timeout_micros",
    "max_enqueued_batches",
    "num_batch_threads",
    "thread_pool_name",
    "max_execution_batch_size",
    "mixed_priority_batching_policy",
    "low_priority_max_batch_size",
    "low_priority_batch_timeout_micros",
    "low_priority_max_enqueued_batches",
)
"""Fields of BatchingParameters that are wrapper messages: `name { value: ... }`."""
_PLAIN: Final = ("pad_variable_length_inputs", "enable_large_batch_splitting")
_REPEATED: Final = ("allowed_batch_sizes", "low_priority_allowed_batch_sizes")


def manifests(arm: DeployedArm, spec: ServingSpec) -> list[dict[str, Any]]:
    """Everything of one arm, in the order of creation."""
    files = _configuration_files(spec)
    container: dict[str, Any] = {
        "args": [*server_flags(spec)],
        "env": [
            {"name": "MODEL_NAME", "value": spec.model_name},
            {"name": "MODEL_BASE_PATH", "value": MODELS},
        ],
        "ports": [
            {"name": "grpc", "containerPort": GRPC_PORT},
            {"name": "http", "containerPort": REST_PORT},
        ],
        # TF Serving listens as soon as the model is loaded, or could not be; which of the two, we ask it.
        "startupProbe": startup_probe(spec, {"tcpSocket": {"port": "grpc"}}),
    }
    volumes = []
    if files:
        container["volumeMounts"] = [
            {"name": "configuration", "mountPath": _CONFIGURATION_FOLDER, "readOnly": True}
        ]
        volumes.append({"name": "configuration", "configMap": {"name": arm.name}})
    workload = deployment(arm, spec, container, layout="tf-serving", volumes=volumes)
    return [
        *([_config_map(arm, files)] if files else []),
        workload,
        service(arm, {"grpc": GRPC_PORT, "http": REST_PORT}),
    ]


def server_flags(spec: ServingSpec) -> tuple[str, ...]:
    """The server's flags: the user's, and those that its configuration files need."""
    embedded = spec.kind == "embedded"
    flags = list(spec.flags) or (["--backend=numpy"] if embedded else [])
    if spec.batching:
        flags += [
            "--enable_batching=true",
            f"--batching_parameters_file={_CONFIGURATION_FOLDER}/{_BATCHING_FILE}",
        ]
    if spec.monitoring and not embedded:
        flags.append(f"--monitoring_config_file={_CONFIGURATION_FOLDER}/{_MONITORING_FILE}")
    names = [flag.lstrip("-").partition("=")[0] for flag in flags]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ServingSpecError(
            "flags", sorted(twice), "given twice; write batching as `batching`, and set monitoring to false"
        )
    return tuple(flags)


def batching_file(batching: Mapping[str, Any]) -> str:
    """TF Serving's BatchingParameters as text.

    Args:
        batching: Values by field name, such as {"max_batch_size": 128, "allowed_batch_sizes": [32, 128]}.

    Raises:
        ServingSpecError: There is no such field, or the value is none for it.
    """
    lines = []
    for name, value in batching.items():
        field = f"batching.{name}"
        if name in _REPEATED:
            if not isinstance(value, (list, tuple)):
                raise ServingSpecError(field, value, "give a list of sizes")
            lines += [f"{name}: {_number(field, one)}" for one in value]
        elif name in _PLAIN:
            if not isinstance(value, bool):
                raise ServingSpecError(field, value, "give true or false")
            lines.append(f"{name}: {str(value).lower()}")
        elif name in _WRAPPED:
            text = (
                f'"{value}"'
                if isinstance(value, str) and name == "thread_pool_name"
                else _number(field, value)
            )
            lines.append(f"{name} {{ value: {text} }}")
        else:
            raise ServingSpecError(
                field,
                value,
                f"no such batching parameter; there are {', '.join((*_WRAPPED, *_PLAIN, *_REPEATED))}",
            )
    sizes = batching.get("allowed_batch_sizes")
    if sizes and "max_batch_size" in batching and max(sizes) != batching["max_batch_size"]:
        raise ServingSpecError(
            "batching.allowed_batch_sizes", list(sizes), "the last of them must be max_batch_size"
        )
    return "\n".join(lines) + "\n"


def _number(field: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < 0:
        raise ServingSpecError(field, value, "give a whole number")
    return str(int(value))


def _configuration_files(spec: ServingSpec) -> dict[str, str]:
    files = {}
    if spec.batching:
        files[_BATCHING_FILE] = batching_file(spec.batching)
    if spec.monitoring and spec.kind == "tf-serving":
        files[_MONITORING_FILE] = f'prometheus_config {{ enable: true, path: "{METRICS_PATH}" }}\n'
    return files


def _config_map(arm: DeployedArm, files: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": {"name": arm.name, "labels": dict(arm.labels)},
        "data": dict(files),
    }
