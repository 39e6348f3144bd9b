"""What every test shares: the repository, its tools on PATH, and a quiet TensorFlow."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_load_test.components.version import __version__

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"
COMPONENTS_IN_IMAGE = "/opt/model-load-test/package/model_load_test/components"
HASHES = """
import hashlib, json, pathlib, sys
root = pathlib.Path(sys.argv[1])
files = sorted(root.rglob("*.py"))
print(json.dumps({str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}))
"""

TENSORFLOW_TYPES = {
    "DT_FLOAT": 1,
    "DT_DOUBLE": 2,
    "DT_INT32": 3,
    "DT_STRING": 7,
    "DT_INT64": 9,
    "DT_BOOL": 10,
    "DT_HALF": 19,
    "DT_RESOURCE": 20,
}

os.environ["PATH"] = f"{REPOSITORY / '.tools' / 'bin'}{os.pathsep}{os.environ['PATH']}"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# A shell ignores it for what it starts in the background, and what a test starts could not take it then.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded fixtures beside the repository."""
    if not SHARED.exists():
        pytest.skip("the folder ../shared with the recorded fixtures is not here")
    return SHARED


@pytest.fixture(scope="session")
def built_image(repository: Path) -> Callable[..., str]:
    """Gives an image that `make images` has made, of this very tree: one of another has other functions."""

    def of(name: str, *, holds_the_components: bool = True) -> str:
        image = f"localhost/model-load-test/{name}:{__version__}"
        entry = ["--entrypoint", "python3", image, "-c", HASHES, COMPONENTS_IN_IMAGE]
        if subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode:
            pytest.skip(f"{image} is not built: run `make images`")
        if not holds_the_components:
            return image
        said = subprocess.run(
            ["docker", "run", "--rm", *entry], capture_output=True, text=True, check=True, timeout=120
        )
        components = repository / "components"
        ours = {
            str(path.relative_to(components)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in components.rglob("*.py")
        }
        if json.loads(said.stdout) != ours:
            pytest.skip(f"{image} was built of other sources than these: run `make images`")
        return image

    return of


@pytest.fixture(scope="session")
def write_saved_model() -> Callable[..., Path]:
    """Writes signatures into a folder: by name the method, and by input its dtype and shape."""
    from model_load_test.components.protocols.tf_serving import SavedModel

    def write(folder: Path, signatures: dict[str, tuple[str, dict[str, tuple[str, Any]]]]) -> Path:
        """A SavedModel's description alone: all that a payload is made from."""
        saved = SavedModel(saved_model_schema_version=1)
        graph = saved.meta_graphs.add()
        graph.meta_info_def.tags.append("serve")
        for name, (method, inputs) in signatures.items():
            graph.signature_def[name].method_name = f"tensorflow/serving/{method}"
            for tensor, (dtype, shape) in inputs.items():
                info = graph.signature_def[name].inputs[tensor]
                info.dtype = TENSORFLOW_TYPES[dtype]
                info.tensor_shape.unknown_rank = shape is None
                for size in shape or ():
                    info.tensor_shape.dim.add(size=size)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
        return folder

    return write
