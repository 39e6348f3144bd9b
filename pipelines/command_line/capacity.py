"""`model-load-test capacity`: the highest load at which objectives hold."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from model_load_test.components.errors import InputError

if TYPE_CHECKING:
    from model_load_test.components.load.capacity.curve import CurvePoint
    from model_load_test.components.load.capacity.result import CapacityReport

DEMO_MODEL: Final = "digits"
DEMO_OBJECTIVES: Final = ("p95_ms<=40", "error_rate<=0.01")
_DEMO_COMPUTE_MS: Final = {"baseline": 6.0, "candidate": 8.0}
"""One request at a time: some hundred requests per second, whatever the machine."""


def add_parser(subparsers: Any) -> None:
    """Adds `capacity` with its options."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "capacity",
        help="the highest load at which objectives hold, with its uncertainty and its limit",
        description="Searches the highest rate, or number of simultaneous requests, at which every "
        "objective holds; with a baseline both servers are searched in turns, and their ratio is told.",
    )
    parser.add_argument("--candidate", metavar="ENDPOINT", help="grpc://HOST:PORT or http://HOST:PORT")
    parser.add_argument("--baseline", default="", metavar="ENDPOINT", help="a second server to compare with")
    parser.add_argument("--model-name", help="the model's name on the servers")
    parser.add_argument("--signature-name", default="serving_default")
    parser.add_argument("--payload", type=Path, metavar="FOLDER", help="a payload set (random values)")
    parser.add_argument(
        "--slo", action="append", metavar="OBJECTIVE", help="such as 'p99_ms<=50'; may be repeated"
    )
    parser.add_argument("--kind", choices=("rate", "connections"), default="rate")
    parser.add_argument("--probe-seconds", type=float, default=5.0)
    parser.add_argument("--lowest", type=float, default=1.0)
    parser.add_argument("--highest", type=float, default=5000.0)
    parser.add_argument("--most-probes", type=int, default=20)
    parser.add_argument("--target-rps", type=float, metavar="RATE", help="plan replicas for this rate")
    parser.add_argument("--headroom", type=float, default=0.3, help="share each replica keeps free (0.3)")
    for arm in ("candidate", "baseline"):
        parser.add_argument(
            f"--{arm}-metrics", default="", metavar="URL", help="where that server shows its own metrics"
        )
    parser.add_argument("--allow-host", action="append", default=[], metavar="HOST")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("build/capacity"), help="folder for the results")
    parser.add_argument("--demo", action="store_true", help="search two embedded servers, one slower")


def run(arguments: argparse.Namespace) -> int:
    """Searches and prints a table; writes capacity.json, capacity.html, results.parquet, serving.yaml.

    Returns:
        0 when a capacity was found, or shown to be beyond the highest load; 1 otherwise.

    Raises:
        InputError: Something given cannot be used; found before any load is sent.
    """
    with ExitStack() as stack:
        if arguments.demo:
            _start_demo(arguments, stack)
        report = _search(arguments, Path(stack.enter_context(tempfile.TemporaryDirectory())))
    print(_table(report))
    for name in ("capacity.html", "capacity.json", "results.parquet", "serving.yaml"):
        if (arguments.output / name).exists():
            print(arguments.output / name)
    return 0 if report.arms["candidate"].ending in ("found", "beyond") else 1


def _start_demo(arguments: argparse.Namespace, stack: ExitStack) -> None:
    from model_load_test.components.protocols.client import METRICS_PATH
    from model_load_test.components.serving.embedded.process import embedded_server

    for arm, compute_ms in _DEMO_COMPUTE_MS.items():
        served = embedded_server(DEMO_MODEL, backend="numpy", compute_ms=compute_ms, compute_threads=1)
        server = stack.enter_context(served)
        setattr(arguments, arm, str(server.grpc))
        setattr(arguments, f"{arm}_metrics", f"{server.rest}{METRICS_PATH}")
    arguments.model_name = DEMO_MODEL
    arguments.slo = arguments.slo or list(DEMO_OBJECTIVES)
    arguments.target_rps = arguments.target_rps or 1000.0


