"""Facts about the generator's own machine: was it busy with something else?"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil


def host_facts() -> dict[str, Any]:
    """What the machine is: cores it may use, CPU model, memory, kernel."""
    return {
        "cores": usable_cores(),
        "cpu_model": cpu_model(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
    }


def usable_cores() -> int:
    """Cores this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cpu_model() -> str:
    """The processor's name, or the architecture where the system does not tell it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


class CpuWatch:
    """Shares of the machine's CPU time used between two moments."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def shares(self) -> dict[str, float]:
        """Busy and stolen share since the watch began, from 0 to 1 each, and the load average."""
        before, after = self._before._asdict(), psutil.cpu_times()._asdict()
        spent = {
            key: max(0.0, after[key] - before[key]) for key in after if key not in ("guest", "guest_nice")
        }
        total = sum(spent.values())
        if total <= 0:
            return {}
        idle = spent.get("idle", 0.0) + spent.get("iowait", 0.0)
        return {
            "cpu_busy_share": round(1 - idle / total, 4),
            "cpu_steal_share": round(spent.get("steal", 0.0) / total, 4),
            "load_average_1min": round(os.getloadavg()[0], 2),
        }
