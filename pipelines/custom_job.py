"""A component as a Vertex AI CustomJob, whose machine, service account and network are inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

import yaml

MACHINE_KNOBS: Final = ("machine_type", "service_account", "network")
"""Inputs that the wrapped component has beside its own."""


def on_own_machine(component: Any, machine: Mapping[str, Any]) -> Callable[..., Any]:
    """The component as GCPC wraps it into a CustomJob, with its machine already chosen.

    Args:
        component: A component that runs in one container.
        machine: Values, or inputs of the pipeline, by the names of `MACHINE_KNOBS`.

    Returns:
        What is called as the component is, with its own inputs.
    """
    wrapped = _wrapped(component)
    called: Any = functools.partial(wrapped, **machine)
    called.component_spec = component.component_spec
    return called  # type: ignore[no-any-return]  # a partial that says what its component takes


def _wrapped(component: Any) -> Any:
    """GCPC's wrapper knows the machine type when it is compiled; as an input it is put in by its place."""
    from google_cloud_pipeline_components.v1.custom_job import create_custom_training_job_from_component
    from kfp import components

    job = create_custom_training_job_from_component(
        component,
        display_name=component.name,
        machine_type="{{$.inputs.parameters['machine_type']}}",
        timeout="86400s",
        # What is left out has no value in the job's payload, and a backend may leave its place as it is.
        reserved_ip_ranges=[],
        labels={},
        psc_interface_config={},
    )
    spec = yaml.safe_load(yaml.safe_dump(_dictionary(job)))
    (task,) = spec["root"]["dag"]["tasks"].values()
    (inner,) = spec["components"].values()
    for place in (spec["root"], inner):
        place["inputDefinitions"]["parameters"]["machine_type"] = {"parameterType": "STRING"}
    task["inputs"]["parameters"]["machine_type"] = {"componentInputParameter": "machine_type"}
    made = components.load_component_from_text(yaml.safe_dump(spec))
    made.component_spec.name = component.component_spec.name
    return made


def _dictionary(job: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    spec: dict[str, Any] = json_format.MessageToDict(job.pipeline_spec)
    return spec
