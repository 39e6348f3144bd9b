"""How a model is to be served: one spec for every kind of server, TFX's own accepted as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

import msgspec

from model_load_test.components.cluster.placement import (
    Placement,
    parse_placement,
    parse_resources,
)
from model_load_test.components.errors import InputError
from model_load_test.components.parameters import refuse_unknown
from model_load_test.components.serving.triton_configuration import configuration_text
from model_load_test.components.version import __version__

Kind = Literal["tf-serving", "triton", "kserve", "seldon", "seldon-v2", "embedded"]
Arrangement = Literal["any", "apart", "together"]
Protocol = Literal["grpc", "http"]

DEFAULT_IMAGES: Final[Mapping[str, str]] = {
    "tf-serving": "tensorflow/serving:2.19.1",
    "triton": "nvcr.io/nvidia/tritonserver:24.12-py3",
    "embedded": f"ghcr.io/model-load-test/embedded-server:{__version__}",
}
"""Images of the kinds that we deploy as pods of our own; KServe and Seldon choose theirs."""

RESERVED_FLAGS: Final = ("port", "rest_api_port", "model_name", "model_base_path")
"""Flags of tensorflow_model_server that its image's entry point and we set."""

_MODEL_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_DNS_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


class ServingSpecError(InputError):
    """A serving spec that cannot be deployed."""


class ServingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way to serve a model. Candidate and baseline are both served by the same one."""

    model_name: str
    """Name the model is served by."""
    kind: Kind = "tf-serving"
    image: str = ""
    """Of the server; empty for the kind's default. Name it by digest: a tag may change its content."""
    protocol: Protocol = "grpc"
    """Which of the server's two ports the endpoint is."""
    replicas: int = 1
    """Of each arm."""
    flags: tuple[str, ...] = ()
    """Command-line flags of the server, such as `--tensorflow_intra_op_parallelism=4`."""
    batching: Mapping[str, Any] = {}
    """TF Serving's batching parameters, such as {"max_batch_size": 128}; turns batching on."""
    model_configuration: Mapping[str, Any] = {}
    """Triton's: `max_batch_size`, `dynamic_batching`, `instance_group`, in the place of the model's own."""
    monitoring: bool = True
    """Whether TF Serving shows its metrics on its REST port."""
    warmup: str = ""
    """URI of a warm-up file (`tf_serving_warmup_requests`) to put beside the model."""
    environment: tuple[Mapping[str, Any], ...] = ()
    """Environment of the server: Kubernetes EnvVar objects."""
    annotations: Mapping[str, str] = {}
    """Of the server's pods, or of the InferenceService or SeldonDeployment."""
    resources: Mapping[str, Mapping[str, Any]] = {}
    """Of the server: {"requests": {...}, "limits": {...}}."""
    tolerations: tuple[Mapping[str, Any], ...] = ()
    node_selector: Mapping[str, str] = {}
    affinity: Mapping[str, Any] = {}
    arrangement: Arrangement = "any"
    """Candidate and baseline `apart` on different nodes, `together` on one, or as it comes."""
    service_account: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    model_format: str = "tensorflow"
    """KServe's model format; Seldon's server by it (tensorflow, triton, sklearn, ...)."""
    runtime: str = ""
    """KServe's ServingRuntime, or Seldon v2's Server; empty to have one chosen."""
    orchestrator: bool = True
    """Whether Seldon v1 puts its own proxy before the server."""
    ready_seconds: float = 300.0
    """How long a server may take to have the model loaded."""
    grace_seconds: int = 10
    """Between the order to stop and the end of a server that does not."""
    also_validate: tuple[str, ...] = ()
    """Further images that the infrastructure validation is to try, as TFX's several tags."""
    tries: int = 1
    """How often the infrastructure validation tries before it says no."""

    @property
    def placement(self) -> Placement:
        """Which nodes the servers may run on."""
        return parse_placement(self.tolerations, self.node_selector, self.affinity)

    @property
    def server_image(self) -> str:
        """The image asked for; empty where KServe or Seldon choose it."""
        return self.image or DEFAULT_IMAGES.get(self.kind, "")

    @property
    def speaks_tf_serving(self) -> bool:
        """Whether the server answers TF Serving's model status calls."""
        if self.kind in ("kserve", "seldon"):
            return self.model_format == "tensorflow"
        return self.kind in ("tf-serving", "embedded")


class RequestSpec(msgspec.Struct, frozen=True):
    """Which requests the infrastructure validation sends."""

    signature_names: tuple[str, ...] = ("serving_default",)
    requests: int = 1
    """To each signature."""
    split_name: str = ""
    """Of TFX's examples; what is given as `examples` is taken whole."""
    examples: str = ""
    """Path or URI of what to make the requests from; empty for random values."""


