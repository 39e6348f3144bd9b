"""Command line of the embedded server; its main options are tensorflow_model_server's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from model_load_test.components.errors import InputError
from model_load_test.components.protocols.client import Api
from model_load_test.components.serving.embedded.batching import (
    BatchingParameters,
    read_batching_parameters,
)
from model_load_test.components.serving.embedded.faults import Faults
from model_load_test.components.serving.embedded.model_config import read_model_config
from model_load_test.components.serving.embedded.saved_model_backend import SessionThreads
from model_load_test.components.serving.embedded.server import (
    DEFAULT_CALLABLE,
    ModelSettings,
    ServerSettings,
    Versions,
    serve,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server; 0 when it was stopped, 2 when something given cannot be used."""
    try:
        given = sys.argv[1:] if arguments is None else arguments
        serve(_settings(_parser().parse_args([_hyphenated(argument) for argument in given])))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model_load_test.components.serving.embedded",
        description="A TF-Serving-compatible model server for laptops and tests.",
    )
    add = parser.add_argument
    add("--model-name", default="default", help="name the model is served by")
    add("--model-base-path", type=Path, help="folder of version folders, each a SavedModel")
    add("--model-config-file", type=Path, help="TF Serving's ModelServerConfig, for several models")
    add("--api", choices=get_args(Api), default="tf-serving", help="what it speaks; oip is Open Inference v2")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=8500, help="gRPC port; 0 for any that is free")
    add("--rest-api-port", type=int, default=8501, help="REST port; 0 for any that is free")
    add("--backend", choices=("saved-model", "numpy"), default="saved-model")
    add("--callable", default=DEFAULT_CALLABLE, help="MODULE:NAME of a NumpyModel, for --backend numpy")
    add("--versions", type=_versions, default="latest", help="latest, all, or numbers such as 1,3")
    add("--label", action="append", type=_label, default=[], help="version label, such as stable=1")
    add("--ready-file", type=Path, help="file that gets the ready line too")
    add("--exit-with-parent", action="store_true", help="stop when the starting process ends")
    add("--enable-batching", nargs="?", const="true", default="false", choices=("true", "false"))
    add("--batching-parameters-file", type=Path, help="TF Serving's BatchingParameters as text")
    add("--tensorflow-intra-op-parallelism", type=int, default=SessionThreads.intra_op, metavar="THREADS")
    add("--tensorflow-inter-op-parallelism", type=int, default=SessionThreads.inter_op, metavar="THREADS")
    faults = parser.add_argument_group("injected faults, for testing load tests")
    faults.add_argument("--delay-ms", type=float, default=0.0, help="added to every inference request")
    faults.add_argument("--error-rate", type=float, default=0.0, help="share of requests that fail")
    faults.add_argument("--hang-after-requests", type=int, help="answer that many, then none")
    faults.add_argument("--compute-ms", type=float, default=0.0, help="added to every run of the model")
    faults.add_argument("--compute-threads", type=int, default=0, help="so many compute, the rest queues")
    faults.add_argument("--leak-kib", type=int, default=0, help="memory that every request leaves behind")
    faults.add_argument("--fault-seed", type=int, default=0, help="of the choice of failing requests")
    return parser


def _hyphenated(argument: str) -> str:
    """Also takes options as tensorflow_model_server spells them: --rest_api_port=8501."""
    name, separator, value = argument.partition("=")
    return name.replace("_", "-") + separator + value if name.startswith("--") else argument


def _versions(text: str) -> Versions:
    if text == "latest":
        return "latest"
    if text == "all":
        return "all"
    return tuple(int(number) for number in text.split(","))


def _label(text: str) -> tuple[str, int]:
    label, _, version = text.partition("=")
    return label, int(version)


def _batching(given: argparse.Namespace) -> BatchingParameters | None:
    path: Path | None = given.batching_parameters_file
    if given.enable_batching == "false":
        if path is not None:
            raise InputError("batching_parameters_file", str(path), "give --enable_batching too")
        return None
    return read_batching_parameters(path) if path else BatchingParameters()


def _settings(given: argparse.Namespace) -> ServerSettings:
    if given.model_config_file:
        models = read_model_config(given.model_config_file)
    else:
        models = (
            ModelSettings(
                name=given.model_name,
                base_path=given.model_base_path,
                backend=given.backend,
                callable_place=given.callable,
                versions=given.versions,
                labels=dict(given.label),
            ),
        )
    return ServerSettings(
        models=models,
        api=given.api,
        host=given.host,
        grpc_port=given.port,
        rest_port=given.rest_api_port,
        faults=Faults(
            given.delay_ms,
            given.error_rate,
            given.hang_after_requests,
            given.fault_seed,
            given.compute_ms,
            given.compute_threads,
            given.leak_kib,
        ),
        batching=_batching(given),
        threads=SessionThreads(given.tensorflow_intra_op_parallelism, given.tensorflow_inter_op_parallelism),
        ready_file=given.ready_file,
        exit_with_parent=given.exit_with_parent,
    )


if __name__ == "__main__":
    sys.exit(main())
