"""The gate as TFX sees it: a component whose blessing TFX's own Pusher honours.

The components load on first use: they need TFX, which the pod they run in does not have.
"""

from __future__ import annotations

from typing import Any

__all__ = ["InfraValidatorV2", "ModelLoadTest"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from model_load_test.components.tfx import component

    return getattr(component, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
