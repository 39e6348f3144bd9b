from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model_load_test.pipelines.command_line import main

TESTS = Path(__file__).resolve().parent.parent
CORPUS = TESTS / "fuzz" / "corpus"
PUBLISHED = TESTS / "results" / "fixtures"
KILLED = CORPUS / "vegeta-killed-halfway.results.json"


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_is_one_object_a_line_with_the_promised_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summarize", str(KILLED), "--format", "json"]) == 0
    (summary,) = lines(capsys)
    promised = (
        "file tool tool_version requests ok failed cut_off status_counts errors started_at_ns "
        "duration_seconds offered_rps achieved_rps goodput_rps latency_ns warnings"
    )
    assert set(summary) >= set(promised.split())
    assert (summary["tool"], summary["requests"], summary["ok"], summary["failed"]) == ("vegeta", 4, 2, 2)
    assert set(summary["latency_ns"]) == {"mean", "max"}
    assert summary["status_counts"] == {"200": 2, "0": 2}
    assert {frozenset(w) for w in summary["warnings"]} == {frozenset({"code", "detail"})}


def test_a_refused_file_does_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"x": 1}')
    files = [str(KILLED), str(bad), str(tmp_path / "absent"), str(CORPUS / "locust-clean.json")]
    assert main(["summarize", "--format", "json", *files]) == 2
    summary, refused, absent, locust = lines(capsys)
    assert (summary["file"], locust["tool"]) == (str(KILLED), "locust")
    assert (refused["file"], refused["error"]["code"]) == (str(bad), "not-recognised")
    assert set(refused["error"]) == {"code", "detail"}
    assert absent["error"]["code"] == "unreadable"


def test_the_table_names_the_refused_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("")
    assert main(["summarize", str(KILLED), str(bad)]) == 2
    captured = capsys.readouterr()
    assert "Requests    [total, ok, failed, cut off]" in captured.out
    assert "4, 2, 2, 0" in captured.out
    assert "connection refused" in captured.out
    assert "! transport-collapse" in captured.out
    assert str(bad) in captured.err


def test_workers_of_one_run_are_merged_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "w1.json.gz"
    text = (CORPUS / "vegeta-clean.results.json").read_bytes().replace(b'"run-a"', b'"run-b"')
    other.write_bytes(gzip.compress(text))
    files = [str(CORPUS / "vegeta-clean.results.json"), str(other)]
    assert main(["summarize", "--format", "json", *files]) == 0
    assert [s["requests"] for s in lines(capsys)] == [4, 4]
    assert main(["summarize", "--merge", "--format", "json", *files]) == 0
    (merged,) = lines(capsys)
    assert merged["requests"] == 8
    assert merged["warnings"][0]["code"] in ("incomplete", "duplicate-worker")


def test_mixed_tools_are_not_merged(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summarize", "--merge", str(KILLED), str(CORPUS / "ghz-0.120.0-unavailable.json")]) == 2
    assert "beside" in capsys.readouterr().err


def test_an_own_table_has_a_line_an_arm(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summarize", "--format", "json", str(CORPUS / "results.parquet")]) == 0
    assert [summary["arm"] for summary in lines(capsys)] == ["candidate", "baseline"]


def test_nothing_heavy_is_imported_for_a_summary() -> None:
    program = (
        "import sys; from model_load_test.pipelines.command_line import main; "
        f"main(['summarize', {str(KILLED)!r}]); "
        "print(sorted({'pandas', 'scipy', 'kfp', 'pyarrow.compute', 'numpy.ma'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("kind", "a_ms", "b_ms"), [("vegeta-seldon", 82.639, 73.670), ("ghz-0.55-seldon", 78.227, 74.479)]
)
def test_the_published_cost_of_a_hop_has_no_known_uncertainty(
    kind: str, a_ms: float, b_ms: float, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = [str(PUBLISHED / f"{kind}-with-hop.json"), str(PUBLISHED / f"{kind}-without-hop.json")]
    assert main(["compare", *pair]) == 0
    text = capsys.readouterr().out
    (mean,) = [line.split() for line in text.splitlines() if line.startswith("mean")]
    assert [float(number) for number in mean[1:4]] == [a_ms, b_ms, pytest.approx(b_ms - a_ms, abs=0.002)]
    assert "no uncertainty known: " in text
    assert main(["compare", "--format", "json", *pair]) == 0
    (values,) = lines(capsys)
    assert values["latency_ns"]["mean"]["difference"] == pytest.approx((b_ms - a_ms) * 1e6, rel=1e-3)
    assert "lower" not in values["latency_ns"]["mean"]
    assert "no uncertainty known" in values["uncertainty"]


def test_rows_give_an_interval(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = [str(shared / f"fixtures/ghz-{version}-clean.json") for version in ("0.105.0", "0.120.0")]
    assert main(["compare", "--format", "json", *pair]) == 0
    (values,) = lines(capsys)
    mean = values["latency_ns"]["mean"]
    assert mean["lower"] < mean["difference"] < mean["upper"]
    assert "uncertainty" not in values


def test_what_cannot_be_compared_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(KILLED), str(CORPUS / "results.parquet")]) == 2
    assert "judge" in capsys.readouterr().err
    assert main(["compare", str(KILLED), str(CORPUS / "ghz-0.120.0-zero-ignore.json")]) == 2
    assert "no figure" in capsys.readouterr().err