def parse_serving_spec(given: Mapping[str, Any], **overrides: Any) -> ServingSpec:
    """Parses a serving spec: ours, or TFX InfraValidator's ServingSpec as JSON.

    Args:
        given: The spec as it comes from JSON.
        overrides: Fields of ours that are given apart, such as tolerations; empty ones do not count.

    Raises:
        ServingSpecError: A field is unknown, of the wrong type or out of range.
        PlacementError: Tolerations and the like are not what Kubernetes expects.
    """
    if not isinstance(given, Mapping):
        raise ServingSpecError("serving", given, 'give an object such as {"kind": "tf-serving"}')
    values = _from_tfx(given) if is_tfx_serving_spec(given) else dict(given)
    values |= {name: value for name, value in overrides.items() if value not in (None, "", [], {}, ())}
    _refuse_fields(values, ServingSpec.__struct_fields__, "serving")
    _require_choice("kind", values.get("kind", "tf-serving"), get_args(Kind))
    values.setdefault("model_name", "")
    placement = parse_placement(
        values.get("tolerations"), values.get("node_selector"), values.get("affinity")
    )
    values["tolerations"], values["affinity"] = list(placement.tolerations), dict(placement.affinity or {})
    values["resources"] = parse_resources(values.get("resources"))
    for name in ("replicas", "grace_seconds", "tries"):
        if isinstance(values.get(name), float) and values[name].is_integer():
            values[name] = int(values[name])
    try:
        spec = msgspec.convert(values, ServingSpec)
    except msgspec.ValidationError as error:
        raise ServingSpecError("serving", dict(given), f"mend the field named here: {error}") from None
    _validate(spec)
    return spec


def is_tfx_serving_spec(given: Mapping[str, Any]) -> bool:
    """Whether this is TFX InfraValidator's ServingSpec message as JSON."""
    return any(name in given for name in ("tensorflow_serving", "tensorflowServing"))


def parse_request_spec(given: Mapping[str, Any]) -> RequestSpec:
    """Parses a request spec: ours, or TFX InfraValidator's RequestSpec as JSON.

    Raises:
        ServingSpecError: A field is unknown or of the wrong type.
    """
    if not isinstance(given, Mapping):
        raise ServingSpecError("requests", given, 'give an object such as {"requests": 10}')
    if any(
        name in given for name in ("tensorflow_serving", "tensorflowServing", "num_examples", "numExamples")
    ):
        fields = _snake_case(given, "requests")
        _refuse_fields(
            fields, ("tensorflow_serving", "split_name", "num_examples", "make_warmup"), "requests"
        )
        binary = fields.get("tensorflow_serving") or {}
        _refuse_fields(binary, ("tag_set", "signature_names"), "requests.tensorflow_serving")
        if binary.get("tag_set") not in (None, [], ["serve"]):
            raise ServingSpecError(
                "requests.tensorflow_serving.tag_set", binary["tag_set"], "servers load the tag 'serve'"
            )
        if fields.get("make_warmup"):
            raise ServingSpecError(
                "requests.make_warmup", True, "give the warm-up file itself as `warmup` of the serving spec"
            )
        values = {
            "signature_names": binary.get("signature_names") or ["serving_default"],
            "requests": int(fields.get("num_examples") or 1),
            "split_name": fields.get("split_name", ""),
        }
    else:
        values = dict(given)
        _refuse_fields(values, RequestSpec.__struct_fields__, "requests")
        if isinstance(values.get("requests"), float):
            values["requests"] = int(values["requests"])
    try:
        spec = msgspec.convert(values, RequestSpec)
    except msgspec.ValidationError as error:
        raise ServingSpecError("requests", dict(given), f"mend the field named here: {error}") from None
    if spec.requests < 0:
        raise ServingSpecError("requests.requests", spec.requests, "give 0 or more")
    return spec


