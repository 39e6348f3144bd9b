"""Components of `model_load_test`: one room per step of the load-test sub-DAG.

The names below are KFP components and load on first use, so that a pod, in which KFP's authoring
half is missing, can import every other module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_load_test.components.baseline.component import find_baseline as find_baseline
    from model_load_test.components.baseline.component import promote_baseline as promote_baseline
    from model_load_test.components.baseline.component import record_baseline as record_baseline
    from model_load_test.components.gate.component import compare_to_baseline as compare_to_baseline
    from model_load_test.components.gate.component import enforce_gate as enforce_gate
    from model_load_test.components.load.capacity.component import find_capacity as find_capacity
    from model_load_test.components.load.component import run_load_test as run_load_test
    from model_load_test.components.load.job.component import run_load_job as run_load_job
    from model_load_test.components.payload.component import generate_payload as generate_payload
    from model_load_test.components.payload.component import (
        generate_payload_from_examples as generate_payload_from_examples,
    )
    from model_load_test.components.report.component import write_report as write_report
    from model_load_test.components.resources.component import collect_resources as collect_resources
    from model_load_test.components.serving.component import deploy_model_server as deploy_model_server
    from model_load_test.components.serving.component import plan_serving as plan_serving
    from model_load_test.components.serving.component import require_infra_blessing as require_infra_blessing
    from model_load_test.components.serving.component import teardown_model_server as teardown_model_server
    from model_load_test.components.serving.component import validate_model_server as validate_model_server
    from model_load_test.components.serving.vertex.component import (
        create_vertex_endpoint as create_vertex_endpoint,
    )
    from model_load_test.components.serving.vertex.component import find_vertex_servers as find_vertex_servers
    from model_load_test.components.serving.vertex.component import plan_vertex_serving as plan_vertex_serving
    from model_load_test.components.serving.vertex.component import (
        teardown_vertex_servers as teardown_vertex_servers,
    )
    from model_load_test.components.sweep.component import sweep_serving as sweep_serving

_ROOM_OF_COMPONENT = {
    "plan_serving": "serving",
    "require_infra_blessing": "serving",
    "validate_model_server": "serving",
    "deploy_model_server": "serving",
    "generate_payload": "payload",
    "generate_payload_from_examples": "payload",
    "run_load_test": "load",
    "run_load_job": "load.job",
    "find_capacity": "load.capacity",
    "sweep_serving": "sweep",
    "find_baseline": "baseline",
    "compare_to_baseline": "gate",
    "write_report": "report",
    "record_baseline": "baseline",
    "promote_baseline": "baseline",
    "enforce_gate": "gate",
    "collect_resources": "resources",
    "teardown_model_server": "serving",
    "plan_vertex_serving": "serving.vertex",
    "create_vertex_endpoint": "serving.vertex",
    "find_vertex_servers": "serving.vertex",
    "teardown_vertex_servers": "serving.vertex",
}

__all__ = list(_ROOM_OF_COMPONENT)


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF_COMPONENT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from model_load_test.components.kfp_version import require_kfp

    require_kfp()
    return getattr(importlib.import_module(f"{__name__}.{_ROOM_OF_COMPONENT[name]}.component"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
