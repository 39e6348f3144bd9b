"""The command as a person types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model_load_test.pipelines.command_line import SUBCOMMANDS, main


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "model_load_test.pipelines.command_line", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"model-load-test {name}" in capsys.readouterr().out


def test_the_overview_lists_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in SUBCOMMANDS)


@pytest.mark.parametrize("words", [[], ["sumarize"], ["judge"]])
def test_wrong_words_end_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


def test_bad_input_is_one_clear_line_and_2(tmp_path: Path) -> None:
    done = command("judge", str(tmp_path / "missing.parquet"))
    assert done.returncode == 2
    assert "missing.parquet" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_over_http_says_what_it_needs_before_it_trains(tmp_path: Path) -> None:
    done = command("demo", "--protocol", "http", "--output", str(tmp_path / "demo"), PATH="/nowhere")
    assert done.returncode == 2
    assert "vegeta" in done.stderr
    assert "make tools" in done.stderr
    assert not (tmp_path / "demo").exists()


def test_summarizing_waits_for_no_heavy_library() -> None:
    script = (
        "import sys; from model_load_test.pipelines.command_line import main\n"
        "try: main(['summarize', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'kfp', 'scipy', 'pandas', 'tensorflow', 'grpc'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
