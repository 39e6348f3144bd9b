"""A load test whose generators run in the pods of a Job: create it, agree, measure, merge, remove it."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import pyarrow as pa

from model_load_test.components.cluster.connection import Cluster
from model_load_test.components.cluster.failures import ClusterError
from model_load_test.components.cluster.kinds import EVENT, JOB, POD, SERVICE
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.cluster.ownership import owned_by, owner_reference
from model_load_test.components.cluster.reference import write_reference
from model_load_test.components.cluster.removal import Removal, remove
from model_load_test.components.cluster.rights import Right, right
from model_load_test.components.cluster.waiting import DidNotComeUp, PodWatch
from model_load_test.components.errors import InputError
from model_load_test.components.image import load_test_image
from model_load_test.components.load.blocks import assign_block
from model_load_test.components.load.bottleneck import bottleneck_line, bottlenecks_of
from model_load_test.components.load.bottleneck_probe import ServerProbe
from model_load_test.components.load.exporter import load_exporter
from model_load_test.components.load.job.agreement import Agreement
from model_load_test.components.load.job.manifest import generator_selector, job_manifest, job_name
from model_load_test.components.load.job.merge import (
    first_send_spread_ns,
    merged_host,
    merged_rows,
    start_skew_ns,
)
from model_load_test.components.load.job.plan import Loaded, Plan
from model_load_test.components.load.job.service import PayloadArchive, pack_payload, serving
from model_load_test.components.load.job.spec import (
    SEGMENT_GRACE_SECONDS,
    JobSpec,
    longest_seconds,
    share_of,
)
from model_load_test.components.load.job.watch import (
    GeneratorWatch,
    ServerWatch,
    refuse_unreserved_nodes,
    servers_behind,
    watching,
)
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.processes import Interruption
from model_load_test.components.load.progress import Progress, ProgressUpdate, print_progress
from model_load_test.components.load.run import (
    LoadTest,
    StopRule,
    interruptible,
    measure,
    payload_facts,
)
from model_load_test.components.load.schedule import WARMUP_BLOCK, Segment
from model_load_test.components.load.spec import LoadSpec
from model_load_test.components.payload.manifest import read_manifest
from model_load_test.components.results.checks import Check
from model_load_test.components.results.table import SCHEMA, RunMetadata

RIGHTS: Final[tuple[Right, ...]] = (
    right(JOB, "get", "list", "create", "delete"),
    right(POD, "get", "list"),
    right(POD, "get", part="log"),
    right(EVENT, "list"),
    right(SERVICE, "get"),
)
"""What the task's ServiceAccount needs in its namespace; reading pods is needed in the servers' too."""

ADDRESS: Final = "MODEL_LOAD_TEST_ADDRESS"
"""By which the generators reach the coordinator, where it cannot find that out."""
REMOVED_WITHIN_SECONDS: Final = 60.0
DISMISSED_WITHIN_SECONDS: Final = 3.0
SKEW_MS: Final = 50.0
_ALLOWED_SPREADS: Final = 2.0
_LEAST_ALLOWANCE_SECONDS: Final = 0.1
_MOST_ALLOWANCE_SECONDS: Final = 2.0
CLOCK_UNCERTAINTY_MS: Final = 25.0


@dataclass(frozen=True)
class LoadJob:
    """Everything a distributed load test needs."""

    spec: JobSpec
    identity: RunIdentity
    cluster: Cluster
    preparation: Mapping[str, Any]
    """Arguments of `load.preflight.prepare` but for the folders."""
    payload_path: Path
    work_path: Path
    reference_path: Path | None = None
    """Where to write what is about to be created, before it is."""
    metrics_port: int = 0
    """Where a Prometheus can follow the load; 0 for nowhere."""


@dataclass(frozen=True)
class Measured:
    """What a distributed load test yields."""

    table: pa.Table
    metadata: RunMetadata
    test: LoadTest
    hosts: tuple[dict[str, Any], ...]
    """Facts about each generator's machine."""
    nodes: tuple[str, ...]
    """Where each generator ran."""


def run_load_job(
    job: LoadJob, stop_rule_of: Callable[[Measured], StopRule], progress: Progress = print_progress
) -> Measured:
    """Runs a load test from the pods of a Job and removes the Job, whatever happens.

    Args:
        job: What to load, from where.
        stop_rule_of: Makes the stop rule, once it is known where the generators run; it is given what
            will be returned, without rows.
        progress: Receives one line of text per step.

    Returns:
        The merged rows and their metadata. What went wrong after the load began is a check in it with
        consequence INVALID, beside the rows that were measured until then.

    Raises:
        InputError: The load could not begin; nothing of the run is left.
    """
    with interruptible() as interruption:
        job.cluster.needing(RIGHTS).require_rights()
        test = prepare(**job.preparation, payload_path=job.payload_path, work_path=job.work_path)
        job.work_path.mkdir(parents=True, exist_ok=True)
        with removed_at_the_end(job, progress):
            return _run(job, test, stop_rule_of, interruption, progress)


