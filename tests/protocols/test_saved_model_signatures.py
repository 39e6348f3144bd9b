"""A SavedModel's signatures, read from its file as TensorFlow reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model_load_test.components.protocols.saved_model import (
    SavedModelError,
    latest_version_folder,
    read_signatures,
    version_folders,
)
from model_load_test.components.protocols.signature import TensorSpec

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    class Model(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 2], tf.float32, name="values"),
                tf.TensorSpec(None, tf.string, name="names"),
            ]
        )
        def serve(self, values: Any, names: Any) -> Any:
            return {"total": tf.reduce_sum(values), "names": names}

    folder = tmp_path_factory.mktemp("model")
    model = Model()
    for version in ("2", "10"):
        tf.saved_model.save(model, str(folder / version), signatures={"serve_it": model.serve})
    return folder


def test_the_signature_is_what_was_saved(base_path: Path) -> None:
    signature = read_signatures(base_path / "2")["serve_it"]
    assert signature.inputs == {
        "names": TensorSpec("string", None),
        "values": TensorSpec("float32", (-1, 2)),
    }
    assert signature.outputs == {"names": TensorSpec("string", None), "total": TensorSpec("float32", ())}
    assert [str(spec) for spec in signature.inputs.values()] == ["string[...]", "float32[?, 2]"]


def test_a_base_path_means_its_highest_version_by_number(base_path: Path) -> None:
    assert latest_version_folder(base_path).name == "10"
    assert list(version_folders(base_path)) == [2, 10]
    assert read_signatures(base_path) == read_signatures(base_path / "10")


@pytest.mark.parametrize("make", ["missing", "empty", "no file in the version"])
def test_a_folder_without_a_saved_model(tmp_path: Path, make: str) -> None:
    folder = tmp_path / "model"
    if make != "missing":
        folder.mkdir()
    if make == "no file in the version":
        (folder / "1").mkdir()
    with pytest.raises(SavedModelError) as raised:
        read_signatures(folder)
    assert raised.value.value == str(folder)


@pytest.mark.parametrize("content", [b"not a protobuf", b""])
def test_a_file_that_is_no_saved_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(SavedModelError, match="saved_model"):
        read_signatures(tmp_path)
