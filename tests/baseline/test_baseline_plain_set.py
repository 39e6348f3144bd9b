"""The stores in the dependency set that a plain `pip install` resolves to where glibc is old.

There ml-metadata 1.17.1 keeps protobuf below 5 and with it kfp at 2.13: the lock of this project has
other versions. The environment is made once, in build/plain, with the project's uv.

    MODEL_LOAD_TEST_PLAIN_SET=1 pytest tests/baseline/test_baseline_plain_set.py
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLAIN = ROOT / "build" / "plain"
UV = ROOT / ".tools" / "uv" / "bin" / "uv"
OURS = ("kfp", "kfp-kubernetes", "google-cloud-pipeline-components", "pandas", "ml-metadata")
IN_THE_POD = ("fsspec", "google-crc32c", "grpcio", "jinja2", "kubernetes", "markupsafe", "msgspec", "numpy")
IN_THE_POD += ("pillow", "prometheus-client", "psutil", "pyarrow", "scipy")
FOR_TESTS = ("hypothesis", "jsonschema", "pytest", "pytest-timeout", "trustme")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        "MODEL_LOAD_TEST_PLAIN_SET" not in os.environ,
        reason="it installs and tests an environment of its own; set MODEL_LOAD_TEST_PLAIN_SET=1 to do so",
    ),
]


def run(*command, **options):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def python():
    """The interpreter of the plain environment, with our packages importable."""
    interpreter = PLAIN / "bin" / "python"
    if not (PLAIN / "complete").exists():
        if not UV.exists():
            pytest.skip(f"{UV.relative_to(ROOT)} makes the environment and is not installed")
        # Not in the project's folder: its overrides are what a plain user does not have.
        made = run(UV, "venv", "--clear", "--python", "3.11", PLAIN, cwd=ROOT / "build")
        packages = [*OURS, *IN_THE_POD, *FOR_TESTS]
        if made.returncode == 0:
            made = run(
                UV, "pip", "install", "--no-config", "--python", interpreter, *packages, cwd=ROOT / "build"
            )
        if made.returncode != 0:
            pytest.skip(f"the plain environment cannot be made here: {made.stderr.strip()[-300:]}")
        packages_of_ours = PLAIN / "source" / "model_load_test"
        packages_of_ours.mkdir(parents=True)
        for name in ("components", "pipelines"):
            (packages_of_ours / name).symlink_to(ROOT / name)
        (PLAIN / "complete").touch()
    return interpreter


@pytest.fixture
def environment():
    return {**os.environ, "PYTHONPATH": str(PLAIN / "source"), "PYTHONDONTWRITEBYTECODE": "1"}


def test_it_is_the_older_set(python, environment):
    code = (
        "import importlib.metadata as m; print(*[m.version(n) for n in ('kfp', 'protobuf', 'ml-metadata')])"
    )
    done = run(python, "-c", code, env=environment)
    if not done.stdout.startswith("2.13."):
        pytest.skip(f"here a plain install resolves to newer versions: {done.stdout.strip()}")
    assert done.stdout.split()[1].startswith("4.25.")


def test_every_store_and_component_works_there_too(python, environment):
    done = run(
        python,
        *["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "tests/baseline"],
        cwd=ROOT,
        env={name: value for name, value in environment.items() if name != "MODEL_LOAD_TEST_PLAIN_SET"},
        timeout=1700,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
