"""The gate as a pipeline for Vertex AI: the same tasks without what only a Kubernetes cluster has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kfp import dsl

from model_load_test.components import run_load_test
from model_load_test.pipelines.custom_job import MACHINE_KNOBS, on_own_machine
from model_load_test.pipelines.knobs import combined, described, own_knobs
from model_load_test.pipelines.load_test_gate.pipeline import (
    GateOutputs,
    compose_gate,
    load_test_gate,
)

_OF_KUBERNETES: Final = (
    "tolerations",
    "node_selector",
    "node_affinity",
    "cpu_request",
    "memory_request",
    "connection_files",
    "generators",
    "generator_pods",
)
_DEFAULTS: Final[Mapping[str, Any]] = {"server_kind": "vertex"}


def machine_knobs(
    load_machine_type: str = "n2-highcpu-8",
    load_service_account: str = "{{$.pipeline_service_account}}",
    load_network: str = "{{$.pipeline_network}}",
) -> None:
    """Where the load comes from.

    Args:
        load_machine_type: Machine of the load generator: a Compute Engine type that Vertex AI has for
            training.
        load_service_account: Service account that the load generator runs as, which calls the endpoints;
            the pipeline's own when left out.
        load_network: Network that the load generator is peered with, as
            projects/NUMBER/global/networks/NAME; the pipeline's own when left out.
    """


KNOBS: Final = [
    *(
        knob.replace(default=_DEFAULTS.get(knob.name, knob.default))
        for knob in own_knobs(load_test_gate.pipeline_func, without=_OF_KUBERNETES)
    ),
    *own_knobs(machine_knobs),
]
DOCUMENTATION: Final = described(load_test_gate.pipeline_func, machine_knobs)


def compose_on_vertex(given: Mapping[str, Any]) -> GateOutputs:
    """The tasks of the gate, given its inputs by name."""
    machine = {name: given[f"load_{name}"] for name in MACHINE_KNOBS}
    return compose_gate(given, on_own_machine(run_load_test, machine), _nowhere_in_particular)


def _compose(*values: Any) -> GateOutputs:
    return compose_on_vertex(dict(zip([knob.name for knob in KNOBS], values, strict=True)))


def _nowhere_in_particular(_payload: Any, _load: Any, _given: Mapping[str, Any]) -> None:
    """The payload's task takes Vertex AI's usual machine; the load's has one by its inputs."""


load_test_gate_on_vertex: Final = dsl.pipeline(
    name="load-test-gate", description="Is the candidate slower to serve than the baseline?"
)(combined(_compose, KNOBS, GateOutputs, DOCUMENTATION))
