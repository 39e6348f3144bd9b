"""`model-load-test judge`: the gate's verdict on results tables, again or with other margins."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_load_test.components.errors import InputError

if TYPE_CHECKING:
    from model_load_test.components.gate.spec import GateSpec
    from model_load_test.components.gate.verdict import MetricVerdict, Verdict

BAD_INPUT = 2


def add_parser(subparsers: Any) -> None:
    """Adds `judge` with its options."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "judge",
        help="the gate's verdict on a results table, again or with other margins",
        description="Judges results tables as the run itself did, or with other margins and objectives.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="results.parquet of a run")
    parser.add_argument(
        "--margin",
        action="append",
        default=[],
        metavar="METRIC=SHARE",
        help="allowed excess, such as p95=0.08; METRIC=off leaves the metric out; may be repeated",
    )
    parser.add_argument("--alpha", type=float, help="one-sided error rate of the whole run (0.05)")
    parser.add_argument(
        "--slo",
        action="append",
        default=[],
        metavar="OBJECTIVE",
        help="absolute objective of the candidate, such as 'p99_ms<=50'; may be repeated",
    )
    parser.add_argument(
        "--looks", metavar="N,N,...", help="numbers of pairs the run could stop at (those of the run)"
    )
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="json: one object a line"
    )


def run(arguments: argparse.Namespace) -> int:
    """Judges every file; a file that cannot be judged does not keep the others from it.

    Returns:
        0 when every file was judged, whatever the verdicts; 2 when one could not be.

    Raises:
        InputError: An option cannot be used; then no file is judged.
    """
    import msgspec

    demands = _demands(arguments)
    from model_load_test.components.gate.spec import parse_gate_spec

    parse_gate_spec(demands)
    failed = False
    for path in arguments.files:
        try:
            spec, verdict = _judge_file(path, demands)
        except InputError as error:
            failed = True
            if arguments.format == "json":
                line: dict[str, Any] = {"file": str(path), "error": _error_object(error)}
                print(msgspec.json.encode(line).decode(), flush=True)
            print(f"model-load-test judge: {path}: {error}", file=sys.stderr)
            continue
        if arguments.format == "json":
            print(msgspec.json.encode(_json_object(path, spec, verdict)).decode(), flush=True)
        else:
            print(_text(path, verdict), flush=True)
    return BAD_INPUT if failed else 0


def _judge_file(path: Path, demands: dict[str, Any]) -> tuple[GateSpec, Verdict]:
    from model_load_test.components.gate.judge import judge
    from model_load_test.components.gate.spec import gate_spec_of_run
    from model_load_test.components.results.table import read_results
    from model_load_test.components.results.validity import validate

    results = read_results(path)
    spec = gate_spec_of_run(demands, results.metadata.load_spec, results.metadata.noise_floor)
    checks = validate(results.table, results.metadata)
    return spec, judge(results.table, spec, checks=checks, cpu=results.metadata.resources.cpu)


def _demands(arguments: argparse.Namespace) -> dict[str, Any]:
    demands: dict[str, Any] = {"objectives": tuple(arguments.slo), "margins": _margins(arguments.margin)}
    if arguments.alpha is not None:
        demands["alpha"] = arguments.alpha
    if arguments.looks is not None:
        demands["looks"] = _looks(arguments.looks)
    return demands


def _margins(given: Sequence[str]) -> dict[str, float | None]:
    margins: dict[str, float | None] = {}
    for text in given:
        metric, separator, share = text.partition("=")
        try:
            margins[metric.strip()] = None if share.strip() == "off" else float(share)
        except ValueError:
            separator = ""
        if not separator:
            raise InputError("--margin", text, "write METRIC=SHARE, such as p95=0.08, or METRIC=off")
    return margins


def _looks(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError("--looks", text, "give whole numbers of pairs, such as 15,30,60") from None


def _error_object(error: InputError) -> dict[str, Any]:
    return {"code": getattr(error, "code", "bad-input"), "detail": str(error)}


def _json_object(path: Path, spec: GateSpec, verdict: Verdict) -> dict[str, Any]:
    """The verdict with every key of the contract present, null where there is no value."""
    import msgspec

    return {
        "file": str(path),
        "verdict": verdict.verdict,
        "reasons": verdict.reasons,
        "judgement": verdict.judgement,
        "metrics": {name: _metric_object(found) for name, found in verdict.metrics.items()},
        "objectives": msgspec.to_builtins(verdict.objectives),
        "pairs": verdict.pairs,
        "pairs_wanted": verdict.pairs_wanted,
        "requests_wanted": verdict.requests_wanted,
        "alpha": verdict.alpha,
        "looks": spec.looks,
        "detectable_effect": verdict.detectable_effect,
        "noise_floor": verdict.noise_floor,
        "checks": msgspec.to_builtins(verdict.checks),
    }


def _metric_object(found: MetricVerdict) -> dict[str, Any]:
    fields = (
        "verdict",
        "ratio",
        "lower",
        "upper",
        "margin",
        "p_holm",
        "n",
        "candidate",
        "baseline",
        "faster",
        "note",
    )
    return {field: getattr(found, field) for field in fields}


def _text(path: Path, verdict: Verdict) -> str:
    lines = [f"{path}: {verdict.verdict}", *(f"  {reason}" for reason in verdict.reasons)]
    if verdict.metrics:
        names = ("ratio", "lower", "upper")
        lines.append(
            f"  {'metric':8} {'verdict':13} {' '.join(f'{name:>9}' for name in names)} "
            f"{'margin':>7} {'p':>8} {'n':>4}"
        )
    for name, found in verdict.metrics.items():
        numbers = (_number(found.ratio), _number(found.lower), _number(found.upper))
        lines.append(
            f"  {name:8} {found.verdict:13} {numbers[0]:>9} {numbers[1]:>9} {numbers[2]:>9} "
            f"{found.margin:>7.4g} {_number(found.p_holm, 3):>8} {found.n:>4}"
        )
    for objective in verdict.objectives:
        observed = "" if objective.observed is None else f" observed {objective.observed:.4g}"
        lines.append(f"  {objective.objective}: {objective.verdict}{observed}")
    lines += [f"  {check.consequence.lower()}: {check.detail}" for check in verdict.checks]
    return "\n".join(lines)


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}g}"
