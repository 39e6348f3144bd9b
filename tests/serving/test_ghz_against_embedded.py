"""The real ghz, with the protoset, against the embedded server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from model_load_test.components.protocols.make_protoset import PROTOSET_PATH
from model_load_test.components.serving.embedded.process import EmbeddedServer


def run_ghz(ghz: str, server: EmbeddedServer, tmp_path: Path, call: str, data: Any, total: int) -> Any:
    data_file = tmp_path / "data.json"
    data_file.write_text(json.dumps(data))
    done = subprocess.run(
        [
            ghz,
            "--insecure",
            f"--protoset={PROTOSET_PATH}",
            f"--call=tensorflow.serving.{call}",
            f"--data-file={data_file}",
            f"--total={total}",
            "--async",
            "--concurrency=1",
            "--rps=200",
            "--format=json",
            server.grpc.address,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_predict(ghz: str, zoo: EmbeddedServer, tmp_path: Path) -> None:
    tensor = {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": 1}, {"size": 4}]},
        "float_val": [1, 2, 3, 4],
    }
    data = {"model_spec": {"name": "zoo"}, "inputs": {"x": tensor}}
    report = run_ghz(ghz, zoo, tmp_path, "PredictionService.Predict", data, 200)
    assert report["statusCodeDistribution"] == {"OK": 200}


def test_refusals_are_counted_by_their_code(ghz: str, zoo: EmbeddedServer, tmp_path: Path) -> None:
    data = {"model_spec": {"name": "nope"}}
    report = run_ghz(ghz, zoo, tmp_path, "PredictionService.Predict", data, 20)
    assert report["statusCodeDistribution"] == {"NotFound": 20}


def test_status(ghz: str, zoo: EmbeddedServer, tmp_path: Path) -> None:
    data = {"model_spec": {"name": "zoo"}}
    report = run_ghz(ghz, zoo, tmp_path, "ModelService.GetModelStatus", data, 20)
    assert report["statusCodeDistribution"] == {"OK": 20}
