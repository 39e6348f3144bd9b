"""The parameters that can be swept: what each may be, and where in a serving spec it stands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from model_load_test.components.errors import InputError
from model_load_test.components.parameters import refuse_unknown
from model_load_test.components.serving.backends import BACKENDS
from model_load_test.components.serving.spec import ServingSpec, parse_serving_spec
from model_load_test.components.serving.tf_serving import batching_file

Place = Literal[
    "flag", "batching", "triton", "triton batching", "triton instances", "serving", "resource", "node"
]

TF_SERVING: Final = ("tf-serving", "embedded")
OWN_PODS: Final = ("tf-serving", "triton", "embedded")
ENABLE_BATCHING: Final = "enable_batching"
MACHINE_TYPE: Final = "node.kubernetes.io/instance-type"
GPU: Final = "nvidia.com/gpu"

_ID_CHARACTERS: Final = 10


class SweepError(InputError):
    """A sweep that cannot be run."""


@dataclass(frozen=True)
class Parameter:
    """One serving parameter."""

    place: Place
    holds: Callable[[Any], bool]
    """Whether a value may be one."""
    wanted: str
    """What a value is, for people."""


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and float(value).is_integer() and value >= least


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_sizes(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(_whole(1)(one) for one in value)


def _is_amount(value: Any) -> bool:
    return (_is_number(value) and value > 0) or (isinstance(value, str) and bool(value))


def _count(place: Place, least: int) -> Parameter:
    return Parameter(place, _whole(least), f"a whole number from {least}")


def _switch(place: Place) -> Parameter:
    return Parameter(place, lambda value: isinstance(value, bool), "true or false")


_SHARE: Final = Parameter("flag", lambda value: _is_number(value) and 0 < value <= 1, "a share up to 1")
_TEXT: Final = Parameter("flag", lambda value: isinstance(value, str) and bool(value), "text")
_SIZES: Final = "a list of sizes, the last of them max_batch_size"
_AMOUNT: Final = Parameter("resource", _is_amount, 'an amount such as 2, "500m" or "2Gi"')

_OF_TF_SERVING: Final[Mapping[str, Parameter]] = {
    ENABLE_BATCHING: _switch("batching"),
    "max_batch_size": _count("batching", 1),
    "batch_timeout_micros": _count("batching", 0),
    "max_enqueued_batches": _count("batching", 1),
    "num_batch_threads": _count("batching", 1),
    "max_execution_batch_size": _count("batching", 1),
    "allowed_batch_sizes": Parameter("batching", _is_sizes, _SIZES),
    "pad_variable_length_inputs": _switch("batching"),
    "enable_large_batch_splitting": _switch("batching"),
    "tensorflow_intra_op_parallelism": _count("flag", 0),
    "tensorflow_inter_op_parallelism": _count("flag", 0),
    "tensorflow_session_parallelism": _count("flag", 0),
    "rest_api_num_threads": _count("flag", 1),
    "rest_api_timeout_in_ms": _count("flag", 1),
    "grpc_max_threads": _count("flag", 1),
    "grpc_channel_arguments": _TEXT,
    "file_system_poll_wait_seconds": _count("flag", -1),
    "flush_filesystem_caches": _switch("flag"),
    "num_load_threads": _count("flag", 0),
    "num_unload_threads": _count("flag", 0),
    "max_num_load_retries": _count("flag", 0),
    "load_retry_interval_micros": _count("flag", 0),
    "enable_model_warmup": _switch("flag"),
    "num_request_iterations_for_warmup": _count("flag", 1),
    "per_process_gpu_memory_fraction": _SHARE,
    "xla_cpu_compilation_enabled": _switch("flag"),
    "prefer_tflite_model": _switch("flag"),
    "num_tflite_pools": _count("flag", 1),
    "num_tflite_interpreters_per_pool": _count("flag", 1),
    "enable_serialization_as_tensor_content": _switch("flag"),
    "mixed_precision": _TEXT,
}
_OF_TRITON: Final[Mapping[str, Parameter]] = {
    "max_batch_size": _count("triton", 0),
    "dynamic_batching": _switch("triton batching"),
    "preferred_batch_size": Parameter("triton batching", _is_sizes, "a list of sizes up to max_batch_size"),
    "max_queue_delay_microseconds": _count("triton batching", 0),
    "preserve_ordering": _switch("triton batching"),
    "instance_count": _count("triton instances", 1),
    "instance_kind": Parameter("triton instances", lambda value: isinstance(value, str), "such as KIND_CPU"),
    "instance_gpus": Parameter(
        "triton instances",
        lambda value: isinstance(value, (list, tuple)) and all(_whole(0)(one) for one in value),
        "a list of GPU numbers",
    ),
}
_OF_KUBERNETES: Final[Mapping[str, Parameter]] = {
    "replicas": _count("serving", 1),
    "cpu_request": _AMOUNT,
    "cpu_limit": _AMOUNT,
    "memory_request": _AMOUNT,
    "memory_limit": _AMOUNT,
    "gpus": _count("resource", 1),
    "machine_type": Parameter(
        "node", lambda value: isinstance(value, str) and bool(value), f"the label {MACHINE_TYPE} of its nodes"
    ),
    "node_selector": Parameter(
        "node",
        lambda value: isinstance(value, Mapping) and all(isinstance(one, str) for one in value.values()),
        "labels of nodes by name",
    ),
}


def parameters_of(kind: str) -> Mapping[str, Parameter]:
    """The parameters of a kind of server, by name.

    Raises:
        SweepError: Servers of this kind cannot be swept.
    """
    if kind not in BACKENDS:
        raise SweepError("serving.kind", kind, f"choose one of {', '.join(BACKENDS)}")
    own = _OF_TF_SERVING if kind in TF_SERVING else _OF_TRITON if kind == "triton" else {}
    return {**own, **_OF_KUBERNETES}


def check_value(kind: str, name: str, value: Any) -> None:
    """Refuses a value that no server of this kind would take; none leaves the parameter as it is.

    Raises:
        SweepError: The parameter is unknown, or the value is not one for it.
    """
    known = parameters_of(kind)
    refuse_unknown(f"parameters of {kind}", {name: value}, known, SweepError, prefix="parameters.")
    if value is not None and not known[name].holds(value):
        raise SweepError(f"parameters.{name}", value, f"give {known[name].wanted}")


def configure(serving: Mapping[str, Any], model_name: str, parameters: Mapping[str, Any]) -> ServingSpec:
    """A serving spec with parameters put in their places.

    Args:
        serving: The spec that everything else is taken from, as JSON values.
        model_name: Name the model is served by.
        parameters: Values by parameter; those that are None change nothing.

    Raises:
        InputError: A value is none for its parameter, or the parameters do not fit together.
    """
    base = parse_serving_spec(serving, model_name=model_name)
    chosen = {name: _plain(value) for name, value in parameters.items() if value is not None}
    known = parameters_of(base.kind)
    for name, value in chosen.items():
        check_value(base.kind, name, value)
    of_place: dict[str, dict[str, Any]] = {}
    for name, value in chosen.items():
        of_place.setdefault(known[name].place, {})[name] = value
    changed: dict[str, Any] = {**of_place.get("serving", {})}
    flags = _with_flags(base.flags, of_place.get("flag", {}))
    if "batching" in of_place:
        changed["batching"], flags = _with_batching(base, flags, of_place["batching"])
    configuration = _with_triton(base.model_configuration, of_place)
    if configuration:
        changed["model_configuration"] = configuration
    changed["flags"] = list(flags)
    changed["resources"] = _with_resources(base.resources, of_place.get("resource", {}))
    changed["node_selector"] = _with_node(base.node_selector, of_place.get("node", {}))
    spec = parse_serving_spec({**serving, **changed}, model_name=model_name)
    _refuse_combination(spec)
    return spec


def configuration_id(parameters: Mapping[str, Any]) -> str:
    """A short name of a configuration, the same for the same parameters in any order."""
    text = json.dumps(_plain(parameters), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_CHARACTERS]


def in_words(parameters: Mapping[str, Any]) -> str:
    """A configuration as people read it."""
    told = [f"{name}={_short(value)}" for name, value in parameters.items() if value is not None]
    return " ".join(told) or "as the reference"


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(_plain(value), separators=(",", ":"))


def _plain(value: Any) -> Any:
    """A value as JSON has it, whole numbers without a fraction: KFP's structs hold doubles only."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def _with_flags(flags: Sequence[str], values: Mapping[str, Any]) -> tuple[str, ...]:
    kept = [flag for flag in flags if flag_name(flag) not in values]
    return (*kept, *(f"--{name}={_short(value)}" for name, value in values.items()))