def _search(arguments: argparse.Namespace, work_path: Path) -> CapacityReport:
    from model_load_test.components.load.capacity.result import write_capacity
    from model_load_test.components.load.capacity.run import find_capacity, parse_question
    from model_load_test.components.load.preflight import prepare
    from model_load_test.components.load.run import interruptible
    from model_load_test.components.payload.make import make_payload
    from model_load_test.components.protocols.endpoint import parse_endpoint
    from model_load_test.components.report.capacity_page import render_capacity
    from model_load_test.components.results.table import write_results

    for field in ("candidate", "model_name"):
        if not getattr(arguments, field):
            option = f"--{field.replace('_', '-')}"
            raise InputError(option, getattr(arguments, field), "name it, or search the --demo")
    question = parse_question(
        {
            "objectives": arguments.slo or (),
            "kind": arguments.kind,
            "probe_seconds": arguments.probe_seconds,
            "lowest": arguments.lowest,
            "highest": arguments.highest,
            "most_probes": arguments.most_probes,
            "target_rps": arguments.target_rps,
            "headroom": arguments.headroom,
            "seed": arguments.seed,
        }
    )
    payload = arguments.payload
    if payload is None:
        payload = work_path / "payload"
        make_payload(
            parse_endpoint(arguments.candidate, "--candidate"),
            model_name=arguments.model_name,
            out_dir=payload,
            requests=200,
        )
    test = prepare(
        candidate_endpoint=arguments.candidate,
        baseline_endpoint=arguments.baseline,
        model_name=arguments.model_name,
        signature_name=arguments.signature_name,
        payload_path=payload,
        mode="auto",
        spec_values={"rate_rps": arguments.lowest, "seed": arguments.seed},
        work_path=work_path / "load",
        limits={"allowed_hosts": arguments.allow_host, "max_rate_rps": arguments.highest},
        metrics={
            arm: address
            for arm in ("candidate", "baseline")
            if (address := getattr(arguments, f"{arm}_metrics"))
        },
    )
    with interruptible() as interruption:
        report, rows, metadata = find_capacity(test, question, interruption=interruption)
        arguments.output.mkdir(parents=True, exist_ok=True)
        write_capacity(arguments.output / "capacity.json", report)
        write_results(arguments.output / "results.parquet", rows, metadata)
        (arguments.output / "capacity.html").write_text(render_capacity(report), encoding="utf-8")
        _write_manifest(arguments.output / "serving.yaml", report)
    return report


def _write_manifest(path: Path, report: CapacityReport) -> None:
    """The replicas wanted as a part of a ServingSpec, which `deploy_and_gate` takes."""
    import yaml

    wanted = report.arms["candidate"].replicas_wanted
    if wanted is not None:
        path.write_text(yaml.safe_dump({"model_name": report.model_name, "replicas": wanted}))


def _table(report: CapacityReport) -> str:
    lines = []
    for name, arm in report.arms.items():
        lines += [f"\n{name}: {arm.detail}", *map(_line, arm.curve)]
        if arm.bottleneck:
            lines.append(f"the bottleneck was: {arm.bottleneck.get('detail', arm.bottleneck)}")
        if arm.replicas_wanted is not None:
            lines.append(
                f"{arm.replicas_wanted} replicas for {report.target_rps:g} requests/s "
                f"with {100 * report.headroom:.0f} % headroom"
            )
    if report.ratio is not None:
        lines.append(
            f"\ncandidate / baseline: x{report.ratio:.2f} [{report.ratio_lower:.2f} to "
            f"{report.ratio_upper:.2f}, 80 %]"
        )
    if report.interrupted:
        print("the search was interrupted; what it measured is kept", file=sys.stderr)
    return "\n".join(lines) + "\n"


def _line(point: CurvePoint) -> str:
    latency = "  ".join(
        f"{name} {value:8.2f} ms" if value is not None else f"{name} {'-':>8}   "
        for name, value in (("p50", point.p50_ms), ("p95", point.p95_ms), ("p99", point.p99_ms))
    )
    verdict = "holds" if point.holds else "broken" if point.broken else "-"
    return f"  {point.level:8.0f}  {latency}  {100 * point.error_rate:6.2f} % failed  {verdict}"
