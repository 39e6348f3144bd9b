"""Looks while a load runs: pages, processes, control groups, pods, and the sampler around them."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from model_load_test.components.cluster.failures import ClusterUnreachable
from model_load_test.components.errors import InputError
from model_load_test.components.protocols.endpoint import parse_endpoint
from model_load_test.components.resources.catalogue import SERVER_PAGE
from model_load_test.components.resources.http_get import DoesNotAnswer, parse_address
from model_load_test.components.resources.kubernetes import POD_METRICS, pods_look
from model_load_test.components.resources.processes import cgroup_of, process_look, read_cgroup
from model_load_test.components.resources.sampling import Observed, Sampler
from model_load_test.components.resources.series import Window, with_beginnings
from model_load_test.components.resources.server_page import page_look, parse_page
from model_load_test.components.resources.spec import parse_resource_spec
from model_load_test.components.resources.watch import ResourceWatch
from model_load_test.components.serving.embedded.process import embedded_server

TRITON = """\
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="digits",version="3"} 120
nv_inference_request_success{model="digits",version="4"} 7
# TYPE nv_inference_queue_duration_us counter
nv_inference_queue_duration_us{model="digits",version="3"} 2500000
# TYPE nv_inference_pending_request_count gauge
nv_inference_pending_request_count{model="digits",version="3"} 5
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.75
# TYPE nv_gpu_memory_used_bytes gauge
nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} NaN
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 12.5
# TYPE go_goroutines gauge
go_goroutines 7
"""


def test_a_page_is_read_in_our_names_and_units() -> None:
    seen = {
        (one.metric, one.signature): one for one in parse_page(TRITON, "candidate", "h:8002", SERVER_PAGE, 5)
    }
    assert seen["served_requests", "3"].value == 120
    assert seen["served_requests", "4"].value == 7
    assert seen["queue_wait_seconds_sum", "3"].value == pytest.approx(2.5)
    assert seen["queue_length", "3"].value == 5
    assert seen["gpu_busy_share", ""].value == 0.75
    assert seen["cpu_seconds", ""].value == 12.5
    assert {one.at_ns for one in seen.values()} == {5}
    assert {one.replica for one in seen.values()} == {"h:8002"}
    assert not any(one.metric == "gpu_memory_bytes" for one in seen.values()), "NaN is no value"
    assert len(seen) == 6


def test_buckets_keep_their_limits_in_seconds() -> None:
    name = ":tensorflow:serving:request_latency"
    page = (
        f"# TYPE {name} histogram\n"
        f'{name}_bucket{{model_name="m",API="Predict",le="5000"}} 3\n'
        f'{name}_bucket{{model_name="m",API="Predict",le="+Inf"}} 4\n'
        f'{name}_sum{{model_name="m",API="Predict"}} 9000\n'
        f'{name}_count{{model_name="m",API="Predict"}} 4\n'
    )
    seen = parse_page(page, "candidate", "r", SERVER_PAGE, 1)
    assert [one.limit for one in seen if one.kind == "buckets"] == [0.005, math.inf]
    sums = {one.metric: one.value for one in seen if one.kind == "counter"}
    assert sums == {"server_latency_seconds_sum": pytest.approx(0.009), "server_latency_seconds_count": 4}


def test_a_page_of_something_else_says_so() -> None:
    with pytest.raises(DoesNotAnswer, match="text format"):
        parse_page("<html>{not</html>", "candidate", "r", SERVER_PAGE, 1)


def test_an_embedded_servers_page_tells_its_cpu_time() -> None:
    with embedded_server("digits", backend="numpy") as server:
        page = parse_address(f"{server.rest}/monitoring/prometheus/metrics", "pages")
        first = {one.metric: one.value for one in page_look("candidate", page, SERVER_PAGE)()}
        second = {one.metric: one.value for one in page_look("candidate", page, SERVER_PAGE)()}
    assert second["cpu_seconds"] > first["cpu_seconds"] > 0
    assert first["memory_bytes"] > 1e6


BURN = "import time\nprint(flush=True)\nwhile True:\n    pass\n"
BURN_IN_A_CHILD = (
    "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', 'while True: pass'])\n"
    "print(flush=True)\n"
    "sys.stdin.read()\n"
    "child.kill()\n"
)


@pytest.fixture
def start() -> Iterator[Callable[[str], int]]:
    started: list[subprocess.Popen[bytes]] = []

    def run(script: str) -> int:
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process.pid

    yield run
    for process in started:
        process.communicate(timeout=10) if script_waits(process) else process.kill()
        process.wait(10)


def script_waits(process: subprocess.Popen[bytes]) -> bool:
    return "stdin.read" in str(process.args)


@pytest.mark.parametrize("script", [BURN, BURN_IN_A_CHILD])
def test_the_cpu_time_of_a_process_is_that_of_all_it_started(
    script: str, start: Callable[[str], int]
) -> None:
    look = process_look("candidate", start(script))
    first = {one.metric: one for one in look()}
    time.sleep(0.5)
    second = {one.metric: one for one in look()}
    used = second["cpu_seconds"].value - first["cpu_seconds"].value
    passed = (second["cpu_seconds"].at_ns - first["cpu_seconds"].at_ns) / 1e9
    assert 0.02 < used <= passed * 1.1
    assert first["memory_bytes"].value > 1e6
    assert first["threads"].value >= 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a CPU clock per process")
def test_the_cpu_time_is_told_finer_than_the_ticks_of_proc(start: Callable[[str], int]) -> None:
    look = process_look("candidate", start(BURN))
    values = []
    for _ in range(5):
        time.sleep(0.02)
        values += [one.value for one in look() if one.metric == "cpu_seconds"]
    if {one.source for one in look()} == {"process"}:
        assert any(abs(value * 100 - round(value * 100)) > 1e-3 for value in values)


def test_a_process_that_has_ended_says_so(start: Callable[[str], int]) -> None:
    with pytest.raises(InputError, match=r"processes\.candidate"):
        process_look("candidate", 2**22 + 1)
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    look = process_look("candidate", process.pid)
    process.wait()
    with pytest.raises(DoesNotAnswer, match=str(process.pid)):
        look()


def made_process(proc: Path, pid: int, groups: str) -> None:
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "cgroup").write_text(groups)


def test_a_control_group_of_version_2(tmp_path: Path) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    group = root / "kubepods" / "pod1"
    group.mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory\n")
    (group / "cpu.stat").write_text(
        "usage_usec 2500000\nnr_periods 100\nnr_throttled 40\nthrottled_usec 1200000\n"
    )
    (group / "memory.current").write_text("1000000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 200000\n")
    made_process(proc, 7, "0::/kubepods/pod1\n")
    made_process(proc, os.getpid(), "0::/user.slice\n")
    found = cgroup_of(7, proc, root)
    assert found is not None
    assert read_cgroup(found) == {
        "cpu_seconds": pytest.approx(2.5),
        "cpu_throttled_seconds": pytest.approx(1.2),
        "cpu_periods": 100,
        "cpu_throttled_periods": 40,
        "memory_bytes": 800_000,
    }


def test_a_control_group_of_version_1(tmp_path: Path) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    cpu, memory = root / "cpu,cpuacct" / "docker" / "x", root / "memory" / "docker" / "x"
    cpu.mkdir(parents=True)
    memory.mkdir(parents=True)
    (cpu / "cpuacct.usage").write_text("3500000000\n")
    (cpu / "cpu.stat").write_text("nr_periods 10\nnr_throttled 1\nthrottled_time 500000000\n")
    (memory / "memory.usage_in_bytes").write_text("5000\n")
    (memory / "memory.stat").write_text("total_inactive_file 1000\n")
    made_process(proc, 7, "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n")
    made_process(proc, os.getpid(), "4:memory:/docker/y\n3:cpu,cpuacct:/docker/y\n")
    found = cgroup_of(7, proc, root)
    assert found is not None
    assert read_cgroup(found)["cpu_seconds"] == pytest.approx(3.5)
    assert read_cgroup(found)["cpu_throttled_seconds"] == pytest.approx(0.5)
    assert read_cgroup(found)["memory_bytes"] == 4000


def test_a_group_that_holds_the_generator_too_is_not_the_servers(tmp_path: Path) -> None:
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    (root / "shared").mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu\n")
    (root / "shared" / "cpu.stat").write_text("usage_usec 1\n")
    made_process(proc, 7, "0::/shared\n")
    made_process(proc, os.getpid(), "0::/shared\n")
    assert cgroup_of(7, proc, root) is None
    made_process(proc, 8, "0::/\n")
    assert cgroup_of(8, proc, root) is None


class Pods:
    """Stands for a cluster with a metrics-server."""

    namespace = "serving"

    def __init__(self, ready: int = 1, told: list[dict[str, Any]] | None = None) -> None:
        self.ready = ready
        self.told = told or []
        self.asked: list[tuple[str, str]] = []

    def list(self, kind: Any, selector: str = "") -> list[dict[str, Any]]:
        self.asked.append((kind.path(self.namespace), selector))
        if kind is POD_METRICS:
            return self.told
        condition = {"conditions": [{"type": "Ready", "status": "True"}]}
        pods: list[dict[str, Any]] = [{"metadata": {}, "status": condition} for _ in range(self.ready)]
        leaving = {"metadata": {"deletionTimestamp": "2026-03-14T09:26:53Z"}, "status": condition}
        return [*pods, leaving]


def pod_metrics(second: int, cpu: str, memory: str = "100Mi") -> dict[str, Any]:
    return {
        "metadata": {"name": "digits-0"},
        "timestamp": f"2026-03-14T09:26:{second:02d}Z",
        "window": "15s",
        "containers": [
            {"name": "server", "usage": {"cpu": cpu, "memory": memory}},
            {"name": "proxy", "usage": {"cpu": "100m", "memory": "20Mi"}},
        ],
    }


def test_pods_windows_give_back_the_counter_they_were_made_of() -> None:
    cluster: Any = Pods(ready=2)
    look = pods_look("candidate", cluster, "app=digits")
    totals = []
    for second, cpu in ((0, "1"), (15, "900m"), (15, "900m"), (30, "1900000000n")):
        cluster.told = [pod_metrics(second, cpu)]
        seen = {one.metric: one for one in look()}
        totals.append(seen["cpu_seconds"].value)
    assert totals == [0, pytest.approx(15.0), pytest.approx(15.0), pytest.approx(45.0)]
    assert seen["memory_bytes"].value == 120 * 2**20
    assert seen["replicas"].value == 2, "one that is leaving does not count"
    assert cluster.asked[1] == (
        "/apis/metrics.k8s.io/v1beta1/namespaces/serving/pods",
        "app=digits",
    )


def test_a_cluster_without_metrics_or_pods_or_answer_says_which() -> None:
    nothing: Any = Pods()
    with pytest.raises(DoesNotAnswer, match="metrics-server"):
        pods_look("candidate", nothing, "app=digits")()

    class Away(Pods):
        def list(self, kind: Any, selector: str = "") -> list[dict[str, Any]]:
            raise ClusterUnreachable("cluster", "list pods", "the API server is away; try again")

    away: Any = Away()
    with pytest.raises(DoesNotAnswer, match="API server is away"):
        pods_look("candidate", away, "app=digits")()


def observed(value: float, at_ns: int) -> Observed:
    return Observed("cpu_seconds", "counter", "candidate", "r", "page", value, at_ns)


def test_a_sampler_keeps_what_it_sees_and_says_what_it_missed() -> None:
    seen = iter([1.0, None, 2.0, 3.0])

    def look() -> list[Observed]:
        value = next(seen)
        if value is None:
            raise DoesNotAnswer("the page is gone")
        return [observed(value, int(value * 10))]

    sampler = Sampler([("the page", look)])
    for _ in range(4):
        sampler.look()
    reading = sampler(Window(0, 25))
    (series,) = reading.series
    assert series.values.tolist() == [1, 2]
    (finding,) = reading.findings
    assert finding.numbers == {"failed": 1.0, "looks": 4.0}
    assert "the page is gone" in finding.detail


def test_a_counter_that_appears_late_began_with_nought(series_of: Callable[..., Any]) -> None:
    """As TF Serving's do with the first request, where its process was there all along."""
    process = series_of(every=1.0, since=0, until=6, source="page")
    requests = series_of("served_requests", kind="counter", every=1.0, since=3, until=6, source="page",
                         value=lambda at: 40.0 + at)  # fmt: skip
    gauge = series_of("memory_bytes", every=1.0, since=3, until=6, source="page")
    other = series_of("served_requests", kind="counter", replica="r2", since=3, until=6, source="page")
    begun = with_beginnings([process, requests, gauge, other])
    assert begun[0].at_ns.tolist() == process.at_ns.tolist()
    assert begun[1].values.tolist() == [0, 43, 44, 45]
    assert begun[1].at_ns[0] == process.at_ns[2]
    assert begun[2].at_ns.size == 3
    assert begun[3].values[0] == other.values[0], "its replica was not there before"
    proxy = series_of(every=1.0, since=0.7, until=6, source="page", labels={"container": "proxy"})
    assert with_beginnings([process, proxy])[1].values[0] == proxy.values[0], "only looked at a little later"


