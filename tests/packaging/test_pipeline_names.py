"""`model_load_test.pipelines.NAME` is the pipeline, however its module was imported before."""

import subprocess
import sys

import pytest

DIRECT = (
    "import model_load_test.pipelines.deploy_and_gate.pipeline\n"
    "import model_load_test.pipelines.load_test_gate.pipeline\n"
)


@pytest.mark.parametrize("before", ["", DIRECT], ids=["nothing before", "modules before"])
def test_a_pipelines_name_is_never_its_subpackage(before: str) -> None:
    script = before + (
        "from model_load_test.pipelines import deploy_and_gate, load_test_gate\n"
        "assert deploy_and_gate.component_spec.name == 'deploy-and-gate', deploy_and_gate\n"
        "assert load_test_gate.component_spec.name == 'load-test-gate', load_test_gate\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
