"""Server processes of this machine, by what the kernel counts of them and of their control group."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from model_load_test.components.errors import InputError
from model_load_test.components.resources.http_get import DoesNotAnswer
from model_load_test.components.resources.sampling import Look, Observed

_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_CPU_CLOCK: Final = 2
"""CPUCLOCK_SCHED of the kernel (include/linux/posix-timers.h): the time a process was on a core."""
_REFRESH_SECONDS: Final = 5.0


def process_look(arm: str, pid: int) -> Look:
    """A look at a process and all it has started, as one replica.

    Raises:
        InputError: There is no such process.
    """
    import psutil

    if not psutil.pid_exists(pid):
        raise InputError(f"processes.{arm}", pid, "give the number of a process that runs on this machine")
    return _ProcessLook(arm, pid)


def listening_process(port: int) -> int | None:
    """The process that listens at a TCP port of this machine; None where no one does, or no one may know."""
    import psutil

    try:
        found = [
            one.pid
            for one in psutil.net_connections(kind="tcp")
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid
        ]
    except psutil.Error:
        return None
    return min(found, default=None)


@dataclass
class _ProcessLook:
    """Remembers what the processes that have ended since had used: the sum never falls."""

    arm: str
    pid: int
    _used: dict[int, float] = field(default_factory=dict)
    _tree: list[int] = field(default_factory=list)
    _refresh_at: float = 0.0

    def __call__(self) -> list[Observed]:
        import psutil

        try:
            self._look_for_children()
            at_ns = time.time_ns()
            for pid in self._tree:
                self._used[pid] = _cpu_seconds(pid)
            memory_bytes = sum(psutil.Process(pid).memory_info().rss for pid in self._tree)
            threads = sum(psutil.Process(pid).num_threads() for pid in self._tree)
        except (psutil.Error, OSError) as error:
            self._refresh_at = 0.0
            raise DoesNotAnswer(f"process {self.pid} cannot be looked at ({error})") from None
        values = {
            "cpu_seconds": sum(self._used.values()),
            "memory_bytes": float(memory_bytes),
            "threads": float(threads),
        }
        source = "process"
        group = cgroup_of(self.pid)
        if group is not None:
            source = "cgroup"
            values |= read_cgroup(group)
        return [
            Observed(
                *(name, "counter" if name in _COUNTERS else "gauge", self.arm, f"pid {self.pid}"),
                source,
                value,
                at_ns,
            )
            for name, value in values.items()
        ]

    def _look_for_children(self) -> None:
        if time.monotonic() < self._refresh_at:
            return
        import psutil

        children = psutil.Process(self.pid).children(recursive=True)
        self._tree = [self.pid, *(child.pid for child in children)]
        self._refresh_at = time.monotonic() + _REFRESH_SECONDS


_COUNTERS: Final = frozenset(("cpu_seconds", "cpu_throttled_seconds", "cpu_periods", "cpu_throttled_periods"))


def _cpu_seconds(pid: int) -> float:
    """CPU time of all threads a process ever had; to the nanosecond where the kernel is Linux."""
    if sys.platform == "linux":
        # the clock that clock_getcpuclockid(3) would name
        return time.clock_gettime((~pid << 3) | _CPU_CLOCK)
    import psutil

    spent = psutil.Process(pid).cpu_times()
    return float(spent.user + spent.system)


@dataclass(frozen=True)
class Cgroup:
    """Where a control group's files are."""

    cpu: Path
    memory: Path
    unified: bool
    """Version 2, where one folder holds all."""


def cgroup_of(pid: int, proc: Path = _PROC, root: Path = _CGROUPS) -> Cgroup | None:
    """The control group of a process, if it is one of its own: not the root's, and not ours as well.

    A group that this process is in too counts the load generator with the server.
    """
    theirs, ours = _memberships(proc / str(pid)), _memberships(proc / str(os.getpid()))
    if "" in theirs and (root / "cgroup.controllers").exists():
        path = theirs[""]
        folder = root / path.lstrip("/")
        usable = path != "/" and path != ours.get("") and (folder / "cpu.stat").exists()
        return Cgroup(folder, folder, unified=True) if usable else None
    if "cpuacct" not in theirs or theirs["cpuacct"] in ("/", ours.get("cpuacct")):
        return None
    cpu = root / "cpu,cpuacct" / theirs["cpuacct"].lstrip("/")
    memory = root / "memory" / theirs.get("memory", "/").lstrip("/")
    return Cgroup(cpu, memory, unified=False) if (cpu / "cpuacct.usage").exists() else None


def read_cgroup(group: Cgroup) -> dict[str, float]:
    """CPU time, throttling and memory of a control group, as far as it tells them."""
    stat, memory = _words(group.cpu / "cpu.stat"), _words(group.memory / "memory.stat")
    if group.unified:
        found = {
            "cpu_seconds": _scaled(stat, "usage_usec", 1e-6),
            "cpu_throttled_seconds": _scaled(stat, "throttled_usec", 1e-6),
        }
        used, inactive = _number(group.memory / "memory.current"), memory.get("inactive_file")
    else:
        usage_ns = _number(group.cpu / "cpuacct.usage")
        found = {
            "cpu_seconds": None if usage_ns is None else usage_ns * 1e-9,
            "cpu_throttled_seconds": _scaled(stat, "throttled_time", 1e-9),
        }
        used, inactive = _number(group.memory / "memory.usage_in_bytes"), memory.get("total_inactive_file")
    found["cpu_periods"] = stat.get("nr_periods")
    found["cpu_throttled_periods"] = stat.get("nr_throttled")
    if used is not None:  # the working set, by which the kubelet evicts
        found["memory_bytes"] = max(0.0, used - (inactive or 0.0))
    return {name: value for name, value in found.items() if value is not None}


def _memberships(process: Path) -> Mapping[str, str]:
    """By controller the group of a process; version 2's under the empty name."""
    try:
        lines = (process / "cgroup").read_text().splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _words(path: Path) -> dict[str, float]:
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2}
    except (OSError, ValueError):
        return {}


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _scaled(words: Mapping[str, float], name: str, scale: float) -> float | None:
    return words[name] * scale if name in words else None
