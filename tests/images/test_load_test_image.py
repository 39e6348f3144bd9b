"""The image of every component, run as a restricted pod runs it."""

from __future__ import annotations

import json
import subprocess
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_load_test.components.load.generators import VERSIONS
from model_load_test.components.version import __version__

NOBODY = "65532"
AUTHORING = ("component", "compiling", "describing", "example_pipelines", "pipeline", "vertex", "__main__")
GENERATORS = "/opt/model-load-test/generators"
MEGABYTES_TO_PULL = 400
"""The image without TensorFlow, as a node pulls it."""
MEGABYTES_ON_DISK = 700


def inspected(docker: Any, image: str) -> dict[str, Any]:
    (found,) = json.loads(docker("image", "inspect", image).stdout)
    return dict(found)


def test_it_has_one_entry_point_and_its_tag_is_the_version(docker: Any, load_test_image: str) -> None:
    config = inspected(docker, load_test_image)["Config"]
    assert config["Entrypoint"] == ["model-load-test"]
    assert not config["Cmd"]
    assert config["User"] == f"{NOBODY}:{NOBODY}"
    assert load_test_image.endswith(f":{__version__}")
    said = docker("run", "--rm", load_test_image, "--help").stdout
    assert "summarize" in said
    assert "judge" in said


def test_it_runs_as_nobody_on_a_read_only_root(run_hardened: Any) -> None:
    assert run_hardened("id", "-u").stdout.strip() == NOBODY
    refused = run_hardened("touch", "/opt/model-load-test/x", check=False)
    assert "Read-only file system" in refused.stderr
    assert run_hardened("sh", "-c", "touch /tmp/x && echo written").stdout.strip() == "written"


def test_nothing_in_it_can_be_written_by_its_user(run_hardened: Any) -> None:
    found = run_hardened("sh", "-c", "find / -xdev -writable -not -type l 2>/dev/null || true").stdout.split()
    assert not [path for path in found if path.startswith("/opt")], found


STARTED = (
    "model_load_test.components.load.job.generator",
    "model_load_test.components.load.locust.worker",
    "model_load_test.components.tasks.load",
    "model_load_test.components.tasks.serving",
    "model_load_test.components.gate.judge",
    "model_load_test.components.report.html",
    "kfp.dsl.executor_main",
)
"""What tasks and generators import before they do anything."""


@pytest.mark.parametrize("module", STARTED)
def test_nothing_is_compiled_anew_when_a_task_starts(run_hardened: Any, module: str) -> None:
    said = run_hardened(
        "python3", "-v", "-c", f"import {module}", options=("--env", "_KFP_RUNTIME=true")
    ).stderr
    assert "bytecode is stale" not in said
    found = [line for line in said.splitlines() if line.startswith("# code object from ")]
    assert len(found) > 50
    assert [line for line in found if ".pyc" not in line] == []