@contextmanager
def removed_at_the_end(job: LoadJob, progress: Progress) -> Iterator[None]:
    """Removes what an earlier try of the same task left, and at the end of the block what this one made."""
    earlier = _remove(job)
    if earlier.removed:
        what = ", ".join(map(str, earlier.removed))
        progress(ProgressUpdate(f"removed what an earlier try of this task left: {what}"))
    try:
        yield
    finally:
        _remove(job)


def _remove(job: LoadJob) -> Removal:
    return remove(
        job.cluster, job.identity.selector, kinds=(JOB, POD), deadline_seconds=REMOVED_WITHIN_SECONDS
    )


def _run(
    job: LoadJob,
    test: LoadTest,
    stop_rule_of: Callable[[Measured], StopRule],
    interruption: Interruption,
    progress: Progress,
) -> Measured:
    agreement = Agreement(job.spec.generators)
    payload = pack_payload(job.payload_path, job.work_path / "payload.tar")
    token = secrets.token_urlsafe(24)
    started_at_ns = time.time_ns()
    with ExitStack() as stack:
        service = stack.enter_context(serving(agreement, _plan_of(job, test, payload), payload, token))
        stack.callback(agreement.dismiss, "the run is over", DISMISSED_WITHIN_SECONDS)
        own = own_pod(job.cluster)
        servers, findings = servers_behind(job.cluster, test.endpoints, job.spec.avoid)
        server_watches = [ServerWatch(job.cluster, one, agreement) for one in servers]
        for watch in server_watches:
            watch.look()
        manifest = job_manifest(
            job.spec,
            job.identity,
            image=job.spec.image or own_image(own),
            coordinator=f"{own_address(job.cluster, own)}:{service.port}",
            token=token,
            deadline_seconds=job.spec.start_timeout_seconds + longest_seconds(test.spec),
            servers=servers,
        )
        name = job_name(job.identity)
        if job.reference_path:
            write_reference(job.reference_path, job.cluster.namespace, job.identity, [(JOB, name)])
        job.cluster.create(owned_by(manifest, owner_reference(own)) if own else manifest)
        where = f"{job.spec.generators} generators in {job.cluster.namespace}"
        progress(ProgressUpdate(f"created Job {name} of {where}"))
        watches: list[GeneratorWatch | ServerWatch] = [
            GeneratorWatch(job.cluster, name, generator_selector(job.identity), agreement),
            *server_watches,
        ]
        stack.enter_context(watching(watches, agreement))
        _await_ready(job, agreement, interruption, progress)
        nodes = tuple(greeting.node for greeting in agreement.greetings.values())
        findings += _findings_on_nodes(job, nodes, server_watches)
        findings += _findings_on_clocks(agreement)
        runner = JobRunner(agreement, test.spec, interruption, findings)
        model_name = read_manifest(test.payload_path).model_name
        servers_told = ServerProbe(test.spec, test.endpoints, test.metrics, model_name)
        runner.before_first_block = servers_told.begin
        measured = _measured(test, runner, started_at_ns)
        observer = stack.enter_context(load_exporter(job.metrics_port, test.spec))
        measure(runner, test.spec, stop_rule_of(measured), progress, test.limits, observer)
        servers_told.end()
        measured = _measured(test, runner, started_at_ns, servers_told)
    line = bottleneck_line(bottlenecks_of(measured.metadata.host))
    if line:
        progress(ProgressUpdate(line))
    return measured


def _plan_of(job: LoadJob, test: LoadTest, payload: PayloadArchive) -> Callable[[int], Plan]:
    count = job.spec.generators
    shares = [share_of(test.spec, index, count) for index in range(count)]
    locustfile = test.locustfile.read_bytes() if test.locustfile else b""

    def plan_of(index: int) -> Plan:
        return Plan(
            generators=count,
            index=index,
            preparation={
                **job.preparation,
                "mode": test.spec.mode,
                "spec_values": msgspec.to_builtins(shares[index]),
                # Trying each request from everywhere would be a load of its own.
                "tried": True,
                "locustfile": "",
            },
            payload_sha256=payload.sha256,
            payload_bytes=payload.bytes,
            locustfile=locustfile,
        )

    return plan_of


