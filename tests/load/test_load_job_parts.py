"""Parts of the load Job: merging rows, watching pods, the coordinator's service and its payload."""

from __future__ import annotations

import http.client
import io
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from model_load_test.components.cluster.failures import MissingRight
from model_load_test.components.cluster.kinds import SERVICE, Kind
from model_load_test.components.cluster.placement import parse_placement
from model_load_test.components.errors import InputError
from model_load_test.components.load.blocks import assign_block
from model_load_test.components.load.job.agreement import Agreement
from model_load_test.components.load.job.coordinator import ADDRESS, own_address
from model_load_test.components.load.job.generator import Coordinator, encoded_rows, fetch_payload
from model_load_test.components.load.job.manifest import Servers
from model_load_test.components.load.job.merge import (
    first_send_spread_ns,
    merged_host,
    merged_rows,
    start_skew_ns,
)
from model_load_test.components.load.job.plan import Failure, Greeting, Loaded, Plan
from model_load_test.components.load.job.service import PayloadArchive, pack_payload, serving
from model_load_test.components.load.job.watch import (
    GeneratorWatch,
    ServerWatch,
    refuse_unreserved_nodes,
    servers_behind,
)
from model_load_test.components.load.processes import Interruption
from model_load_test.components.load.schedule import Segment
from model_load_test.components.protocols.endpoint import parse_endpoint
from model_load_test.components.results.table import ROWS_SCHEMA

MS = 1_000_000


def rows(begin_ms: float, count: int, every_ms: float = 10.0) -> pa.Table:
    sent = np.round((begin_ms + every_ms * np.arange(count)) * MS).astype(np.int64)
    columns: dict[str, Any] = {
        "worker": [0] * count,
        "sent_at_ns": sent,
        "scheduled_at_ns": [None] * count,
        "latency_ns": [MS] * count,
        "ok": [True] * count,
        "status": ["OK"] * count,
        "error": [""] * count,
        "request_bytes": [10] * count,
        "response_bytes": [10] * count,
    }
    return pa.table({name: pa.array(columns[name]) for name in ROWS_SCHEMA.names}).cast(ROWS_SCHEMA)


def loaded(**of_arm: pa.Table) -> Loaded:
    encoded = {arm: encoded_rows(table) for arm, table in of_arm.items()}
    return Loaded(rows=encoded, checks=(), commands=(), cut_off=0, host={})  # type: ignore[arg-type]


def greeting(index: int, offset_ms: float = 0.0, **host: Any) -> Greeting:
    return Greeting(index, f"pod-{index}", f"node-{index}", "1.0", host, round(offset_ms * MS), 1000 * index)


def test_merging_keeps_every_row_numbers_the_workers_and_aligns_the_clocks() -> None:
    # the second generator's clock is an hour behind; told in the coordinator's time it began 5 ms later
    behind = 3_600_000.0
    brought = {
        0: loaded(candidate=rows(1e7, 50), baseline=rows(1e7 + 2, 50)),
        1: loaded(candidate=rows(1e7 + 5 - behind, 40), baseline=rows(1e7 + 9 - behind, 40)),
    }
    merged = merged_rows(brought, {0: greeting(0), 1: greeting(1, behind)})
    assert {arm: table.num_rows for arm, table in merged.items()} == {"candidate": 90, "baseline": 90}
    assert sorted(set(merged["candidate"]["worker"].to_pylist())) == [0, 1]
    assert start_skew_ns(merged) == 5 * MS
    assert first_send_spread_ns(merged) == 9 * MS
    assert merged["baseline"]["scheduled_at_ns"].null_count == 90
    assert merged["candidate"].schema == ROWS_SCHEMA


def test_a_block_opens_when_the_last_generator_sends() -> None:
    late_ms = 40.0
    brought = {0: loaded(candidate=rows(0, 100)), 1: loaded(candidate=rows(late_ms, 100))}
    merged = merged_rows(brought, {0: greeting(0), 1: greeting(1)})
    table = assign_block(merged, Segment(("candidate",), 7, 0.5, lead_seconds=0.3))
    inside = table.filter(pa.compute.equal(table["block"], 7))
    first_ns = int(np.min(inside["sent_at_ns"].to_numpy()))
    assert first_ns >= (late_ms + 300) * MS
    assert set(inside["worker"].to_pylist()) == {0, 1}


def test_nothing_brought_is_nothing_merged() -> None:
    assert merged_rows({}, {}) == {}
    assert start_skew_ns({}) == first_send_spread_ns({}) == 0
    assert merged_host([], [], [])["generators"] == 0


