"""Every pipeline compiles on every supported KFP SDK and Python, to what is reviewed in golden/.

`make test-matrix` runs all rows; `make test` one, the lowest KFP, which differs most. Each row is an
environment of its own under build/matrix, made by uv from pyproject.toml's ranges without the
project's lock and overrides: what `pip install` gives a user.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

GOLDEN = Path(__file__).parent / "golden"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
SECONDS_TO_INSTALL = 600


@dataclass(frozen=True)
class Row:
    """One environment."""

    python: str
    kfp: str
    """lowest: every range's lower end; newest: what there is; else a series."""
    extras: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "-".join(("kfp", self.kfp, "python", self.python, *self.extras))


PYTHONS = ("3.10", "3.11", "3.12", "3.13")
ROWS = [
    *(Row(python, kfp) for kfp in ("lowest", "newest") for python in PYTHONS),
    *(Row("3.11", kfp) for kfp in ("2.14", "2.15", "2.16")),
    Row("3.12", "newest", ("vertex",)),
]
SAMPLE = [Row(HERE, "lowest")]
IN_A_POD = Row("3.11", "2.13", ("run", "mlmd"))
"""What runs in a pod, with the protobuf 4 that this KFP wants."""
UNSUPPORTED = Row("3.11", "2.12")
WHOLE = os.environ.get("MODEL_LOAD_TEST_MATRIX") == "whole"
only_whole = pytest.mark.skipif(not WHOLE, reason="one row is enough for a sample (`make test-matrix`)")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS_TO_INSTALL + 120)]


@pytest.fixture(scope="session")
def uv(repository: Path) -> Path:
    found = repository / ".tools" / "uv" / "bin" / "uv"
    if not found.exists():
        pytest.skip("uv is not at .tools/uv (run `make environment`)")
    return found