def own_address(cluster: Cluster, pod: Mapping[str, Any] | None) -> str:
    """The address by which the generators' pods reach this process.

    Raises:
        InputError: It cannot be found.
    """
    if given := os.environ.get(ADDRESS):
        return given
    own = str((pod or {}).get("status", {}).get("podIP") or _address_on_the_way(cluster))
    if ipaddress.ip_address(own).is_loopback:
        remedy = "the API server is on this machine; set it to the address that pods reach this one by"
        raise InputError(ADDRESS, own, remedy)
    return f"[{own}]" if ":" in own else own


def _address_on_the_way(cluster: Cluster) -> str:
    host = urlsplit(cluster.client.configuration.host)
    family, kind, protocol, _, address = socket.getaddrinfo(
        host.hostname, host.port or 443, type=socket.SOCK_DGRAM
    )[0]
    with socket.socket(family, kind, protocol) as udp:
        # Nothing is sent: connecting only chooses the route, and with it the address.
        udp.connect(address)
        return str(udp.getsockname()[0])


def own_pod(cluster: Cluster) -> dict[str, Any] | None:
    """The pod this task runs in, which the Job is to belong to: who coordinates a Job takes it along."""
    name = os.environ.get("KFP_POD_NAME", "")
    pod = cluster.get(POD, name) if name else None
    return {**pod, "apiVersion": POD.api_version, "kind": POD.kind} if pod else None


def own_image(pod: Mapping[str, Any] | None) -> str:
    """The image this task runs in; the release's own where the task knows no pod."""
    containers = pod["spec"]["containers"] if pod else []
    # KFP calls a task's container so.
    images = [one["image"] for one in containers if one["name"] == "main"]
    return images[0] if images else load_test_image()


def _await_ready(job: LoadJob, agreement: Agreement, interruption: Interruption, progress: Progress) -> None:
    begun = time.monotonic()
    ready = agreement.wait_until_ready(job.spec.start_timeout_seconds, interruption.is_set)
    if ready:
        seconds = time.monotonic() - begun
        progress(ProgressUpdate(f"all {job.spec.generators} generators are ready after {seconds:.1f} s"))
        return
    what = f"the load Job {job_name(job.identity)}"
    if agreement.spoiled:
        why = "; ".join(dict.fromkeys(one.detail for one in agreement.spoiled))
    elif interruption.is_set():
        why = interruption.reason
    else:
        missing = sorted(set(range(job.spec.generators)) - set(agreement.greetings))
        why = (
            f"generators {', '.join(map(str, missing))} are not ready after "
            f"{job.spec.start_timeout_seconds:.0f} s (start_timeout_seconds)"
        )
    watch = PodWatch(job.cluster, generator_selector(job.identity), ((JOB, job_name(job.identity)),))
    try:
        evidence = watch.evidence()
    except ClusterError as error:
        evidence = str(error)
    raise DidNotComeUp(what, why, evidence)


def _findings_on_nodes(job: LoadJob, nodes: tuple[str, ...], servers: list[ServerWatch]) -> list[Check]:
    names = sorted({node for node in nodes if node})
    found = refuse_unreserved_nodes(job.cluster, names, job.spec.placement)
    shared = sorted({node for watch in servers for node in watch.nodes} & set(names))
    if shared:
        detail = (
            f"Generators share {', '.join(shared)} with the servers they load: each takes the other's CPU. "
            "Set keep_off_servers to required, or add nodes."
        )
        found.append(Check("generator-beside-server", detail, "WARNING"))
    return found


def _findings_on_clocks(agreement: Agreement) -> list[Check]:
    worst_ms = max(one.clock_uncertainty_ns for one in agreement.greetings.values()) / 1e6
    if worst_ms <= CLOCK_UNCERTAINTY_MS:
        return []
    detail = (
        f"The generators' clocks are known to {worst_ms:.0f} ms only, so they may start as far apart: "
        "the network to the coordinator is slow."
    )
    return [Check("clocks-uncertain", detail, "WARNING", {"uncertainty_ms": worst_ms})]


