"""`model-load-test resources`: what the servers of a run were busy with, as tables and a page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from model_load_test.components.errors import InputError


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand's parser."""
    parser = subparsers.add_parser(
        "resources",
        help="what a run's servers were busy with: tables and a page, from its samples or from Prometheus",
        description=(
            "Brings samples of the servers' resources onto the blocks of a results table and writes "
            "tidy.parquet, wide.parquet and resources.html. The samples are those that run_load_test wrote, "
            "or what Prometheus or Cloud Monitoring knows of the same time."
        ),
    )
    parser.add_argument("results", type=Path, help="results.parquet of the run")
    parser.add_argument("samples", type=Path, nargs="?", help="resource_usage of the same run")
    parser.add_argument(
        "--sources",
        default="",
        metavar="JSON",
        help='who to ask instead of samples, such as \'{"prometheus": {"url": ..., "candidate": {...}}}\'',
    )
    parser.add_argument("--model", default="", help="the model; what servers tell of others is left out")
    parser.add_argument("--normalise", action="store_true", help="columns of the wide table from 0 to 1")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the files")


def run(arguments: argparse.Namespace) -> int:
    """Writes the files and says where; 0 when done.

    Raises:
        InputError: A file cannot be read, or neither samples nor sources are given.
    """
    from model_load_test.components.report.resources_page import render_resources
    from model_load_test.components.resources.collecting import collect, collected
    from model_load_test.components.resources.files import read_samples
    from model_load_test.components.results.table import read_results

    if bool(arguments.samples) == bool(arguments.sources):
        raise InputError("samples", str(arguments.samples or ""), "give samples or --sources, one of them")
    if arguments.samples:
        found = collected(read_samples(arguments.samples), read_results(arguments.results).table)
    else:
        found = collect(arguments.results, _sources(arguments.sources), arguments.model)
    folder = arguments.output
    found.write_tidy(folder / "tidy.parquet")
    found.write_wide(folder / "wide.parquet", arguments.normalise)
    page = render_resources(found.tidy, found.summary.changes, found.findings)
    (folder / "resources.html").write_text(page, encoding="utf-8")
    for arm in found.summary.levels:
        seconds = found.summary.cpu_seconds_per_request(arm)
        told = "not known" if seconds is None else f"{1e3 * seconds:.3g} ms"
        print(f"{arm}: CPU per request {told}")
    print(f"written: {folder / 'resources.html'}, tidy.parquet, wide.parquet")
    return 0


def _sources(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InputError("--sources", text, f"write it as JSON ({error})") from None
    if not isinstance(values, dict):
        raise InputError("--sources", text, "give an object")
    return values
