"""The compiled pipelines, letter for letter: a change in what users upload is seen in review.

After an intended change: `make compile && cp build/compile/*.yaml tests/compile/golden/`.
"""

from pathlib import Path

import kfp
import pytest

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.name for path in GOLDEN.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_the_compiled_pipeline_is_the_reviewed_one(name: str, compiled: Path) -> None:
    golden = (GOLDEN / name).read_text()
    if f"sdkVersion: kfp-{kfp.__version__}" not in golden:
        pytest.skip(f"the golden files were compiled by another kfp than {kfp.__version__}")
    assert without_comments((compiled / name).read_text()) == without_comments(golden), (
        "make compile && cp build/compile/*.yaml tests/compile/golden/"
    )


def without_comments(text: str) -> list[str]:
    """kfp writes mappings into its comments in an order that changes from run to run."""
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("name", NAMES)
def test_the_reviewed_pipeline_still_loads(name: str) -> None:
    from kfp import components

    pipeline = components.load_component_from_file(str(GOLDEN / name))
    assert "model_name" in pipeline.component_spec.inputs
