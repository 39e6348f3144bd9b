"""Watches the generator's machine while it loads: was something of it used up?

One thread looks twice a second at what the kernel counts. Its own cost is measured and reported
with the rest, and it is kept small: of a thousand requests a second ten make p99, so a few that wait
for a look are seen in it.
"""

from __future__ import annotations

import functools
import itertools
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from model_load_test.components.load.host import usable_cores
from model_load_test.components.protocols.endpoint import Endpoint

SAMPLE_SECONDS: Final = 0.5
_SAMPLES_PER_CONNECT: Final = 20
"""Rarely: the server has to accept the connection, and does so on a core that may be nearly full."""
_CONNECT_TIMEOUT_SECONDS: Final = 1.0
_MOST_SAMPLES: Final = 20_000
"""Nearly three hours; of a longer run the later part is kept."""
_NICENESS: Final = 19
_READ_BYTES: Final = 1 << 16


class CpuTime(NamedTuple):
    """What a process had of the cores since it began."""

    used_seconds: float
    waited_seconds: float
    """Its threads were ready to run and no core was free; 0 where the kernel does not tell."""


@dataclass(frozen=True)
class Sample:
    """What the kernel counted up to one moment. What a system does not tell is None."""

    at_seconds: float
    busy_seconds: float
    steal_seconds: float
    all_seconds: float
    runnable: int | None
    """Threads that run or wait for a core, all of the machine's."""
    sockets: int | None
    """TCP sockets in use, or holding their port for a while after (TIME-WAIT)."""
    generators: Mapping[int, CpuTime]
    """By generator process."""
    descriptors_share: float
    """Open files of the generator process that is nearest to its limit."""


@dataclass(frozen=True)
class Totals:
    """What only the first and the last look need: the watch is told by their difference."""

    at_seconds: float
    segments_sent: int | None
    segments_resent: int | None
    bytes_of_link: Mapping[str, int]
    """Bytes sent and received, by network interface."""
    pressure_seconds: float | None
    """Time in which some thread of the machine waited for a core (Linux pressure stall information)."""


class SaturationWatch:
    """A context manager that samples while its block runs; `summary` tells what it saw."""

    def __init__(
        self,
        is_generator: Callable[[Sequence[str]], bool],
        endpoints: Mapping[Any, Endpoint] | None = None,
        every_seconds: float = SAMPLE_SECONDS,
    ) -> None:
        """Prepares a watch.

        Args:
            is_generator: Whether a command line, in words, is that of a load generator; asked once
                for each process that this one starts.
            endpoints: By arm, the servers whose time to connect is measured too.
            every_seconds: From one look to the next.
        """
        self._processes = _GeneratorProcesses(is_generator)
        self._endpoints = endpoints or {}
        self._every_seconds = every_seconds
        self._samples: list[Sample] = []
        self._began: Totals | None = None
        self._ended: Totals | None = None
        self._connects: dict[str, list[float]] = {arm: [] for arm in self._endpoints}
        self._over = threading.Event()
        self._cpu_seconds = 0.0
        self._looks = 0
        self._thread = threading.Thread(target=self._watch, name="saturation", daemon=True)

    def __enter__(self) -> SaturationWatch:
        self._began = take_totals()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        _step_back()
        number = 0
        while True:
            before = time.thread_time()
            self._samples.append(take_sample(self._processes))
            if len(self._samples) > _MOST_SAMPLES:
                del self._samples[0]
            if number % _SAMPLES_PER_CONNECT == 0:
                self._connect()
            self._cpu_seconds += time.thread_time() - before
            number += 1
            self._looks = number
            if self._over.wait(self._every_seconds):
                self._samples.append(take_sample(self._processes))
                self._ended = take_totals()
                return

    def _connect(self) -> None:
        for arm, endpoint in self._endpoints.items():
            seconds = connect_seconds(endpoint)
            if seconds is not None:
                self._connects[arm].append(seconds)

    def summary(self) -> dict[str, float]:
        """What was seen so far, as flat numbers; what the system does not tell is left out.

        | name | means |
        |---|---|
        | node_busy_share, node_busy_peak | of the machine's CPU time: mean, busiest half second |
        | node_steal_share | CPU time the machine's host gave to others |
        | runnable_per_core, runnable_per_core_peak | threads that run or wait, per core |
        | generator_cores | cores all generator processes used together, on average |
        | generator_process_peak | cores the busiest of them used, in 9 of 10 half seconds at most |
        | generator_process_wanted | the same with the time it was ready to run and got no core |
        | cpu_pressure_share | time in which some thread of the machine waited for a core |
        | sockets_peak, ports_share | TCP sockets, and their share of the ephemeral ports |
        | descriptors_share | open files of a generator process, of its limit |
        | resent_share | TCP segments sent again |
        | link_bytes_per_second, link_share | the busiest interface, and its share of the link's speed |
        | connect_ms_ARM | median time to connect to the server |
        | watch_samples, watch_cpu_share | this watch's own cost, as a share of one core |
        """
        samples = self._samples
        numbers = {
            **_cpu_numbers(samples),
            **_generator_numbers(samples),
            **_socket_numbers(samples),
        }
        if self._began is not None:
            numbers |= _total_numbers(self._began, self._ended or take_totals())
        for arm, seconds in self._connects.items():
            if seconds:
                numbers[f"connect_ms_{arm}"] = 1e3 * statistics.median(seconds)
        span = samples[-1].at_seconds - samples[0].at_seconds if len(samples) > 1 else 0.0
        numbers["watch_samples"] = float(self._looks)
        if span > 0:
            numbers["watch_cpu_share"] = self._cpu_seconds / span
        return {name: round(number, 6) for name, number in numbers.items()}


