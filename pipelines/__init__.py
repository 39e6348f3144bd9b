"""The sub-DAGs, each one task in a user's pipeline, and the command line.

The names below are KFP pipelines and load on first use.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_load_test.pipelines.capacity_search.pipeline import capacity_search as capacity_search
    from model_load_test.pipelines.deploy_and_gate.pipeline import deploy_and_gate as deploy_and_gate
    from model_load_test.pipelines.load_test_gate.pipeline import load_test_gate as load_test_gate
    from model_load_test.pipelines.serving_sweep.pipeline import serving_sweep as serving_sweep
    from model_load_test.pipelines.vertex_deploy_and_gate.pipeline import (
        vertex_deploy_and_gate as vertex_deploy_and_gate,
    )

__all__ = ["capacity_search", "deploy_and_gate", "load_test_gate", "serving_sweep", "vertex_deploy_and_gate"]


class _Pipelines(ModuleType):
    """This package, where a pipeline's name never means the subpackage it is written in.

    Importing a subpackage binds it here, whoever imports it, and so would hide the pipeline.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    pipeline = getattr(importlib.import_module(f"{__name__}.{name}.pipeline"), name)
    globals()[name] = pipeline
    return pipeline


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


sys.modules[__name__].__class__ = _Pipelines
