"""TFX interface of the gate: components for a TFX pipeline compiled by KubeflowV2DagRunner.

Only here is TFX imported, and only where a pipeline is written.
"""
# mypy: disable-error-code="import-not-found,import-untyped,misc"
# TFX lives in an environment of its own (it pins what this project needs newer), so its types are unknown.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from google.protobuf import json_format
from google.protobuf.message import Message
from tfx import types
from tfx.dsl.component.experimental import executor_specs
from tfx.dsl.components.base import base_component
from tfx.types import component_spec, standard_artifacts
from tfx.types.experimental import simple_artifacts

from model_load_test.components.errors import InputError
from model_load_test.components.image import load_test_image
from model_load_test.components.tfx.settings import (
    BREAK_ON_FAILURE,
    Settings,
    as_json,
    check_serving,
    make_settings,
    settings_to_parameters,
)

_RUN_ID = "{{$.pipeline_job_uuid}}"
"""KFP fills it in; a run of its own makes a measurement of its own, whatever is cached."""

_MODEL_NAME = "infra-validation-model"
"""What TFX's InfraValidator serves a model as that was given no name."""

_EXECUTOR_INPUT = "{{$}}"
"""TFX passes the literal on, and KFP replaces it with everything the task is given."""


def _container(task: str, image: str = "") -> executor_specs.TemplatedExecutorContainerSpec:
    return executor_specs.TemplatedExecutorContainerSpec(
        image=image or load_test_image(),
        command=["python3", "-u", "-m", "model_load_test.components.tasks", task, _EXECUTOR_INPUT],
    )


class ModelLoadTestSpec(types.ComponentSpec):
    """Inputs, outputs and parameters of `ModelLoadTest`."""

    PARAMETERS: ClassVar = {
        **{name: component_spec.ExecutionParameter(type=str) for name in Settings.__dataclass_fields__},
        BREAK_ON_FAILURE: component_spec.ExecutionParameter(type=int),
        "run_id": component_spec.ExecutionParameter(type=str),
        "loader_image": component_spec.ExecutionParameter(type=str),
    }
    INPUTS: ClassVar = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
        "infra_blessing": component_spec.ChannelParameter(
            type=standard_artifacts.InfraBlessing, optional=True
        ),
    }
    OUTPUTS: ClassVar = {
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing),
        "metrics": component_spec.ChannelParameter(type=simple_artifacts.Metrics),
        "report": component_spec.ChannelParameter(type=simple_artifacts.File),
    }


class ModelLoadTest(base_component.BaseComponent):
    """Load tests a trained model and blesses it for serving, or does not.

    Its `blessing` is what TFX's Pusher takes as `infra_blessing`: Pusher pushes only when it says
    yes. It is the AND of the gate and of InfraValidator's blessing, where that is given.

    Outputs: `blessing` (InfraBlessing), `metrics` (the gate's numbers as properties) and `report`
    (a folder with report.html, report.md, report.json and results.parquet).

        gate = ModelLoadTest(
            model=trainer.outputs["model"],
            serving_spec={"endpoint": "grpc://taxi-candidate:8500", "model_name": "taxi"},
            baseline="grpc://taxi:8500",
        )
        pusher = Pusher(model=trainer.outputs["model"], infra_blessing=gate.outputs["blessing"], ...)
    """

    SPEC_CLASS = ModelLoadTestSpec
    EXECUTOR_SPEC = _container("tfx_gate")

    def __init__(
        self,
        model: types.BaseChannel,
        examples: types.BaseChannel | None = None,
        infra_blessing: types.BaseChannel | None = None,
        *,
        serving_spec: Mapping[str, Any] | Message,
        baseline: Any = "",
        load_spec: Mapping[str, Any] | None = None,
        gate_spec: Mapping[str, Any] | None = None,
        model_version: Any = "",
        break_on_failure: bool = False,
        image: str = "",
    ) -> None:
        """Checks everything that can be known before the pipeline runs.

        Args:
            model: The Model that Trainer made.
            examples: Examples to make requests of; random values of the model's signature without.
            infra_blessing: InfraValidator's answer. A model that it did not bless is not loaded.
            serving_spec: `{"endpoint": "grpc://HOST:8500", "model_name": ...}` of a live server of the
                model, or TFX's `ServingSpec`, by which a server is deployed for the test.
            baseline: Whom to compare with: the endpoint of the server in production, the URI of a
                baseline store, or a mapping with some of endpoint, model, store and namespace. A
                RuntimeParameter stands for an endpoint.
            load_spec: Fields of the load spec, such as `{"rate_rps": 200.0}`; also signature_name,
                payload_requests and batch_sizes.
            gate_spec: Fields of the gate spec, such as `{"margins": {"p95": 0.10}}`.
            model_version: Recorded with the run.
            break_on_failure: Also end the task with an error where the model is not blessed; the
                pipeline backend may then not show its outputs.
            image: Instead of the image of this release.

        Raises:
            InputError: Something is missing, misspelt, of the wrong type or does not fit together.
        """
        _require_type("model", model, standard_artifacts.Model)
        _require_type("examples", examples, standard_artifacts.Examples)
        _require_type("infra_blessing", infra_blessing, standard_artifacts.InfraBlessing)
        settings = make_settings(
            serving_spec=_plain(serving_spec),
            baseline=baseline,
            load_spec=load_spec or {},
            gate_spec=gate_spec or {},
            model_version=model_version,
        )
        spec = ModelLoadTestSpec(
            model=model,
            examples=examples,
            infra_blessing=infra_blessing,
            blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            metrics=types.Channel(type=simple_artifacts.Metrics),
            report=types.Channel(type=simple_artifacts.File),
            run_id=_RUN_ID,
            loader_image=image or load_test_image(),
            **settings_to_parameters(settings),
            **{BREAK_ON_FAILURE: int(break_on_failure)},
        )
        super().__init__(spec=spec, custom_executor_spec=_container("tfx_gate", image))


