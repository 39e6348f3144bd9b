"""TFX's blessing of a model for serving: what Pusher looks at before it pushes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from model_load_test.components.errors import InputError

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


def write_blessing(folder: Path, blessed: bool, reason: str, model_from: Path | None = None) -> dict[str, Any]:
    """Writes what InfraValidator writes, and returns the metadata that Pusher reads.

    Args:
        folder: The blessing's own; made where it is missing.
        blessed: Whether the model may be pushed.
        reason: Why, in one line.
        model_from: The folder of InfraValidator's blessing, whose model is passed on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (BLESSED_FILE if blessed else NOT_BLESSED_FILE)).touch()
    metadata: dict[str, Any] = {"blessed": 1 if blessed else 0, "reason": reason}
    if model_from is not None:
        shutil.copytree(model_from / STAMPED_MODEL, folder / STAMPED_MODEL, dirs_exist_ok=True)
        metadata["has_model"] = 1
    return metadata


def bless(
    folder: Path,
    verdict: str,
    policies: Mapping[str, str],
    *,
    validated: Mapping[str, Any] | None = None,
    validated_folder: Path | None = None,
) -> dict[str, Any]:
    """Writes the blessing that follows from a verdict; returns its metadata.

    Args:
        folder: The blessing's own.
        verdict: The gate's: PASS, FAIL, INCONCLUSIVE, NO_BASELINE or INVALID.
        policies: `on_inconclusive` and `on_no_baseline` of the gate spec.
        validated: Metadata of InfraValidator's blessing, where there is one: both must say yes.
        validated_folder: Its folder.

    Raises:
        InputError: The verdict or a policy is unknown.
    """
    from typing import get_args

    from model_load_test.components.gate.policy import may_continue
    from model_load_test.components.gate.spec import parse_gate_spec
    from model_load_test.components.gate.verdict import Outcome, Verdict

    if verdict not in get_args(Outcome):
        raise InputError("verdict", verdict, f"give one of {', '.join(get_args(Outcome))}")
    answer = Verdict(verdict=cast(Outcome, verdict), reasons=("the report says why",))
    blessed, reason = may_continue(answer, parse_gate_spec(policies))
    if validated is not None and not is_blessed(validated):
        blessed, reason = False, "InfraValidator did not bless the model"
    print(reason, flush=True)
    stamped = validated_folder if validated is not None and has_model(validated) else None
    return write_blessing(folder, blessed, reason, stamped)


def saved_model_within(uri: str, folder: Path) -> str:
    """The URI of the SavedModel within a Model artifact.

    Args:
        uri: The artifact's.
        folder: Where it lies in this container.

    Raises:
        InputError: There is none.
    """
    for inner in (_SERVING_FOLDER, ""):
        if (folder / inner / "saved_model.pb").exists():
            return "/".join(filter(None, (uri.rstrip("/"), inner)))
    raise InputError("model", uri, f"there is no SavedModel in it or in its {_SERVING_FOLDER} folder")


def _is_one(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == 1