def test_a_sample_is_kept_once_however_often_it_is_shown() -> None:
    sampler = Sampler([("x", lambda: [observed(5, 100)])])
    sampler.look()
    sampler.look()
    (series,) = sampler(Window(0, 200)).series
    assert series.at_ns.tolist() == [100]


def test_a_sampler_looks_by_itself_and_at_the_end() -> None:
    begun = time.time_ns()
    with Sampler([("x", lambda: [observed(1, time.time_ns())])], every_seconds=0.05) as sampler:
        time.sleep(0.3)
    (series,) = sampler(Window(begun, time.time_ns())).series
    assert series.at_ns.size >= 3
    assert sampler.cpu_seconds < 0.2


def test_a_complete_reading_has_what_the_last_requests_cost() -> None:
    served = [5.0]
    first_look = threading.Event()

    def look() -> list[Observed]:
        seen = observed(served[0], time.time_ns())
        first_look.set()
        return [seen]

    spec = dataclasses.replace(parse_resource_spec({}, {}), looks=(("x", look),), every_seconds=60.0)
    with ResourceWatch(spec) as watch:
        assert first_look.wait(10)
        served[0] = 7.0
        (series,) = watch.read(complete=True).series
    assert series.values.tolist() == [5, 7]
    (after,) = watch.read(complete=True).series
    assert after.at_ns.tolist() == series.at_ns.tolist(), "one last look, not two"


