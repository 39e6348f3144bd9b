"""What each arm was sent and how it answered."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa

from model_load_test.components.results.table import RunMetadata

_PERCENTILES = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999, "max": 1.0}


class Summary(msgspec.Struct, frozen=True, omit_defaults=True):
    """One arm of a run, warm-up left out."""

    requests: int
    ok: int
    error_share: float
    achieved_rps: float | None = None
    latency_seconds: dict[str, float] = {}
    """Of the requests that succeeded: mean, min, p50, p90, p95, p99, p999, max."""
    statuses: dict[str, int] = {}
    errors: dict[str, int] = {}


def summarize(table: pa.Table, metadata: RunMetadata) -> dict[str, Summary]:
    """A summary per arm that has rows."""
    arms = table.column("arm").cast(pa.string()).to_numpy()
    measured = table.column("block").to_numpy() >= 0
    return {
        arm: _summary(table.filter(pa.array((arms == arm) & measured)), metadata)
        for arm in ("candidate", "baseline")
        if ((arms == arm) & measured).any()
    }


def _summary(rows: pa.Table, metadata: RunMetadata) -> Summary:
    ok = rows.column("ok").to_numpy()
    latencies = rows.column("latency_ns").to_numpy()[ok] / 1e9
    blocks = np.unique(rows.column("block").to_numpy()).size
    seconds = blocks * metadata.load_spec.get("block_seconds", 0.0)
    quantiles = np.quantile(latencies, list(_PERCENTILES.values()), method="inverted_cdf") if ok.any() else []
    return Summary(
        requests=rows.num_rows,
        ok=int(ok.sum()),
        error_share=float(1 - ok.mean()),
        achieved_rps=rows.num_rows / seconds if seconds else None,
        latency_seconds={
            **dict(zip(_PERCENTILES, (float(value) for value in quantiles), strict=False)),
            **({"mean": float(latencies.mean())} if ok.any() else {}),
        },
        statuses=_counts(rows.column("status")),
        errors=_counts(rows.column("error").filter(pa.array(~ok))),
    )


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    counted = column.cast(pa.string()).value_counts()
    pairs = ((entry["values"].as_py(), entry["counts"].as_py()) for entry in counted)
    return dict(sorted(pairs, key=lambda pair: -pair[1])[:20])
