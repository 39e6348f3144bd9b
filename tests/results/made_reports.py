"""Small reports made here, in the shapes of the real tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from model_load_test.components.results import columns
from model_load_test.components.results.rows import RowCollector

START_NS = 1_795_259_199_000_000_000
CORPUS = Path(__file__).resolve().parent.parent / "fuzz" / "corpus"


def timestamp(unix_ns: int) -> str:
    return f"{np.datetime64(unix_ns, 'ns')}".rstrip("0").rstrip(".") + "Z"


def ghz_detail(end_ns: int, latency_ns: int, status: str = "OK", error: str = "") -> dict[str, Any]:
    return {"timestamp": timestamp(end_ns), "latency": latency_ns, "error": error, "status": status}


def ghz_report(details: Sequence[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    statuses: dict[str, int] = {}
    for detail in details:
        statuses[detail["status"]] = statuses.get(detail["status"], 0) + 1
    report = {
        "date": "2026-11-21T11:16:04Z",
        "endReason": "normal",
        "options": {"concurrency": 4, "total": len(details), "async": True},
        "count": len(details),
        "total": 1_000_000_000,
        "average": sum(d["latency"] for d in details) // max(1, len(details)),
        "fastest": 0,
        "slowest": 0,
        "rps": 1.0,
        "errorDistribution": {},
        "statusCodeDistribution": statuses,
        "latencyDistribution": None,
        "histogram": None,
        "details": list(details) or None,
    }
    return report | changes


def vegeta_record(seq: int, **changes: Any) -> dict[str, Any]:
    record = {
        "attack": "a",
        "seq": seq,
        "code": 200,
        "timestamp": timestamp(START_NS + seq * 10_000_000 + 1),
        "latency": 5_000_000 + seq,
        "bytes_out": 37,
        "bytes_in": 245,
        "error": "",
        "body": "e30=",
        "method": "POST",
        "url": "http://127.0.0.1:8501/v1/models/m:predict",
        "headers": {"Content-Type": ["application/json"]},
    }
    return record | changes


def vegeta_lines(records: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records)


def make_rows(
    sent_at_ns: Sequence[int],
    latency_ns: Sequence[int],
    *,
    ok: Sequence[bool] | None = None,
    error: Sequence[str] | None = None,
    worker: int = 0,
) -> pa.Table:
    count = len(sent_at_ns)
    collector = RowCollector()
    flags = np.array(ok if ok is not None else [True] * count, dtype=np.bool_)
    collector.add(
        np.array(sent_at_ns, dtype=np.int64),
        np.array(latency_ns, dtype=np.int64),
        flags,
        ["200" if flag else "0" for flag in flags],
        list(error) if error is not None else [""] * count,
    )
    return collector.table(worker)


def latencies_of(rows: pa.Table) -> list[int]:
    return columns.numbers(rows["latency_ns"], np.int64).tolist()