def test_processes_and_pages_are_found_by_the_endpoints() -> None:
    with embedded_server("digits", backend="numpy") as server:
        endpoints = {"candidate": server.grpc}
        spec = parse_resource_spec({"processes": "listening", "every_seconds": 0.1}, endpoints)
        ((name, look),) = spec.looks
        assert name == f"the candidate's process {server.pid}"
        assert {one.arm for one in look()} == {"candidate"}
        with ResourceWatch(spec, "digits") as watch:
            watch.require()
            time.sleep(0.3)
        assert {one.metric for one in watch.read().series} >= {"cpu_seconds", "memory_bytes", "threads"}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"prometeus": {}}, "resource_sources.prometeus"),
        ({"pages": {"candidate": "h:1/metrics"}}, "resource_sources.pages.candidate"),
        ({"pages": {"canary": "http://h:1/metrics"}}, "resource_sources.pages.canary"),
        ({"pages": {"candidate": 5.0}}, "resource_sources.pages.candidate"),
        ({"processes": {"candidate": "listens"}}, "resource_sources.processes.candidate"),
        ({"processes": {"candidate": "listening"}}, "resource_sources.processes.candidate"),
        ({"pods": {"namespace": "x"}}, "resource_sources.pods"),
        ({"every_seconds": 0.0}, "resource_sources.every_seconds"),
        ({"cloud_monitoring": {"project": "p"}}, "resource_sources.cloud_monitoring"),
        (
            {"cloud_monitoring": {"project": "p", "candidate": {"endpoint_id": "projects/p/endpoints/1"}}},
            "resource_sources.cloud_monitoring.candidate.endpoint_id",
        ),
    ],
)
def test_bad_sources_are_refused_by_their_name(values: dict[str, Any], field: str) -> None:
    endpoints = {"candidate": parse_endpoint("grpc://127.0.0.1:9")}
    with pytest.raises(InputError) as caught:
        parse_resource_spec(values, endpoints)
    assert caught.value.field == field


