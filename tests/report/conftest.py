"""Realistic runs to draw: two servers whose latencies are lognormal and share a noisy machine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pytest

from model_load_test.components.gate.verdict import MetricVerdict, ObjectiveVerdict, Verdict
from model_load_test.components.report.model import HistoryPoint, Model, RunReport, build_run_report
from model_load_test.components.results.checks import Check
from model_load_test.components.results.table import SCHEMA, RunMetadata

CREATED_AT = datetime(2026, 3, 14, 9, 26, 53, tzinfo=timezone.utc)
START_NS = 1_773_480_000 * 10**9
LOAD_SPEC = {
    "protocol": "grpc",
    "tool": "ghz",
    "mode": "duet",
    "rate_rps": 200.0,
    "block_seconds": 1.0,
    "looks": [15, 30, 60],
    "warmup_seconds": 2.0,
    "timeout_seconds": 5.0,
    "connections": 1,
    "seed": 7,
    "payload_hash": "9b1c6f0e",
}
FINGERPRINT = {
    "node_type": "n2-standard-8",
    "cpu": "Intel Xeon 2.80GHz",
    "accelerator": "none",
    "server_image": "tensorflow/serving@sha256:4d1f0c2a",
    "server_kind": "tf_serving",
    "replicas": "1",
    "generator": "ghz 0.120.0",
}


def make_table(
    pairs: int = 60,
    slowdown: float = 1.0,
    arms: tuple[str, ...] = ("candidate", "baseline"),
    error_share: float = 0.0,
    errors: tuple[str, ...] = ("rpc error: code = DeadlineExceeded", "rpc error: code = Unavailable"),
    rate_rps: int = 200,
    warmup_seconds: int = 2,
    seed: int = 1,
) -> pa.Table:
    """A results table of a duet run: `pairs` blocks of a second, both arms at `rate_rps`."""
    random = np.random.default_rng(seed)
    seconds = pairs + warmup_seconds
    # What the neighbours on the machine do hits both arms in the same second.
    weather = np.exp(np.cumsum(random.normal(0, 0.02, seconds)) + 0.35 * (random.random(seconds) < 0.08))
    parts = []
    for arm in arms:
        second = np.repeat(np.arange(seconds), rate_rps)
        sent = START_NS + (np.arange(second.size) * 1e9 / rate_rps).astype(np.int64)
        latency = 6.2e-3 * np.exp(random.normal(0, 0.25, second.size)) * weather[second]
        latency = np.where(random.random(second.size) < 0.03, 2.6 * latency, latency)
        latency *= slowdown if arm == "candidate" else 1.0
        latency[: rate_rps // 2] *= 2.5
        ok = random.random(second.size) >= (error_share if arm == "candidate" else error_share / 4)
        kind = random.integers(0, len(errors), second.size)
        parts.append(
            pa.table(
                {
                    "arm": pa.array([arm] * second.size),
                    "block": (second - warmup_seconds).clip(-1).astype(np.int32),
                    "worker": np.zeros(second.size, np.int16),
                    "sent_at_ns": sent,
                    "scheduled_at_ns": sent,
                    "latency_ns": (latency * 1e9).astype(np.int64),
                    "ok": ok,
                    "status": np.where(ok, "OK", "Unavailable"),
                    "error": np.where(ok, "", np.asarray(errors)[kind]),
                    "request_bytes": np.full(second.size, 3220),
                    "response_bytes": np.full(second.size, 188),
                },
            ).cast(SCHEMA)
        )
    return pa.concat_tables(parts)


def make_metadata(server_kind: str = "tf_serving") -> RunMetadata:
    return RunMetadata(
        load_spec=LOAD_SPEC,
        tool="ghz",
        tool_version="0.120.0",
        fingerprint={**FINGERPRINT, "server_kind": server_kind},
        started_at_ns=START_NS,
        ended_at_ns=START_NS + 62 * 10**9,
    )


def _metric(
    verdict: str, margin: float, ratio: float, half: float, level: float, p: float, n: int
) -> MetricVerdict:
    return MetricVerdict(
        verdict=verdict,
        margin=margin,
        n=n,
        ratio=ratio,
        lower=ratio * (1 - half),
        upper=ratio * (1 + half),
        p_holm=p,
        candidate=level * ratio,
        baseline=level,
        faster=ratio * (1 + half) < 1,
    )


def _errors(verdict: str, difference: float, half: float, n: int) -> MetricVerdict:
    return MetricVerdict(
        verdict=verdict,
        margin=0.001,
        n=n,
        ratio=difference,
        lower=difference - half,
        upper=difference + half,
        p_holm=0.6,
        candidate=0.0004 + max(difference, 0),
        baseline=0.0004,
    )


PASS = Verdict(
    verdict="PASS",
    reasons=("Every interval ends inside its margin: p95 is at most +3.1 % slower, +10 % is allowed.",),
    metrics={
        "mean": _metric("PASS", 0.05, 1.004, 0.012, 6.8e-3, 0.61, 15),
        "p50": _metric("PASS", 0.05, 0.998, 0.009, 6.2e-3, 1.0, 15),
        "p95": _metric("PASS", 0.10, 1.008, 0.023, 11.4e-3, 0.61, 15),
        "p99": _metric("PASS", 0.25, 1.02, 0.09, 18.7e-3, 0.61, 15),
        "errors": _errors("PASS", 0.0, 0.0006, 15),
    },
    pairs=15,
    detectable_effect={"mean": 0.013, "p50": 0.01, "p95": 0.025, "p99": 0.1},
)
FAIL = Verdict(
    verdict="FAIL",
    reasons=(
        "p95 is +18.4 % slower than the baseline (at least +15.7 %), and +10 % is allowed.",
        "p50 is +17.9 % slower than the baseline (at least +16.8 %), and +5 % is allowed.",
        "Profile the candidate's serving signature, or raise the margin if its accuracy is worth it.",
    ),
    metrics={
        "mean": _metric("FAIL", 0.05, 1.181, 0.014, 6.8e-3, 0.00012, 15),
        "p50": _metric("FAIL", 0.05, 1.179, 0.009, 6.2e-3, 0.00012, 15),
        "p95": _metric("FAIL", 0.10, 1.184, 0.024, 11.4e-3, 0.00012, 15),
        "p99": _metric("INCONCLUSIVE", 0.25, 1.21, 0.08, 18.7e-3, 0.0009, 15),
        "errors": _errors("PASS", 0.0001, 0.0005, 15),
    },
    objectives=(
        ObjectiveVerdict(
            "p99_ms<=50", "PASS", 22.6, 0.99, "99 % confident with 12 000 requests, 3 of them over."
        ),
    ),
    pairs=15,
    detectable_effect={"mean": 0.014, "p50": 0.011, "p95": 0.026, "p99": 0.11},
    checks=(
        Check(
            "generator-lag", "The generator sent 99 % of requests within 0.3 ms of their schedule.", "INFO"
        ),
        Check(
            "shared-cpu",
            "Both servers share one node; the candidate's extra CPU use slows the baseline too.",
            "WARNING",
        ),
    ),
)
INCONCLUSIVE = Verdict(
    verdict="INCONCLUSIVE",
    reasons=("Not decided: p95 latency: +6.2 % [+0.5 % to +11.9 %], allowed +10 %.",),
    metrics={
        "mean": _metric("PASS", 0.05, 1.021, 0.02, 6.8e-3, 0.2, 60),
        "p50": _metric("PASS", 0.05, 1.012, 0.01, 6.2e-3, 0.2, 60),
        "p95": _metric("INCONCLUSIVE", 0.10, 1.062, 0.054, 11.4e-3, 0.09, 60),
        "p99": MetricVerdict("REFUSED", 0.25, 60, note="A block has 200 requests; p99 wants 400."),
        "errors": _errors("PASS", 0.0, 0.0004, 60),
    },
    pairs=60,
    pairs_wanted=48,
    requests_wanted=9600,
    detectable_effect={"p95": 0.062},
)
NO_BASELINE = Verdict(
    verdict="NO_BASELINE",
    reasons=("No earlier run has this model, load spec and fingerprint; this one was recorded.",),
    judgement="none",
)
INVALID = Verdict(
    verdict="INVALID",
    reasons=("The generator could not keep its rate, so the latencies are its own and not the servers'.",),
    metrics=PASS.metrics,
    pairs=15,
    checks=(
        Check("shared-cpu", "Both servers share one node.", "WARNING"),
        Check(
            "generator-saturated",
            "The generator achieved 148 of 200 requests per second; give it more CPU or lower the rate.",
            "INVALID",
            {"achieved_rps": 148.0, "offered_rps": 200.0},
        ),
    ),
)
VERDICTS = {verdict.verdict: verdict for verdict in (PASS, FAIL, INCONCLUSIVE, NO_BASELINE, INVALID)}
_SLOWDOWN = {"PASS": 1.0, "FAIL": 1.18, "INCONCLUSIVE": 1.05, "NO_BASELINE": 1.0, "INVALID": 1.4}


def make_report(outcome: str, server_kind: str = "tf_serving") -> RunReport:
    verdict = VERDICTS[outcome]
    alone = outcome == "NO_BASELINE"
    table = make_table(
        pairs=verdict.pairs or 30,
        slowdown=_SLOWDOWN[outcome],
        arms=("candidate",) if alone else ("candidate", "baseline"),
        error_share={"FAIL": 0.002, "INVALID": 0.05}.get(outcome, 0.0),
    )
    models = {
        "candidate": Model("digits", "8", "gs://models/digits/8", "grpc://10.8.0.12:8500"),
        "baseline": Model("digits", "7", "gs://models/digits/7", "grpc://10.8.0.11:8500"),
    }
    fingerprint = {**FINGERPRINT, "server_kind": server_kind}
    fingerprints = {
        "candidate": {**fingerprint, "server_image": "tensorflow/serving@sha256:9e77b310"}
        if outcome == "INVALID"
        else fingerprint,
        "baseline": fingerprint,
    }
    return build_run_report(
        verdict,
        table,
        make_metadata(server_kind),
        models={"candidate": models["candidate"]} if alone else models,
        fingerprints={"run": fingerprint} if alone else fingerprints,
        payload={
            "signature": "serving_default",
            "inputs": {"images": "float32 [-1, 64]"},
            "batch_sizes": [1, 4, 16],
            "requests": 64,
            "seed": 7,
        },
        history=[
            HistoryPoint(
                datetime(2026, 3, day, 9, 0, tzinfo=timezone.utc),
                {"candidate_p95_ms": 11.0 + day % 3 / 4},
                f"run-{day}",
                "7",
            )
            for day in range(2, 12)
        ]
        if outcome == "PASS"
        else (),
        links={"Pipeline run": "https://kubeflow.example/runs/4f0c", "Every request": "results.parquet"},
        created_at=CREATED_AT,
    )


@pytest.fixture(scope="session")
def report_of() -> Callable[..., RunReport]:
    return make_report


@pytest.fixture(scope="session")
def results_table() -> Callable[..., pa.Table]:
    return make_table
