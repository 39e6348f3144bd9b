"""Real ghz and vegeta against real servers: rates, blocks, counts, failures."""

from __future__ import annotations

import itertools
import math
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.run import StopDecision, run_load_test
from model_load_test.components.load.schedule import segments_of_block, warmup_segment
from model_load_test.components.load.spec import parse_load_spec
from model_load_test.components.results.table import RunMetadata
from model_load_test.components.serving.embedded.process import EmbeddedServer

RATE_RPS = 100
PAYLOAD_REQUESTS = 50
"""As the fixture `payload` makes them."""


def never_stop(_table: pa.Table) -> StopDecision:
    return StopDecision(False, "go on")


def endpoint(server: EmbeddedServer, protocol: str) -> str:
    return str(server.grpc if protocol == "grpc" else server.rest)


def load(
    protocol: str,
    payload: Callable[[str], Path],
    tmp_path: Path,
    candidate: EmbeddedServer,
    baseline: EmbeddedServer | None = None,
    mode: str = "auto",
    **values: Any,
) -> tuple[pa.Table, RunMetadata]:
    test = prepare(
        candidate_endpoint=endpoint(candidate, protocol),
        baseline_endpoint=endpoint(baseline, protocol) if baseline else "",
        model_name="digits",
        signature_name="serving_default",
        payload_path=payload(endpoint(candidate, protocol)),
        mode=mode,
        spec_values={
            "rate_rps": RATE_RPS,
            "block_seconds": 0.5,
            "looks": (4,),
            "warmup_seconds": 0.3,
            **values,
        },
        work_path=tmp_path / "work",
    )
    return run_load_test(test, never_stop, progress=print)


def requests_per_block(table: pa.Table, arm: str) -> dict[int, int]:
    blocks = table.filter((pc.field("arm") == arm) & (pc.field("block") >= 0))["block"].to_numpy()
    return {
        int(block): int(count) for block, count in zip(*np.unique(blocks, return_counts=True), strict=True)
    }


def assert_offered(table: pa.Table, metadata: RunMetadata, arm: str) -> None:
    """Every scheduled request was sent, whatever the server did and however busy the machine is."""
    spec = parse_load_spec(metadata.load_spec)
    segments = [warmup_segment(spec)] if spec.warmup_seconds else []
    segments += [segment for block in range(spec.max_pairs) for segment in segments_of_block(spec, block)]
    loaded = [segment for segment in segments if arm in segment.arms]
    planned = sum(math.ceil(segment.rate_rps(spec, arm) * segment.load_seconds) for segment in loaded)
    # ghz counts its requests; vegeta stops by the clock, a request sooner or later per start
    slack = 0 if spec.tool == "ghz" else len(loaded)
    assert abs(table.filter(pc.field("arm") == arm).num_rows - planned) <= slack
    assert list(requests_per_block(table, arm)) == list(range(spec.max_pairs))


def test_a_duet_loads_both_arms_in_the_same_blocks_at_the_offered_rate(
    protocol: str, payload: Callable[[str], Path], tmp_path: Path, start_server: Callable[..., EmbeddedServer]
) -> None:
    table, metadata = load(protocol, payload, tmp_path, start_server(), start_server())
    for arm in ("candidate", "baseline"):
        assert_offered(table, metadata, arm)
    assert pc.all(table["ok"]).as_py()
    assert metadata.load_spec["mode"] == "duet"
    assert metadata.tool_version != "unknown"
    assert not metadata.checks


def test_every_request_the_servers_answered_is_a_row(
    protocol: str, payload: Callable[[str], Path], tmp_path: Path, start_server: Callable[..., EmbeddedServer]
) -> None:
    from urllib.request import urlopen

    candidate, baseline = start_server(), start_server()
    table, _ = load(protocol, payload, tmp_path, candidate, baseline)
    for arm, server in (("candidate", candidate), ("baseline", baseline)):
        page = urlopen(f"{server.rest}/monitoring/prometheus/metrics", timeout=5).read().decode()
        served = sum(
            float(line.rsplit(" ", 1)[1])
            for line in page.splitlines()
            if line.startswith(":tensorflow:serving:request_latency_count{") and 'redict"' in line
        )
        # each request was tried once before
        assert table.filter(pc.field("arm") == arm).num_rows == served - PAYLOAD_REQUESTS


def test_interleaved_loads_one_arm_at_a_time(
    protocol: str, payload: Callable[[str], Path], tmp_path: Path, start_server: Callable[..., EmbeddedServer]
) -> None:
    table, _ = load(protocol, payload, tmp_path, start_server(), start_server(), mode="interleaved")
    assert requests_per_block(table, "candidate").keys() == requests_per_block(table, "baseline").keys()
    windows = []
    for arm in ("candidate", "baseline"):
        for block in range(4):
            rows = table.filter((pc.field("arm") == arm) & (pc.field("block") == block))
            windows.append((pc.min(rows["sent_at_ns"]).as_py(), pc.max(rows["sent_at_ns"]).as_py()))
    windows.sort()
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(windows))


