"""The compiled pipelines, letter for letter: a change in what users upload is seen in review.

After an intended change: `make compile && cp build/compile/*.yaml tests/compile/golden/`.
"""

from pathlib import Path

import kfp
import pytest

from model_load_test.pipelines.compiling import compile_all

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    compile_all(folder)
    return folder


@pytest.mark.parametrize(
    "name", ["kubeflow.yaml", "deploy_and_gate.yaml", "capacity_search.yaml", "vertex.yaml"]
)
def test_the_compiled_pipeline_is_the_reviewed_one(name: str, compiled: Path) -> None:
    golden = (GOLDEN / name).read_text()
    if f"sdkVersion: kfp-{kfp.__version__}" not in golden:
        pytest.skip(f"the golden files were compiled by another kfp than {kfp.__version__}")
    assert (compiled / name).read_text() == golden, (
        "make compile && cp build/compile/*.yaml tests/compile/golden/"
    )


@pytest.mark.parametrize("name", ["kubeflow.yaml", "vertex.yaml"])
def test_the_reviewed_pipeline_still_loads(name: str) -> None:
    from kfp import components

    gate = components.load_component_from_file(str(GOLDEN / name))
    assert "candidate_endpoint" in gate.component_spec.inputs