class JobRunner:
    """Runs segments on all generators and keeps what they yielded."""

    def __init__(
        self, agreement: Agreement, spec: LoadSpec, interruption: Interruption, checks: list[Check]
    ) -> None:
        self.agreement = agreement
        self.checks = checks
        self.commands: dict[str, None] = {}
        self.cut_off = 0
        self.skews_ns: list[int] = []
        self.newest: dict[int, Loaded] = {}
        self.before_first_block: Callable[[], None] = lambda: None
        self.block_seconds: list[float] = []
        """How long the generators were to load each segment of a block."""
        self.tick: Callable[[], None] = lambda: None
        self._spec = spec
        self._interruption = interruption
        self._tables: list[pa.Table] = []
        # Generators load longer than one alone would, for they do not start at the same instant.
        self._allowance_seconds = _LEAST_ALLOWANCE_SECONDS

    @property
    def healthy(self) -> bool:
        """Whether it makes sense to go on."""
        return not any(check.consequence == "INVALID" for check in self.checks)

    def table(self) -> pa.Table:
        """All rows so far."""
        return pa.concat_tables(self._tables).unify_dictionaries() if self._tables else SCHEMA.empty_table()

    def run(self, segment: Segment) -> None:
        """Has all generators run one segment and keeps their rows."""
        # The block opens when the last one sends, and the first must still be sending when it closes.
        ordered = replace(segment, lead_seconds=segment.lead_seconds + self._allowance_seconds)
        if segment.block != WARMUP_BLOCK:
            if not self.block_seconds:
                self.before_first_block()
            self.block_seconds.append(ordered.load_seconds)
        seconds = ordered.load_seconds + self._spec.timeout_seconds + SEGMENT_GRACE_SECONDS
        loaded = self.agreement.run(ordered, seconds, self._interrupted)
        rows_of_arm = merged_rows(loaded, self.agreement.greetings)
        # One piece a segment: a hundred generators' would be thousands, each gone through at every block.
        self._tables.append(assign_block(rows_of_arm, segment).unify_dictionaries().combine_chunks())
        if any(rows.num_rows for rows in rows_of_arm.values()):
            self.skews_ns.append(start_skew_ns(rows_of_arm))
            self._note_spread(first_send_spread_ns(rows_of_arm) / 1e9)
        for index, one in loaded.items():
            self.cut_off += one.cut_off
            self.commands.update(dict.fromkeys(one.commands))
            self.newest[index] = one
            for check in one.checks:
                self._find(_of_generator(index, check))
        for spoiled in self.agreement.spoiled:
            self._find(Check(spoiled.code, spoiled.detail, "INVALID"))
        if self._interruption.is_set():
            detail = f"The load was stopped: {self._interruption.reason}."
            self._find(Check("load-stopped", detail, "INVALID"))

    def _note_spread(self, seconds: float) -> None:
        wanted = _ALLOWED_SPREADS * seconds
        self._allowance_seconds = min(_MOST_ALLOWANCE_SECONDS, max(self._allowance_seconds, wanted))

    def tool_findings(self) -> list[Check]:
        """What the generators' tools say of themselves."""
        return [_of_generator(index, check) for index, one in self.newest.items() for check in one.findings]

    def _interrupted(self) -> bool:
        self.tick()
        return self._interruption.is_set()

    def _find(self, check: Check) -> None:
        if check not in self.checks:
            self.checks.append(check)


def _of_generator(index: int, values: Mapping[str, Any]) -> Check:
    found = msgspec.convert(values, Check)
    return msgspec.structs.replace(found, detail=f"generator {index}: {found.detail}")


def _measured(
    test: LoadTest, runner: JobRunner, started_at_ns: int, servers: ServerProbe | None = None
) -> Measured:
    greetings = runner.agreement.greetings
    newest = [one.host for one in runner.newest.values()]
    host = merged_host(greetings.values(), newest, runner.skews_ns)
    if servers is not None and runner.block_seconds:
        seconds = sum(runner.block_seconds) / len(runner.block_seconds)
        host |= servers.findings(runner.table(), host["saturation"], host["cores"], seconds)
    checks = [*runner.checks, *runner.tool_findings(), *_check_skew(host)]
    metadata = RunMetadata(
        load_spec=msgspec.to_builtins(test.spec),
        payload=payload_facts(read_manifest(test.payload_path)),
        tool=test.spec.tool,
        tool_version=", ".join(sorted({one.tool_version for one in greetings.values()})),
        command=tuple(runner.commands),
        host=host,
        checks=tuple(msgspec.to_builtins(check) for check in checks),
        cut_off=runner.cut_off,
        started_at_ns=started_at_ns,
        ended_at_ns=time.time_ns(),
    )
    return Measured(
        table=runner.table(),
        metadata=metadata,
        test=test,
        hosts=tuple(one.host for one in greetings.values()),
        nodes=tuple(one.node for one in greetings.values()),
    )


def _check_skew(host: Mapping[str, Any]) -> list[Check]:
    skew_ms = host.get("start_skew_ms", 0.0)
    if skew_ms <= SKEW_MS:
        return []
    detail = (
        f"The generators began {skew_ms:.0f} ms apart (median over the blocks). Blocks open when the last "
        "one sends, so nothing is judged by it; but their nodes are busy. Give them more cores."
    )
    return [Check("generators-apart", detail, "INFO", {"skew_ms": skew_ms})]
