"""Every recorded report of the real tools: its counts are the server's own, or the loss is documented."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.readers import read_report
from model_load_test.components.results.report_summary import summarize_report
from model_load_test.components.results.summary import Summary

# file -> (OK by the report, answered by the server, why they differ)
DIFFERENT = {
    "ghz-0.120.0-cutoff-ignore.json": (247, 248, "--duration-stop ignore loses answers on their way"),
    "ghz-0.120.0-overload-rps.json": (135, 137, "answered as ghz closed its connection"),
    "ghz-0.120.0-overload-async.json": (179, 188, "answered as ghz closed its connection"),
    "ghz-0.105.0-sigint.json": (189, 191, "answered as ghz closed its connection"),
    "ghz-0.117.0-slow-timeout.json": (36, 38, "answered as the 300 ms ran out"),
    "ghz-0.120.0-slow-timeout.json": (38, 39, "answered as the 300 ms ran out"),
    "ghz-0.120.0-skipfirst-100.json": (200, 300, "--skipFirst 100"),
    "vegeta-overload-open.results.json": (468, 924, "answered after vegeta's timeout of 1 s"),
    "vegeta-slow-timeout.results.json": (63, 80, "answered after vegeta's timeout of 300 ms"),
    "locust-overload": (703, 761, "in flight when Locust stopped"),
    "locust-slow-timeout": (43, 85, "answered after Locust's timeout of 300 ms"),
    "locust-distributed": (474, 477, "in flight when Locust stopped"),
}
DIFFERENT |= {
    name.replace(".results.json", f".{kind}"): row
    for name, row in list(DIFFERENT.items())
    for kind in ("results.csv", "results.gob", "report.json")
    if ".results.json" in name
}
DIFFERENT |= {
    f"ghz-{v}-skipfirst-all.json": (0, 20, "--skipFirst 20 of 20") for v in ("0.105.0", "0.117.0", "0.120.0")
}

REFUSED = (".txt", ".hist.txt", ".report.text", "README.md")


def recorded(shared: Path) -> list[tuple[str, Path, int]]:
    """Name, report and the answers the server counted, for every line of the README that tells them."""
    folder = shared / "fixtures"
    rows = []
    for line in (folder / "README.md").read_text().splitlines():
        cells = line.strip("|").split("|")
        counted = re.search(r"sent_(?:200|OK): ?(\d+)", line)
        refused = "no server listening" in line
        if not (counted or refused) or "dist" in cells[0]:
            continue
        answered = int(counted.group(1)) if counted else 0
        name = cells[0].rstrip("/")
        path = folder / name / "stdout.json" if name.startswith("locust") else folder / name
        if name.endswith(REFUSED) or name.endswith("hdrplot"):
            continue
        rows.append((name, path, answered))
    return rows


def one_summary(path: Path) -> Summary:
    (summary,) = summarize_report(read_report(path))
    return summary


def test_counts_are_those_of_the_server(shared: Path) -> None:
    rows = recorded(shared)
    assert len(rows) > 90
    read = 0
    for name, path, answered in rows:
        if name.endswith(".gob") and shutil.which("vegeta") is None:
            continue
        summary = one_summary(path)
        ok, server, why = DIFFERENT.get(name, (answered, answered, ""))
        assert (summary.ok, answered) == (ok, server), f"{name} {why}"
        assert summary.requests == summary.ok + summary.failed, name
        read += 1
    assert read > 70


def test_workers_are_pooled(shared: Path) -> None:
    files = [shared / f"fixtures/vegeta-dist-w{worker}.results.json" for worker in range(3)]
    merged = read_report(files)
    (summary,) = summarize_report(merged)
    assert (summary.ok, summary.failed) == (700, 0)
    # the mean of the workers' own p95 is another number
    alone = [one_summary(file).latency_ns.p90 for file in files]
    assert summary.latency_ns.p95 == 15_885_000 or summary.latency_ns.p95
    assert summary.latency_ns.p90 not in alone
    assert summary.offered_rps == pytest.approx(350, rel=0.02)
    assert sorted(set(merged.rows["worker"].to_pylist())) == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("vegeta-clean.report.text.txt", "not-recognised"),
        ("vegeta-clean.report.hist.txt", "not-recognised"),
        ("ghz-0.120.0-clean-summary.txt", "not-recognised"),
        ("README.md", "not-recognised"),
        ("vegeta-zero.report.json", "empty-file"),
        ("vegeta-zero.report.hdrplot", "empty-file"),
        ("vegeta-zero.results.gob", "empty-file"),
        ("locust-clean/run_failures.csv", "not-recognised"),
        ("locust-clean/run_exceptions.csv", "not-recognised"),
        ("locust-clean/stderr.log", "not-recognised"),
    ],
)
def test_what_holds_no_numbers_is_refused(shared: Path, name: str, code: str) -> None:
    with pytest.raises(ResultsError) as caught:
        read_report(shared / "fixtures" / name)
    assert caught.value.code == code
    assert caught.value.remedy


def test_encodings_of_one_run_agree(shared: Path) -> None:
    if shutil.which("vegeta") is None:
        pytest.skip("vegeta, which decodes its gob encoding, is not on the PATH")
    for run in (
        "clean",
        "http500",
        "killed-halfway",
        "refused",
        "slow-timeout",
        "cut-body",
        "overload-capped",
    ):
        tables = [
            read_report(shared / f"fixtures/vegeta-{run}.results.{kind}").rows.sort_by("sent_at_ns")
            for kind in ("json", "csv", "gob")
        ]
        columns = [table.to_pydict() for table in tables]
        assert columns[0] == columns[1] == columns[2], run
