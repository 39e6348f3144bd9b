"""The package is what the folders are, and a pod can import all of it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

ROOTS = ("components", "pipelines")
AUTHORING = (
    "component.py",
    "compiling.py",
    "describing.py",
    "example_pipelines.py",
    "pipeline.py",
    "vertex.py",
)
"""Modules that need KFP's authoring half, which a pod does not have."""


def folders_with_init(repository: Path) -> set[str]:
    return {
        "model_load_test." + ".".join(init.parent.relative_to(repository).parts)
        for root in ROOTS
        for init in (repository / root).rglob("__init__.py")
    }


def modules(repository: Path) -> list[str]:
    names = []
    for root in ROOTS:
        for path in sorted((repository / root).rglob("*.py")):
            if path.name in AUTHORING or path.name == "__main__.py" or "examples" in path.parts:
                continue
            parts = path.relative_to(repository).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            names.append("model_load_test." + ".".join(parts))
    return names


def test_the_package_list_matches_the_folders(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    assert set(project["tool"]["setuptools"]["packages"]) == folders_with_init(repository)


def test_every_folder_with_modules_is_a_package(repository: Path) -> None:
    for root in ROOTS:
        for path in (repository / root).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), f"{path.parent} has modules and no __init__.py"


def test_every_module_but_the_interfaces_imports_in_a_pod(repository: Path) -> None:
    script = (
        "import importlib, sys\n"
        f"for name in {modules(repository)!r}:\n"
        "    importlib.import_module(name)\n"
        "assert 'tensorflow' not in sys.modules, 'a module imports TensorFlow when it is imported'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "_KFP_RUNTIME": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_pod_really_lacks_the_authoring_half() -> None:
    script = "import model_load_test.components.load.component"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "_KFP_RUNTIME": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0, "if this imports, the test above no longer shows anything"


def test_only_component_modules_import_kfp(repository: Path) -> None:
    for path in (repository / "components").rglob("*.py"):
        imported = {
            name
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        if path.name not in ("component.py", "example_pipelines.py"):
            assert not any(re.match(r"kfp(\.|$)", name) for name in imported), path


def test_no_test_imports_locust_into_the_test_run(repository: Path) -> None:
    """It patches sockets, threads and locks of the whole process when it is imported: later tests hang."""
    imports = re.compile(r"^\s*(import|from) locust|importorskip\(.locust", re.MULTILINE)
    found = [
        path
        for path in (repository / "tests").rglob("*.py")
        if path != Path(__file__)
        and imports.search(re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL))
    ]
    assert not found


def test_no_module_hides_behind_a_name_that_says_nothing(repository: Path) -> None:
    empty_names = {"utils", "helpers", "common", "misc"}
    found = [path for root in ROOTS for path in (repository / root).rglob("*.py") if path.stem in empty_names]
    assert not found


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_data_file(repository: Path, tmp_path: Path) -> None:
    uv = repository / ".tools" / "uv" / "bin" / "uv"
    if not uv.exists():
        pytest.skip("uv is not at .tools/uv (run `make environment`)")
    subprocess.run([uv, "build", "--wheel", "--quiet", "--out-dir", tmp_path], cwd=repository, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    for root in ROOTS:
        tracked = subprocess.run(
            ["git", "ls-files", root], cwd=repository, capture_output=True, text=True, check=True
        )
        for path in tracked.stdout.split():
            assert f"model_load_test/{path}" in inside, f"{path} is not in the wheel"