def flag_name(flag: str) -> str:
    """The name of a command-line flag, as tensorflow_model_server spells it."""
    return flag.lstrip("-").partition("=")[0].replace("-", "_")


def _with_batching(
    base: ServingSpec, flags: Sequence[str], values: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The batching parameters, and the flags without those that the batching file takes the place of."""
    given = {name: value for name, value in values.items() if name != ENABLE_BATCHING}
    on_by_flag = any(
        flag_name(flag) == ENABLE_BATCHING and not flag.endswith(("=false", "=0")) for flag in flags
    )
    enabled = values.get(ENABLE_BATCHING, bool(base.batching) or on_by_flag)
    others = tuple(flag for flag in flags if flag_name(flag) != ENABLE_BATCHING)
    if not enabled:
        if given:
            name, value = next(iter(given.items()))
            raise SweepError(
                f"parameters.{name}", value, f"without {ENABLE_BATCHING} no batching file is read"
            )
        return {}, others
    batching = {**base.batching, **given}
    batching_file(batching)
    return batching, others if batching else (*others, f"--{ENABLE_BATCHING}=true")


def _with_triton(base: Mapping[str, Any], of_place: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    configuration = {**base, **of_place.get("triton", {})}
    batching = dict(of_place.get("triton batching", {}))
    if batching:
        enabled = batching.pop("dynamic_batching", "dynamic_batching" in configuration)
        if enabled:
            configuration["dynamic_batching"] = {**configuration.get("dynamic_batching", {}), **batching}
        elif batching:
            name, value = next(iter(batching.items()))
            raise SweepError(f"parameters.{name}", value, "it means nothing without dynamic_batching")
        else:
            configuration.pop("dynamic_batching", None)
    instances = of_place.get("triton instances", {})
    if instances:
        group = {name.removeprefix("instance_"): value for name, value in instances.items()}
        configuration["instance_group"] = [{**next(iter(base.get("instance_group", ())), {}), **group}]
    return configuration


def _with_resources(base: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    resources = {part: dict(amounts) for part, amounts in base.items()}
    for name, value in values.items():
        if name == "gpus":
            # Kubernetes wants a request for a device to equal its limit.
            for part in ("requests", "limits"):
                resources.setdefault(part, {})[GPU] = str(value)
            continue
        resource, _, part = name.partition("_")
        resources.setdefault(f"{part}s", {})[resource] = str(value)
    return resources


def _with_node(base: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, str]:
    selector = {**base, **values.get("node_selector", {})}
    if "machine_type" in values:
        selector[MACHINE_TYPE] = values["machine_type"]
    return selector


def _refuse_combination(spec: ServingSpec) -> None:
    """Refuses what the server or Kubernetes would refuse, before anything is started."""
    from model_load_test.components.cluster.labels import RunIdentity
    from model_load_test.components.serving.arm import DeployedArm
    from model_load_test.components.serving.model_uri import Storage, parse_model_uri

    flags = {flag_name(flag): flag.partition("=")[2] for flag in spec.flags}
    # server.cc refuses a session's threads beside those of its two pools.
    if flags.get("tensorflow_session_parallelism", "0") != "0":
        for name in ("tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"):
            if name in flags:
                raise SweepError(
                    f"parameters.{name}", flags[name], "leave tensorflow_session_parallelism out"
                )
    model = parse_model_uri("pvc://models/any")
    arm = DeployedArm("candidate", RunIdentity("sweep", "sweep"), model, Storage(), "")
    BACKENDS[spec.kind].manifests(arm, spec)
