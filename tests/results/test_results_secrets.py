"""Metadata, headers, payloads and bodies never leave a reader: not in a table, a summary or an error."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from made_reports import START_NS, ghz_detail, ghz_report, vegeta_lines, vegeta_record

from model_load_test.components.results.error_text import normalise
from model_load_test.components.results.errors import ResultsError
from model_load_test.components.results.readers import read_report
from model_load_test.components.results.report_summary import summarize_report
from model_load_test.components.results.table import RunMetadata, read_results, with_arm, write_results
from model_load_test.pipelines.command_line import summarize

Write = Callable[..., Path]
CANARY = "canary-bird-in-a-mine"


def everything(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """All that comes out of reading a report, as one text."""
    said = []
    try:
        report = read_report(path)
        said.append(repr(report.rows.to_pydict()))
        said.append(repr(report))
        said.append(json.dumps([msgspec.to_builtins(s) for s in summarize_report(report)]))
        if report.has_rows and report.rows.num_rows:
            artifact = tmp_path / "results.parquet"
            metadata = RunMetadata(checks=tuple(msgspec.to_builtins(c) for c in report.checks))
            write_results(artifact, with_arm(report.rows, "candidate", 0), metadata)
            said.append(artifact.read_bytes().decode("latin-1"))
            said.append(repr(read_results(artifact).table.to_pydict()))
    except ResultsError as error:
        said.append(repr(error) + str(error) + repr(error.__cause__))
    for form in ("table", "json"):
        summarize.run(argparse.Namespace(files=[str(path)], format=form, merge=False))
    captured = capsys.readouterr()
    return "\n".join([*said, captured.out, captured.err])


def ghz_with_secrets() -> dict[str, Any]:
    options = {
        "concurrency": 1,
        "metadata": {"authorization": f"Bearer {CANARY}", CANARY: CANARY},
        "data": [{"inputs": CANARY, "nested": {"deep": [CANARY]}}],
        "binary-data": CANARY,
        "call": "tensorflow.serving.PredictionService/Predict",
        "host": f"{CANARY}:8500",
        "unheard-of": CANARY,
    }
    failure = f"rpc error: code = Internal desc = cannot parse {CANARY} of Bearer {CANARY}"
    details = [ghz_detail(START_NS + 9_000_000, 5_000_000, "Internal", failure)]
    changes = {"options": options, "errorDistribution": {failure: 1}, "tags": {"t": CANARY}, "name": CANARY}
    return ghz_report(details, **changes)


def vegeta_with_secrets(**changes: Any) -> dict[str, Any]:
    url = f"http://user:{CANARY}@host.example:8501/v1/models/{CANARY}:predict?key={CANARY}"
    error = f'Post "{url}": dial tcp 10.0.0.1:1->10.0.0.2:2: connect: connection refused'
    headers = {"Authorization": [f"Bearer {CANARY}"], "Set-Cookie": [CANARY]}
    return vegeta_record(0, code=0, body=CANARY, url=url, error=error, headers=headers) | changes


def reports() -> dict[str, bytes]:
    ghz = json.dumps(ghz_with_secrets())
    summary = ghz_with_secrets()
    del summary["details"]
    vegeta_line = vegeta_lines([vegeta_with_secrets()])
    url = f"http://h/{CANARY}"
    csv_line = f'{START_NS},0,5,1,1,"Post ""{url}"": EOF",{CANARY},a,0,POST,{url},{CANARY}\n'
    vegeta_report = {
        "latencies": {"total": 1, "mean": 1, "50th": 1, "95th": 1, "99th": 1, "max": 1},
        "requests": 1,
        "status_codes": {"0": 1},
        "success": 0,
        "earliest": "2026-11-21T11:06:39Z",
        "latest": "2026-11-21T11:06:39Z",
        "end": "2026-11-21T11:06:40Z",
        "errors": [f'Get "{url}": EOF'],
    }
    locust = {"name": CANARY, "method": CANARY, "num_requests": 1, "num_failures": 0}
    locust |= {"total_response_time": 5.0, "response_times": {"5": 1}, "path": CANARY}
    return {
        "ghz": ghz.encode(),
        "ghz pretty": json.dumps(ghz_with_secrets(), indent=1).encode(),
        "ghz summary": json.dumps(summary).encode(),
        "ghz csv": f"duration (ms),status,error\n0.25,Internal,authorization: {CANARY}\n".encode(),
        "vegeta json": vegeta_line,
        "vegeta csv": csv_line.encode(),
        "vegeta report": json.dumps(vegeta_report).encode(),
        "locust": json.dumps([locust]).encode(),
        "locust csv": (
            "Type,Name,Request Count,Failure Count,Average Response Time,Max Response Time,"
            "Min Response Time\n"
            f"POST,{CANARY},1,0,5,5,5\n,Aggregated,1,0,5,5,5\n"
        ).encode(),
    }


def damaged() -> dict[str, bytes]:
    """The same where the secret stands at the very place that is wrong."""
    whole = reports()
    return {
        "ghz cut": whole["ghz"][:-9],
        "ghz status": json.dumps(ghz_report([ghz_detail(START_NS, 5, CANARY * 9)])).encode(),
        "ghz timestamp": json.dumps(ghz_report([ghz_detail(START_NS, 5) | {"timestamp": CANARY}])).encode(),
        "ghz count": json.dumps(ghz_with_secrets() | {"count": CANARY}).encode(),
        "ghz distribution": json.dumps(
            ghz_with_secrets() | {"statusCodeDistribution": {CANARY: "x"}}
        ).encode(),
        "ghz key twice": whole["ghz"].replace(b'"name"', f'"{CANARY}": 1, "{CANARY}": 2, "name"'.encode()),
        "vegeta cut": whole["vegeta json"][:-9],
        "vegeta code": vegeta_lines([vegeta_with_secrets(code=CANARY)]),
        "vegeta timestamp": vegeta_lines([vegeta_with_secrets(timestamp=CANARY)]),
        "vegeta garbage": whole["vegeta json"] + CANARY.encode() + b"\n",
        "vegeta csv cell": whole["vegeta csv"].replace(b",5,1,1,", f",{CANARY},1,1,".encode()),
        "report code": whole["vegeta report"].replace(b'"0": 1', f'"{CANARY}": 1'.encode()),
        "report time": whole["vegeta report"].replace(b"2026-11-21T11:06:39Z", CANARY.encode()),
        "locust bucket": whole["locust"].replace(b'"5": 1', f'"{CANARY}": 1'.encode()),
        "locust csv cell": whole["locust csv"].replace(b"Aggregated,1", f"Aggregated,{CANARY}".encode()),
        "nothing known": CANARY.encode(),
        "other json": json.dumps({CANARY: CANARY}).encode(),
    }


@pytest.mark.parametrize("name", [*reports(), *damaged()])
def test_no_reader_lets_a_secret_out(
    name: str, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (reports() | damaged())[name]
    assert CANARY.encode() in content
    said = everything(write(content), tmp_path, capsys)
    assert CANARY not in said
    assert len(said) > 50


def test_the_recorded_token_stays_inside(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared / "fixtures/ghz-0.120.0-metadata-token.json"
    assert b"FAKE-not-a-secret" in path.read_bytes()
    assert "FAKE-not-a-secret" not in everything(path, tmp_path, capsys)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Post "http://1.2.3.4:5/v1": dial tcp 0.0.0.0:0->1.2.3.4:5: connect: connection refused',
         'Post "<url>": dial tcp <address>: connect: connection refused'),
        ("read tcp [::1]:5->[fe80::1%eth0]:6: i/o timeout", "read tcp <address>: i/o timeout"),
        ("dial tcp: lookup models.prod.svc on 10.0.0.10:53: no such host",
         "dial tcp: lookup <host>: no such host"),
        ("dial tcp models.prod.svc:8500: refused", "dial tcp <address>: refused"),
        ("invalid token: abc", "invalid token: <redacted>"),
        ("Authorization: Bearer abc.def", "Authorization: <redacted>"),
        ("key AKIA1234567890ABCDEF denied", "key <redacted> denied"),
        ('bad input {"a": [1, 2]}', "bad input <redacted>"),
        ("stream 1234567 reset", "stream <number> reset"),
        ("two\n\tlines\x1b[31m", "two lines [31m"),
        ("Client.Timeout exceeded while awaiting headers", "Client.Timeout exceeded while awaiting headers"),
        ("500 Internal Server Error", "500 Internal Server Error"),
    ],
)  # fmt: skip
def test_error_texts_lose_what_differs_and_what_is_secret(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_error_texts_are_bounded(write: Write) -> None:
    details = [
        ghz_detail(START_NS + i, 5, "Internal", f"why {chr(97 + i % 26)}{'x' * (i // 26)}")
        for i in range(3000)
    ]
    (summary,) = summarize_report(read_report(write(ghz_report(details))))
    assert len(summary.errors) <= 1000
    assert sum(count or 0 for count in summary.errors.values()) == 3000
    assert len(normalise("x y " * 10_000)) <= 200


def test_a_secret_is_found_where_the_text_is_cut() -> None:
    for before in range(980, 1001):
        assert "bird" not in normalise("{" + "x " * (before // 2) + "}" + CANARY, [CANARY])
