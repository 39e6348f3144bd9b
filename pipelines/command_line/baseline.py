"""`model-load-test baseline`: recorded runs, for people."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from model_load_test.components.baseline.copying import copy_baselines
from model_load_test.components.baseline.fingerprint import (
    explain_difference,
    explain_spec_difference,
    fingerprint_text,
)
from model_load_test.components.baseline.key import BaselineKey
from model_load_test.components.baseline.record import Record
from model_load_test.components.baseline.recording import read_record_file
from model_load_test.components.baseline.retention import forget_old
from model_load_test.components.baseline.store import BaselineStore, StoreUnavailable, open_store
from model_load_test.components.errors import InputError
from model_load_test.pipelines.command_line.durations import seconds_of

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[Any]

STORE_SILENT: Final = 1
"""Exit code when a store does not answer: nothing was wrong with the input."""

_TERMINAL: Final = "-"

_NS_PER_SECOND: Final = 1_000_000_000


def add_parser(subparsers: Subparsers) -> None:
    """Adds the subcommand's arguments."""
    parser = subparsers.add_parser("baseline", help="list, show, compare, record, promote and forget runs")
    actions = parser.add_subparsers(dest="action", required=True)

    listing = _action(actions, "list", _list, "the keys of a store, or the runs of one key")
    listing.add_argument("--key", default="", help="part of one key's name: list its runs")
    listing.add_argument("--format", choices=("table", "json"), default="table")

    trending = _action(actions, "history", _history, "the runs of one key over time")
    trending.add_argument("--key", default="", help="part of the key's name, where the store has several")
    trending.add_argument("--last", type=int, default=100, help="the newest so many runs")
    trending.add_argument(
        "--plot",
        nargs="?",
        const=_TERMINAL,
        default="",
        metavar="FILE.html",
        help="draw the runs with their noise band and promotions: into a page, or here without FILE",
    )
    trending.add_argument("--metric", default="candidate_p95_ms", help="what to draw here")

    showing = _action(actions, "show", _show, "one run: numbers, circumstances, load")
    _add_run(showing, "run")
    showing.add_argument("--format", choices=("table", "json"), default="table")

    comparing = _action(actions, "diff", _diff, "two runs: what changed, in numbers and in circumstances")
    _add_run(comparing, "run")
    comparing.add_argument("other_run", help="id of the run to compare it with")

    promoting = _action(actions, "promote", _promote, "make a passing run the reference of its key")
    _add_run(promoting, "run")

    forgetting = _action(actions, "forget", _forget, "remove old runs, never a promoted one")
    forgetting.add_argument("--key", default="", help="part of one key's name; every key when left out")
    forgetting.add_argument("--keep", type=int, default=50, help="newest passing runs of each key that stay")
    forgetting.add_argument(
        "--older-than", default="180d", help="only runs older than this, such as 180d or 12h"
    )
    forgetting.add_argument("--dry-run", action="store_true", help="only say what would go")

    recording = actions.add_parser("record", help="record a run whose store was down")
    recording.add_argument("run", type=Path, help="the run's folder, or its baseline_record.json")
    recording.add_argument("--store", required=True, help="the store's URI")
    recording.add_argument(
        "--link",
        action="store_true",
        help="link the run's Metrics artifact too; only in the MLMD of the cluster that measured it",
    )
    recording.set_defaults(act=_record)

    copying = _action(actions, "copy", _copy, "carry runs and promotions into another store")
    copying.add_argument("target", help="URI of the other store")
    copying.add_argument("--key", default="", help="part of one key's name; every key when left out")


def run(arguments: argparse.Namespace) -> int:
    """Runs the subcommand.

    Raises:
        InputError: A store, key or run cannot be used.
    """
    act: Callable[[argparse.Namespace], None] = arguments.act
    try:
        act(arguments)
    except StoreUnavailable as error:
        print(f"model-load-test baseline: {error}", file=sys.stderr)
        return STORE_SILENT
    return 0


def _action(
    actions: Subparsers, name: str, act: Callable[[argparse.Namespace], None], purpose: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=purpose)
    parser.add_argument("store", help="the store's URI, such as mlmd+sqlite:///path/file.db")
    parser.set_defaults(act=act)
    return parser


