"""`model-load-test sweep`: which serving parameters are best, measured on this machine."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from model_load_test.components.errors import InputError

if TYPE_CHECKING:
    from model_load_test.components.sweep.result import SweepReport
    from model_load_test.components.sweep.spec import SweepSpec

FILES: Final = ("sweep.html", "sweep.json", "best.yaml", "batching.txt", "serving.json")
JOURNAL: Final = "journal"

DEMO_MODEL: Final = "digits"
DEMO: Final[dict[str, Any]] = {
    "model_name": DEMO_MODEL,
    "serving": {"resources": {"requests": {"cpu": "2", "memory": "2Gi"}}},
    "parameters": {
        "enable_batching": [True],
        "max_batch_size": [4, 16],
        "batch_timeout_micros": [0, 10_000],
        "num_batch_threads": [1],
    },
    "rates_rps": [100.0, 220.0],
    "objectives": ["p95_ms<=150"],
    "prices": {"cpu": 0.033, "memory_gib": 0.0045},
    "pairs": 10,
    "block_seconds": 1.0,
    "warmup_seconds": 1.0,
}
_DEMO_COMPUTE: Final = {"compute_ms": 5.0, "compute_threads": 1}
"""One accelerator that takes as long for a batch as for one request."""
_DEMO_BATCH_SIZES: Final = (1,)
_SHOWN_WORDS: Final = 72


def add_parser(subparsers: Any) -> None:
    """Adds `sweep` with its options."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "sweep",
        help="which serving parameters are best, each configuration measured beside the reference",
        description="Tries serving parameters one configuration at a time on embedded servers of this "
        "machine, in random order, each loaded together with the reference configuration. A sweep that "
        "was stopped goes on where it was. On Kubernetes run the pipeline serving_sweep.",
    )
    parser.add_argument("--spec", type=Path, metavar="FILE", help="the sweep as YAML or JSON; options win")
    parser.add_argument("--model-name", help="the model's name on the servers")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="its base path: folders of versions")
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="values to try, such as max_batch_size=8,32, or JSON; may be repeated",
    )
    parser.add_argument("--rates", metavar="RATES", help="requests per second, such as 50,100,200")
    parser.add_argument("--slo", action="append", metavar="OBJECTIVE", help="such as 'p99_ms<=50'")
    parser.add_argument("--goal", choices=("mean", "p50", "p95", "p99", "cost"))
    parser.add_argument(
        "--price", action="append", default=[], metavar="WHAT=PER_HOUR", help="such as cpu=0.033"
    )
    parser.add_argument("--pairs", type=int, help="pairs of blocks at each rate (15)")
    parser.add_argument("--trials", type=int, help="search with Optuna, and try so many configurations")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--payload", type=Path, metavar="FOLDER", help="a payload set (random values)")
    parser.add_argument(
        "--model-uri", default="", help="where the best configuration's manifest has the model"
    )
    parser.add_argument("--output", type=Path, default=Path("build/sweep"), help="folder for the results")
    parser.add_argument("--restart", action="store_true", help="forget what an earlier try measured")
    parser.add_argument("--demo", action="store_true", help="sweep batching on an embedded server")


def run(arguments: argparse.Namespace) -> int:
    """Sweeps and prints a table; writes the page, the report and the best configuration's files.

    Returns:
        0 when everything was measured and there is a best configuration; 1 otherwise.

    Raises:
        InputError: Something given cannot be used; what was measured before is kept.
    """
    from model_load_test.components.sweep.journal import Journal
    from model_load_test.components.sweep.local import LocalServers, refuse_unhonoured
    from model_load_test.components.sweep.run import Sweeper, run_sweep
    from model_load_test.components.sweep.spec import parse_sweep_spec

    spec = parse_sweep_spec({**DEMO, **_values(arguments)} if arguments.demo else _values(arguments))
    refuse_unhonoured(spec)
    if arguments.model is None and not arguments.demo:
        raise InputError("--model", None, "give the folder of the model's versions, or sweep the --demo")
    journal = arguments.output / JOURNAL
    if arguments.restart:
        shutil.rmtree(journal, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="sweep-") as work_path:
        report = run_sweep(
            Sweeper(
                spec=spec,
                serve=LocalServers(arguments.model, _DEMO_COMPUTE if arguments.demo else {}),
                make_payload=lambda endpoint, path: _payload(arguments, spec, endpoint, path),
                journal=Journal(str(journal)),
                work_path=Path(work_path),
            )
        )
    write_files(arguments.output, spec, report, arguments.model_uri)
    print(_table(report))
    for name in FILES:
        if (arguments.output / name).exists():
            print(arguments.output / name)
    if not report.complete:
        print(f"unfinished: {report.unfinished}; the same command goes on from here", file=sys.stderr)
    return 0 if report.complete and report.best else 1


