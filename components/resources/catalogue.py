"""What exporters call things, and what we call them: one name, one unit, one kind.

The names are those of the exporters' own sources: cAdvisor (google/cadvisor metrics/prometheus.go),
kube-state-metrics, the DCGM exporter (etc/default-counters.csv), Triton (docs/user_guide/metrics.md),
TF Serving (util/prometheus_exporter.cc and the monitored metrics it prints), and the process collector
that every Prometheus client library has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from model_load_test.components.resources.series import Kind

By = Literal["pod", "workload"]


@dataclass(frozen=True)
class Known:
    """How an exporter's metric is read."""

    metric: str
    kind: Kind
    scale: float = 1.0
    """What one of the exporter's units is in ours."""
    only: Mapping[str, str] = field(default_factory=dict)
    """Labels a sample must have, as PromQL matchers: `{"container": '!=""'}`."""
    apart: tuple[str, ...] = ()
    """Labels that tell series of one replica apart; all others are dropped."""
    by: By = "pod"
    """Whether the series belongs to a pod, or to the workload that owns pods."""


_CONTAINER: Final = {"container": '!=""', "image": '!=""'}
"""Without them cAdvisor counts the pod, its pause container and each container once more."""

CADVISOR: Final[Mapping[str, Known]] = {
    "container_cpu_usage_seconds_total": Known(
        "cpu_seconds", "counter", only=_CONTAINER, apart=("container", "cpu")
    ),
    "container_cpu_cfs_throttled_seconds_total": Known(
        "cpu_throttled_seconds", "counter", only=_CONTAINER, apart=("container",)
    ),
    "container_cpu_cfs_periods_total": Known("cpu_periods", "counter", only=_CONTAINER, apart=("container",)),
    "container_cpu_cfs_throttled_periods_total": Known(
        "cpu_throttled_periods", "counter", only=_CONTAINER, apart=("container",)
    ),
    "container_memory_working_set_bytes": Known(
        "memory_bytes", "gauge", only=_CONTAINER, apart=("container",)
    ),
    "container_network_receive_bytes_total": Known("network_received_bytes", "counter", apart=("interface",)),
    "container_network_transmit_bytes_total": Known("network_sent_bytes", "counter", apart=("interface",)),
}

KUBE_STATE: Final[Mapping[str, Known]] = {
    "kube_deployment_status_replicas_ready": Known("replicas", "gauge", by="workload"),
    "kube_deployment_spec_replicas": Known("wanted_replicas", "gauge", by="workload"),
}

DCGM: Final[Mapping[str, Known]] = {
    "DCGM_FI_DEV_GPU_UTIL": Known("gpu_busy_share", "gauge", 0.01, apart=("UUID",)),
    "DCGM_FI_PROF_SM_ACTIVE": Known("gpu_multiprocessors_busy_share", "gauge", apart=("UUID",)),
    "DCGM_FI_DEV_FB_USED": Known("gpu_memory_bytes", "gauge", 2.0**20, apart=("UUID",)),
    "DCGM_FI_DEV_POWER_USAGE": Known("gpu_power_watts", "gauge", apart=("UUID",)),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": Known("gpu_energy_joules", "counter", 1e-3, apart=("UUID",)),
}

_TF: Final = ":tensorflow:serving:"
_TF_APART: Final = ("API", "entrypoint", "model_name", "runtime", "status", "thread_pool_name")

TF_SERVING: Final[Mapping[str, Known]] = {
    f"{_TF}request_count": Known("served_requests", "counter", apart=_TF_APART),
    f"{_TF}request_latency_bucket": Known("server_latency_seconds", "buckets", 1e-6, apart=_TF_APART),
    f"{_TF}request_latency_sum": Known("server_latency_seconds_sum", "counter", 1e-6, apart=_TF_APART),
    f"{_TF}request_latency_count": Known("server_latency_seconds_count", "counter", apart=_TF_APART),
    f"{_TF}runtime_latency_bucket": Known("model_latency_seconds", "buckets", 1e-6, apart=_TF_APART),
    f"{_TF}runtime_latency_sum": Known("model_latency_seconds_sum", "counter", 1e-6, apart=_TF_APART),
    f"{_TF}runtime_latency_count": Known("model_latency_seconds_count", "counter", apart=_TF_APART),
    f"{_TF}batching_session:queuing_latency_bucket": Known(
        "queue_wait_seconds", "buckets", 1e-6, apart=_TF_APART
    ),
    f"{_TF}batching_session:queuing_latency_sum": Known(
        "queue_wait_seconds_sum", "counter", 1e-6, apart=_TF_APART
    ),
    f"{_TF}batching_session:queuing_latency_count": Known(
        "queue_wait_seconds_count", "counter", apart=_TF_APART
    ),
    f"{_TF}batching_session:processed_batch_size_bucket": Known("batch_size", "buckets", apart=_TF_APART),
    f"{_TF}batching_session:processed_batch_size_sum": Known("batch_size_sum", "counter", apart=_TF_APART),
    f"{_TF}batching_session:processed_batch_size_count": Known(
        "batch_size_count", "counter", apart=_TF_APART
    ),
}