def test_of_the_machines_the_worst_is_told() -> None:
    host = merged_host(
        [greeting(0, cpu_model="A", cores=4), greeting(1, 3.0, cpu_model="B", cores=4)],
        [
            {"cpu_busy_share": 0.2, "saturation": {"node_busy_share": 0.2, "connect_ms_candidate": 2.0}},
            {"cpu_busy_share": 0.9, "saturation": {"node_busy_share": 0.9}},
        ],
        [1 * MS, 9 * MS, 3 * MS],
    )
    assert host["cpu_busy_share"] == 0.9
    assert host["saturation"] == {"node_busy_share": 0.9, "connect_ms_candidate": 2.0}
    assert host["cores"] == 4
    assert host["cpu_model"] == "A, B"
    assert (host["start_skew_ms"], host["start_skew_most_ms"]) == (3.0, 9.0)
    assert host["nodes"] == ["node-0", "node-1"]
    assert host["clock_offset_ms"] == 3.0


@dataclass
class Api:
    """Pods, Services and nodes as an API server would list them; what is not there is not found."""

    pods: list[dict[str, Any]] = field(default_factory=list)
    services: Mapping[str, Any] = field(default_factory=dict)
    nodes: Mapping[str, Any] = field(default_factory=dict)
    namespace: str = "here"
    refused: bool = False

    def list(self, kind: Kind, selector: str = "", *, fields: str = "") -> list[dict[str, Any]]:
        return self.pods

    def get(self, kind: Kind, name: str) -> Any:
        if self.refused:
            raise MissingRight((f"get {kind.plural}",), self.namespace, "somebody", ())
        return (self.services if kind is SERVICE else self.nodes).get(name)

    def events(self, name: str) -> Any:
        return []


def pod(name: str, phase: str = "Running", *, leaving: bool = False, restarts: int = 0, **status: Any) -> Any:
    metadata: dict[str, Any] = {
        "name": name,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"batch.kubernetes.io/job-completion-index": name.rpartition("-")[2]},
    }
    if leaving:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    containers = [{"name": "main", "restartCount": restarts, "state": {"running": {}}, **status}]
    return {
        "metadata": metadata,
        "spec": {"nodeName": "node-1"},
        "status": {"phase": phase, "containerStatuses": containers},
    }


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


@pytest.fixture
def watched() -> tuple[Api, Agreement, GeneratorWatch]:
    api, agreement = Api(), Agreement(2)
    for index in (0, 1):
        agreement.greet(greeting(index))
    watch = GeneratorWatch(api, "job", "selector", agreement)  # type: ignore[arg-type]
    api.pods = [pod("g-0"), pod("g-1")]
    watch.look()
    assert not agreement.spoiled
    return api, agreement, watch


def test_a_failed_generator_is_told_once_with_its_exit_code_and_last_words(
    watched: tuple[Api, Agreement, GeneratorWatch],
) -> None:
    api, agreement, watch = watched
    api.pods = [pod("g-0"), pod("g-1", "Failed", state=ended(3, message="the disk is full"))]
    watch.look()
    watch.look()
    (found,) = agreement.spoiled
    assert (found.code, found.index) == ("generator-failed", 1)
    assert "exit code 3" in found.detail
    assert "the disk is full" in found.detail


def test_a_generator_that_is_being_deleted_may_still_bring_its_rows(
    watched: tuple[Api, Agreement, GeneratorWatch],
) -> None:
    api, agreement, watch = watched
    disrupted = pod("g-1", leaving=True)
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    disrupted["status"]["conditions"] = [condition]
    api.pods = [pod("g-0"), disrupted]
    watch.look()
    assert [(one.code, one.index) for one in agreement.spoiled] == [("generator-lost", None)]
    assert "EvictionByEvictionAPI" in agreement.spoiled[0].detail
    api.pods = [pod("g-0")]
    watch.look()
    assert [one.index for one in agreement.spoiled] == [None, 1], "gone, it brings no more"


def test_a_generator_that_never_started_is_diagnosed() -> None:
    api, agreement = Api(), Agreement(1)
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": "no such secret"}}
    api.pods = [pod("g-0", "Pending", state=waiting)]
    watch = GeneratorWatch(api, "job", "selector", agreement)  # type: ignore[arg-type]
    deadline = time.monotonic() + 20
    while not agreement.spoiled and time.monotonic() < deadline:
        watch.look()
        time.sleep(0.1)
    assert "no such secret" in agreement.spoiled[0].detail