def test_single_needs_no_baseline(
    protocol: str, payload: Callable[[str], Path], tmp_path: Path, start_server: Callable[..., EmbeddedServer]
) -> None:
    table, metadata = load(protocol, payload, tmp_path, start_server())
    assert set(table["arm"].to_pylist()) == {"candidate"}
    assert metadata.load_spec["mode"] == "single"


def test_a_slow_server_does_not_slow_the_offered_rate(
    protocol: str, payload: Callable[[str], Path], tmp_path: Path, start_server: Callable[..., EmbeddedServer]
) -> None:
    # 300 ms an answer: a closed loop of one connection would come to 3 requests a second
    table, metadata = load(protocol, payload, tmp_path, start_server(delay_ms=300))
    assert_offered(table, metadata, "candidate")
    assert np.median(table["latency_ns"].to_numpy()) > 300e6


def test_a_server_that_stops_answering_fails_its_requests_and_ends_in_time(
    protocol: str, payload: Callable[[str], Path], tmp_path: Path, start_server: Callable[..., EmbeddedServer]
) -> None:
    table, _ = load(
        protocol,
        payload,
        tmp_path,
        start_server(hang_after_requests=PAYLOAD_REQUESTS + 60),
        timeout_seconds=0.5,
        looks=(2,),
    )
    ok = table["ok"].to_numpy(zero_copy_only=False)
    assert ok.sum() == 60
    assert (~ok).sum() >= 30


def test_failing_requests_are_rows_too(
    protocol: str, payload: Callable[[str], Path], tmp_path: Path, start_server: Callable[..., EmbeddedServer]
) -> None:
    table, _ = load(protocol, payload, tmp_path, start_server(error_rate=0.3))
    failed = table.filter(pc.invert(table["ok"]))
    assert 0.1 < failed.num_rows / table.num_rows < 0.5
    assert set(failed["status"].to_pylist()) == {"Unavailable" if protocol == "grpc" else "503"}


def test_sigterm_stops_the_load_and_keeps_the_rows(
    protocol: str, payload: Callable[[str], Path], tmp_path: Path, start_server: Callable[..., EmbeddedServer]
) -> None:
    server = start_server()
    threading.Timer(3.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    table, metadata = load(protocol, payload, tmp_path, server, looks=(100,))
    assert table.num_rows > 50
    assert requests_per_block(table, "candidate").keys() < set(range(20)), "it did not run to the end"
    (check,) = metadata.checks
    assert check["consequence"] == "INVALID"
    assert "SIGTERM" in check["detail"]


def test_the_run_stops_when_the_stop_rule_says_so(
    protocol: str, payload: Callable[[str], Path], tmp_path: Path, start_server: Callable[..., EmbeddedServer]
) -> None:
    server = start_server()
    test = prepare(
        candidate_endpoint=endpoint(server, protocol),
        baseline_endpoint="",
        model_name="digits",
        signature_name="serving_default",
        payload_path=payload(endpoint(server, protocol)),
        mode="auto",
        spec_values={"rate_rps": RATE_RPS, "block_seconds": 0.5, "looks": (2, 4, 8), "warmup_seconds": 0.0},
        work_path=tmp_path / "work",
    )
    seen: list[int] = []

    def stop_at_the_second_look(table: pa.Table) -> StopDecision:
        seen.append(len(requests_per_block(table, "candidate")))
        return StopDecision(len(seen) == 2, "")

    table, _ = run_load_test(test, stop_at_the_second_look, progress=print)
    assert seen == [2, 4]
    assert len(requests_per_block(table, "candidate")) == 4


@pytest.mark.parametrize("change", ["port", "model", "signature", "both the same", "other protocol"])
def test_what_cannot_work_is_refused_before_any_load(
    change: str,
    protocol: str,
    payload: Callable[[str], Path],
    tmp_path: Path,
    start_server: Callable[..., EmbeddedServer],
) -> None:
    from model_load_test.components.errors import InputError

    server = start_server()
    address = endpoint(server, protocol)
    other = endpoint(server, "http" if protocol == "grpc" else "grpc")
    values: dict[str, Any] = {
        "candidate_endpoint": address,
        "baseline_endpoint": "",
        "model_name": "digits",
        "signature_name": "serving_default",
        "payload_path": payload(address),
        "mode": "auto",
        "spec_values": {},
        "work_path": tmp_path / "work",
    }
    changes: dict[str, tuple[dict[str, Any], str, str]] = {
        "port": (
            {"candidate_endpoint": address.rsplit(":", 1)[0] + ":9"},
            "endpoint",
            "no model server answers",
        ),
        "model": ({"model_name": "digit"}, "model_name", "made for 'digits'"),
        "signature": ({"signature_name": "serve"}, "signature_name", "made for 'serving_default'"),
        "both the same": ({"baseline_endpoint": address}, "baseline_endpoint", "the candidate's endpoint"),
        "other protocol": ({"baseline_endpoint": other}, "baseline_endpoint", "use the candidate's protocol"),
    }
    changed, field, remedy = changes[change]
    with pytest.raises(InputError, match=remedy) as caught:
        prepare(**{**values, **changed})
    assert caught.value.field == field
    assert not (tmp_path / "work").exists(), "nothing was prepared, nothing was sent"
