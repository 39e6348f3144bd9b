"""`model-load-test cleanup`: the broom for what runs have left in a namespace, or on Vertex AI."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone
from typing import Any

from model_load_test.components.cluster.connection import connect
from model_load_test.components.cluster.labels import ALL_OURS, run_selector
from model_load_test.components.cluster.removal import Found, older_than, remove
from model_load_test.pipelines.command_line.durations import seconds_of


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand's arguments."""
    parser = subparsers.add_parser("cleanup", help="remove what runs have left")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", default="", help="the pipeline run's id")
    which.add_argument(
        "--vertex",
        default="",
        metavar="PROJECT/LOCATION",
        help="endpoints and models there of any run, over their deadline (serving_deadline_seconds)",
    )
    which.add_argument("--older-than", default="", help="what any run created longer ago than, such as 2h")
    parser.add_argument("--namespace", default="", help="where; the pod's or the kubeconfig's when left out")
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")
    parser.add_argument("--wait", default="2m", help="how long to wait for it to be gone")


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand.

    Raises:
        InputError: Something given cannot be used, or the cluster does not let us.
    """
    if arguments.vertex:
        return _on_vertex(arguments)
    selector = run_selector(arguments.run) if arguments.run else ALL_OURS
    keep = older_than(seconds_of("--older-than", arguments.older_than)) if arguments.older_than else None
    wait_seconds = seconds_of("--wait", arguments.wait)
    cluster = connect(arguments.namespace)
    removal = remove(
        cluster,
        selector,
        keep=keep or _keep_nothing,
        deadline_seconds=wait_seconds,
        dry_run=arguments.dry_run,
    )
    for one in removal.removed:
        print(f"{one.kind.kind} {one.name}  run {one.run}  {_age(one)}")
    if removal.unseen:
        kinds = ", ".join(kind.plural for kind in removal.unseen)
        print(f"not looked for, for want of the right to list them: {kinds}", file=sys.stderr)
    count = len(removal.removed)
    verb = "would remove" if arguments.dry_run else "removed"
    print(f"{verb} {count} object{'' if count == 1 else 's'} in namespace {cluster.namespace}")
    return 0


def _on_vertex(arguments: argparse.Namespace) -> int:
    from model_load_test.components.serving.vertex.resources import open_api
    from model_load_test.components.serving.vertex.spec import require_place
    from model_load_test.components.serving.vertex.teardown import expired, remove_all

    project, _, location = arguments.vertex.partition("/")
    require_place(project, location)
    api = open_api(location)
    found = expired(api, project, location)
    for one in found:
        print(f"{one.kind.removesuffix('s')} {one.name}  {one.display_name}")
    if not arguments.dry_run:
        remove_all(api, found)
    verb = "would remove" if arguments.dry_run else "removed"
    print(f"{verb} {len(found)} resource{'' if len(found) == 1 else 's'} in {arguments.vertex}")
    return 0


def _keep_nothing(_: Found) -> bool:
    return False


def _age(one: Found) -> str:
    minutes = int((datetime.now(timezone.utc) - one.created).total_seconds() // 60)
    return f"{minutes // 60} h {minutes % 60} min old" if minutes >= 60 else f"{minutes} min old"
