"""What a user sets on the TFX component: checked when the pipeline is compiled, read again in the pod."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.parameters import refuse_unknown
from model_load_test.components.protocols.endpoint import ENDPOINT_SCHEMES, check_endpoints

_BASELINE_KEYS: Final = ("endpoint", "model", "store", "namespace")
_LIVE_KEYS: Final = ("endpoint", "model_name", "server_kind", "server_image", "server_flags", "replicas")
_EMBEDDED_KEYS: Final = ("embedded", "model_name")
_PAYLOAD_KEYS: Final = ("signature_name", "payload_requests", "batch_sizes")

BREAK_ON_FAILURE: Final = "break_on_failure"
"""Parameter of the gate's task beside those of `Settings`: 1 ends it with an error when it does not bless."""

Text = Any
"""A str, or at compile time a RuntimeParameter of TFX, which is a str once the pipeline runs."""


@dataclass(frozen=True)
class Settings:
    """One gate: which servers, which load, which demands."""

    model_name: Text
    candidate_endpoint: Text = ""
    """Empty: serve the model by `serving_spec`."""
    baseline_endpoint: Text = ""
    baseline_model: Text = ""
    """URI of the model in production, to be served like the candidate; empty for none."""
    baseline_store: Text = ""
    namespace: Text = "default"
    model_version: Text = ""
    serving_spec: Mapping[str, Any] = field(default_factory=dict)
    """TFX's ServingSpec as JSON values, or `embedded`; empty where a live endpoint is used."""
    server: Mapping[str, Any] = field(default_factory=dict)
    """What is known of live servers: server_kind, server_image, server_flags, replicas."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """signature_name, payload_requests, batch_sizes."""
    load_spec: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `load.spec.LoadSpec`, where `mode` may be `auto`; `limits` and `connection`."""
    gate_spec: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `gate.spec.GateSpec`: margins, alpha, objectives and the policies."""


_JSON_FIELDS: Final = ("serving_spec", "server", "payload", "load_spec", "gate_spec")


def make_settings(
    *,
    serving_spec: Mapping[str, Any],
    baseline: str | Mapping[str, Any],
    load_spec: Mapping[str, Any],
    gate_spec: Mapping[str, Any],
    model_version: Text = "",
) -> Settings:
    """Sorts and checks what a user wrote.

    Args:
        serving_spec: `{"endpoint": ..., "model_name": ...}` of a live server; TFX's ServingSpec as
            JSON values, by which servers are deployed; or `{"embedded": {}, "model_name": ...}` for
            embedded servers within the task, on a laptop and in tests.
        baseline: The live server of the model in production, a baseline store, or a mapping with some
            of endpoint, model (its URI, to be served like the candidate), store, namespace.
        load_spec: Fields of the load spec; also signature_name, payload_requests and batch_sizes.
        gate_spec: Fields of the gate spec.
        model_version: Recorded with the run.

    Raises:
        InputError: Something is missing, misspelt or does not fit together.
    """
    against = _baseline(baseline)
    live = "endpoint" in serving_spec
    if live or "embedded" in serving_spec:
        refuse_unknown("serving_spec", serving_spec, _LIVE_KEYS if live else _EMBEDDED_KEYS)
    model_name = serving_spec.get("model_name", serving_spec.get("modelName", ""))
    if not model_name:
        raise InputError(
            "serving_spec", dict(serving_spec), "name the model as the server knows it: model_name"
        )
    if live and against.get("model"):
        raise InputError(
            "baseline",
            dict(against),
            "a model is served only beside a candidate that is served here; give the baseline's endpoint",
        )
    settings = Settings(
        model_name=model_name,
        candidate_endpoint=serving_spec["endpoint"] if live else "",
        baseline_endpoint=against.get("endpoint", ""),
        baseline_model=against.get("model", ""),
        baseline_store=against.get("store", ""),
        namespace=against.get("namespace", "default"),
        model_version=model_version,
        serving_spec={} if live else dict(serving_spec),
        server={
            name: serving_spec[name]
            for name in serving_spec
            if live and name not in ("endpoint", "model_name")
        },
        payload={name: load_spec[name] for name in load_spec if name in _PAYLOAD_KEYS},
        load_spec={name: value for name, value in load_spec.items() if name not in _PAYLOAD_KEYS},
        gate_spec=dict(gate_spec),
    )
    _check_own_endpoints(settings)
    _check_specs(settings)
    return settings


def settings_to_parameters(settings: Settings) -> dict[str, Text]:
    """The settings as parameters of a pipeline's task: texts, the compound ones as JSON."""
    return {
        name: as_json(name, value) if name in _JSON_FIELDS else value
        for name, value in vars(settings).items()
    }


def settings_of_parameters(parameters: Mapping[str, Any]) -> Settings:
    """The settings as a task finds them among its parameters.

    Raises:
        InputError: One of them is no JSON, or the endpoints do not fit together.
    """
    known = {name: parameters[name] for name in Settings.__dataclass_fields__ if name in parameters}
    for name in _JSON_FIELDS:
        try:
            known[name] = json.loads(known.get(name) or "{}")
        except ValueError as error:
            raise InputError(name, known[name], f"give JSON ({error})") from None
    settings = Settings(**known)
    _check_own_endpoints(settings)
    return settings


def _baseline(baseline: str | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(baseline, Mapping):
        refuse_unknown("baseline", baseline, _BASELINE_KEYS)
        return baseline
    if not isinstance(baseline, str):  # a RuntimeParameter can only be an endpoint
        return {"endpoint": baseline}
    if not baseline:
        return {}
    if baseline.startswith(ENDPOINT_SCHEMES):
        return {"endpoint": baseline}
    if "://" in baseline:
        return {"store": baseline}
    raise InputError(
        "baseline",
        baseline,
        "give an endpoint such as grpc://HOST:8500, or a store such as mlmd+grpc://HOST:8080",
    )


def _check_own_endpoints(settings: Settings) -> None:
    check_endpoints(
        settings.candidate_endpoint, settings.baseline_endpoint, settings.load_spec.get("protocol", "")
    )


def check_serving(serving: Mapping[str, Any], requests: Mapping[str, Any] | None = None) -> None:
    """Refuses a serving or request spec that nothing could be deployed by.

    Raises:
        InputError: It names the field.
    """
    try:
        from model_load_test.components.serving.spec import parse_request_spec, parse_serving_spec
    except ImportError:
        return  # an environment that only compiles need not have what runs; the pod checks too
    parse_serving_spec(serving)
    parse_request_spec(requests or {})


def _check_specs(settings: Settings) -> None:
    try:
        from model_load_test.components.gate.spec import parse_gate_spec
        from model_load_test.components.load.spec import parse_load_spec
    except ImportError:
        return  # as above
    apart = ("limits", "connection")
    parse_load_spec(
        {name: value for name, value in settings.load_spec.items() if name not in apart and value != "auto"}
    )
    parse_gate_spec(settings.gate_spec)
    if settings.serving_spec and "embedded" not in settings.serving_spec:
        check_serving(settings.serving_spec)


def as_json(name: str, value: object) -> str:
    """A value as the text of a parameter.

    Raises:
        InputError: JSON cannot hold it.
    """
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            name, value, f"use only texts, finite numbers, lists and mappings ({error})"
        ) from None