def _step_back() -> None:
    """Lets a generator that has something to send run before this thread, on a core that they share.

    Linux gives each thread a niceness of its own (nice(2)); elsewhere it is the whole process's, and
    the generators would inherit it.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def take_sample(processes: _GeneratorProcesses) -> Sample:
    """One look at the machine."""
    cpu = psutil.cpu_times()._asdict()
    spent = {name: seconds for name, seconds in cpu.items() if name not in ("guest", "guest_nice")}
    idle_seconds = spent["idle"] + spent.get("iowait", 0.0)
    all_seconds = sum(spent.values())
    generators, descriptors_share = processes.look()
    return Sample(
        at_seconds=time.monotonic(),
        busy_seconds=all_seconds - idle_seconds,
        steal_seconds=spent.get("steal", 0.0),
        all_seconds=all_seconds,
        runnable=_runnable(),
        sockets=_sockets(),
        generators=generators,
        descriptors_share=descriptors_share,
    )


def take_totals() -> Totals:
    """One look at what the machine has counted since it was started."""
    sent, resent = _segments()
    return Totals(
        at_seconds=time.monotonic(),
        segments_sent=sent,
        segments_resent=resent,
        bytes_of_link={
            name: link.bytes_sent + link.bytes_recv
            for name, link in psutil.net_io_counters(pernic=True).items()
        },
        pressure_seconds=_pressure_seconds(),
    )


def connect_seconds(endpoint: Endpoint) -> float | None:
    """How long a TCP connection to `endpoint` takes to open: the network's round trip; None if it fails."""
    try:
        address = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(*address[:3]) as connection:
            connection.settimeout(_CONNECT_TIMEOUT_SECONDS)
            begun = time.perf_counter()
            connection.connect(address[4])
            return time.perf_counter() - begun
    except OSError:
        return None


