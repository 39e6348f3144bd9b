"""The launcher's contract; needs no TFX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.tfx.artifacts import mounted_path, parse_task, write_executor_output


def executor_input(folder: Path) -> dict[str, Any]:
    return {
        "inputs": {
            "parameterValues": {"model_name": "taxi", "break_on_failure": 1.0},
            "artifacts": {
                "model": {"artifacts": [{"name": "7", "uri": "minio://b/m", "type": {"instanceSchema": ""}}]},
                "examples": {"artifacts": []},
                "infra_blessing": {
                    "artifacts": [{"uri": "s3://b/i", "customProperties": {"blessed": {"intValue": "1"}}}]
                },
            },
        },
        "outputs": {
            "artifacts": {"metrics": {"artifacts": [{"name": "m", "uri": "gs://b/metrics"}]}},
            "outputFile": str(folder / "out" / "output_metadata.json"),
        },
    }


@pytest.mark.parametrize(
    ("uri", "path"),
    [("gs://b/x/y", "/gcs/b/x/y"), ("minio://b/x", "/minio/b/x"), ("s3://b/x", "/s3/b/x"), ("/a/b", "/a/b")],
)
def test_artifacts_lie_where_the_launcher_puts_them(uri: str, path: str) -> None:
    assert mounted_path(uri) == Path(path)


def test_a_store_that_the_launcher_does_not_know_is_refused() -> None:
    with pytest.raises(InputError, match=r"uri: 'abfs://b/x': keep artifacts in a store of KFP"):
        mounted_path("abfs://b/x")


def test_a_task_is_read_from_the_executor_input(tmp_path: Path) -> None:
    task = parse_task(json.dumps(executor_input(tmp_path)))
    assert task.inputs["model"].path == Path("/minio/b/m")
    assert "examples" not in task.inputs, "an empty list is an input that was not given"
    assert task.inputs["infra_blessing"].metadata == {"blessed": 1}
    assert task.parameters["model_name"] == "taxi"


def test_the_answer_names_the_artifacts_as_the_launcher_does(tmp_path: Path) -> None:
    task = parse_task(json.dumps(executor_input(tmp_path)))
    write_executor_output(task, {"metrics": {"gate_passed": 1.0}})
    answer = json.loads(task.output_file.read_text())
    assert answer == {
        "artifacts": {
            "metrics": {"artifacts": [{"name": "m", "uri": "gs://b/metrics", "metadata": {"gate_passed": 1.0}}]}
        }
    }


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"outputs": {}}', '{"outputs": {"outputFile": 1}}'])
def test_what_is_no_executor_input_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"executor input: .*let KFP put it in for \{\{\$\}\}"):
        parse_task(text)