def test_what_only_knows_the_present_is_refused_afterwards() -> None:
    with pytest.raises(InputError, match="while the load runs"):
        parse_resource_spec({"pages": {"candidate": "http://h:1"}}, {}, only_afterwards=True)


def test_a_gate_that_must_judge_by_cpu_does_not_begin_without(serve: Callable[..., str]) -> None:
    endpoints = {"candidate": parse_endpoint("grpc://127.0.0.1:9")}
    with pytest.raises(InputError, match=r"margins\.cpu"):
        ResourceWatch(parse_resource_spec({}, endpoints)).require()
    for values in (
        {"pages": {"candidate": "http://127.0.0.1:9/metrics"}},
        {"prometheus": {"url": "http://127.0.0.1:9", "candidate": {"pod": "a"}}},
    ):
        with pytest.raises(InputError, match="does not answer"):
            ResourceWatch(parse_resource_spec(values, endpoints)).require()


def test_the_servers_that_a_run_deployed_are_found_by_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    from model_load_test.components.cluster import connection
    from model_load_test.components.cluster.labels import RunIdentity, selector_of
    from model_load_test.components.serving.arm import SERVER_PART

    monkeypatch.setattr(connection, "connect", lambda *_, **__: Pods())
    endpoints = {"candidate": parse_endpoint("grpc://candidate:8500")}
    spec = parse_resource_spec({"pods": "deployed"}, endpoints, run_id="run-1")
    ((name, _),) = spec.looks
    created = RunIdentity("run-1", "task-2").labels(SERVER_PART, "candidate")
    asked = dict(part.split("=") for part in name.partition("(")[2].rstrip(")").split(","))
    assert asked.items() <= created.items(), selector_of(created)
    with pytest.raises(InputError, match="pipeline run"):
        parse_resource_spec({"pods": "deployed"}, endpoints)
