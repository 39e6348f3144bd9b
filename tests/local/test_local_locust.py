"""Real Locust against real servers: rates, blocks, modes, workers, a user's own locustfile, failures."""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.run import LoadTest, StopDecision, run_load_test
from model_load_test.components.results.table import RunMetadata
from model_load_test.components.serving.embedded.process import EmbeddedServer

if importlib.util.find_spec("locust") is None:
    pytest.skip("locust is not installed (`make environment` installs it)", allow_module_level=True)

RATE_RPS = 60

Start = Callable[..., EmbeddedServer]
MakePayload = Callable[[str], Path]


@pytest.fixture(params=["grpc", "http"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def never_stop(_table: pa.Table) -> StopDecision:
    return StopDecision(False, "go on")


def endpoint(server: EmbeddedServer, protocol: str) -> str:
    return str(server.grpc if protocol == "grpc" else server.rest)


def planned(
    protocol: str,
    payload: MakePayload,
    tmp_path: Path,
    candidate: EmbeddedServer,
    baseline: EmbeddedServer | None = None,
    mode: str = "auto",
    locustfile: str = "",
    **values: Any,
) -> LoadTest:
    return prepare(
        candidate_endpoint=endpoint(candidate, protocol),
        baseline_endpoint=endpoint(baseline, protocol) if baseline else "",
        model_name="digits",
        signature_name="serving_default",
        payload_path=payload(endpoint(candidate, protocol)),
        mode=mode,
        locustfile=locustfile,
        spec_values={
            "tool": "locust",
            "rate_rps": RATE_RPS,
            "block_seconds": 0.5,
            "looks": (2,),
            "warmup_seconds": 0.0,
            **values,
        },
        work_path=tmp_path / "work",
    )


def load(*arguments: Any, **values: Any) -> tuple[pa.Table, RunMetadata]:
    return run_load_test(planned(*arguments, **values), never_stop, progress=print)


def rows_of_arm(table: pa.Table, arm: str) -> pa.Table:
    return table.filter(pc.field("arm") == arm)


def invalid(metadata: RunMetadata) -> list[str]:
    return [check["detail"] for check in metadata.checks if check["consequence"] == "INVALID"]


def test_a_duet_loads_both_arms_at_the_same_time_and_at_the_offered_rate(
    protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    table, metadata = load(protocol, payload, tmp_path, start_server(), start_server())
    begun = {}
    for arm in ("candidate", "baseline"):
        rows = rows_of_arm(table, arm)
        assert set(rows["block"].to_pylist()) - {-1} == {0, 1}
        # each segment lasts 0.85 s; what is due is sent, however late on a busy machine
        assert abs(rows.num_rows - 2 * RATE_RPS * 0.85) <= 5
        begun[arm] = pc.min(rows["scheduled_at_ns"]).as_py()
    assert begun["candidate"] == begun["baseline"], "both begin at the instant they agreed on"
    assert pc.all(table["ok"]).as_py()
    assert set(table["status"].to_pylist()) == {"OK" if protocol == "grpc" else "200"}
    assert metadata.tool == "locust"
    assert metadata.tool_version
    assert not invalid(metadata)
    assert not list((tmp_path / "work").iterdir()), "nothing is left of the run"


def test_other_apis_are_loaded_too(
    protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    table, metadata = load(protocol, payload, tmp_path, start_server(api="oip"), looks=(1,))
    assert abs(table.num_rows - RATE_RPS * 0.85) <= 3
    assert pc.all(table["ok"]).as_py(), table["error"].unique()
    assert not invalid(metadata)


def test_interleaved_loads_one_arm_at_a_time(
    protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    table, _ = load(protocol, payload, tmp_path, start_server(), start_server(), mode="interleaved")
    windows = []
    for arm, block in itertools.product(("candidate", "baseline"), (0, 1)):
        rows = rows_of_arm(table, arm).filter(pc.field("block") == block)
        windows.append((pc.min(rows["sent_at_ns"]).as_py(), pc.max(rows["sent_at_ns"]).as_py()))
    windows.sort()
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(windows))


def test_every_request_the_server_answered_is_a_row_with_its_schedule(
    protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    server = start_server()
    test = planned(protocol, payload, tmp_path, server)
    before = served(server)
    table, metadata = run_load_test(test, never_stop, progress=print)
    assert table.num_rows == served(server) - before
    assert metadata.load_spec["mode"] == "single"
    scheduled = np.sort(table["scheduled_at_ns"].to_numpy())
    gaps = np.diff(scheduled)
    assert np.median(gaps) == pytest.approx(1e9 / RATE_RPS, rel=1e-6), "the timetable is the rate"
    assert set(table["worker"].to_pylist()) == {0}
    assert pc.min(table["request_bytes"]).as_py() > 0
    assert pc.min(table["response_bytes"]).as_py() > 0


def served(server: EmbeddedServer) -> float:
    from urllib.request import urlopen

    page = urlopen(f"{server.rest}/monitoring/prometheus/metrics", timeout=5).read().decode()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in page.splitlines()
        if line.startswith(":tensorflow:serving:request_latency_count{") and 'redict"' in line
    )


def test_a_slow_server_does_not_slow_the_timetable(
    protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    # 300 ms an answer: one user in a closed loop would come to 3 requests a second
    table, metadata = load(protocol, payload, tmp_path, start_server(delay_ms=300))
    assert abs(table.num_rows - 2 * RATE_RPS * 0.85) <= 4
    assert np.median(table["latency_ns"].to_numpy()) > 300e6
    assert "locust-users-busy" not in [check["code"] for check in metadata.checks]


def test_too_few_users_are_told_and_their_wait_is_in_the_latency(
    protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    table, metadata = load(protocol, payload, tmp_path, start_server(delay_ms=200), users=3)
    (told,) = [detail for detail in invalid(metadata) if "Locust users" in detail]
    assert told.startswith("All 3 Locust users")
    assert pc.max(table["latency_ns"]).as_py() > 600e6, "later requests waited for several answers"


def test_a_closed_loop_has_no_schedule_and_is_called_one(
    protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    table, metadata = load(
        protocol, payload, tmp_path, start_server(delay_ms=50), concurrency=4, rate_rps=200.0
    )
    assert table["scheduled_at_ns"].null_count == table.num_rows
    assert "closed-loop" in [check["code"] for check in metadata.checks]
    assert 4 <= table.num_rows <= 2 * 4 * 0.85 / 0.05 + 8, "each of 4 waits 50 ms for its answer"


def test_workers_led_by_a_master_share_one_timetable(
    protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    table, metadata = load(
        protocol, payload, tmp_path, start_server(), workers=2, looks=(1,), timeout_seconds=2.0
    )
    assert set(table["worker"].to_pylist()) == {0, 1}
    scheduled = np.sort(table["scheduled_at_ns"].to_numpy())
    assert np.median(np.diff(scheduled)) == pytest.approx(1e9 / RATE_RPS, rel=1e-6)
    assert abs(table.num_rows - RATE_RPS * 0.85) <= 2
    assert not invalid(metadata)


def test_failing_and_timed_out_requests_are_rows_with_the_words_of_the_other_generators(
    protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    server = start_server(error_rate=0.3, hang_after_requests=120)
    table, _ = load(protocol, payload, tmp_path, server, timeout_seconds=0.4, looks=(2,))
    failed = table.filter(pc.invert(table["ok"]))
    unavailable, no_answer = ("Unavailable", "DeadlineExceeded") if protocol == "grpc" else ("503", "0")
    assert set(failed["status"].to_pylist()) <= {unavailable, no_answer}
    assert unavailable in failed["status"].to_pylist()
    late = failed.filter(pc.equal(failed["status"].cast(pa.string()), no_answer))
    if late.num_rows:  # the trial requests before the load use up some of the 120
        assert pc.min(late["latency_ns"]).as_py() >= 0.39e9


def test_a_server_that_is_gone_is_told_by_its_errors(
    protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    server = start_server()
    test = planned(protocol, payload, tmp_path, server, looks=(1,), timeout_seconds=1.0)
    os.kill(server.pid, signal.SIGKILL)
    table, _ = run_load_test(test, never_stop, progress=print)
    assert table.num_rows
    assert not pc.any(table["ok"]).as_py()
    assert "refused" in " ".join(set(table["error"].to_pylist())).lower()


def test_sigterm_stops_the_load_and_keeps_the_rows(
    protocol: str, payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    server = start_server()
    test = planned(protocol, payload, tmp_path, server, block_seconds=60.0, looks=(1,))
    stop = threading.Event()

    def stop_once_some_are_served() -> None:
        before = served(server)
        while served(server) < before + 40 and not stop.wait(0.05):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=stop_once_some_are_served)
    watcher.start()
    try:
        table, metadata = run_load_test(test, never_stop, progress=print)
    finally:
        stop.set()
        watcher.join()
    assert 30 <= table.num_rows < 20 * RATE_RPS
    (detail,) = invalid(metadata)
    assert "SIGTERM" in detail


OWN_LOCUSTFILE = """
from locust import HttpUser, between, task

class Reader(HttpUser):
    weight = 1
    wait_time = between(5, 9)

    @task
    def status(self):
        self.client.get("/v1/models/digits")

class Looker(HttpUser):
    weight = 3
    wait_time = between(5, 9)

    def on_start(self):
        self.client.get("/v1/models/digits")

    @task(2)
    def metadata(self):
        self.client.get("/v1/models/digits/metadata")

    @task(1)
    def missing(self):
        self.client.get("/v1/models/nothing")
"""


def test_a_users_own_locustfile_runs_at_our_pace_with_its_weights(
    payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    own = tmp_path / "locustfile.py"
    own.write_text(OWN_LOCUSTFILE)
    table, metadata = load("http", payload, tmp_path, start_server(), locustfile=str(own), users=40)
    assert abs(table.num_rows - 2 * RATE_RPS * 0.85) <= 4, "its own wait time, 5 to 9 s, does not count"
    assert table["scheduled_at_ns"].null_count == 0
    assert metadata.load_spec["locustfile_hash"]
    assert 0.1 < np.mean(~table["ok"].to_numpy(zero_copy_only=False)) < 0.45, "3/4 x 1/3 ask for nothing"
    codes = {check["code"] for check in metadata.checks}
    assert "locust-requests-before-start" in codes
    assert not invalid(metadata)


def test_a_locustfile_whose_tasks_raise_makes_the_run_invalid(
    payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    own = tmp_path / "locustfile.py"
    own.write_text(
        "from locust import HttpUser, task\n"
        "class Broken(HttpUser):\n"
        "    @task\n"
        "    def fail(self):\n"
        "        raise RuntimeError('out of ideas')\n"
    )
    table, metadata = load("http", payload, tmp_path, start_server(), locustfile=str(own), looks=(1,))
    assert table.num_rows == 0
    assert any("out of ideas" in detail for detail in invalid(metadata))


def test_locust_never_reaches_the_process_that_runs_the_test(
    payload: MakePayload, tmp_path: Path, start_server: Start
) -> None:
    server = start_server()
    folder = payload(str(server.rest))
    script = f"""
import socket, sys
from pathlib import Path
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.run import StopDecision, run_load_test
plain = socket.socket
test = prepare(
    candidate_endpoint={str(server.rest)!r}, baseline_endpoint="", model_name="digits",
    signature_name="serving_default", payload_path=Path({str(folder)!r}), mode="auto",
    spec_values={{"tool": "locust", "rate_rps": 50.0, "block_seconds": 0.3, "looks": (1,),
                  "warmup_seconds": 0.0}},
    work_path=Path({str(tmp_path / "other")!r}),
)
table, _ = run_load_test(test, lambda table: StopDecision(True, ""), progress=print)
assert table.num_rows > 20
assert socket.socket is plain
for name in ("locust", "gevent"):
    assert name not in sys.modules, name
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
