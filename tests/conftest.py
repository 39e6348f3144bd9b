"""What every test shares: the repository, its tools on PATH, and a quiet TensorFlow."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

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