@pytest.fixture(scope="session")
def source(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages by their import names, so that an environment needs nothing built."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "model_load_test").mkdir()
    for root in ("components", "pipelines"):
        (folder / "model_load_test" / root).symlink_to(repository / root)
    return folder


@pytest.fixture(params=ROWS if WHOLE else SAMPLE, ids=str)
def row(request: pytest.FixtureRequest) -> Row:
    return request.param  # type: ignore[no-any-return]


class Environment:
    """A Python with one KFP in it, and the packages of this tree."""

    def __init__(self, python: Path, source: Path) -> None:
        self.python = python
        self.source = source

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [str(self.python), *arguments],
            env={**inherited, "PYTHONPATH": str(self.source), "PYTHONWARNINGS": "ignore", **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def versions(self, *names: str) -> dict[str, str]:
        script = (
            "import importlib.metadata as m, json, sys;"
            "print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
        )
        found: dict[str, str] = json.loads(self.run("-c", script, *names).stdout)
        return found


@pytest.fixture
def environment(row: Row, uv: Path, source: Path, repository: Path) -> Environment:
    return made(row, uv, source, repository)


def made(row: Row, uv: Path, source: Path, repository: Path) -> Environment:
    """The row's environment; one that was made for these ranges before is used again."""
    interpreter = found_python(row.python)
    project = (repository / "pyproject.toml").read_text()
    ranges = re.findall(r"^(?:dependencies|run|mlmd) = \[.*?\]$", project, re.MULTILINE | re.DOTALL)
    folder = repository / "build" / "matrix" / str(row)
    done = folder / "made-for"
    if not done.exists() or done.read_text() != "".join(ranges):
        shutil.rmtree(folder, ignore_errors=True)
        python = str(folder / "bin" / "python")
        call(uv, "venv", "--no-config", "--quiet", "--python", interpreter, str(folder))
        call(
            *(uv, "pip", "install", "--no-config", "--system-certs", "--quiet", "--python", python),
            *wanted(row, repository / "pyproject.toml"),
        )
        done.write_text("".join(ranges))
    return Environment(folder / "bin" / "python", source)


def wanted(row: Row, project: Path) -> list[str]:
    """What uv is to install."""
    if row == UNSUPPORTED:  # the ranges exclude it, so somebody has gone past them
        return [f"kfp=={row.kfp}.*", "kfp-kubernetes>=1.5,<2"]
    ranges = ["--requirement", str(project)]
    ranges += [word for extra in row.extras for word in ("--extra", extra)]
    if row.kfp == "lowest":
        return [*ranges, "--resolution", "lowest-direct"]
    return ranges if row.kfp == "newest" else [*ranges, f"kfp=={row.kfp}.*"]


def found_python(series: str) -> str:
    if series == HERE:
        return sys.executable
    of_pyenv = sorted(Path.home().glob(f".pyenv/versions/{series}.*/bin/python3"))
    found = str(of_pyenv[-1]) if of_pyenv else shutil.which(f"python{series}")
    if not found:
        pytest.skip(f"no Python {series} is on this machine")
    return found


def call(*words: Any) -> None:
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, timeout=SECONDS_TO_INSTALL
    )
    if done.returncode and re.search(
        r"dns error|[Cc]onnection refused|failed to (fetch|download)", done.stderr
    ):
        pytest.skip(f"no package registry answers: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def test_the_row_is_what_it_says(row: Row, environment: Environment, repository: Path) -> None:
    found = environment.versions("kfp", "kfp-kubernetes", "protobuf")
    print(row, found)
    project = (repository / "pyproject.toml").read_text()
    for name in ("kfp", "kfp-kubernetes"):
        lowest = re.search(rf'"{name}>=([\d.]+),', project)
        assert lowest
        if row.kfp == "lowest":
            assert found[name].startswith(lowest[1])
    if row.kfp == "lowest":
        assert found["protobuf"].startswith("4.")


def test_every_pipeline_compiles_to_the_reviewed_structure(
    row: Row, environment: Environment, tmp_path: Path
) -> None:
    done = environment.run("-m", "model_load_test.pipelines.compiling", str(tmp_path))
    assert done.returncode == 0, done.stderr
    # Those for Vertex AI are made with Google's components.
    reviewed = {path.name for path in GOLDEN.glob("*.yaml")}
    if "vertex" not in row.extras:
        reviewed = {name for name in reviewed if not name.startswith("vertex")}
    assert {path.name for path in tmp_path.iterdir()} == reviewed
    for path in sorted(tmp_path.iterdir()):
        assert structure(path) == structure(GOLDEN / path.name), path.name


def structure(path: Path) -> list[Any]:
    """The documents without what is the SDK's own: its version, and its way to start a function."""
    documents = list(yaml.safe_load_all(path.read_text()))
    documents[0].pop("sdkVersion")
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        container = executor["container"]
        if "--function_to_execute" in container.get("args", []):
            container["command"] = sorted(
                line for line in container["command"][-1].splitlines() if line.startswith(("def ", "    "))
            )
    return documents


def test_settings_of_runs_that_it_does_not_have_are_refused(environment: Environment, tmp_path: Path) -> None:
    series = tuple(int(part) for part in environment.versions("kfp")["kfp"].split(".")[:2])
    done = environment.run(
        "-m", "model_load_test.pipelines.compiling", str(tmp_path), "--ttl-seconds", "604800"
    )
    assert (done.returncode == 0) == (series >= (2, 17))
    assert done.returncode == 0 or "compile with kfp 2.17 or newer" in done.stderr.splitlines()[-1]


LOAD = """
import sys
from kfp import compiler, components, dsl
endpoint = {"candidate_endpoint": "grpc://new:8500"}
for path in sys.argv[2:]:
    gate = components.load_component_from_file(path)
    asked = [name for name, told in gate.component_spec.inputs.items() if not told.optional]
    given = {name: endpoint.get(name, "m") for name in asked}
    @dsl.pipeline(name="a-users-pipeline")
    def pipeline():
        gate(**given)
    compiler.Compiler().compile(pipeline, sys.argv[1])
    print(path)
"""


def test_what_this_version_compiled_can_be_a_task_of_a_pipeline(
    environment: Environment, tmp_path: Path
) -> None:
    paths = sorted(map(str, GOLDEN.glob("*.yaml")))
    done = environment.run("-c", LOAD, str(tmp_path / "pipeline.yaml"), *paths)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == paths


EXAMPLES = """
import importlib, sys
from kfp import compiler
for name in sys.argv[2:]:
    example = getattr(importlib.import_module(f"model_load_test.pipelines.examples.{name}"), name)
    compiler.Compiler().compile(example, sys.argv[1])
"""


def test_the_examples_compile(environment: Environment, tmp_path: Path) -> None:
    names = ("train_gate_push", "nightly_capacity")
    done = environment.run("-c", EXAMPLES, str(tmp_path / "example.yaml"), *names)
    assert done.returncode == 0, done.stderr


def test_the_gate_can_be_grafted(environment: Environment, repository: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from model_load_test.pipelines.tfx import insert_gate;"
        "insert_gate(sys.argv[1], model_name='taxi', candidate_endpoint='grpc://new:8500').write(sys.argv[2])"
    )
    taxi = repository / "tests" / "tfx" / "fixtures" / "taxi.yaml"
    done = environment.run("-c", script, str(taxi), str(tmp_path / "grafted.yaml"))
    assert done.returncode == 0, done.stderr
    assert "load-test-gate-bless" in (tmp_path / "grafted.yaml").read_text()


@only_whole
def test_a_kfp_that_is_too_old_is_refused_in_one_line(
    uv: Path, source: Path, repository: Path, tmp_path: Path
) -> None:
    old = made(UNSUPPORTED, uv, source, repository)
    done = old.run("-m", "model_load_test.pipelines.compiling", str(tmp_path))
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert re.search(r"kfp: '2\.12\.\d+': install kfp>=2\.13,<3 where pipelines are compiled", last)


JUDGE = ["-m", "model_load_test.pipelines.command_line", "judge"]


@only_whole
def test_what_runs_in_a_pod_runs_beside_the_lowest_kfp(uv: Path, source: Path, repository: Path) -> None:
    """A user without our lock gets protobuf 4 with this KFP, and ML Metadata as old as that."""
    pod = made(IN_A_POD, uv, source, repository)
    found = pod.versions("kfp", "protobuf", "ml-metadata", "numpy", "pyarrow")
    print(found)
    assert found["protobuf"].startswith("4.")
    root = source / "model_load_test"
    authoring = (
        "component",
        "compiling",
        "describing",
        "example_pipelines",
        "pipeline",
        "vertex",
        "__main__",
    )
    names = [
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(root.rglob("*.py"))
        if path.stem not in authoring and not {"examples", "tfx"} & set(path.parts)
    ]
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = pod.run("-c", script, *names, _KFP_RUNTIME="true")
    assert done.returncode == 0, done.stderr
    results = repository / "tests" / "fuzz" / "corpus" / "results.parquet"
    judged = pod.run(*JUDGE, str(results))
    assert "Traceback" not in judged.stderr
    assert judged.stdout, judged.stderr