@pytest.mark.parametrize(
    ("then", "told"),
    [
        ([], "was deleted"),
        ([pod("s-0", leaving=True)], "is being deleted"),
        ([pod("s-0", restarts=1, lastState=ended(137, "OOMKilled"))], "OOMKilled"),
        ([pod("s-0", "Failed", state=ended(1))], "failed"),
    ],
)
def test_a_server_that_changes_amid_the_load_is_told(then: list[Any], told: str) -> None:
    agreement = Agreement(1)
    watch = ServerWatch(Api(pods=[pod("s-0")]), Servers("here", {"a": "b"}), agreement)  # type: ignore[arg-type]
    watch.look()
    assert watch.nodes == {"node-1"}
    watch.cluster = Api(pods=then)  # type: ignore[assignment]
    watch.look()
    watch.look()
    (found,) = agreement.spoiled
    assert found.code == "server-changed"
    assert told in found.detail


def test_servers_that_stay_or_are_joined_by_others_are_no_trouble() -> None:
    agreement = Agreement(1)
    watch = ServerWatch(Api(pods=[pod("s-0", restarts=4)]), Servers("here", {"a": "b"}), agreement)  # type: ignore[arg-type]
    watch.look()
    watch.cluster = Api(pods=[pod("s-0", restarts=4), pod("s-1")])  # type: ignore[assignment]
    watch.look()
    assert not agreement.spoiled


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("grpc://server:8500", [Servers("here", {"app": "s"})]),
        ("grpc://server.there:8500", [Servers("there", {"app": "s"})]),
        ("grpc://server.there.svc:8500", [Servers("there", {"app": "s"})]),
        ("http://server.there.svc.cluster.local:80", [Servers("there", {"app": "s"})]),
        ("grpc://10.1.2.3:8500", []),
        ("grpc://localhost:8500", []),
        ("http://models.example.com:80", []),
        ("grpc://unknown:8500", []),
    ],
)
def test_the_pods_behind_an_endpoint_are_those_its_service_selects(
    endpoint: str, expected: list[Servers]
) -> None:
    api = Api(services={"server": {"spec": {"selector": {"app": "s"}}}})
    found, unseen = servers_behind(api, {"candidate": parse_endpoint(endpoint)}, ())  # type: ignore[arg-type]
    assert found == expected
    assert not unseen


def test_servers_that_may_not_be_seen_are_a_warning() -> None:
    api = Api(refused=True)
    endpoints = {"candidate": parse_endpoint("grpc://server.there:8500")}
    found, (check,) = servers_behind(api, endpoints, [{"app": "own"}])  # type: ignore[arg-type]
    assert found == [Servers("here", {"app": "own"})]
    assert (check.code, check.consequence) == ("servers-unseen", "WARNING")


def test_whether_a_pool_is_reserved_is_asked_only_of_who_means_a_pool() -> None:
    toleration = {"key": "pool", "operator": "Exists"}
    pool = parse_placement([toleration], {"pool": "load"})
    bare = Api(nodes={"n": {"spec": {}}})
    taint = {"key": "pool", "value": "x", "effect": "NoSchedule"}
    for placement in (parse_placement([toleration]), parse_placement([], {"pool": "load"})):
        assert refuse_unreserved_nodes(bare, ["n"], placement) == []  # type: ignore[arg-type]
    with pytest.raises(InputError, match="node n of pool=load has no such taint"):
        refuse_unreserved_nodes(bare, ["n"], pool)  # type: ignore[arg-type]
    reserved = Api(nodes={"n": {"spec": {"taints": [taint]}}})
    assert refuse_unreserved_nodes(reserved, ["n"], pool) == []  # type: ignore[arg-type]
    (check,) = refuse_unreserved_nodes(Api(refused=True), ["n"], pool)  # type: ignore[arg-type]
    assert check.code == "nodes-unseen"


@pytest.fixture
def payload(tmp_path: Path) -> PayloadArchive:
    folder = tmp_path / "set"
    (folder / "more").mkdir(parents=True)
    (folder / "requests.bin").write_bytes(b"\0" * 3_000_000)
    (folder / "more" / "manifest.json").write_text("{}")
    return pack_payload(folder, tmp_path / "payload.tar")


@pytest.fixture
def service(payload: PayloadArchive) -> Iterator[tuple[Agreement, str]]:
    agreement = Agreement(1)
    with serving(agreement, _plan, payload, "right", host="127.0.0.1") as running:
        yield agreement, f"127.0.0.1:{running.port}"


