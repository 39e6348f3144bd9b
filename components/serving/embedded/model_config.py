"""Reads TF Serving's model config file, by which one server serves several models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.tf_serving import ModelServerConfig
from model_load_test.components.serving.embedded.server import ModelSettings, Versions


def read_model_config(path: Path) -> tuple[ModelSettings, ...]:
    """Reads a ModelServerConfig in text form.

    Raises:
        InputError: The file cannot be read, or asks for what this server does not do.
    """
    try:
        config = text_format.Parse(path.read_text(), ModelServerConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise InputError("model_config_file", str(path), f"cannot be read: {error}") from None
    if not config.model_config_list.config:
        raise InputError("model_config_file", str(path), "list at least one model in model_config_list")
    return tuple(_model(entry, path) for entry in config.model_config_list.config)


def _model(entry: Any, path: Path) -> ModelSettings:
    if entry.model_platform not in ("", "tensorflow"):
        raise InputError("model_platform", entry.model_platform, "this server serves tensorflow only")
    if not entry.name or not entry.base_path:
        raise InputError("model_config_file", str(path), "give every model a name and a base_path")
    return ModelSettings(
        name=entry.name,
        base_path=Path(entry.base_path),
        versions=_versions(entry.model_version_policy),
        labels=dict(entry.version_labels),
    )


def _versions(policy: Any) -> Versions:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return "all"
    if choice == "specific":
        return tuple(policy.specific.versions)
    if choice == "latest" and policy.latest.num_versions > 1:
        raise InputError("num_versions", policy.latest.num_versions, "this server keeps the latest 1, or all")
    return "latest"
