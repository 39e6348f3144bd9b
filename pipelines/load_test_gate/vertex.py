"""The gate as a pipeline for Vertex AI: the same sub-DAG without what only a Kubernetes cluster has."""

from __future__ import annotations

import inspect
from typing import Any, Final

from kfp import dsl

from model_load_test.pipelines.knobs import combined, described, own_knobs
from model_load_test.pipelines.load_test_gate.pipeline import load_test_gate

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
_SERVER_KIND: Final = "vertex"


def _knobs() -> list[inspect.Parameter]:
    return [
        knob.replace(default=_SERVER_KIND) if knob.name == "server_kind" else knob
        for knob in own_knobs(load_test_gate.pipeline_func, without=_OF_KUBERNETES)
    ]


def _compose(*values: Any) -> None:
    given = dict(zip([knob.name for knob in _knobs()], values, strict=True))
    load_test_gate(**given).set_caching_options(False)


load_test_gate_on_vertex: Final = dsl.pipeline(
    name="load-test-gate", description="Is the candidate slower to serve than the baseline?"
)(combined(_compose, _knobs(), None, described(load_test_gate.pipeline_func)))
