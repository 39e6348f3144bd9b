"""KFP's settings for whole runs, written into the pipelines that are uploaded to Kubeflow."""

from pathlib import Path
from typing import Any

import kfp
import pytest
import yaml

from model_load_test.components.errors import InputError
from model_load_test.pipelines.compiling import compile_all, main

needs_settings = pytest.mark.skipif(
    tuple(int(part) for part in kfp.__version__.split(".")[:2]) < (2, 17), reason="kfp 2.17 began with these"
)


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


@needs_settings
def test_they_are_all_that_changes(compiled: Path, tmp_path: Path) -> None:
    compile_all(tmp_path, ttl_seconds=604800, deadline_seconds=7200)
    for path in sorted(tmp_path.iterdir()):
        plain, configured = documents(compiled / path.name), documents(path)
        if not path.name.startswith("vertex"):
            settings = configured[1]["platforms"]["kubernetes"].pop("pipelineConfig")
            assert settings == {"resourceTtlOnCompletion": 604800, "activeDeadlineSeconds": 7200}
        assert configured == plain, path.name


@pytest.mark.parametrize("ttl_seconds", [-1, 2**31])
def test_no_number_of_seconds_is_refused(tmp_path: Path, ttl_seconds: int) -> None:
    with pytest.raises(InputError, match=r"ttl_seconds_after_finished.*give seconds"):
        compile_all(tmp_path, ttl_seconds=ttl_seconds)


def test_the_command_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), "--deadline-seconds", "-5"])
    assert ended.value.code == 2
    assert "active_deadline_seconds: [-5]: give seconds" in capsys.readouterr().err.splitlines()[-1]
