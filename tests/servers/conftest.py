"""Real model servers: MLServer, Triton and KServe for Open Inference, Seldon Core 1's model wrapper."""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.serving.triton_configuration import configuration_text, with_fields

sys.path.insert(0, str(Path(__file__).parent))  # for the module beside this one; tests are no package

from server_processes import environment, free_ports, served

MLSERVER = "mlserver==1.7.1"
KSERVE = "kserve==0.21.0"
TRITON = "nvidia-pytriton==0.7.0"
"""Its wheel holds Triton Inference Server itself, 2.51.0, with the Python backend."""
SELDON = ("seldon-core==1.18.2", "setuptools<81", "grpcio-reflection<1.63", "grpcio<1.63", "protobuf<5")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SERVED = Path(__file__).parent / "served"

DATATYPES = {
    "bool": "BOOL",
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
}
"""By the name that this package has for it."""


def tensor(name: str, datatype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


MODELS: dict[str, list[dict[str, Any]] | None] = {
    "digits": [tensor("images", "FP32", -1, 64)],
    "every_type": [tensor(datatype.lower(), datatype, -1, 3) for datatype in DATATYPES.values()],
    "echo": [tensor(name, datatype, -1, -1) for name, datatype in DATATYPES.items()],
    "tokens": [tensor("ids", "INT64", -1, -1), tensor("mask", "INT64", -1, -1)],
    "pictures": [tensor("picture", "BYTES", -1)],
    "picky": [tensor("forbidden", "FP32", -1, 2)],
    "silent": None,
}
"""By name the inputs that it publishes; each sends back what it understood."""
TUNED = {
    "max_batch_size": 16,
    "dynamic_batching": {"preferred_batch_size": [4, 8], "max_queue_delay_microseconds": 500},
    "instance_group": [{"count": 2, "kind": "KIND_CPU"}],
}
"""What the serving room puts into the configuration of a model of Triton's."""


@dataclass(frozen=True)
class Server:
    """A running server of the Open Inference Protocol."""

    kind: str
    grpc: Endpoint
    rest: Endpoint
    python: Path
    """Of its environment."""
    metrics: str = ""
    """The address of its page of metrics."""


def local(scheme: str, port: int) -> Endpoint:
    return Endpoint(scheme, "127.0.0.1", port)


@pytest.fixture(scope="session")
def mlserver(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """MLServer."""
    python = environment(repository, "mlserver", MLSERVER)
    folder = tmp_path_factory.mktemp("mlserver")
    http, grpc, metrics = free_ports(3)
    settings = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    for name, inputs in MODELS.items():
        (folder / name).mkdir()
        shutil.copy(SERVED / "mlserver_runtime.py", folder / name / "runtime.py")
        model = {"name": name, "implementation": "runtime.Echo", "inputs": inputs}
        (folder / name / "model-settings.json").write_text(
            json.dumps({key: value for key, value in model.items() if value is not None})
        )
    server = Server("mlserver", local("grpc", grpc), local("http", http), python)
    command = [python.with_name("mlserver"), "start", str(folder)]
    with served(command, folder, (server.rest, server.grpc), "silent", "oip", {"PYTHONPATH": ""}):
        yield server


@pytest.fixture(scope="session")
def kserve(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """KServe's own model server."""
    python = environment(repository, "kserve", KSERVE)
    folder = tmp_path_factory.mktemp("kserve")
    http, grpc = free_ports(2)
    server = Server("kserve", local("grpc", grpc), local("http", http), python)
    command = [python, SERVED / "kserve_server.py", str(http), str(grpc), json.dumps(MODELS)]
    with served(command, folder, (server.rest, server.grpc), "digits", "oip", {"PYTHONPATH": ""}):
        yield server


@pytest.fixture(scope="session")
def triton(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Triton Inference Server, with its Python backend; it cannot leave a model's inputs unsaid."""
    python = environment(repository, "triton", TRITON)
    libraries = sysconfig.get_config_var("LIBDIR")
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        pytest.skip(f"Triton's Python backend wants libpython{PYTHON}.so; this Python was built without it")
    site = python.parent.parent / "lib" / f"python{PYTHON}" / "site-packages"
    programs = site / "pytriton" / "tritonserver"
    stub = programs / "backends" / "python" / "triton_python_backend_stub"
    if not stub.exists():
        stub.symlink_to(programs / "python_backend_stubs" / PYTHON / stub.name)
    folder = tmp_path_factory.mktemp("triton")
    for name, inputs in MODELS.items():
        if inputs:
            put_into_repository(folder / "models" / name, inputs, site)
    put_into_repository(folder / "models" / "slow", [tensor("x", "FP32", -1, 4)], site, sleep_ms=50)
    put_into_repository(folder / "models" / "half", [tensor("x", "FP16", -1, 3)], site)
    put_into_repository(folder / "models" / "tuned", MODELS["digits"] or [], site)
    tuned = folder / "models" / "tuned" / "config.pbtxt"
    tuned.write_text(with_fields(tuned.read_text(), configuration_text(TUNED)))
    put_into_repository(folder / "models" / "broken", MODELS["digits"] or [], site)
    (folder / "models" / "broken" / "1" / "model.py").write_text("import a_module_that_is_not_there\n")
    http, grpc, metrics = free_ports(3)
    page = f"http://127.0.0.1:{metrics}/metrics"
    server = Server("triton", local("grpc", grpc), local("http", http), python, page)
    command = [
        programs / "bin" / "tritonserver",
        f"--model-repository={folder / 'models'}",
        f"--backend-directory={programs / 'backends'}",
        "--exit-on-error=false",
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        f"--metrics-port={metrics}",
        *(f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")),
    ]
    variables = {"LD_LIBRARY_PATH": libraries, "PYTHONHOME": sys.base_prefix}
    with served(command, folder, (server.rest, server.grpc), "digits", "oip", variables):
        yield server


def put_into_repository(model: Path, inputs: list[dict[str, Any]], site: Path, sleep_ms: int = 0) -> None:
    """Makes a model of Triton's Python backend; what takes rows of a fixed size takes them in batches."""
    rows_of_fixed_size = all(min(one["shape"][1:], default=-1) > 0 for one in inputs)
    version = model / "1"
    version.mkdir(parents=True)
    source = (SERVED / "triton_model.py").read_text().replace("SITE_PACKAGES", str(site))
    (version / "model.py").write_text(source)

    def declared(field: str, name: str, one: dict[str, Any]) -> str:
        sizes = one["shape"][1:] if rows_of_fixed_size else one["shape"]
        kind = one["datatype"].replace("BYTES", "STRING")
        return f'{field} [ {{ name: "{name}" data_type: TYPE_{kind} dims: {sizes} }} ]'

    answered = [(f"{one['name']}_hex" if one["datatype"] == "BYTES" else one["name"], one) for one in inputs]
    (model / "config.pbtxt").write_text(
        "\n".join(
            [
                'backend: "python"',
                f"max_batch_size: {8 if rows_of_fixed_size else 0}",
                *(declared("input", one["name"], one) for one in inputs),
                *(declared("output", name, one) for name, one in answered),
                f'parameters {{ key: "sleep_ms" value {{ string_value: "{sleep_ms}" }} }}',
                "instance_group [ { count: 1 kind: KIND_CPU } ]",
            ]
        )
    )


@pytest.fixture(scope="session")
def seldon_wrapper(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Endpoint]]:
    """Starts models in Seldon Core 1's own Python wrapper, each a process."""
    python = environment(repository, "seldon", *SELDON)
    started: dict[str, Endpoint] = {}
    with ExitStack() as running:

        def start(model: str) -> Endpoint:
            if model not in started:
                folder = tmp_path_factory.mktemp("seldon")
                shutil.copy(SERVED / "seldon_models.py", folder / f"{model}.py")
                http, grpc, metrics = free_ports(3)
                variables = {
                    "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(http),
                    "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": str(grpc),
                    "PREDICTIVE_UNIT_METRICS_SERVICE_PORT": str(metrics),
                    # its generated messages are of an older protobuf
                    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
                    "PYTHONPATH": str(folder),
                }
                endpoint = Endpoint("http", "127.0.0.1", http)
                command = [python.with_name("seldon-core-microservice"), model, "--service-type", "MODEL"]
                running.enter_context(served(command, folder, (endpoint,), model, "seldon", variables))
                started[model] = endpoint
            return started[model]

        yield start