def _add_run(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(name, help="the run's id")
    parser.add_argument("--key", default="", help="part of its key's name, where the id alone is not enough")


def _list(arguments: argparse.Namespace) -> None:
    with _opened(arguments.store) as store:
        if arguments.key:
            _print_runs(store.history(_one_key(store, arguments.key)), arguments.format)
        else:
            _print_keys(store, arguments.format)


def _history(arguments: argparse.Namespace) -> None:
    page = Path(arguments.plot) if arguments.plot not in ("", _TERMINAL) else None
    if page is not None and page.suffix != ".html":
        raise InputError("--plot", arguments.plot, "name a file that ends in .html, or none to draw here")
    if arguments.last < 1:
        raise InputError("--last", arguments.last, "ask for at least one run")
    with _opened(arguments.store) as store:
        key = _one_key(store, arguments.key)
        records = store.history(key, arguments.last)
    if not arguments.plot:
        _print_runs(records, "table")
    elif page is None:
        from model_load_test.pipelines.command_line.run_plot import draw_runs

        print("\n".join(draw_runs(records[::-1], arguments.metric)))
    else:
        _write_page(page, key, records[::-1])


def _write_page(page: Path, key: BaselineKey, records: Sequence[Record]) -> None:
    from model_load_test.components.report.html import render_trend
    from model_load_test.components.report.judging import history_point

    subtitle = f"{_runs(len(records))} under {key.name}, oldest first. A green line marks a promotion, "
    subtitle += "a red ring a run that did not pass."
    content = render_trend(key.model_name, subtitle, [history_point(record) for record in records])
    try:
        page.write_text(content, encoding="utf-8")
    except OSError as error:
        raise InputError("--plot", str(page), f"name a file that can be written: {error.strerror}") from error
    print(f"wrote {page}")


def _show(arguments: argparse.Namespace) -> None:
    with _opened(arguments.store) as store:
        record = _one_run(store, arguments.run, arguments.key)
    if arguments.format == "json":
        print(msgspec.json.encode(record).decode())
        return
    print(f"run      {record.run_id}{' (promoted)' if record.promoted else ''}")
    print(f"key      {record.key.name}")
    print(f"measured {_moment(record.created_at_ns)}")
    print(f"verdict  {record.verdict}")
    for label, text in (("model", record.model_version), ("artifacts", record.artifact_uri)):
        if text:
            print(f"{label:<8} {text}")
    _print_section("metrics", {name: f"{value:.6g}" for name, value in sorted(record.metrics.items())})
    fingerprint = fingerprint_text(record.fingerprint)
    _print_section("fingerprint", {name: text for name, text in fingerprint.items() if text})
    _print_section("load", {name: str(value) for name, value in sorted(record.load_spec.items())})


def _diff(arguments: argparse.Namespace) -> None:
    with _opened(arguments.store) as store:
        one = _one_run(store, arguments.run, arguments.key)
        other = _one_run(store, arguments.other_run, arguments.key)
    rows = [("metric", one.run_id, other.run_id, "ratio")]
    for name in sorted(one.metrics.keys() | other.metrics.keys()):
        left, right = one.metrics.get(name), other.metrics.get(name)
        ratio = f"{right / left:.3f}" if left and right is not None else "-"
        rows.append((name, _number(left), _number(right), ratio))
    _print_table(rows)
    differences = explain_spec_difference(one.load_spec, other.load_spec)
    differences += explain_difference(one.fingerprint, other.fingerprint)
    print("\nmeasured under the same circumstances" if not differences else "\nmeasured otherwise:")
    for difference in differences:
        print(f"  {difference}")


def _promote(arguments: argparse.Namespace) -> None:
    with _opened(arguments.store) as store:
        record = _one_run(store, arguments.run, arguments.key)
        store.promote(record.key, record.run_id, at_ns=time.time_ns())
    print(f"{record.run_id} is the reference of {record.key.name}")


def _forget(arguments: argparse.Namespace) -> None:
    before_ns = time.time_ns() - seconds_of("--older-than", arguments.older_than) * _NS_PER_SECOND
    total = 0
    with _opened(arguments.store) as store:
        for key in _chosen_keys(store, arguments.key):
            for record in forget_old(store, key, arguments.keep, before_ns, dry_run=arguments.dry_run):
                print(f"{record.run_id}  {_moment(record.created_at_ns)}  {key.name}")
                total += 1
    print(f"{'would forget' if arguments.dry_run else 'forgot'} {_runs(total)}")


def _record(arguments: argparse.Namespace) -> None:
    record = read_record_file(arguments.run)
    with _opened(arguments.store) as store:
        known = store.find(record.key, record.run_id) is not None
        store.record(record.key, record, record.artifact_id if arguments.link else None)
    print(f"{record.run_id} {'was there already' if known else 'recorded'} under {record.key.name}")


def _copy(arguments: argparse.Namespace) -> None:
    with _opened(arguments.store) as source, _opened(arguments.target) as target:
        for done in copy_baselines(source, target, _chosen_keys(source, arguments.key)):
            print(f"{done.key.name}: copied {_runs(done.copied)}, {done.present} there already")


@contextlib.contextmanager
def _opened(uri: str) -> Iterator[BaselineStore]:
    store = open_store(uri)
    try:
        yield store
    finally:
        store.close()


def _chosen_keys(store: BaselineStore, part: str) -> list[BaselineKey]:
    return [_one_key(store, part)] if part else store.list_keys()


def _one_key(store: BaselineStore, part: str) -> BaselineKey:
    found = [key for key in store.list_keys() if part in key.name]
    exact = [key for key in found if key.name == part]
    if len(exact or found) != 1:
        many = ", ".join(sorted(key.name for key in found)[:5])
        raise InputError(
            "--key", part, f"name one key; it fits {many}" if found else "no key of the store fits"
        )
    return (exact or found)[0]


def _one_run(store: BaselineStore, run_id: str, part: str) -> Record:
    found = [record for key in _chosen_keys(store, part) if (record := store.find(key, run_id)) is not None]
    if not found:
        raise InputError("run", run_id, "the store has no such run; list its keys with `baseline list STORE`")
    if len(found) > 1:
        names = ", ".join(record.key.name for record in found[:5])
        raise InputError("run", run_id, f"say which with --key; {names} have one of that id")
    return found[0]


def _print_keys(store: BaselineStore, form: str) -> None:
    keys = sorted(store.list_keys(), key=lambda key: key.name)
    if not keys and form == "table":
        print("no runs are recorded here")
        return
    rows = [("key", "passing", "runs", "newest", "measured", "promoted")]
    for key in keys:
        history = store.history(key)
        passing = sum(record.passing for record in history)
        reference = store.promoted(key)
        if form == "json":
            summary = {"key": key.name, "passing": passing, "runs": len(history)}
            promoted = reference.run_id if reference else None
            newest = history[0].run_id if history else None
            print(msgspec.json.encode({**summary, "newest": newest, "promoted": promoted}).decode())
            continue
        newest_of = (history[0].run_id, _moment(history[0].created_at_ns)) if history else ("-", "-")
        row = (key.name, str(passing), str(len(history)), *newest_of, reference.run_id if reference else "-")
        rows.append(row)
    if form == "table":
        _print_table(rows)


def _print_runs(records: list[Record], form: str) -> None:
    if form == "json":
        for record in records:
            print(msgspec.json.encode(record).decode())
        return
    rows: list[tuple[str, ...]] = [
        ("run", "measured", "verdict", "model", "candidate p50", "p95", "p99 ms", "promoted")
    ]
    for record in records:
        latencies = [_number(record.metrics.get(f"candidate_{name}_ms")) for name in ("p50", "p95", "p99")]
        promoted = "reference" if record.promoted else "once" if record.promoted_at_ns else "-"
        moment = _moment(record.created_at_ns)
        rows.append(
            (record.run_id, moment, record.verdict, record.model_version or "-", *latencies, promoted)
        )
    _print_table(rows)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_section(title: str, fields: dict[str, str]) -> None:
    if fields:
        width = max(map(len, fields))
        print(f"\n{title}")
        for name, text in fields.items():
            print(f"  {name:<{width}}  {text}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _moment(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // _NS_PER_SECOND, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
