"""TFX pipelines on a stand-in for KFP's backend, with real servers, generators and executors."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
READY_SECONDS = 60


def sibling(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    module_name = f"tests_tfx_{name}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, HERE / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    return sys.modules[module_name]


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """TFX pipelines, where there is TFX."""
    pytest.importorskip(
        "tfx", reason="TFX is not installed here; `make test-tfx` makes an environment with it"
    )
    return sibling("made_pipelines")


@pytest.fixture(scope="session")
def image_programs(repository: Path) -> Path:
    """The programs of this project's image: its own environment, not TFX's."""
    programs = Path(os.environ.get("MODEL_LOAD_TEST_PROGRAMS", repository / ".venv" / "bin"))
    if not (programs / "python3").exists():
        pytest.skip(f"{programs} has no python3 (run `make environment`)")
    return programs


@pytest.fixture
def start_server(image_programs: Path) -> Iterator[Callable[..., str]]:
    """Starts embedded servers that end with the test; returns the gRPC endpoint."""
    with ExitStack() as stack:

        def start(delay_ms: float = 0.0) -> str:
            return stack.enter_context(numpy_server(image_programs, delay_ms))

        yield start


@contextmanager
def numpy_server(programs: Path, delay_ms: float) -> Iterator[str]:
    command = [programs / "python3", "-m", "model_load_test.components.serving.embedded", "--backend=numpy"]
    command += ["--model-name=digits", "--port=0", "--rest-api-port=0", f"--delay-ms={delay_ms}"]
    with subprocess.Popen([*map(str, command), "--exit-with-parent"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            ready, _, _ = select.select([process.stdout], [], [], READY_SECONDS)
            assert ready, "the embedded server was not ready in time"
            yield f"grpc://127.0.0.1:{json.loads(process.stdout.readline())['grpc_port']}"
        finally:
            process.terminate()


@pytest.fixture
def bucket() -> Iterator[str]:
    """An object store's bucket whose place in the file system, /minio/BUCKET, can be written here."""
    name = f"model-load-test-{uuid.uuid4().hex[:12]}"
    place = Path("/minio") / name
    made_root = not place.parent.exists()
    try:
        place.mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"KFP's mount point /minio cannot be made here ({error.strerror}); run as root")
    yield f"minio://{name}"
    shutil.rmtree(place)
    if made_root:
        with suppress(OSError):  # another test session has its bucket there
            place.parent.rmdir()


@pytest.fixture
def backend(bucket: str, image_programs: Path, repository: Path, tmp_path: Path) -> Any:
    """The stand-in; images of TFX are this test's own environment."""
    module = sibling("kfp_backend")
    ours = module.Image(
        image_programs, {"PATH": f"{image_programs}:{repository / '.tools' / 'bin'}:{os.environ['PATH']}"}
    )
    tfx = module.Image(Path(sys.executable).parent)
    return module.Backend(tmp_path, f"{bucket}/root", {"ghcr.io/model-load-test/": ours, "": tfx})


@pytest.fixture
def model(backend: Any, tmp_path: Path) -> str:
    """A Model artifact as Trainer leaves it, in the object store."""
    folder = tmp_path / "model"
    (folder / "Format-Serving" / "variables").mkdir(parents=True)
    (folder / "Format-Serving" / "saved_model.pb").write_text("the model")
    uri = f"{backend.root}/model"
    backend.put(uri, folder)
    return uri