class InfraValidatorV2Spec(types.ComponentSpec):
    """Inputs, outputs and parameters of `InfraValidatorV2`."""

    PARAMETERS: ClassVar = {
        name: component_spec.ExecutionParameter(type=str)
        for name in ("serving_spec", "request_spec", "validation_spec", "run_id", "loader_image")
    }
    INPUTS: ClassVar = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }
    OUTPUTS: ClassVar = {"blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing)}


class InfraValidatorV2(base_component.BaseComponent):
    """InfraValidator, for the KFP v2 runner: the same question, specs and blessing.

    `KubeflowV2DagRunner` refuses TFX's own, whose executor could not start its server there: it wants
    an environment that KFP v2 does not give, and a model where only its own pod sees it. This one
    deploys the server as a Deployment that loads the model from where KFP keeps it.
    """

    SPEC_CLASS = InfraValidatorV2Spec
    EXECUTOR_SPEC = _container("tfx_infra_validator")

    def __init__(
        self,
        model: types.BaseChannel,
        serving_spec: Message | Mapping[str, Any],
        examples: types.BaseChannel | None = None,
        request_spec: Message | Mapping[str, Any] | None = None,
        validation_spec: Message | Mapping[str, Any] | None = None,
        *,
        image: str = "",
    ) -> None:
        """Takes what InfraValidator takes.

        Args:
            model: The Model that Trainer made.
            serving_spec: TFX's ServingSpec.
            examples: Examples to send; random values of the model's signature without.
            request_spec: TFX's RequestSpec: how many requests to which signatures. Without one, loading
                the model is all that is validated.
            validation_spec: TFX's ValidationSpec: time limit and number of tries.
            image: Instead of the image of this release.

        Raises:
            InputError: A channel is of the wrong type, or a spec cannot be used.
        """
        _require_type("model", model, standard_artifacts.Model)
        _require_type("examples", examples, standard_artifacts.Examples)
        serving, requests, validation = (
            _plain(spec or {}) for spec in (serving_spec, request_spec, validation_spec)
        )
        serving = {"model_name": _MODEL_NAME, **serving}
        check_serving({**serving, "validation_spec": validation} if validation else serving, requests)
        spec = InfraValidatorV2Spec(
            model=model,
            examples=examples,
            blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            serving_spec=as_json("serving_spec", serving),
            request_spec=as_json("request_spec", requests),
            validation_spec=as_json("validation_spec", validation),
            run_id=_RUN_ID,
            loader_image=image or load_test_image(),
        )
        super().__init__(spec=spec, custom_executor_spec=_container("tfx_infra_validator", image))


def _require_type(name: str, channel: types.BaseChannel | None, wanted: type) -> None:
    if channel is None:
        return
    given = getattr(channel, "type", None)
    if not (isinstance(given, type) and issubclass(given, wanted)):
        raise InputError(
            name, getattr(given, "__name__", channel), f"give a channel of type {wanted.__name__}"
        )


def _plain(serving_spec: Mapping[str, Any] | Message) -> Mapping[str, Any]:
    if isinstance(serving_spec, Message):
        plain: Mapping[str, Any] = json_format.MessageToDict(serving_spec, preserving_proto_field_name=True)
        return plain
    return serving_spec
