"""Whole load Jobs on this machine: real generators, real servers, pods played by processes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the module beside this one; tests are no package

from process_cluster import ProcessCluster

from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.errors import InputError
from model_load_test.components.load.job.coordinator import LoadJob, Measured, run_load_job
from model_load_test.components.load.job.spec import parse_job_spec
from model_load_test.components.load.progress import ProgressUpdate
from model_load_test.components.load.run import StopDecision
from model_load_test.components.payload.make import make_payload
from model_load_test.components.protocols.endpoint import parse_endpoint
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server

RATE_RPS = 120


TOOLS = {"grpc": "ghz", "http": "vegeta"}


@pytest.fixture
def protocol(request: pytest.FixtureRequest) -> str:
    """gRPC, unless the test is parametrised with another; how a Job goes does not depend on it."""
    asked = str(getattr(request, "param", "grpc"))
    if shutil.which(TOOLS[asked]) is None:
        pytest.skip(f"{TOOLS[asked]} is not on PATH (`make tools` says why it could not be installed)")
    return asked


@pytest.fixture
def start_server() -> Iterator[Callable[..., EmbeddedServer]]:
    with ExitStack() as stack:
        yield lambda **faults: stack.enter_context(embedded_server("digits", backend="numpy", **faults))


@pytest.fixture
def make_job(
    protocol: str, tmp_path: Path, start_server: Callable[..., EmbeddedServer]
) -> Callable[..., LoadJob]:
    def make(
        cluster: ProcessCluster,
        generators: int = 2,
        looks: tuple[int, ...] = (3,),
        job: Mapping[str, Any] | None = None,
        tool: str = "",
    ) -> LoadJob:
        candidate, baseline = start_server(), start_server()
        address = candidate.grpc if protocol == "grpc" else candidate.rest
        other = baseline.grpc if protocol == "grpc" else baseline.rest
        payload = tmp_path / "payload"
        make_payload(parse_endpoint(str(address)), model_name="digits", out_dir=payload, requests=50)
        preparation: dict[str, Any] = {
            "candidate_endpoint": str(address),
            "baseline_endpoint": str(other),
            "model_name": "digits",
            "signature_name": "serving_default",
            "mode": "auto",
            "spec_values": {
                "rate_rps": float(RATE_RPS),
                "block_seconds": 0.5,
                "looks": looks,
                "warmup_seconds": 0.3,
                **({"tool": tool} if tool else {}),
            },
        }
        return LoadJob(
            spec=parse_job_spec({"generators": generators, "image": "here", **(job or {})}),
            identity=RunIdentity("run", "load"),
            cluster=cluster,  # type: ignore[arg-type]  # the part of it that is asked for
            preparation=preparation,
            payload_path=payload,
            work_path=tmp_path / "work",
            reference_path=tmp_path / "reference.json",
        )

    return make


def go_on(_measured: Measured) -> Callable[[pa.Table], StopDecision]:
    return lambda _table: StopDecision(False, "go on")


def workers_of(table: pa.Table) -> dict[int, int]:
    values, counts = np.unique(table["worker"].to_numpy(), return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


@pytest.mark.parametrize(
    ("protocol", "tool"), [("grpc", "ghz"), ("http", "vegeta"), ("grpc", "locust")], indirect=["protocol"]
)
def test_generators_share_the_rate_and_their_rows_become_one_table(
    make_job: Callable[..., LoadJob], tool: str
) -> None:
    # looked for, not imported: importing it patches the sockets and threads of all later tests
    if tool == "locust" and importlib.util.find_spec("locust") is None:
        pytest.skip("the extra `locust` is not installed")
    cluster = ProcessCluster()
    measured = run_load_job(make_job(cluster, generators=3, tool=tool), go_on)
    table = measured.table
    assert set(workers_of(table)) == {0, 1, 2}
    assert table.num_rows == sum(workers_of(table).values())
    for arm in ("candidate", "baseline"):
        rows = table.filter((pc.field("arm") == arm) & (pc.field("block") >= 0))
        blocks, counts = np.unique(rows["block"].to_numpy(), return_counts=True)
        assert list(blocks) == [0, 1, 2]
        assert all(abs(count - RATE_RPS * 0.5) <= 20 for count in counts), counts
    assert {check["consequence"] for check in measured.metadata.checks} <= {"INFO"}, measured.metadata.checks
    assert measured.metadata.host["generators"] == 3
    assert measured.metadata.host["start_skew_ms"] >= 0
    print("host", measured.metadata.host)
    assert measured.nodes == ("node-0", "node-1", "node-2")
    assert measured.metadata.load_spec["rate_rps"] == RATE_RPS
    assert not cluster.jobs
    assert [process.poll() for process in cluster.processes] == [0, 0, 0]


def test_both_arms_of_a_pair_are_loaded_by_every_generator(make_job: Callable[..., LoadJob]) -> None:
    table = run_load_job(make_job(ProcessCluster()), go_on).table
    for block in range(3):
        for worker in (0, 1):
            rows = table.filter((pc.field("block") == block) & (pc.field("worker") == worker))
            assert set(rows["arm"].to_pylist()) == {"candidate", "baseline"}


def test_the_stop_rule_is_asked_of_the_merged_rows(make_job: Callable[..., LoadJob]) -> None:
    seen: list[set[int]] = []

    def stop_at_once(measured: Measured) -> Callable[[pa.Table], StopDecision]:
        assert measured.hosts[0]["cores"] > 0, "it is known where the generators run"

        def decide(table: pa.Table) -> StopDecision:
            seen.append(set(workers_of(table)))
            return StopDecision(True, "decided")

        return decide

    measured = run_load_job(make_job(ProcessCluster(), looks=(2, 50)), stop_at_once)
    assert seen == [{0, 1}]
    assert set(measured.table["block"].to_pylist()) == {-1, 0, 1}


def amid_the_load(act: Callable[[], object]) -> Callable[[ProgressUpdate], None]:
    """A progress that acts once, when the first pair has been measured and the next is."""
    done = threading.Event()

    def progress(update: ProgressUpdate) -> None:
        print(update)
        if "candidate" in update.text and not done.is_set():
            done.set()
            threading.Timer(0.5, act).start()

    return progress


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_generator_that_ends_amid_the_load_spoils_the_run_and_keeps_the_rows(
    make_job: Callable[..., LoadJob], number: signal.Signals
) -> None:
    cluster = ProcessCluster()
    job = make_job(cluster, looks=(200,))
    measured = run_load_job(job, go_on, amid_the_load(lambda: cluster.processes[1].send_signal(number)))
    invalid = [check for check in measured.metadata.checks if check["consequence"] == "INVALID"]
    assert any("enerator 1" in check["detail"] for check in invalid), invalid
    assert measured.table.num_rows > 0
    assert set(workers_of(measured.table)) == {0, 1}
    assert not cluster.jobs


def test_a_cancelled_run_keeps_its_rows_and_removes_the_job(make_job: Callable[..., LoadJob]) -> None:
    cluster = ProcessCluster()
    job = make_job(cluster, looks=(200,))
    measured = run_load_job(job, go_on, amid_the_load(lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert any("SIGTERM" in check["detail"] for check in measured.metadata.checks)
    assert measured.table.num_rows > 0
    assert not cluster.jobs


def test_a_generator_that_cannot_start_says_why_and_nothing_is_left(make_job: Callable[..., LoadJob]) -> None:
    cluster = ProcessCluster(environment={"PATH": "/nowhere"})
    with pytest.raises(InputError, match="on PATH"):
        run_load_job(make_job(cluster), go_on)
    assert not cluster.jobs
    assert all(process.poll() is not None for process in cluster.processes)


def test_a_server_that_is_started_again_amid_the_load_spoils_the_run(
    make_job: Callable[..., LoadJob],
) -> None:
    status = {"name": "server", "restartCount": 0, "state": {"running": {}}}
    pod = {
        "metadata": {"name": "server-0", "labels": {}},
        "spec": {"nodeName": "node-9"},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }
    cluster = ProcessCluster(server_pods=[pod])
    job = make_job(cluster, looks=(200,), job={"avoid": [{"app": "server"}]})

    def restart() -> None:
        ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
        again = {**status, "restartCount": 1, "lastState": ended}
        cluster.server_pods[0] = {**pod, "status": {"phase": "Running", "containerStatuses": [again]}}

    measured = run_load_job(job, go_on, amid_the_load(restart))
    (check,) = [check for check in measured.metadata.checks if check["code"] == "server-changed"]
    assert "OOMKilled" in check["detail"]
    assert measured.table.num_rows > 0


def test_what_an_earlier_try_left_is_removed_first(make_job: Callable[..., LoadJob]) -> None:
    cluster = ProcessCluster()
    job = make_job(cluster)
    name = "mlt-load-of-an-earlier-try"
    cluster.jobs[name] = {"metadata": {"name": name, "labels": {"model-load-test/run": "run"}}}
    said: list[str] = []
    run_load_job(job, go_on, progress=lambda update: said.append(update.text))
    assert any("earlier try" in line for line in said)
    assert not cluster.jobs


def test_nodes_that_are_not_reserved_are_refused_before_any_load(make_job: Callable[..., LoadJob]) -> None:
    taint = {"key": "pool", "value": "load", "effect": "NoSchedule"}
    toleration = {"key": "pool", "operator": "Equal", "value": "load", "effect": "NoSchedule"}
    reserved = {"spec": {"taints": [taint]}}
    values = {"tolerations": [toleration], "node_selector": {"pool": "load"}}
    open_to_all = ProcessCluster(nodes={"node-0": reserved, "node-1": {"spec": {}}})
    job = make_job(open_to_all, job=values)
    with pytest.raises(InputError, match="node-1 of pool=load has no such taint"):
        run_load_job(job, go_on)
    assert not open_to_all.jobs
    both = ProcessCluster(nodes={"node-0": reserved, "node-1": reserved})
    assert run_load_job(replace(job, cluster=both), go_on).table.num_rows  # type: ignore[arg-type]
