"""A sweep on this machine: embedded servers as processes, started anew for every configuration."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from model_load_test.components.load.schedule import Arm
from model_load_test.components.protocols.client import METRICS_PATH
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.serving.embedded.process import embedded_server
from model_load_test.components.serving.spec import ServingSpec
from model_load_test.components.serving.tf_serving import batching_file
from model_load_test.components.sweep.measurement import Servers
from model_load_test.components.sweep.parameters import ENABLE_BATCHING, TF_SERVING, SweepError, flag_name
from model_load_test.components.sweep.spec import SweepSpec

HONOURED: Final = (
    ENABLE_BATCHING,
    "max_batch_size",
    "batch_timeout_micros",
    "max_enqueued_batches",
    "num_batch_threads",
    "allowed_batch_sizes",
    "pad_variable_length_inputs",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
)
"""Parameters that the embedded server follows."""
_FLAGS: Final = (ENABLE_BATCHING, "tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism")


@dataclass(frozen=True)
class LocalServers:
    """Serves configurations by embedded servers; called with two of them, as `run.Serve` says."""

    model_path: Path | None = None
    """Base path of the model; none for the numpy backend."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `embedded_server`, such as injected slowness."""

    @contextmanager
    def __call__(self, configuration: ServingSpec, reference: ServingSpec) -> Iterator[Servers]:
        """Both servers, for as long as the block takes."""
        with ExitStack() as stack:
            endpoints: dict[Arm, Endpoint] = {}
            metrics: dict[str, str] = {}
            arms: tuple[tuple[Arm, ServingSpec], ...] = (
                ("candidate", configuration),
                ("baseline", reference),
            )
            for arm, spec in arms:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sweep-server-")))
                server = stack.enter_context(
                    embedded_server(
                        spec.model_name,
                        self.model_path,
                        backend="saved-model" if self.model_path else "numpy",
                        flags=_flags(spec, folder),
                        **self.options,
                    )
                )
                endpoints[arm] = server.grpc if spec.protocol == "grpc" else server.rest
                metrics[arm] = f"{server.rest}{METRICS_PATH}"
            yield Servers(endpoints, metrics)


def refuse_unhonoured(spec: SweepSpec) -> None:
    """Refuses a sweep over what a process on this machine has not.

    Raises:
        SweepError: A parameter, or the kind of server, means nothing to the embedded server.
    """
    if spec.kind not in TF_SERVING:
        raise SweepError(
            "serving.kind", spec.kind, "on this machine sweep tf-serving, or deploy on Kubernetes"
        )
    for name in (*spec.parameters, *spec.reference):
        if name not in HONOURED:
            remedy = f"the embedded server honours {', '.join(HONOURED)}; sweep the others on Kubernetes"
            raise SweepError(f"parameters.{name}", spec.parameters.get(name), remedy)
    for flag in spec.serving.get("flags", ()):
        if flag_name(flag) not in _FLAGS:
            raise SweepError("serving.flags", flag, f"the embedded server takes {', '.join(_FLAGS)}")


def _flags(spec: ServingSpec, folder: Path) -> list[str]:
    flags = list(spec.flags)
    if spec.batching:
        path = folder / "batching.pbtxt"
        path.write_text(batching_file(spec.batching), encoding="utf-8")
        flags += [f"--{ENABLE_BATCHING}=true", f"--batching_parameters_file={path}"]
    return flags