@dataclass
class _GeneratorProcesses:
    """The load generators among the processes that this one has started, and theirs."""

    is_generator: Callable[[Sequence[str]], bool]
    _known: dict[int, psutil.Process | None] = field(default_factory=dict)
    _limits: dict[int, int] = field(default_factory=dict)

    def look(self) -> tuple[dict[int, CpuTime], float]:
        """What each generator had of the cores, and the open files of the one nearest to its limit."""
        found: dict[int, CpuTime] = {}
        descriptors_share = 0.0
        for process in self._alive():
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            found[process.pid] = CpuTime(times.user + times.system, waited_seconds(process.pid))
            descriptors_share = max(descriptors_share, self._descriptors_share(process))
        return found, descriptors_share

    def _alive(self) -> list[psutil.Process]:
        found = []
        for pid in _children(os.getpid()):
            if pid not in self._known:
                self._known[pid] = self._generator(pid)
            process = self._known[pid]
            if process is not None:
                found.append(process)
        return found

    def _generator(self, pid: int) -> psutil.Process | None:
        try:
            process = psutil.Process(pid)
            return process if self.is_generator(process.cmdline()) else None
        except psutil.Error:
            return None

    def _descriptors_share(self, process: psutil.Process) -> float:
        try:
            if process.pid not in self._limits:
                self._limits[process.pid] = _file_limit(process)
            limit = self._limits[process.pid]
            return process.num_fds() / limit if limit > 0 else 0.0
        except psutil.Error:
            return 0.0


def _file_limit(process: psutil.Process) -> int:
    if sys.platform != "linux":
        return 0
    return process.rlimit(psutil.RLIMIT_NOFILE)[0]


def _children(pid: int) -> list[int]:
    """All descendants of a process; from the kernel's own lists where there are some, which is cheap."""
    if not _kernel_lists_children():
        try:
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        except psutil.Error:
            return []
    found: list[int] = []
    waiting = [pid]
    while waiting:
        direct = [int(child) for text in _of_threads(waiting.pop(), "children") for child in text.split()]
        found += direct
        waiting += direct
    return found


@functools.cache
def _kernel_lists_children() -> bool:
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()


def waited_seconds(pid: int) -> float:
    """How long the threads of a process were ready to run and got no core; 0 where no one tells."""
    words = [text.split() for text in _of_threads(pid, "schedstat")]
    return sum(int(one[1]) for one in words if len(one) > 1) / 1e9


def _of_threads(pid: int, name: str) -> list[bytes]:
    """A file of each thread of a process; a process that has ended has none."""
    try:
        with os.scandir(f"/proc/{pid}/task") as threads:
            return [_bytes(f"{pid}/task/{thread.name}/{name}") for thread in threads]
    except OSError:
        return []


def _pressure_seconds() -> float | None:
    _, found, rest = _read("pressure/cpu").partition("total=")
    return int(rest.split(maxsplit=1)[0]) / 1e6 if found else None


def _runnable() -> int | None:
    text = _read("stat")
    marker = "procs_running "
    at = text.find(marker)
    return int(text[at + len(marker) :].split(maxsplit=1)[0]) if at >= 0 else None


def _sockets() -> int | None:
    for line in _read("net/sockstat").splitlines():
        if line.startswith("TCP:"):
            words = line.split()
            counts = dict(zip(words[1::2], map(int, words[2::2]), strict=False))
            return counts.get("inuse", 0) + counts.get("tw", 0)
    return None


def _segments() -> tuple[int | None, int | None]:
    lines = [line.split() for line in _read("net/snmp").splitlines() if line.startswith("Tcp:")]
    if len(lines) != 2:
        return None, None
    counts = dict(zip(lines[0], lines[1], strict=False))
    return int(counts.get("OutSegs", 0)), int(counts.get("RetransSegs", 0))


def ephemeral_ports() -> int | None:
    """How many ports this machine has for the client's end of connections."""
    words = _read("sys/net/ipv4/ip_local_port_range").split()
    return int(words[1]) - int(words[0]) + 1 if len(words) == 2 else None


def _read(name: str) -> str:
    return _bytes(name).decode()


def _bytes(name: str) -> bytes:
    """A file of /proc, by the system's own calls: Python's files cost three times as much."""
    try:
        descriptor = os.open(f"/proc/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(descriptor, _READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _pairs(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    return [
        (one, other)
        for one, other in itertools.pairwise(samples)
        if other.at_seconds - one.at_seconds > 0.1 * SAMPLE_SECONDS
    ]


