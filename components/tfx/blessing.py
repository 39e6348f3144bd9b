"""TFX's blessing of a model for serving: what Pusher looks at before it pushes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.executor import TaskArtifact

BLESSED_FILE: Final = "INFRA_BLESSED"
NOT_BLESSED_FILE: Final = "INFRA_NOT_BLESSED"
STAMPED_MODEL: Final = "stamped_model"
"""Folder of InfraValidator's blessing with the model and its warm-up requests, where it was asked for."""

_SERVING_FOLDER: Final = "Format-Serving"
"""Where TFX's Trainer puts the SavedModel within a Model artifact."""


def is_blessed(metadata: Mapping[str, Any]) -> bool:
    """Whether an InfraBlessing says yes, by Pusher's own rule: the number 1, no text and no boolean."""
    return _is_one(metadata.get("blessed"))


def has_model(metadata: Mapping[str, Any]) -> bool:
    """Whether an InfraBlessing carries the model, so that Pusher may take it from there."""
    return _is_one(metadata.get("has_model"))


def write_blessing(
    folder: Path, blessed: bool, reason: str, model_from: Path | None = None
) -> dict[str, Any]:
    """Writes what InfraValidator writes, and returns the metadata that Pusher reads.

    Args:
        folder: The blessing's own; made where it is missing.
        blessed: Whether the model may be pushed.
        reason: Why, in one line.
        model_from: The folder of InfraValidator's blessing, whose model is passed on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, wanted in ((BLESSED_FILE, blessed), (NOT_BLESSED_FILE, not blessed)):
        if wanted:
            (folder / name).touch()
        else:  # of an earlier try
            (folder / name).unlink(missing_ok=True)
    metadata: dict[str, Any] = {"blessed": 1 if blessed else 0, "reason": reason}
    if model_from is not None:
        shutil.copytree(model_from / STAMPED_MODEL, folder / STAMPED_MODEL, dirs_exist_ok=True)
        metadata["has_model"] = 1
    return metadata


def saved_model_uri(model: TaskArtifact, validated: TaskArtifact | None = None) -> str:
    """The URI of the SavedModel to be served.

    Args:
        model: TFX's Model.
        validated: InfraValidator's blessing: where it carries the model with its warm-up requests, that
            is the one.

    Raises:
        InputError: There is no SavedModel.
    """
    if validated is not None and has_model(validated.metadata):
        return f"{validated.uri.rstrip('/')}/{STAMPED_MODEL}"
    for inner in (_SERVING_FOLDER, ""):
        if (model.path / inner / "saved_model.pb").exists():
            return "/".join(filter(None, (model.uri.rstrip("/"), inner)))
    raise InputError("model", model.uri, f"there is no SavedModel in it or in its {_SERVING_FOLDER} folder")


def _is_one(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == 1