def _plan(index: int) -> Plan:
    return Plan(1, index, {}, "", 0)


def test_packing_the_same_set_twice_gives_the_same_bytes(payload: PayloadArchive, tmp_path: Path) -> None:
    again = pack_payload(tmp_path / "set", tmp_path / "again.tar")
    assert (again.sha256, again.bytes) == (payload.sha256, payload.bytes)


def test_the_payload_arrives_whole(
    service: tuple[Agreement, str], payload: PayloadArchive, tmp_path: Path
) -> None:
    coordinator = Coordinator(service[1], "right", Interruption())
    plan = Plan(1, 0, {}, payload.sha256, payload.bytes)
    folder = tmp_path / "generator"
    folder.mkdir()
    fetched = fetch_payload(coordinator, plan, folder)
    assert (fetched / "requests.bin").read_bytes() == b"\0" * 3_000_000
    assert (fetched / "more" / "manifest.json").read_text() == "{}"


def test_a_payload_that_is_not_the_one_meant_is_refused(
    service: tuple[Agreement, str], tmp_path: Path
) -> None:
    coordinator = Coordinator(service[1], "right", Interruption())
    folder = tmp_path / "generator"
    folder.mkdir()
    with pytest.raises(InputError, match="did not arrive whole"):
        fetch_payload(coordinator, Plan(1, 0, {}, "0" * 64, 1), folder)
    assert (folder / "payload.tar").stat().st_size > 3_000_000, "it came whole, and it was another"


def test_a_payload_that_would_write_elsewhere_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../escaped"), io.BytesIO(b""))

    def download(_self: Coordinator, _path: str, file: Path) -> str:
        file.write_bytes(archive.getvalue())
        return "digest"

    monkeypatch.setattr(Coordinator, "download", download)
    with pytest.raises(InputError, match="no payload set of ours"):
        fetch_payload(Coordinator("x:1", "", Interruption()), Plan(1, 0, {}, "digest", 1), tmp_path)
    assert not (tmp_path.parent / "escaped").exists()


def test_whoever_does_not_know_the_token_gets_and_brings_nothing(service: tuple[Agreement, str]) -> None:
    agreement, address = service
    stranger = Coordinator(address, "wrong", Interruption())
    with pytest.raises(InputError, match="another run"):
        stranger.ask("/plan?index=0", Plan)
    with pytest.raises(InputError, match="another run"):
        stranger.ask("/failed", type(None), Failure(0, "I say so"))
    assert not agreement.spoiled
    assert "wrong" not in str(InputError("MODEL_LOAD_TEST_TOKEN", "***", ""))


def test_what_is_no_message_of_ours_is_refused_and_harms_nobody(service: tuple[Agreement, str]) -> None:
    agreement, address = service
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("POST", "/rows?index=0&number=0", b"\xff\xff", {"Authorization": "Bearer right"})
    assert connection.getresponse().status == 400
    connection.close()
    assert Coordinator(address, "right", Interruption()).ask("/time", int) > 0
    assert not agreement.spoiled


def test_a_coordinator_that_is_gone_is_given_up_at_once_by_who_must_end() -> None:
    from model_load_test.components.load.job.generator import CoordinatorGone

    interruption = Interruption()
    interruption.set("SIGTERM")
    with pytest.raises(CoordinatorGone):
        Coordinator("127.0.0.1:9", "right", interruption).ask("/time", int)


@pytest.mark.parametrize(
    ("pod_ip", "given", "expected"),
    [
        ("10.1.2.3", "", "10.1.2.3"),
        ("fd00::7", "", "[fd00::7]"),
        ("", "laptop.example", "laptop.example"),
        ("", "", ""),
    ],
)
def test_the_address_that_pods_reach_us_by_is_never_our_own_loopback(
    monkeypatch: pytest.MonkeyPatch, pod_ip: str, given: str, expected: str
) -> None:
    monkeypatch.delenv(ADDRESS, raising=False)
    if given:
        monkeypatch.setenv(ADDRESS, given)
    configuration = SimpleNamespace(host="https://127.0.0.1:6443")
    cluster: Any = SimpleNamespace(client=SimpleNamespace(configuration=configuration))
    pod = {"status": {"podIP": pod_ip}} if pod_ip else None
    if expected:
        assert own_address(cluster, pod) == expected
    else:
        with pytest.raises(InputError, match=ADDRESS):
            own_address(cluster, pod)
