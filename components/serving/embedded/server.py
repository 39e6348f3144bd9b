"""One model server process: loads its models, listens, and ends cleanly on SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import grpc
from aiohttp import web

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.client import Api
from model_load_test.components.protocols.saved_model import version_folders
from model_load_test.components.serving.embedded.batching import Batcher, BatchingParameters
from model_load_test.components.serving.embedded.faults import FaultInjector, Faults
from model_load_test.components.serving.embedded.grpc_service import generic_handlers
from model_load_test.components.serving.embedded.inference import Inference
from model_load_test.components.serving.embedded.metrics import Metrics
from model_load_test.components.serving.embedded.numpy_backend import find_numpy_model, load_numpy_model
from model_load_test.components.serving.embedded.open_inference_service import (
    open_inference_application,
    open_inference_handlers,
)
from model_load_test.components.serving.embedded.rest_service import application
from model_load_test.components.serving.embedded.saved_model_backend import (
    SessionThreads,
    load_saved_model,
)
from model_load_test.components.serving.embedded.seldon_service import seldon_application
from model_load_test.components.serving.embedded.servables import LoadedModel, Servables

DEFAULT_CALLABLE: Final = "model_load_test.components.serving.embedded.numpy_backend:digits"

_GRACE_SECONDS: Final = 0.5
"""What requests under way at SIGTERM are given to finish."""

Backend = Literal["saved-model", "numpy"]
Versions = Literal["latest", "all"] | tuple[int, ...]


@dataclass(frozen=True)
class ModelSettings:
    """One model to serve."""

    name: str
    base_path: Path | None = None
    """Folder of version folders; the numpy backend needs none."""
    backend: Backend = "saved-model"
    callable_place: str = DEFAULT_CALLABLE
    """MODULE:NAME of the numpy backend's NumpyModel."""
    versions: Versions = "latest"
    """TF Serving's own default is the latest version alone."""
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ServerSettings:
    """Everything a server process is started with."""

    models: tuple[ModelSettings, ...]
    api: Api = "tf-serving"
    """The one API it speaks; Seldon's is that of the first model, over REST alone."""
    host: str = "127.0.0.1"
    grpc_port: int = 0
    rest_port: int = 0
    faults: Faults = field(default_factory=Faults)
    batching: BatchingParameters | None = None
    """How requests are computed together; none to compute each by itself."""
    threads: SessionThreads = field(default_factory=SessionThreads)
    ready_file: Path | None = None
    exit_with_parent: bool = False


@dataclass(frozen=True)
class _Load:
    """One version that is to be loaded."""

    model_name: str
    version: int
    place: str
    load: Callable[[], LoadedModel]


def serve(settings: ServerSettings) -> None:
    """Serves until SIGTERM or SIGINT.

    Writes one line of JSON to standard output, and to the ready file, when all versions are
    available: `{"grpc_port": ..., "rest_port": ..., "pid": ...}`.

    Raises:
        InputError: A model or port cannot be used.
    """
    if settings.batching is not None and settings.api != "tf-serving":
        raise InputError("enable_batching", settings.api, "batching is TF Serving's; use --api=tf-serving")
    plan = [_loads_of(model, settings.threads) for model in settings.models]
    asyncio.run(_serve(settings, plan))