_TRITON_APART: Final = ("model", "gpu_uuid")

TRITON: Final[Mapping[str, Known]] = {
    "nv_inference_request_success": Known("served_requests", "counter", apart=_TRITON_APART),
    "nv_inference_request_failure": Known("failed_requests", "counter", apart=(*_TRITON_APART, "reason")),
    "nv_inference_pending_request_count": Known("queue_length", "gauge", apart=_TRITON_APART),
    "nv_inference_request_duration_us": Known(
        "server_latency_seconds_sum", "counter", 1e-6, apart=_TRITON_APART
    ),
    "nv_inference_queue_duration_us": Known("queue_wait_seconds_sum", "counter", 1e-6, apart=_TRITON_APART),
    "nv_inference_count": Known("batch_size_sum", "counter", apart=_TRITON_APART),
    "nv_inference_exec_count": Known("batch_size_count", "counter", apart=_TRITON_APART),
    "nv_gpu_utilization": Known("gpu_busy_share", "gauge", apart=_TRITON_APART),
    "nv_gpu_memory_used_bytes": Known("gpu_memory_bytes", "gauge", apart=_TRITON_APART),
    "nv_gpu_power_usage": Known("gpu_power_watts", "gauge", apart=_TRITON_APART),
    "nv_energy_consumption": Known("gpu_energy_joules", "counter", apart=_TRITON_APART),
}

PROCESS: Final[Mapping[str, Known]] = {
    "process_cpu_seconds_total": Known("cpu_seconds", "counter"),
    "process_resident_memory_bytes": Known("memory_bytes", "gauge"),
    "process_open_fds": Known("open_files", "gauge"),
}

SERVER_PAGE: Final[Mapping[str, Known]] = {**TF_SERVING, **TRITON, **PROCESS}
"""What a server may say of itself."""


SCRAPED: Final[Mapping[str, Known]] = {
    **CADVISOR,
    **KUBE_STATE,
    **DCGM,
    **TF_SERVING,
    **TRITON,
    **PROCESS,
}
"""What a Prometheus may have scraped."""

PREFERRED: Final[Mapping[str, tuple[str, ...]]] = {
    "cpu_seconds": ("container_cpu_usage_seconds_total", "process_cpu_seconds_total"),
    "memory_bytes": ("container_memory_working_set_bytes", "process_resident_memory_bytes"),
    "gpu_busy_share": ("DCGM_FI_DEV_GPU_UTIL", "nv_gpu_utilization"),
    "gpu_memory_bytes": ("DCGM_FI_DEV_FB_USED", "nv_gpu_memory_used_bytes"),
    "gpu_power_watts": ("DCGM_FI_DEV_POWER_USAGE", "nv_gpu_power_usage"),
    "gpu_energy_joules": ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "nv_energy_consumption"),
}
"""Where two exporters tell the same, the one that sees the whole pod counts."""

UNITS: Final[Mapping[str, str]] = {
    "share": "share",
    "bytes_per_second": "bytes/s",
    "per_second": "1/s",
    "bytes": "bytes",
    "seconds": "s",
    "watts": "W",
    "joules": "J",
    "cores": "cores",
    "replicas": "replicas",
    "rps": "requests/s",
}


def unit_of(metric: str) -> str:
    """The unit that a metric's name ends with; `count` where it is none."""
    plain = metric.split(" ", maxsplit=1)[0]
    for quantile in ("_p50", "_p95", "_p99", "_mean"):
        plain = plain.removesuffix(quantile)
    return next((unit for ending, unit in UNITS.items() if plain.endswith(ending)), "count")
