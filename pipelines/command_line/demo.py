"""`model-load-test demo`: the whole job on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]


def add_parser(subparsers: Subparsers) -> None:
    """Adds the subcommand's arguments."""
    parser = subparsers.add_parser("demo", help="train, serve, load and judge two candidates")
    parser.add_argument("--protocol", choices=("grpc", "http"), default="grpc")
    parser.add_argument(
        "--output", type=Path, default=Path("build/demo"), help="folder for reports and models"
    )
    parser.add_argument("--rate", type=float, default=200.0, help="offered requests per second and arm")


def run(arguments: argparse.Namespace) -> int:
    """Runs the demo; 0 when the equal model passed and the heavier one was stopped."""
    from model_load_test.pipelines.demo.run import run_demo

    return run_demo(arguments.output, arguments.protocol, arguments.rate)
