"""`model-load-test sweep`: what it reads, what it refuses, and a whole small sweep."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from model_load_test.pipelines.command_line import main


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "--model-name"),
        (["--model-name", "digits"], "--parameter"),
        (["--model-name", "digits", "--parameter", "max_batch_size"], "NAME=VALUES"),
        (["--model-name", "digits", "--parameter", "max_batch_size=[4"], "no JSON"),
        (["--model-name", "digits", "--parameter", "max_batch_size=4"], "none of 1 combinations"),
        (["--model-name", "digits", "--parameter", "max_batch=4"], "did you mean 'max_batch_size'"),
        (["--model-name", "digits", "--parameter", "replicas=1,2"], "on Kubernetes"),
        (["--model-name", "digits", "--parameter", "enable_batching=true"], "--model"),
        (["--demo", "--rates", "fast"], "give numbers"),
        (["--demo", "--slo", "p95<1"], "p99_ms<=50"),
        (["--demo", "--price", "cpus=1"], "did you mean 'cpu'"),
        (["--spec", "/nonexistent.yaml"], "cannot be read"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if "--model" in named or "--demo" in words else ["--model", str(tmp_path)]
    assert main(["sweep", *words, *model, "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert named in said[0]


@pytest.mark.slow
def test_a_small_demo_leaves_table_picture_manifest_and_batching_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("ghz") is None:
        pytest.skip("ghz is not on PATH (`make tools` says why it could not be installed)")
    spec = tmp_path / "sweep.yaml"
    spec.write_text("parameters: {enable_batching: [true], max_batch_size: [8]}\nwarmup_seconds: 0.5\n")
    words = [
        "sweep",
        "--demo",
        "--spec",
        str(spec),
        "--rates",
        "220",
        "--pairs",
        "5",
        "--slo",
        "p95_ms<=9000",
    ]
    output = tmp_path / "out"
    code = main([*words, "--output", str(output)])
    said, complaint = capsys.readouterr()
    if "generator that keeps up" in complaint or "it was the limit" in complaint:
        pytest.skip(f"this machine is too busy to offer 220 requests/s: {complaint}")
    assert code == 0
    assert "enable_batching=true max_batch_size=8" in said
    assert (output / "batching.txt").read_text() == "max_batch_size { value: 8 }\n"
    assert "kind: Deployment" in (output / "best.yaml").read_text()
    assert "<svg" in (output / "sweep.html").read_text()
    report = json.loads((output / "sweep.json").read_text())
    assert report["judged_rate_rps"] == 220
    assert main([*words, "--output", str(output)]) == 0
    assert "measured before" in capsys.readouterr().out
