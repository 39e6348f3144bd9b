"""What a SavedModel's folder says about it, read without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.signature import Signature, signatures_from_defs
from model_load_test.components.protocols.tf_serving import SavedModel

SERVE_TAG: Final = "serve"
_FILE_NAME: Final = "saved_model.pb"


class SavedModelError(InputError):
    """A folder that holds no SavedModel that can be served."""


def version_folders(base_path: Path) -> dict[int, Path]:
    """The versions under a model's base path, lowest first: TF Serving's folders named by number.

    Raises:
        SavedModelError: The folder is missing or holds no version.
    """
    if not base_path.is_dir():
        raise SavedModelError("model_base_path", str(base_path), "no such folder; give an existing one")
    folders = _numbered_folders(base_path)
    if not folders:
        raise SavedModelError(
            "model_base_path",
            str(base_path),
            "no version in it; save the model into a subfolder named by a number, such as 1",
        )
    return {int(folder.name): folder for folder in folders}


def _numbered_folders(base_path: Path) -> list[Path]:
    folders = (path for path in base_path.iterdir() if path.name.isdecimal() and path.is_dir())
    return sorted(folders, key=lambda path: int(path.name))


def latest_version_folder(path: Path) -> Path:
    """`path` itself if it holds a SavedModel, else its highest version.

    Raises:
        SavedModelError: There is neither.
    """
    if (path / _FILE_NAME).is_file():
        return path
    if not path.is_dir():
        raise SavedModelError("saved_model", str(path), "no such folder; give a SavedModel's folder")
    versions = [folder for folder in _numbered_folders(path) if (folder / _FILE_NAME).is_file()]
    if not versions:
        raise SavedModelError(
            "saved_model", str(path), f"neither {_FILE_NAME} nor a version folder with one is in it"
        )
    return versions[-1]


def read_signature_defs(path: Path) -> dict[str, Any]:
    """The SignatureDef messages of the SavedModel at `path` (its folder, or its base path).

    Raises:
        SavedModelError: There is no SavedModel, it cannot be read, or it has no graph to serve.
    """
    file = latest_version_folder(path) / _FILE_NAME
    try:
        saved = SavedModel.FromString(file.read_bytes())
    except (OSError, DecodeError) as error:
        raise SavedModelError(
            "saved_model", str(file), f"cannot be read ({error}); save the model anew"
        ) from None
    for graph in saved.meta_graphs:
        if SERVE_TAG in graph.meta_info_def.tags:
            return dict(graph.signature_def.items())
    raise SavedModelError("saved_model", str(file), f"no graph tagged {SERVE_TAG!r}; save the model to serve")


def read_signatures(path: Path) -> dict[str, Signature]:
    """The signatures of the SavedModel at `path`, as `read_signature_defs` finds it."""
    return signatures_from_defs(read_signature_defs(path))