async def _serve(settings: ServerSettings, plan: list[list[_Load]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    servables, metrics = Servables(), Metrics()
    for model, loads in zip(settings.models, plan, strict=True):
        servables.expect(model.name, [load.version for load in loads], model.labels)
    injector = None
    if settings.faults:
        injector = FaultInjector(
            settings.faults, metrics, settings.models[0].name, in_batches=settings.batching is not None
        )
    inference = Inference(servables, metrics, _batcher(settings, metrics, injector))
    async with AsyncExitStack() as running:
        grpc_port = await _start_grpc(settings, inference, injector, running)
        rest_port = await _start_rest(settings, inference, injector, running)
        if settings.exit_with_parent:
            watch = asyncio.create_task(_watch_parent(stop))
            running.callback(watch.cancel)
        loading = asyncio.create_task(_load_all(plan, servables, metrics))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            _settle_memory()
            _announce(settings, grpc_port, rest_port, running)
        await stopping


def _batcher(settings: ServerSettings, metrics: Metrics, injector: FaultInjector | None) -> Batcher | None:
    if settings.batching is None:
        return None
    return Batcher(settings.batching, metrics, injector.compute_batch if injector else lambda: None)


def _loads_of(model: ModelSettings, threads: SessionThreads) -> list[_Load]:
    if model.backend == "numpy":
        numpy_model = find_numpy_model(model.callable_place)
        versions = model.versions if isinstance(model.versions, tuple) else (1,)
        loads = [
            _Load(model.name, version, model.callable_place, lambda: load_numpy_model(numpy_model))
            for version in versions
        ]
    else:
        if model.base_path is None:
            raise InputError("model_base_path", None, "give the folder of the model's version folders")
        folders = _wanted(version_folders(model.base_path), model.versions)
        loads = [
            _Load(model.name, version, str(folder), lambda folder=folder: load_saved_model(folder, threads))  # type: ignore[misc]  # mypy: default of a lambda
            for version, folder in folders.items()
        ]
    known = [load.version for load in loads]
    for label, version in model.labels.items():
        if version not in known:
            raise InputError("label", f"{label}={version}", f"label one of the versions served: {known}")
    return loads


def _wanted(folders: dict[int, Path], versions: Versions) -> dict[int, Path]:
    if versions == "all":
        return folders
    if versions == "latest":
        latest = max(folders)
        return {latest: folders[latest]}
    missing = [version for version in versions if version not in folders]
    if missing:
        raise InputError("versions", missing, f"choose from {list(folders)}")
    return {version: folders[version] for version in sorted(versions)}


async def _load_all(plan: list[list[_Load]], servables: Servables, metrics: Metrics) -> None:
    for load in (load for loads in plan for load in loads):
        try:
            await asyncio.to_thread(servables.load, load.model_name, load.version, load.load)
        except Exception:
            metrics.count_load(load.place, "fail")
            raise
        metrics.count_load(load.place, "success")


async def _start_grpc(
    settings: ServerSettings, inference: Inference, injector: FaultInjector | None, running: AsyncExitStack
) -> int:
    server = grpc.aio.server(
        options=(
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        )
    )
    running.push_async_callback(server.stop, _GRACE_SECONDS)
    if settings.api == "tf-serving":
        server.add_generic_rpc_handlers(generic_handlers(inference, injector))
    elif settings.api == "oip":
        server.add_generic_rpc_handlers(open_inference_handlers(inference, injector))
    try:
        port: int = server.add_insecure_port(f"{_bracketed(settings.host)}:{settings.grpc_port}")
    except RuntimeError:
        raise _port_taken("port", settings.host, settings.grpc_port) from None
    await server.start()
    return port


async def _start_rest(
    settings: ServerSettings, inference: Inference, injector: FaultInjector | None, running: AsyncExitStack
) -> int:
    app = _application(settings, inference, injector)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_SECONDS)
    running.push_async_callback(runner.cleanup)
    await runner.setup()
    site = web.TCPSite(runner, settings.host, settings.rest_port)
    try:
        await site.start()
    except OSError:
        raise _port_taken("rest_api_port", settings.host, settings.rest_port) from None
    return int(runner.addresses[0][1])


def _application(
    settings: ServerSettings, inference: Inference, injector: FaultInjector | None
) -> web.Application:
    if settings.api == "oip":
        return open_inference_application(inference, injector)
    if settings.api == "seldon":
        return seldon_application(inference, injector, settings.models[0].name)
    return application(inference, injector)


def _port_taken(field_name: str, host: str, port: int) -> InputError:
    return InputError(field_name, port, f"cannot listen there on {host}; give a free port, or 0 for any")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _settle_memory() -> None:
    """Takes all that loading made out of the garbage collector's rounds, whose pauses are latency."""
    gc.collect()
    gc.freeze()


def _announce(settings: ServerSettings, grpc_port: int, rest_port: int, running: AsyncExitStack) -> None:
    line = json.dumps({"grpc_port": grpc_port, "rest_port": rest_port, "pid": os.getpid()})
    if settings.ready_file:
        running.callback(settings.ready_file.unlink, missing_ok=True)
        partial = settings.ready_file.with_name(f"{settings.ready_file.name}.partial")
        partial.write_text(f"{line}\n")
        partial.replace(settings.ready_file)
    print(line, flush=True)


async def _watch_parent(stop: asyncio.Event) -> None:
    """Stops the server of a parent that died without stopping it."""
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(1)
    print("the process that started this server has ended; stopping", file=sys.stderr)
    stop.set()
