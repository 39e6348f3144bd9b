"""Reports to and from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.report.writing import read_report, write_report
from model_load_test.components.results.table import RunMetadata, write_results


@pytest.fixture
def results_path(results_table, tmp_path: Path) -> Path:
    path = tmp_path / "results.parquet"
    metadata = RunMetadata(tool="ghz", tool_version="0.120.0", fingerprint={"server_kind": "embedded"})
    write_results(path, results_table(pairs=5), metadata)
    return path


def test_three_files_that_agree(report_of, results_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / "here"
    report = write_report(results_path, report_of("FAIL").verdict, out)
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json", "report.md"]
    assert read_report(out / "report.json") == report
    assert "Embedded server." in (out / "report.html").read_text()
    assert (out / "report.md").read_text().startswith("# \N{MULTIPLICATION X} FAIL")
    assert report.arms["candidate"].requests == 1000
    assert (report.tool, report.server_kind) == ("ghz", "embedded")


def test_a_report_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"report: '.*report\.json': give a report\.json that can be read"):
        read_report(tmp_path / "report.json")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"verdict": {"verdict": "MAYBE", "reasons": []}}'])
def test_a_file_that_is_no_report(tmp_path: Path, content: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"this is not a report\.json of model-load-test"):
        read_report(path)


def test_a_report_of_a_later_version_is_refused(report_of, results_path: Path, tmp_path: Path) -> None:
    write_report(results_path, report_of("PASS").verdict, tmp_path)
    path = tmp_path / "report.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(InputError, match=r"schema_version: 99: .*install a newer model-load-test"):
        read_report(path)
