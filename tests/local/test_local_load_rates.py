"""Rates that vary and loops that are closed: what real generators send against what was scheduled."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from model_load_test.components.load.generators import find_generator
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.processes import Interruption
from model_load_test.components.load.run import (
    LoadTest,
    SegmentRunner,
    StopDecision,
    remove_request_files,
    request_sources,
    run_load_test,
)
from model_load_test.components.load.schedule import segments_of_block
from model_load_test.components.results.table import RunMetadata
from model_load_test.components.results.validity import validate
from model_load_test.components.serving.embedded.process import EmbeddedServer

MakePayload = Callable[[str], Path]
Start = Callable[..., EmbeddedServer]


def planned(
    protocol: str,
    payload: MakePayload,
    tmp_path: Path,
    candidate: EmbeddedServer,
    baseline: EmbeddedServer | None = None,
    mode: str = "auto",
    **values: Any,
) -> LoadTest:
    def endpoint(server: EmbeddedServer) -> str:
        return str(server.grpc if protocol == "grpc" else server.rest)

    return prepare(
        candidate_endpoint=endpoint(candidate),
        baseline_endpoint=endpoint(baseline) if baseline else "",
        model_name="digits",
        signature_name="serving_default",
        payload_path=payload(endpoint(candidate)),
        mode=mode,
        spec_values={"block_seconds": 0.5, "looks": (1,), "warmup_seconds": 0.0, **values},
        work_path=tmp_path / "work",
    )


def load(test: LoadTest) -> tuple[pa.Table, RunMetadata]:
    return run_load_test(test, lambda _table: StopDecision(False, ""), progress=lambda _update: None)


def arrivals_file(folder: Path) -> str:
    """A burst, a quiet second and a burst."""
    times = np.concatenate([np.linspace(0, 0.49, 40), np.linspace(1.5, 1.99, 25)])
    (folder / "arrivals.txt").write_text("\n".join(map(str, 1763716200 + times)))
    return str(folder / "arrivals.txt")


PROFILES: dict[str, dict[str, Any]] = {
    "step": {"from_rps": 20, "to_rps": 80, "by_rps": 30, "every_seconds": 0.5},
    "ramp": {"from_rps": 10, "to_rps": 100, "seconds": 1.5},
    "sine": {"mean_rps": 60, "amplitude_rps": 50, "period_seconds": 2},
    "replay": {},
}


@pytest.mark.parametrize("shape", PROFILES)
def test_each_start_sends_what_the_profile_schedules_for_it(
    shape: str, protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    profile = {"shape": shape, **PROFILES[shape]}
    if shape == "replay":
        profile["file"] = arrivals_file(tmp_path)
    test = planned(protocol, payload, tmp_path, start_server(), rate_profile=profile)
    runner = SegmentRunner(test, find_generator(test.spec.tool), request_sources(test), Interruption())
    sent, scheduled = [], []
    for block in range(test.spec.max_pairs):
        (segment,) = segments_of_block(test.spec, block)
        if segment.arms:
            sent.append(runner.load(segment)["candidate"].num_rows)
            scheduled.append(math.ceil(test.spec.rate_of_block(block) * segment.load_seconds))
    remove_request_files(test)
    assert not runner.checks
    assert len(set(scheduled)) > 1, "the rate varies"
    # ghz counts its requests; vegeta stops by the clock, a request sooner or later
    assert np.abs(np.subtract(sent, scheduled)).max() <= (0 if protocol == "grpc" else 1), (sent, scheduled)


@pytest.mark.parametrize("mode", ["duet", "interleaved"])
def test_both_arms_follow_the_profile_pair_by_pair_through_its_pauses(
    mode: str, protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    profile = {"shape": "replay", "file": arrivals_file(tmp_path)}
    servers = start_server(), start_server()
    table, metadata = load(planned(protocol, payload, tmp_path, *servers, mode=mode, rate_profile=profile))
    assert list(metadata.load_spec["block_rates_rps"]) == [80, 0, 0, 50]
    assert list(metadata.load_spec["looks"]) == [4], "one look after the whole pass"
    for arm in ("candidate", "baseline"):
        rows = table.filter((pc.field("arm") == arm) & (pc.field("block") >= 0))
        assert set(rows["block"].to_pylist()) == {0, 3}
    assert not metadata.checks


@pytest.mark.parametrize("mode", ["single", "duet", "interleaved"])
def test_a_closed_loop_keeps_as_many_requests_waiting_as_it_was_told(
    mode: str, protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    baseline = None if mode == "single" else start_server(delay_ms=50)
    test = planned(
        protocol, payload, tmp_path, start_server(delay_ms=50), baseline, mode, concurrency=4, looks=(2,)
    )
    table, metadata = load(test)
    assert metadata.load_spec["rate_rps"] == 0
    (check,) = metadata.checks
    assert (check["code"], check["consequence"]) == ("closed-loop", "WARNING")
    for arm in test.endpoints:
        rows = table.filter(pc.field("arm") == arm)
        sent_at_ns = rows["sent_at_ns"].to_numpy()
        ended_at_ns = sent_at_ns + rows["latency_ns"].to_numpy()
        in_flight = [int(((sent_at_ns <= at) & (ended_at_ns > at)).sum()) for at in sent_at_ns]
        assert max(in_flight) == 4, "so many requests at once, and never more"
        assert rows.num_rows <= 4 * 2 * (0.85 / 0.05 + 2), "a slow server slows a closed loop"
        assert rows["scheduled_at_ns"].null_count == rows.num_rows, "a closed loop has no schedule"
    codes = [found.code for found in validate(table, metadata)]
    assert codes.count("closed-loop") == 1
    assert "workers-all-busy" not in codes


def test_a_closed_loop_hides_the_waiting_that_an_open_loop_shows(
    protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    """Coordinated omission: one request at a time takes 40 ms, 60 are wanted a second, 25 are possible."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "open").mkdir()
    slow = {"compute_ms": 40.0, "compute_threads": 1}
    closed, _ = load(
        planned(
            protocol, payload, tmp_path / "closed", start_server(**slow), concurrency=1, block_seconds=1.5
        )
    )
    opened, _ = load(
        planned(
            protocol,
            payload,
            tmp_path / "open",
            start_server(**slow),
            rate_rps=60,
            block_seconds=1.5,
            timeout_seconds=20.0,
        )
    )
    assert opened.num_rows >= 60 * 1.8, "the offered rate did not drop"
    assert closed.num_rows < 0.7 * opened.num_rows, "the closed one did: it sent what the server let through"
    medians_ms = {
        name: float(np.median(table["latency_ns"].to_numpy())) / 1e6
        for name, table in (("closed", closed), ("open", opened))
    }
    assert medians_ms["open"] > 5 * medians_ms["closed"], medians_ms
