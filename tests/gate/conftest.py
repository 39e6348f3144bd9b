from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from model_load_test.components.results.table import SCHEMA

Latency = Callable[[np.random.Generator, str, int, int], np.ndarray]


def lognormal(rng: np.random.Generator, arm: str, block: int, requests: int) -> np.ndarray:
    return rng.lognormal(np.log(6e-3), 0.25, requests)


def build_table(
    pairs: int = 60,
    requests: int = 200,
    ratio: float = 1.0,
    error_rates: tuple[float, float] = (0.0, 0.0),
    arms: tuple[str, ...] = ("candidate", "baseline"),
    seed: int = 0,
    latency: Latency = lognormal,
    started_at_ns: int = 1_700_000_000_000_000_000,
    warmup: bool = False,
) -> pa.Table:
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {name: [] for name in ("arm", "block", "sent", "latency", "ok")}
    for block in range(-1 if warmup else 0, pairs):
        for arm in arms:
            seconds = latency(rng, arm, block, requests) * (ratio if arm == "candidate" else 1.0)
            if block < 0:
                seconds = seconds * 50
            columns["arm"] += [arm] * requests
            columns["block"].append(np.full(requests, block))
            columns["sent"].append(
                started_at_ns + (block + 1) * 10**9 + np.arange(requests) * 10**9 // requests
            )
            columns["latency"].append(seconds)
            columns["ok"].append(rng.random(requests) >= error_rates[0 if arm == "candidate" else 1])
    rows = len(columns["arm"])
    ok = np.concatenate(columns["ok"]) if rows else np.zeros(0, bool)
    return pa.table(
        {
            "arm": pa.array(columns["arm"], pa.string()),
            "block": np.concatenate(columns["block"]) if rows else np.zeros(0, np.int64),
            "worker": np.zeros(rows, np.int16),
            "sent_at_ns": np.concatenate(columns["sent"]) if rows else np.zeros(0, np.int64),
            "scheduled_at_ns": pa.nulls(rows, pa.int64()),
            "latency_ns": (np.concatenate(columns["latency"]) * 1e9).astype(np.int64)
            if rows
            else np.zeros(0, np.int64),
            "ok": ok,
            "status": pa.array(np.where(ok, "200", "503").tolist(), pa.string()),
            "error": pa.array(np.where(ok, "", "503 Service Unavailable").tolist(), pa.string()),
            "request_bytes": pa.nulls(rows, pa.int64()),
            "response_bytes": pa.nulls(rows, pa.int64()),
        }
    ).cast(SCHEMA)


@pytest.fixture
def make_table() -> Callable[..., pa.Table]:
    return build_table
