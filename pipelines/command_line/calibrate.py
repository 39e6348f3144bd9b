"""`model-load-test calibrate`: the noise floor of a user's own two identical servers, and what it hides."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from model_load_test.components.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from model_load_test.components.baseline.fingerprint import Fingerprint
    from model_load_test.components.baseline.key import BaselineKey
    from model_load_test.components.gate.calibration import VisibleEffects
    from model_load_test.components.gate.spec import GateSpec
    from model_load_test.components.gate.verdict import Verdict
    from model_load_test.components.load.progress import ProgressUpdate
    from model_load_test.components.load.run import LoadTest
    from model_load_test.components.results.table import RunMetadata

NOT_CALIBRATED: Final = 1
"""Exit code when the input was right, but the measurement or the store was not."""

_LEAST_PAIRS: Final = 20
"""A quarter of them may be spoilt by stalls of the machine."""
_UNLIKE: Final = (
    "identical servers FAILED the gate, so the floor was not kept: it would excuse every real slow-down. "
    "Check that both serve the same model and that neither shares its cores with something else"
)
_STORE_SECONDS: Final = 30.0
_PERCENT: Final = 100.0


def add_parser(subparsers: Any) -> None:
    """Adds `calibrate` with its options."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "calibrate",
        help="what two identical servers differ by here, and which slow-downs a gate could see",
        description="Loads two servers of the same model, started alike, and says how far they come out "
        "apart by chance. Do it a few times with fresh servers: with --store the largest of the newest "
        "five calibrations counts, and the gate's margins never fall below twice of it.",
    )
    parser.add_argument("--candidate", required=True, metavar="ENDPOINT", help="grpc://HOST:PORT or http://")
    parser.add_argument(
        "--baseline", required=True, metavar="ENDPOINT", help="the other server, serving the same model"
    )
    parser.add_argument("--model-name", required=True, help="the model's name on both servers")
    parser.add_argument("--signature-name", default="serving_default")
    parser.add_argument("--payload", type=Path, metavar="FOLDER", help="a payload set (random values)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second and arm (200)")
    parser.add_argument("--pairs", type=int, default=60, help="pairs of blocks to measure (60)")
    parser.add_argument("--mode", choices=("duet", "interleaved"), default="duet")
    parser.add_argument("--block-seconds", type=float, default=0.0, help="1, or as long as 200 requests take")
    parser.add_argument("--connections", type=int, default=1, help="gRPC connections per arm (1)")
    parser.add_argument(
        "--connection",
        type=_json_object,
        default={},
        metavar="JSON",
        help='certificates and tokens by their files, such as {"ca_file": "ca.crt", "token_file": "token"}',
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help="load this host, which is no local one",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order within the pairs")
    parser.add_argument("--store", default="", metavar="URI", help="baseline store to keep the floor in")
    parser.add_argument("--namespace", default="default", help="part of the floor's key, as for the runs")
    parser.add_argument("--server-kind", default="unknown", help="part of the fingerprint, as for the runs")
    parser.add_argument("--server-image", default="", help="part of the fingerprint, as for the runs")
    parser.add_argument(
        "--server-flag", action="append", default=[], metavar="FLAG", help="part of the fingerprint"
    )
    parser.add_argument("--server-replicas", type=int, default=1, help="part of the fingerprint")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the JSON object there too")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(arguments: argparse.Namespace) -> int:
    """Measures, prints and keeps the noise floor.

    Returns:
        0 when it was measured, and kept where a store is named; 1 when the measurement was not valid,
        the servers were not alike, or the store does not answer.

    Raises:
        InputError: Something given cannot be used; found before any load is sent.
    """
    import msgspec

    from model_load_test.components.baseline.store import StoreUnavailable
    from model_load_test.components.gate.blocks import ResultsTableError
    from model_load_test.components.gate.judge import judge
    from model_load_test.components.gate.spec import gate_spec_of_run
    from model_load_test.components.load.run import StopDecision, run_load_test
    from model_load_test.components.results.validity import validate

    _refuse_unusable(arguments)
    with tempfile.TemporaryDirectory(prefix="calibrate-") as folder:
        test = _prepared(arguments, Path(folder))
        try:
            _earlier_floor(arguments, test)
        except StoreUnavailable as error:
            return _not_calibrated(f"{error}; nothing was measured")
        rows, metadata = run_load_test(test, lambda _table: StopDecision(False, ""), progress=_show)
    spec = gate_spec_of_run({}, metadata.load_spec)
    verdict = judge(rows, spec, checks=validate(rows, metadata))
    if verdict.verdict == "INVALID":
        return _not_calibrated(" ".join(verdict.reasons))
    try:
        found = _calibration(arguments, test, rows, metadata, spec, verdict)
    except ResultsTableError as error:
        return _not_calibrated(str(error))
    trouble = _UNLIKE if verdict.verdict == "FAIL" else ""
    try:
        if not trouble:
            _keep(arguments, test, metadata, found)
    except StoreUnavailable as error:
        trouble = f"{error}; the floor was not kept"
    text = msgspec.json.encode(found).decode()
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    print(text if arguments.format == "json" else _table(found), flush=True)
    return _not_calibrated(trouble) if trouble else 0


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return value


def _refuse_unusable(arguments: argparse.Namespace) -> None:
    if arguments.pairs < _LEAST_PAIRS:
        raise InputError("--pairs", arguments.pairs, f"measure at least {_LEAST_PAIRS} pairs of blocks")
    if arguments.server_replicas < 1:
        raise InputError("--server-replicas", arguments.server_replicas, "there is at least 1")
    if arguments.output and not arguments.output.parent.is_dir():
        raise InputError("--output", str(arguments.output), "name a file in a folder that exists")
    if arguments.output and arguments.output.is_dir():
        raise InputError("--output", str(arguments.output), "this is a folder; name a file")


def _prepared(arguments: argparse.Namespace, folder: Path) -> LoadTest:
    from model_load_test.components.baseline.fingerprint import collect_fingerprint
    from model_load_test.components.load.connection import parse_connection_options
    from model_load_test.components.load.preflight import prepare
    from model_load_test.components.load.spec import parse_load_spec
    from model_load_test.components.payload.make import make_payload
    from model_load_test.components.protocols.endpoint import parse_endpoint

    limits = {"allowed_hosts": arguments.allow_host}
    access = parse_connection_options(arguments.connection).access()
    candidate = replace(parse_endpoint(arguments.candidate, "--candidate"), access=access)
    parse_endpoint(arguments.baseline, "--baseline")
    collect_fingerprint(arguments.server_kind)
    values = {
        "rate_rps": arguments.rate,
        "block_seconds": arguments.block_seconds,
        "looks": (arguments.pairs,),
        "connections": arguments.connections,
        "seed": arguments.seed,
    }
    parse_load_spec({**values, "protocol": candidate.protocol, "mode": arguments.mode})
    payload = arguments.payload or folder / "payload"
    if not arguments.payload:
        make_payload(
            candidate,
            model_name=arguments.model_name,
            out_dir=payload,
            signature_name=arguments.signature_name,
        )
    return prepare(
        candidate_endpoint=arguments.candidate,
        baseline_endpoint=arguments.baseline,
        model_name=arguments.model_name,
        signature_name=arguments.signature_name,
        payload_path=payload,
        mode=arguments.mode,
        spec_values=values,
        work_path=folder / "work",
        connection=arguments.connection,
        limits=limits,
    )


def _earlier_floor(arguments: argparse.Namespace, test: LoadTest) -> None:
    """Says which calibrations there are; so a store that cannot be used is found before the load."""
    import msgspec

    from model_load_test.components.baseline.lookup import ask_store
    from model_load_test.components.baseline.noise_floor import find_noise_floor
    from model_load_test.components.load.generators import find_generator

    version = find_generator(test.spec.tool).version
    key, _ = _key(arguments, test, msgspec.to_builtins(test.spec), version)
    if not arguments.store:
        return
    known = ask_store(arguments.store, lambda store: find_noise_floor(store, key), _STORE_SECONDS)
    shown = ", ".join(f"{metric} {value:.2%}" for metric, value in known.items())
    _tell(f"noise floor known so far: {shown or 'none'}")


def _keep(
    arguments: argparse.Namespace, test: LoadTest, metadata: RunMetadata, found: Mapping[str, Any]
) -> None:
    from model_load_test.components.baseline.lookup import ask_store
    from model_load_test.components.baseline.noise_floor import record_noise_floor

    if not arguments.store:
        return
    key, fingerprint = _key(arguments, test, metadata.load_spec, metadata.tool_version)
    ask_store(
        arguments.store,
        lambda store: record_noise_floor(
            store,
            key,
            found["noise_floor"],
            fingerprint=fingerprint,
            load_spec=metadata.load_spec,
            measured_at_ns=metadata.started_at_ns,
        ),
        _STORE_SECONDS,
    )


def _key(
    arguments: argparse.Namespace, test: LoadTest, load_spec: Mapping[str, Any], tool_version: str
) -> tuple[BaselineKey, Fingerprint]:
    from model_load_test.components.baseline.fingerprint import collect_fingerprint
    from model_load_test.components.baseline.noise_floor import noise_floor_key

    fingerprint = collect_fingerprint(
        test.server_kind or arguments.server_kind,
        server_image=arguments.server_image,
        server_flags=arguments.server_flag,
        replicas=arguments.server_replicas,
        generator=test.spec.tool,
        generator_version=tool_version,
    )
    return noise_floor_key(arguments.namespace, arguments.model_name, load_spec, fingerprint), fingerprint


def _calibration(
    arguments: argparse.Namespace,
    test: LoadTest,
    rows: pa.Table,
    metadata: RunMetadata,
    spec: GateSpec,
    verdict: Verdict,
) -> dict[str, Any]:
    """Everything that was found, as it is printed."""
    import msgspec

    from model_load_test.components.gate.calibration import noise_floor, visible_effects
    from model_load_test.components.load.spec import LoadSpec

    floor = noise_floor(rows, spec)
    planned = msgspec.structs.replace(spec, noise_floor=floor, looks=LoadSpec().looks)
    budgets = sorted({*planned.looks, *((arguments.pairs,) if arguments.pairs > planned.looks[-1] else ())})
    load = metadata.load_spec
    return {
        "candidate": arguments.candidate,
        "baseline": arguments.baseline,
        "model_name": arguments.model_name,
        "mode": test.spec.mode,
        "rate_rps": test.spec.rate_rps,
        "block_seconds": load["block_seconds"],
        "pairs": verdict.pairs,
        "noise_floor": floor,
        "margins": {metric: planned.margin(metric) for metric in planned.margins},
        "budgets": [
            _budget(effects, test.spec.requests_per_block, load["block_seconds"], test.spec.mode)
            for effects in visible_effects(rows, planned, budgets)
        ],
        "verdict": verdict.verdict,
        "reasons": verdict.reasons,
        "checks": msgspec.to_builtins(verdict.checks),
        "store": arguments.store,
    }


def _budget(effects: VisibleEffects, requests: float, block_seconds: float, mode: str) -> dict[str, Any]:
    turns = 2 if mode == "interleaved" else 1
    return {
        "pairs": effects.pairs,
        "load_seconds": effects.pairs * block_seconds * turns,
        "requests": round(effects.pairs * requests),
        "fails": effects.fails,
        "passes": effects.passes,
    }


def _table(found: Mapping[str, Any]) -> str:
    floor, margins, budgets = found["noise_floor"], found["margins"], found["budgets"]
    lines = [
        f"{found['pairs']} pairs of {found['block_seconds']:g} s, {found['mode']}, "
        f"{found['rate_rps']:g} requests/s per arm; the gate says {found['verdict']}",
        *(f"  {reason}" for reason in found["reasons"]),
        "",
        "Smallest slow-down that FAILs in 4 of 5 runs, in % (errors: percentage points);",
        "* where an identical candidate PASSes in 4 of 5 runs:",
        "",
        _columns("metric", "noise floor", "margin", [f"{budget['pairs']} pairs" for budget in budgets]),
    ]
    for metric, margin in margins.items():
        cells = [
            _cell(budget["fails"].get(metric), budget["passes"].get(metric, False)) for budget in budgets
        ]
        lines.append(_columns(metric, _percent(floor.get(metric)), _percent(margin), cells))
    lines += [
        "",
        "One calibration sees the luck of two starts only once: do it a few times with fresh servers.",
    ]
    lines += [f"{check['consequence'].lower()}: {check['detail']}" for check in found["checks"]]
    return "\n".join(lines)


def _columns(metric: str, floor: str, margin: str, cells: Sequence[str]) -> str:
    return f"{metric:8} {floor:>11} {margin:>7}  " + " ".join(f"{cell:>9}" for cell in cells)


def _cell(effect: float | None, passes: bool) -> str:
    return _percent(effect) + ("*" if passes else " ")


def _percent(share: float | None) -> str:
    if share is None:
        return "-"
    return ">999" if share > 9.99 else f"{_PERCENT * share:.3g}"


def _not_calibrated(why: str) -> int:
    print(f"model-load-test calibrate: {why}", file=sys.stderr)
    return NOT_CALIBRATED


def _show(update: ProgressUpdate) -> None:
    from model_load_test.components.load.progress import print_progress

    print_progress(update, sys.stderr)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
