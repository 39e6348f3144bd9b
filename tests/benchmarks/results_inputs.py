"""Inputs of the readers' benchmarks: reports of a million requests, made once into build/benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

REQUESTS = 1_000_000
FOLDER = Path("build/benchmarks")
START_NS = 1_795_259_199_623_580_585


def ghz_report() -> Path:
    """A ghz report with the details of a million OK requests, as 0.120 writes it."""
    path = FOLDER / "ghz-1m.json"
    if not path.exists():
        with _new(path) as file:
            head = {
                "date": "2026-11-21T11:16:04Z",
                "endReason": "normal",
                "options": {"concurrency": 50, "total": REQUESTS},
                "count": REQUESTS,
                "total": 1_000_000_000_000,
                "average": 0,
                "fastest": 0,
                "slowest": 0,
                "rps": 1000.0,
                "errorDistribution": {},
                "statusCodeDistribution": {"OK": REQUESTS},
                "latencyDistribution": None,
                "histogram": None,
            }
            file.write(json.dumps(head, separators=(",", ":"))[:-1] + ',"details":[')
            for index, (timestamp, latency_ns) in enumerate(_requests()):
                comma = "," if index else ""
                file.write(
                    f'{comma}{{"timestamp":"{timestamp}","latency":{latency_ns},"error":"","status":"OK"}}'
                )
            file.write("]}")
    return path


def vegeta_stream() -> Path:
    """A vegeta JSON stream of a million requests without bodies, as 12.13 writes it."""
    path = FOLDER / "vegeta-1m.json"
    if not path.exists():
        date = '"Date":["Sat, 21 Nov 2026 11:06:39 GMT"]'
        headers = f'{{"Content-Type":["application/json"],{date},"Content-Length":["245"]}}'
        with _new(path) as file:
            for seq, (timestamp, latency_ns) in enumerate(_requests()):
                file.write(
                    f'{{"attack":"run-a","seq":{seq},"code":200,"timestamp":"{timestamp}",'
                    f'"latency":{latency_ns},"bytes_out":37,"bytes_in":245,"error":"","body":null,'
                    f'"method":"POST","url":"http://127.0.0.1:18080/v1/models/m:predict","headers":{headers}}}\n'
                )
    return path


def _new(path: Path):  # type: ignore[no-untyped-def]  # a text file
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w")


def _requests() -> Iterator[tuple[str, int]]:
    """Times as Go prints them (trailing zeros cut) and latencies."""
    generator = np.random.default_rng(0)
    latency_ns = (generator.gamma(4.0, 2.5e6, REQUESTS) + 1e6).astype(np.int64).tolist()
    sent_at_ns = START_NS + np.cumsum(generator.integers(1, 2_000_000, REQUESTS))
    texts = np.datetime_as_string(sent_at_ns.astype("datetime64[ns]")).tolist()
    for text, latency in zip(texts, latency_ns, strict=True):
        yield text.rstrip("0").rstrip(".") + "Z", latency


if __name__ == "__main__":
    ghz_report()
    vegeta_stream()