def _from_tfx(given: Mapping[str, Any]) -> dict[str, Any]:
    fields = _snake_case(given, "serving")
    _refuse_fields(
        fields,
        ("tensorflow_serving", "local_docker", "kubernetes", "model_name", "validation_spec"),
        "serving",
    )
    binary = fields["tensorflow_serving"] or {}
    _refuse_fields(binary, ("image_name", "tags", "digests"), "serving.tensorflow_serving")
    name = binary.get("image_name") or "tensorflow/serving"
    images = [f"{name}:{tag}" for tag in binary.get("tags") or ()]
    images += [f"{name}@{digest}" for digest in binary.get("digests") or ()]
    values: dict[str, Any] = {"kind": "tf-serving", "model_name": fields.get("model_name", "")}
    if images:
        values |= {"image": images[0], "also_validate": images[1:]}
    platform = fields.get("kubernetes") or {}
    _refuse_fields(
        platform,
        ("service_account_name", "active_deadline_seconds", "serving_pod_overrides"),
        "serving.kubernetes",
    )
    overrides = platform.get("serving_pod_overrides") or {}
    _refuse_fields(overrides, ("annotations", "env"), "serving.kubernetes.serving_pod_overrides")
    validation = fields.get("validation_spec") or {}
    _refuse_fields(validation, ("max_loading_time_seconds", "num_tries"), "serving.validation_spec")
    values |= {
        "service_account": platform.get("service_account_name", ""),
        "annotations": overrides.get("annotations") or {},
        "environment": [_environment_variable(one) for one in overrides.get("env") or ()],
        "ready_seconds": float(validation.get("max_loading_time_seconds") or 300),
        "tries": int(validation.get("num_tries") or 1),
    }
    return values


def _environment_variable(given: Mapping[str, Any]) -> dict[str, Any]:
    source = given.get("value_from") or {}
    if "secret_key_ref" in source:
        return {"name": given.get("name", ""), "valueFrom": {"secretKeyRef": dict(source["secret_key_ref"])}}
    return {"name": given.get("name", ""), "value": str(given.get("value", ""))}


def _snake_case(given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Protobuf's JSON may write a field either way; the keys of maps stay as they are."""
    result: dict[str, Any] = {}
    for name, value in given.items():
        snake = re.sub(r"(?<=[a-z])([A-Z])", lambda match: f"_{match[1].lower()}", name)
        if snake in result:
            raise ServingSpecError(f"{path}.{name}", value, "this field is given twice")
        result[snake] = value if snake == "annotations" else _snake_case_inside(value, f"{path}.{snake}")
    return result


def _snake_case_inside(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        return _snake_case(value, path)
    if isinstance(value, list):
        return [_snake_case_inside(one, path) for one in value]
    return value


def _validate(spec: ServingSpec) -> None:
    if not _MODEL_NAME.fullmatch(spec.model_name):
        raise ServingSpecError("model_name", spec.model_name, "give letters, digits, '-', '_' and '.'")
    for field, low, high in (
        ("replicas", 1, 1000),
        ("ready_seconds", 1, 86400),
        ("grace_seconds", 0, 3600),
        ("tries", 1, 100),
    ):
        if not low <= getattr(spec, field) <= high:
            raise ServingSpecError(field, getattr(spec, field), f"give a number from {low} to {high}")
    for flag in spec.flags:
        if not re.fullmatch(r"-{1,2}[A-Za-z][\w-]*(=.*)?", flag, re.DOTALL):
            raise ServingSpecError("flags", flag, "write each flag as --name=value")
        if flag.lstrip("-").partition("=")[0].replace("-", "_") in RESERVED_FLAGS:
            raise ServingSpecError("flags", flag, "it is set for you; leave it out")
    _validate_batching(spec)
    if spec.warmup and spec.kind not in ("tf-serving", "embedded"):
        raise ServingSpecError("warmup", spec.warmup, "only kind tf-serving takes it")
    if spec.kind == "seldon-v2" and spec.flags:
        raise ServingSpecError(
            "flags", list(spec.flags), "Seldon v2's Server has the flags; name it by `runtime`"
        )
    if spec.service_account and not _DNS_NAME.fullmatch(spec.service_account):
        raise ServingSpecError("service_account", spec.service_account, "give a ServiceAccount's name")
    for number, one in enumerate(spec.environment):
        if not isinstance(one.get("name"), str) or not one["name"]:
            raise ServingSpecError(f"environment[{number}]", dict(one), 'give {"name": ..., "value": ...}')


def _validate_batching(spec: ServingSpec) -> None:
    if spec.batching and spec.kind not in ("tf-serving", "embedded"):
        raise ServingSpecError(
            "batching",
            dict(spec.batching),
            "only kind tf-serving takes it; use model_configuration (Triton) or flags",
        )
    if spec.model_configuration:
        if spec.kind != "triton":
            raise ServingSpecError(
                "model_configuration", dict(spec.model_configuration), "only kind triton takes it"
            )
        configuration_text(spec.model_configuration)


def _refuse_fields(values: Mapping[str, Any], known: Sequence[str], path: str) -> None:
    refuse_unknown(path, values, known, ServingSpecError, prefix=f"{path}.")


def _require_choice(field: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ServingSpecError(field, value, f"choose one of {', '.join(choices)}")
