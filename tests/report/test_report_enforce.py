"""The one task that fails on purpose: whom it stops, and what it leaves to read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kfp import dsl

from model_load_test.components import enforce_gate
from model_load_test.components.errors import print_last
from model_load_test.components.report.writing import encode_report

PAGE = "minio://mlpipeline/v2/artifacts/gate/run/write-report/page"
Enforce = Callable[..., None]


@pytest.fixture
def enforce(report_of, tmp_path: Path) -> Enforce:
    def run(outcome: str, **policies: object) -> None:
        path = tmp_path / "report.json"
        path.write_bytes(encode_report(report_of(outcome)))
        enforce_gate.python_func(report=dsl.Artifact(uri=str(path)), page=dsl.HTML(uri=PAGE), **policies)

    return run


@pytest.mark.parametrize(
    ("outcome", "policies"),
    [
        ("FAIL", {}),
        ("INVALID", {}),
        ("INCONCLUSIVE", {}),
        ("NO_BASELINE", {"on_missing_baseline": "fail"}),
    ],
)
def test_the_last_line_is_the_reason_and_where_the_report_is(
    enforce: Enforce, capsys: pytest.CaptureFixture[str], outcome: str, policies: dict[str, str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        enforce(outcome, **policies)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(outcome)
    assert line.endswith(f"; report: {PAGE}")


@pytest.mark.parametrize(
    ("outcome", "policies"),
    [
        ("PASS", {}),
        ("NO_BASELINE", {}),
        ("INCONCLUSIVE", {"on_inconclusive": "warn"}),
        ("FAIL", {"break_on_failure": False}),
    ],
)
def test_a_run_that_goes_on_says_the_same_and_does_not_end(
    enforce: Enforce, capsys: pytest.CaptureFixture[str], outcome: str, policies: dict[str, object]
) -> None:
    enforce(outcome, **policies)
    said = capsys.readouterr()
    assert outcome in said.out
    assert PAGE in said.out
    assert not said.err


def test_kubernetes_keeps_the_line_when_the_pod_is_gone(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.touch()
    print_last("FAIL: " + "é" * 5000, log)
    assert log.read_bytes().startswith(b"FAIL: ")
    assert len(log.read_bytes()) == 4096, "what Kubernetes keeps"


def test_where_there_is_no_pod_no_such_file_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_last("FAIL", tmp_path / "termination-log")
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err == "FAIL\n"


def test_a_file_that_takes_nothing_does_not_hide_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_last("FAIL", tmp_path)
    assert capsys.readouterr().err.splitlines()[-1] == "FAIL"