def _cpu_numbers(samples: Sequence[Sample]) -> dict[str, float]:
    if len(samples) < 2:
        return {}
    first, last = samples[0], samples[-1]
    spent = last.all_seconds - first.all_seconds
    numbers: dict[str, float] = {}
    if spent > 0:
        numbers["node_busy_share"] = (last.busy_seconds - first.busy_seconds) / spent
        numbers["node_steal_share"] = (last.steal_seconds - first.steal_seconds) / spent
        numbers["node_busy_peak"] = max(
            (
                (two.busy_seconds - one.busy_seconds) / (two.all_seconds - one.all_seconds)
                for one, two in _pairs(samples)
                if two.all_seconds > one.all_seconds
            ),
            default=numbers["node_busy_share"],
        )
    # the watch itself runs while it looks
    waiting = [max(0, sample.runnable - 1) for sample in samples if sample.runnable is not None]
    if waiting:
        cores = psutil.cpu_count() or usable_cores()
        numbers["runnable_per_core"] = statistics.fmean(waiting) / cores
        numbers["runnable_per_core_peak"] = max(waiting) / cores
    return numbers


def _generator_numbers(samples: Sequence[Sample]) -> dict[str, float]:
    together, busiest, neediest = [], [], []
    for one, two in _pairs(samples):
        seconds = two.at_seconds - one.at_seconds
        spent = [
            (later.used_seconds - earlier.used_seconds, later.waited_seconds - earlier.waited_seconds)
            for pid, later in two.generators.items()
            if (earlier := one.generators.get(pid))
        ]
        if spent:
            together.append(sum(used for used, _ in spent) / seconds)
            busiest.append(max(used for used, _ in spent) / seconds)
            neediest.append(max(used + waited for used, waited in spent) / seconds)
    numbers = {"descriptors_share": max((sample.descriptors_share for sample in samples), default=0.0)}
    if busiest:
        numbers["generator_cores"] = statistics.fmean(together)
        numbers["generator_process_peak"] = _nine_of_ten(busiest)
        numbers["generator_process_wanted"] = _nine_of_ten(neediest)
    return numbers


def _nine_of_ten(values: Sequence[float]) -> float:
    """What nine of ten values do not exceed: one half second alone makes no peak."""
    return sorted(values)[int(0.9 * (len(values) - 1))]


def _socket_numbers(samples: Sequence[Sample]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    counts = [sample.sockets for sample in samples if sample.sockets is not None]
    ports = ephemeral_ports()
    if counts:
        numbers["sockets_peak"] = float(max(counts))
        if ports:
            numbers["ports_share"] = max(counts) / ports
    return numbers


def _total_numbers(first: Totals, last: Totals) -> dict[str, float]:
    seconds = last.at_seconds - first.at_seconds
    if seconds <= 0:
        return {}
    numbers = _link_numbers(first.bytes_of_link, last.bytes_of_link, seconds)
    if first.pressure_seconds is not None and last.pressure_seconds is not None:
        waited_seconds = last.pressure_seconds - first.pressure_seconds
        numbers["cpu_pressure_share"] = waited_seconds / max(seconds, SAMPLE_SECONDS)
    sent = (last.segments_sent or 0) - (first.segments_sent or 0)
    if sent > 0:
        resent = (last.segments_resent or 0) - (first.segments_resent or 0)
        numbers["resent_share"] = max(0, resent) / sent
    return numbers


def _link_numbers(before: Mapping[str, int], after: Mapping[str, int], seconds: float) -> dict[str, float]:
    speeds: dict[str, Any] = psutil.net_if_stats()
    numbers = {"link_bytes_per_second": 0.0}
    for name, count in after.items():
        rate = (count - before.get(name, count)) / seconds
        numbers["link_bytes_per_second"] = max(numbers["link_bytes_per_second"], rate)
        megabits = speeds[name].speed if name in speeds else 0
        if megabits:  # loopback and virtual interfaces have none
            numbers["link_share"] = max(numbers.get("link_share", 0.0), rate * 8 / (megabits * 1e6))
    return numbers
