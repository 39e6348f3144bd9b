"""Reports to and from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from model_load_test.components.errors import InputError
from model_load_test.components.gate.verdict import Verdict
from model_load_test.components.report.html import render_page
from model_load_test.components.report.markdown import render_summary
from model_load_test.components.report.model import (
    SCHEMA_VERSION,
    HistoryPoint,
    Model,
    RunReport,
    build_run_report,
)
from model_load_test.components.results.table import read_results


def write_report(
    results_path: Path,
    verdict: Verdict,
    out_dir: Path,
    *,
    models: Mapping[str, Model] | None = None,
    fingerprints: Mapping[str, Mapping[str, str]] | None = None,
    server_kind: str = "",
    payload: Mapping[str, Any] | None = None,
    history: Sequence[HistoryPoint] = (),
    links: Mapping[str, str] | None = None,
    created_at: datetime | None = None,
) -> RunReport:
    """Writes `report.json`, `report.html` and `report.md` into a folder, which is made if needed.

    The keyword arguments are those of `build_run_report`.

    Raises:
        InputError: The results cannot be read.
    """
    results = read_results(results_path)
    report = build_run_report(
        verdict,
        results.table,
        results.metadata,
        models=models,
        fingerprints=fingerprints,
        server_kind=server_kind,
        payload=payload,
        history=history,
        links=links,
        created_at=created_at,
    )
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "report.json").write_bytes(encode_report(report))
    (out_dir / "report.html").write_text(render_page(report), encoding="utf-8")
    (out_dir / "report.md").write_text(render_summary(report), encoding="utf-8")
    return report


def encode_report(report: RunReport) -> bytes:
    """`report.json` as bytes, indented for people."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def read_report(path: Path) -> RunReport:
    """Reads a `report.json` back.

    Raises:
        InputError: The file is missing, is not a report, or was written by a newer version.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            "report", str(path), f"give a report.json that can be read ({error.strerror})"
        ) from None
    try:
        report = msgspec.json.decode(content, type=RunReport)
    except msgspec.DecodeError as error:
        raise InputError(
            "report", str(path), f"this is not a report.json of model-load-test: {error}"
        ) from None
    if report.schema_version > SCHEMA_VERSION:
        raise InputError(
            "schema_version",
            report.schema_version,
            f"this version reads reports up to schema {SCHEMA_VERSION}; install a newer model-load-test",
        )
    return report
