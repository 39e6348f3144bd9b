"""The very lines of docs/tfx.md, executed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from model_load_test.components.kfp_version import SUPPORTED
from model_load_test.pipelines.tfx import kubeflow_entrypoint
from model_load_test.pipelines.tfx.compiled import read_compiled

MOST_LINES = 5


def shown(repository: Path, name: str) -> str:
    page = (repository / "docs" / "tfx.md").read_text()
    found = re.search(rf"<!-- executed by tests/tfx: {name} -->\n```python\n(.*?)```", page, re.DOTALL)
    assert found, f"docs/tfx.md shows no {name}"
    lines = [line for line in found[1].splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES, f"adding the gate takes {len(lines)} lines"
    return found[1]


def test_the_graft_of_the_docs_puts_the_gate_in(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp = pytest.importorskip("kfp")
    if tuple(int(part) for part in kfp.__version__.split(".")[:2]) < SUPPORTED["kfp"][0]:
        pytest.skip(f"kfp {kfp.__version__} compiles no gate; graft from an environment with a newer one")
    lines = shown(repository, "graft")
    shutil.copy(Path(__file__).parent / "fixtures" / "taxi.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(lines, {})  # the lines are ours
    tasks = read_compiled(tmp_path / "taxi.yaml", "taxi").spec["root"]["dag"]["tasks"]
    assert tasks["load-test-gate"]["dependentTasks"] == ["Trainer"]
    assert "infra_blessing" in tasks["Pusher"]["inputs"]["artifacts"]


def test_the_component_of_the_docs_stands_before_pusher(
    made: ModuleType, repository: Path, tmp_path: Path
) -> None:
    trainer = made.imported_model("minio://bucket/model")
    namespace: dict[str, Any] = {
        "trainer": TrainerLike(trainer),
        "folder": made.destination("/models/taxi"),
        "Pusher": made.Pusher,
    }
    exec(shown(repository, "component"), namespace)  # the lines are ours
    spec = made.compiled_for_kubeflow([trainer, namespace["gate"], namespace["pusher"]], tmp_path)
    blessing = spec["root"]["dag"]["tasks"]["Pusher"]["inputs"]["artifacts"]["infra_blessing"]
    assert blessing["taskOutputArtifact"]["producerTask"] == "ModelLoadTest"


class TrainerLike:
    """An importer calls its output `result`, Trainer calls it `model`."""

    def __init__(self, importer: Any) -> None:
        self.outputs = {"model": importer.outputs["result"]}


def test_the_entrypoint_keeps_clear_of_kfps_placeholders() -> None:
    python, flag, script = kubeflow_entrypoint()
    assert (python, flag) == ("python3", "-c")
    assert "{{" not in script
    assert "}}" not in script
    compile(script, "entrypoint", "exec")
