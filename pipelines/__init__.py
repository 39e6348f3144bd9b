"""The sub-DAGs, each one task in a user's pipeline, and the command line.

The names below are KFP pipelines and load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_load_test.pipelines.load_test_gate.pipeline import load_test_gate as load_test_gate

__all__ = ["load_test_gate"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{name}.pipeline")
    pipeline = getattr(module, name)
    # The import bound the subpackage of the same name here; the pipeline is what users mean.
    globals()[name] = pipeline
    return pipeline


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
