"""What the server's process costs, under the names that every Prometheus client library gives it.

TF Serving itself shows none of these, nor does Triton; MLServer's and KServe's servers do.
"""

from __future__ import annotations

import time

import psutil


def process_page() -> str:
    """CPU time and memory of this process, in Prometheus' text."""
    memory_bytes = psutil.Process().memory_info().rss
    return (
        "# TYPE process_cpu_seconds_total counter\n"
        f"process_cpu_seconds_total {time.process_time():.9f}\n"
        "# TYPE process_resident_memory_bytes gauge\n"
        f"process_resident_memory_bytes {memory_bytes}\n"
    )
