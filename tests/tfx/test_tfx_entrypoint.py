"""What the entrypoint does to an executor input and its answer; needs no TFX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model_load_test.pipelines.tfx.shim import restore_uris, set_types, use_paths


def task() -> dict[str, Any]:
    return {
        "inputs": {
            "artifacts": {
                "model": {"artifacts": [{"uri": "minio://b/m", "type": {"instanceSchema": ""}}]},
                "schema": {"artifacts": [{"uri": "/local/s", "type": {"schemaTitle": "system.Artifact"}}]},
                "none": {"artifacts": []},
            }
        },
        "outputs": {
            "artifacts": {
                "pushed": {"artifacts": [{"uri": "s3://b/p"}]},
                "log": {"artifacts": [{"uri": "gs://b/l"}]},
            },
            "outputFile": "",
        },
    }


def test_inputs_get_the_types_that_the_pipeline_declares() -> None:
    given = task()
    declared = {"model": {"artifactType": {"instanceSchema": "title: tfx.Model\ntype: object\n"}}, "none": {}}
    set_types(given["inputs"], declared)
    artifacts = given["inputs"]["artifacts"]
    assert artifacts["model"]["artifacts"][0]["type"] == declared["model"]["artifactType"]
    assert artifacts["schema"]["artifacts"][0]["type"] == {"schemaTitle": "system.Artifact"}


def test_addresses_become_the_launchers_paths_and_are_restored(tmp_path: Path) -> None:
    given = task()
    uri_of_path = use_paths(given)
    sides = (given["inputs"]["artifacts"], given["outputs"]["artifacts"])
    paths = [one["uri"] for side in sides for listed in side.values() for one in listed["artifacts"]]
    assert paths == ["/minio/b/m", "/local/s", "/s3/b/p", "/gcs/b/l"]
    answer = {"artifacts": {"pushed": {"artifacts": [{"uri": "/s3/b/p", "metadata": {"pushed": 1}}]}}}
    output_file = tmp_path / "output.json"
    output_file.write_text(json.dumps(answer))
    restore_uris(output_file, uri_of_path)
    (restored,) = json.loads(output_file.read_text())["artifacts"]["pushed"]["artifacts"]
    assert restored == {"uri": "s3://b/p", "metadata": {"pushed": 1}}


def test_an_answer_without_artifacts_stays_as_it_is(tmp_path: Path) -> None:
    output_file = tmp_path / "output.json"
    output_file.write_text('{"parameterValues": {"span": 1}}')
    restore_uris(output_file, {})
    assert json.loads(output_file.read_text()) == {"parameterValues": {"span": 1}}
