"""Runs a TFX executor on open-source Kubeflow Pipelines, inside TFX's own image; needs nothing but TFX.

The text of this file is the command (`python3 -c`). KFP's driver tells a task no TFX types of its
inputs, and its launcher keeps artifacts on local paths where TFX does not look; both are put right
here, and undone in the executor's answer. It also runs the driver of file-based ExampleGens, which
KFP leaves out. KFP fills in double braces wherever they stand in a command, so there are none here.
"""
# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

MOUNTS = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def main() -> None:
    """Runs the executor named by the arguments that TFX compiled."""
    from absl import app
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

    given = sys.argv.index("--json_serialized_invocation_args") + 1
    declared = sys.argv.index("--json_serialized_inputs_spec_args") + 1
    task = json.loads(sys.argv[given])
    set_types(task["inputs"], json.loads(sys.argv[declared]).get("artifacts", {}))
    set_types(task["outputs"], json.loads(os.environ.get("TFX_OUTPUT_ARTIFACTS", "{}")))
    uri_of_path = use_paths(task)
    sys.argv[given] = json.dumps(task)
    if "KFP_NAMESPACE" not in os.environ and NAMESPACE_FILE.exists():
        os.environ["KFP_NAMESPACE"] = NAMESPACE_FILE.read_text().strip()
    if "input_base" in task["inputs"].get("parameterValues", {}):
        from tfx.orchestration.kubeflow.v2.file_based_example_gen import driver

        driver.main(driver._parse_flags(sys.argv))

    def run(flags: Any) -> None:
        kubeflow_v2_run_executor.main(flags)
        restore_uris(Path(task["outputs"]["outputFile"]), uri_of_path)

    app.run(run, flags_parser=kubeflow_v2_run_executor._parse_flags)


def set_types(side: dict[str, Any], declared: dict[str, Any]) -> None:
    """Gives artifacts the types that the pipeline declares for them."""
    for name, listed in side.get("artifacts", {}).items():
        if name in declared:
            for artifact in listed.get("artifacts", []):
                artifact["type"] = declared[name]["artifactType"]


def use_paths(task: dict[str, Any]) -> dict[str, str]:
    """Puts the launcher's path in the place of each URI; returns the URIs by path."""
    uri_of_path = {}
    for side in (task["inputs"], task["outputs"]):
        for listed in side.get("artifacts", {}).values():
            for artifact in listed.get("artifacts", []):
                uri = artifact["uri"]
                for scheme, mount in MOUNTS.items():
                    if uri.startswith(scheme):
                        artifact["uri"] = mount + uri[len(scheme) :]
                        uri_of_path[artifact["uri"]] = uri
    return uri_of_path


def restore_uris(output_file: Path, uri_of_path: dict[str, str]) -> None:
    """Puts the URIs back into the executor's answer."""
    answer = json.loads(output_file.read_text())
    for listed in answer.get("artifacts", {}).values():
        for artifact in listed.get("artifacts", []):
            artifact["uri"] = uri_of_path.get(artifact.get("uri", ""), artifact.get("uri", ""))
    output_file.write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
