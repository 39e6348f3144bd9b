"""What is known to be wrong when a pipeline is compiled is said then, not in a pod an hour later."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl

from model_load_test.components.errors import InputError
from model_load_test.components.kfp_version import require_kfp
from model_load_test.pipelines import deploy_and_gate, load_test_gate

GOOD = {"kfp": "2.13.0", "kfp-kubernetes": "1.5.0"}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"kfp": "2.12.2"}, "kfp: '2.12.2': install kfp>=2.13,<3"),
        ({"kfp": "1.8.22"}, "kfp: '1.8.22': install kfp>=2.13,<3"),
        ({"kfp": "3.0.0"}, "kfp: '3.0.0'"),
        ({"kfp-kubernetes": "1.4.0"}, "kfp-kubernetes: '1.4.0': install kfp-kubernetes>=1.5,<3"),
        ({"kfp-kubernetes": None}, "kfp-kubernetes: 'none': install"),
    ],
)
def test_an_unsupported_kfp_is_refused_by_name_and_version(found: dict[str, str | None], said: str) -> None:
    def find_version(name: str) -> str:
        version = {**GOOD, **found}[name]
        if version is None:
            raise PackageNotFoundError(name)
        return version

    with pytest.raises(InputError, match=said):
        require_kfp(find_version)


@pytest.mark.parametrize("version", ["2.13.0", "2.17.0", "2.20.1rc1"])
def test_a_supported_kfp_is_not(version: str) -> None:
    require_kfp({"kfp": version, "kfp-kubernetes": "1.5.0"}.__getitem__)


@pytest.mark.parametrize(
    "imported",
    [
        "from model_load_test.components import run_load_test",
        "from model_load_test.pipelines import load_test_gate",
        "import model_load_test.pipelines.compiling",
    ],
)
def test_it_is_said_by_whatever_loads_a_component(imported: str) -> None:
    old = "import importlib.metadata as m; m.version = lambda name: '2.12.1'\n"
    done = subprocess.run([sys.executable, "-c", old + imported], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "install kfp>=2.13,<3 where pipelines are compiled" in done.stderr.splitlines()[-1]


def users_pipeline(gate: Any, inputs: dict[str, Any]) -> Any:
    """A pipeline with the gate in it; None stands for an input of that pipeline."""

    @dsl.pipeline(name="a-users-pipeline")
    def pipeline(given: str = "grpc://late:8500"):  # type: ignore[no-untyped-def]
        gate(model_name="m", **{name: given if value is None else value for name, value in inputs.items()})

    return pipeline


@pytest.mark.parametrize("gate", [load_test_gate, deploy_and_gate], ids=lambda gate: gate.name)
@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (
            {"candidate_endpoint": "grpc://new:8500", "baseline_endpoint": "http://old:8501"},
            "use the protocol",
        ),
        ({"candidate_endpoint": "grpc://new:8500", "baseline_endpoint": "grpc://new:8500"}, "name the other"),
        ({"candidate_endpoint": "grpc://new:8500/v1/models/m"}, "only scheme, host and port"),
        ({"candidate_endpoint": "http://new:8501/v1/models/m:predict"}, "leave the API's own path away"),
        ({"candidate_endpoint": "grpc://new"}, "the port is missing"),
        ({"candidate_endpoint": None, "baseline_endpoint": "grpc://old"}, "the port is missing"),
    ],
)
def test_an_endpoint_that_cannot_be_loaded_is_refused_before_the_run(
    gate: Any, inputs: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        users_pipeline(gate, inputs)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"candidate_endpoint": "new:8500"}, "the scheme is missing"),
        ({"candidate_endpoint": "grpc://new:8500", "tool": "vegeta"}, "use the protocol http"),
        ({"candidate_endpoint": "http://new:8501", "tool": "ghz"}, "use the protocol grpc"),
    ],
)
def test_so_is_one_that_the_generator_does_not_speak_to(inputs: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        users_pipeline(load_test_gate, inputs)


@pytest.mark.parametrize(
    ("gate", "inputs"),
    [
        (load_test_gate, {"candidate_endpoint": None, "baseline_endpoint": None}),
        (load_test_gate, {"candidate_endpoint": "grpc://new:8500", "baseline_endpoint": None}),
        (deploy_and_gate, {"candidate_endpoint": "service://new", "baseline_endpoint": "grpc://old:8500"}),
    ],
)
def test_what_is_known_only_in_the_run_is_left_to_it(
    gate: Any, inputs: dict[str, Any], tmp_path: Path
) -> None:
    compiler.Compiler().compile(users_pipeline(gate, inputs), str(tmp_path / "pipeline.yaml"))
    assert f"comp-{gate.name}" in (tmp_path / "pipeline.yaml").read_text()