@pytest.mark.slow
def test_it_is_small(docker: Any, load_test_image: str) -> None:
    on_disk = inspected(docker, load_test_image)["Size"]
    sampled = compressed = 0
    with subprocess.Popen(["docker", "save", load_test_image], stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        for number, part in enumerate(iter(lambda: saving.stdout.read(1 << 20), b"")):
            # Every sixteenth megabyte tells what all of them would come to.
            if number % 16 == 0:
                sampled, compressed = sampled + len(part), compressed + len(zlib.compress(part, 6))
    to_pull = on_disk * compressed / sampled
    print(f"{on_disk / 1e6:.0f} MB on disk, {to_pull / 1e6:.0f} MB to pull")
    assert to_pull < MEGABYTES_TO_PULL * 1e6
    assert on_disk < MEGABYTES_ON_DISK * 1e6


@pytest.fixture
def generators(run_hardened: Any) -> dict[str, dict[str, Any]]:
    """What the image says of its generators."""
    records = json.loads(run_hardened("cat", f"{GENERATORS}/generators.json").stdout)
    return {record["tool"]: record for record in records}


def needs(tool: str, generators: dict[str, dict[str, Any]]) -> None:
    if tool not in generators:
        pytest.skip(f"this image was built without {tool}")


@pytest.mark.parametrize("tool", ["ghz", "vegeta"])
def test_it_holds_each_generator_and_says_where_it_came_from(
    tool: str, run_hardened: Any, generators: dict[str, dict[str, Any]]
) -> None:
    needs(tool, generators)
    script = (
        "from model_load_test.components.load.generators import find_generator;"
        f"print(find_generator({tool!r}).version)"
    )
    assert run_hardened("python3", "-c", script).stdout.strip() == VERSIONS[tool]
    record = generators[tool]
    print(record)
    assert record["sha256"] == run_hardened("sha256sum", f"{GENERATORS}/{tool}").stdout.split()[0]
    assert record["verified"] == (record["source"] not in ("the given folder", "the one on PATH"))


def test_it_holds_locust(run_hardened: Any) -> None:
    assert run_hardened("python3", "-m", "locust", "--version").stdout.startswith("locust ")


def test_it_holds_no_tensorflow_and_nothing_that_builds(run_hardened: Any) -> None:
    script = (
        "import importlib.util as u, shutil;"
        "print([n for n in ('tensorflow', 'pip', 'setuptools', 'ruff', 'mkdocs') if u.find_spec(n)],"
        "[t for t in ('uv', 'gcc', 'go') if shutil.which(t)])"
    )
    assert run_hardened("python3", "-c", script).stdout.strip() == "[] []"


def test_every_module_imports_in_it(run_hardened: Any) -> None:
    """All but those that need KFP's authoring half, or TFX, which has environments of its own."""
    script = f"""
import importlib, pathlib
root = pathlib.Path("/opt/model-load-test/package")
for path in sorted(root.rglob("*.py")):
    parts = path.relative_to(root).with_suffix("").parts
    if parts[-1] in {AUTHORING!r} or "tfx" in parts or "examples" in parts:
        continue
    importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    print(path)
"""
    done = run_hardened("python3", "-c", script, options=("--env", "_KFP_RUNTIME=true"), check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.splitlines()) > 100


def test_a_step_starts_from_bytecode(run_hardened: Any) -> None:
    """On a read-only root, what has none is compiled anew at every start."""
    script = "import kfp.dsl.executor_main, pyarrow.parquet, scipy.special, grpc, msgspec, kubernetes.client"
    done = run_hardened("python3", "-v", "-c", script, options=("--env", "_KFP_RUNTIME=true"))
    compiled = [line for line in done.stderr.splitlines() if line.startswith("# code object from '/")]
    from_source = [line for line in compiled if ".py'" in line]
    assert not from_source, from_source[:5]


def test_summarize_reads_a_report_in_it(run_hardened: Any, repository: Path) -> None:
    mount = ("--volume", f"{repository / 'tests' / 'results' / 'fixtures'}:/reports:ro")
    said = run_hardened("", "summarize", "/reports/ghz-0.55-seldon-with-hop.json", options=mount).stdout
    assert "22,977" in said
    assert "128.647ms" in said


def whole(text: str) -> int | float:
    return int(float(text)) if float(text).is_integer() else float(text)


@contextmanager
def server(docker: Any, image: str, *options: str) -> Iterator[tuple[str, str]]:
    """An embedded server's container on this machine's loopback; its gRPC and REST endpoints."""
    arguments = ("--host=127.0.0.1", "--port=0", "--rest-api-port=0", "--model-name=digits", *options)
    hardened = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")
    name = docker("run", "--detach", "--network", "host", *hardened, image, *arguments).stdout.strip()
    try:
        end = time.monotonic() + 60
        while not (said := docker("logs", name).stdout.strip()):
            assert time.monotonic() < end, docker("logs", name).stderr
            time.sleep(0.1)
        ports = json.loads(said.splitlines()[0])
        yield f"grpc://127.0.0.1:{ports['grpc_port']}", f"http://127.0.0.1:{ports['rest_port']}"
    finally:
        docker("rm", "--force", name)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_kfps_executor_runs_components_in_it(
    protocol: str,
    docker: Any,
    run_hardened: Any,
    server_image: str,
    generators: dict[str, dict[str, Any]],
    repository: Path,
    tmp_path: Path,
) -> None:
    """generate_payload and run_load_test, from the compiled IR, against a server in its own image."""
    needs("ghz" if protocol == "grpc" else "vegeta", generators)
    spec = next(yaml.safe_load_all((repository / "tests/compile/golden/kubeflow.yaml").read_text()))
    tmp_path.chmod(0o777)

    def execute(name: str, parameters: dict[str, Any], inputs: dict[str, str]) -> None:
        component = spec["components"][f"comp-{name}"]
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        kind = {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}

        def artifact(artifact_name: str, path: str) -> dict[str, Any]:
            return {"artifacts": [{"name": artifact_name, "type": kind, "uri": path, "metadata": {}}]}

        # KFP's driver writes whole numbers without a fraction, which YAML has.
        defaults = {
            key: json.loads(json.dumps(definition["defaultValue"]), parse_float=whole)
            for key, definition in component["inputDefinitions"]["parameters"].items()
            if "defaultValue" in definition
        }
        executor_input = {
            "inputs": {
                "parameterValues": {**defaults, **parameters},
                "artifacts": {key: artifact(key, path) for key, path in inputs.items()},
            },
            "outputs": {
                "artifacts": {
                    key: artifact(key, f"/out/{key}") for key in component["outputDefinitions"]["artifacts"]
                },
                "outputFile": f"/out/{name}.json",
            },
        }
        words = [*container["command"], *container["args"]]
        command = [word.replace("{{$}}", json.dumps(executor_input)) for word in words]
        run_hardened(*command, options=("--volume", f"{tmp_path}:/out"))

    with server(docker, server_image) as endpoints:
        address = endpoints[protocol == "http"]
        execute("generate-payload", {"endpoint": address, "model_name": "digits", "requests": 20}, {})
        said = json.loads((tmp_path / "generate-payload.json").read_text())
        assert said["artifacts"]["payload"]["artifacts"][0]["metadata"]["hash"]
        load = {"rate_rps": 50, "block_seconds": 0.4, "looks": [2], "warmup_seconds": 0}
        execute(
            "run-load-test",
            {"candidate_endpoint": address, "model_name": "digits", **load},
            {"payload": "/out/payload"},
        )
    from model_load_test.components.results.table import read_results

    results = read_results(tmp_path / "results")
    assert results.table.num_rows >= 40
    assert results.metadata.tool_version == VERSIONS["ghz" if protocol == "grpc" else "vegeta"]
    assert (tmp_path / "results").stat().st_uid == int(NOBODY)