def write_files(folder: Path, spec: SweepSpec, report: SweepReport, model_uri: str) -> None:
    """Writes everything that a sweep leaves, into a folder that is made where it is missing."""
    from model_load_test.components.sweep.files import write_sweep_files

    write_sweep_files(folder, spec, report, model_uri or f"pvc://models/{spec.model_name}")


def _values(arguments: argparse.Namespace) -> dict[str, Any]:
    """The sweep's fields: those of the file, and over them those of the options."""
    values = _read(arguments.spec) if arguments.spec else {}
    given = {
        "model_name": arguments.model_name,
        "rates_rps": [_number("--rates", word) for word in arguments.rates.split(",")]
        if arguments.rates
        else None,
        "objectives": arguments.slo,
        "goal": arguments.goal,
        "pairs": arguments.pairs,
        "trials": arguments.trials,
        "search": "optuna" if arguments.trials else None,
        "seed": arguments.seed,
    }
    values |= {name: value for name, value in given.items() if value is not None}
    if arguments.parameter:
        values["parameters"] = {name: _list(text) for name, text in map(_pair, arguments.parameter)}
    if arguments.price:
        values["prices"] = {name: _number("--price", text) for name, text in map(_pair, arguments.price)}
    if not arguments.demo:
        for field, option in (("model_name", "--model-name"), ("parameters", "--parameter")):
            if field not in values:
                raise InputError(option, None, "name it, give it in --spec, or sweep the --demo")
    return values


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError("--spec", str(path), f"cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise InputError("--spec", str(path), "write the fields of a sweep, as docs/sweep.md shows")
    return values


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name or not value:
        raise InputError("--parameter", text, "write it as NAME=VALUES")
    return name, value


def _list(text: str) -> Any:
    """Values between commas, or JSON where that is what it is."""
    if text.startswith(("[", "{")):
        try:
            return json.loads(text)
        except ValueError as error:
            raise InputError("--parameter", text, f"it is no JSON ({error})") from None
    return [_word(word) for word in text.split(",")]


def _word(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(option, text, "give numbers") from None


def _payload(arguments: argparse.Namespace, spec: SweepSpec, endpoint: Any, path: Path) -> None:
    from model_load_test.components.payload.make import make_payload

    if arguments.payload is not None:
        shutil.copytree(arguments.payload, path)
        return
    make_payload(
        endpoint,
        model_name=spec.model_name,
        out_dir=path,
        requests=200,
        batch_sizes=_DEMO_BATCH_SIZES if arguments.demo else None,
        seed=spec.seed,
    )


def _table(report: SweepReport) -> str:
    from model_load_test.components.sweep.result import table

    titles, rows = table(report)
    shortened = [(_short(row[0]), *row[1:-1], _short(row[-1])) for row in rows]
    widths = [max(len(row[place]) for row in (titles, *shortened)) for place in range(len(titles) - 1)]
    lines = [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=True)),
                row[-1],
            ]
        )
        for row in (titles, *shortened)
    ]
    return "\n".join(["", *(line.rstrip() for line in lines), "", report.best_text, ""])


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_WORDS else f"{text[: _SHOWN_WORDS - 3]}..."
