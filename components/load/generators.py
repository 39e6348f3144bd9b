"""The load generators: where they are, and the command line of one load at a constant rate."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from model_load_test.components.errors import InputError
from model_load_test.components.load.connection import (
    SYSTEM_CA,
    ConnectionOptions,
    ghz_connection_flags,
    vegeta_connection_flags,
)
from model_load_test.components.load.locust.plan import Plan, plan_arguments, users_for
from model_load_test.components.load.spec import LoadSpec, Tool
from model_load_test.components.protocols.endpoint import Endpoint

VERSIONS: Final[dict[Tool, str]] = {"ghz": "0.120.0", "vegeta": "12.13.0", "locust": "2.46.6"}
"""What `make tools` and the image install; other versions run, and the report names them."""

LOCUST_SUFFIX: Final = ".locust"
"""Of the folder that Locust's workers write their rows and accounts into."""
_LOCUST_MODULE: Final = "model_load_test.components.load.locust"


class GeneratorMissing(InputError):
    """The load generator a spec needs is not on PATH."""


@dataclass(frozen=True)
class Generator:
    """An installed load generator."""

    tool: Tool
    executable: str
    version: str


@dataclass(frozen=True)
class Attack:
    """One load of one server: open loop at a constant rate, or closed as the spec says."""

    endpoint: Endpoint
    rate_rps: float
    """Not used in a closed loop."""
    source: Path
    """For ghz the payload's folder; for vegeta the target file of this endpoint."""
    load_seconds: float
    """How long requests are sent."""
    report: Path
    """Where the tool's own report is to be written."""
    call: str = ""
    """For ghz the method, as `package.Service/Method`."""
    protoset: str = ""
    """For ghz the name of the file in the payload's folder that describes the messages."""
    connection: ConnectionOptions = field(default_factory=ConnectionOptions)
    metadata_file: Path | None = None
    """Where ghz finds what to send along with each request; vegeta has it in its target file."""
    meeting: Path | None = None
    """Folder in which the Locusts of both arms wait for each other; the others start at once."""
    parties: int = 1
    """How many meet there."""
    locustfile: Path | None = None
    fork_server: Path | None = None
    """Socket of a process that has imported Locust already."""

    @property
    def requests(self) -> int:
        """How many requests an open loop sends."""
        return max(1, math.ceil(self.rate_rps * self.load_seconds))


@dataclass(frozen=True)
class GeneratorCommand:
    """One generator process to be: what to run, and where its rows will be."""

    attack: tuple[str, ...]
    report_path: Path
    decode: tuple[str, ...] = ()
    """Run after the attack where the tool's own format is not one we stream (vegeta's gob)."""


def find_generator(tool: Tool) -> Generator:
    """Finds `tool` on PATH and asks its version.

    Raises:
        GeneratorMissing: It is not on PATH, or does not run.
    """
    if tool == "locust":
        return _find_locust()
    executable = shutil.which(tool)
    remedy = f"install {tool} {VERSIONS[tool]} with `make tools` and put its folder on PATH"
    if executable is None:
        raise GeneratorMissing("tool", tool, remedy)
    flag = "--version" if tool == "ghz" else "-version"
    try:
        version = _version(executable, flag, Path(executable).stat().st_mtime_ns)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GeneratorMissing("tool", executable, f"it does not run ({error}); {remedy}") from None
    return Generator(tool, executable, version)


@functools.cache
def _version(executable: str, flag: str, _changed_at_ns: int) -> str:
    answer = subprocess.run([executable, flag], capture_output=True, text=True, timeout=20, check=False)
    said = re.search(r"\bv?(\d+\.\d+\.\d+\S*)", answer.stdout + answer.stderr)
    return said.group(1) if said else _recorded_version(executable)


def _find_locust() -> Generator:
    # only asked for, never imported: Locust patches the process that imports it
    try:
        version = importlib.metadata.version("locust")
    except importlib.metadata.PackageNotFoundError:
        raise GeneratorMissing(
            "tool", "locust", "install it beside this package: pip install 'model-load-test[locust]'"
        ) from None
    return Generator("locust", sys.executable, version)


def _recorded_version(executable: str) -> str:
    """The module version that Go wrote into the program; built by `go install`, ghz calls itself "dev"."""
    recorded = re.search(rb"mod\t\S+\tv(\S+)\t", Path(executable).read_bytes())
    return recorded.group(1).decode() if recorded else "unknown"


def attack_command(generator: Generator, spec: LoadSpec, attack: Attack) -> GeneratorCommand:
    """The command line that carries out `attack`."""
    return _COMMANDS[generator.tool](generator, spec, attack)


def _ghz_command(generator: Generator, spec: LoadSpec, attack: Attack) -> GeneratorCommand:
    command = (
        generator.executable,
        f"--protoset={attack.source / attack.protoset}",
        f"--call={attack.call}",
        f"--binary-file={attack.source / 'requests.bin'}",
        *_ghz_load(spec, attack),
        *ghz_connection_flags(attack.connection, spec, attack.endpoint, attack.metadata_file),
        f"--timeout={spec.timeout_seconds}s",
        "--connect-timeout=5s",
        "--duration-stop=wait",
        "--format=json",
        f"--output={attack.report}",
        attack.endpoint.address,
    )
    return GeneratorCommand(command, attack.report)


def _ghz_load(spec: LoadSpec, attack: Attack) -> tuple[str, ...]:
    if spec.concurrency:
        return (f"--concurrency={spec.concurrency}", f"--duration={attack.load_seconds}s")
    # --async is ghz's only open loop, and a total instead of a duration leaves nothing to cut off
    # at the end: the run ends when the last answer, or its timeout, is in. It wants as many workers
    # as connections, though in an open loop they wait for nothing.
    return (
        "--async",
        f"--concurrency={spec.connections}",
        f"--rps={attack.rate_rps:.0f}",
        f"--total={attack.requests}",
    )


def _vegeta_command(generator: Generator, spec: LoadSpec, attack: Attack) -> GeneratorCommand:
    gob = attack.report.with_suffix(".gob")
    command = (
        generator.executable,
        "attack",
        "-format=json",
        f"-targets={attack.source}",
        *_vegeta_load(spec, attack),
        *vegeta_connection_flags(attack.connection, spec, attack.endpoint),
        f"-duration={attack.load_seconds}s",
        f"-timeout={spec.timeout_seconds}s",
        "-redirects=-1",
        f"-output={gob}",
    )
    decode = (generator.executable, "encode", "-to=json", f"-output={attack.report}", str(gob))
    return GeneratorCommand(command, attack.report, decode)


def _vegeta_load(spec: LoadSpec, attack: Attack) -> tuple[str, ...]:
    if spec.concurrency:
        return ("-rate=0", f"-workers={spec.concurrency}", f"-max-workers={spec.concurrency}")
    hits, period_seconds = _whole_rate(attack.rate_rps)
    return (f"-rate={hits}/{period_seconds}s",)


def _whole_rate(rate_rps: float) -> tuple[int, int]:
    """`rate_rps` as vegeta wants it: whole requests in whole seconds."""
    whole = Fraction(rate_rps).limit_denominator(1000)
    return whole.numerator, whole.denominator


def _locust_command(generator: Generator, spec: LoadSpec, attack: Attack) -> GeneratorCommand:
    report = attack.report.with_suffix(LOCUST_SUFFIX)
    options = attack.connection
    load: dict[str, Any]
    if spec.concurrency:
        load = {"users": spec.concurrency, "closed_seconds": attack.load_seconds}
    else:
        users = spec.users or users_for(attack.rate_rps, spec.timeout_seconds, attack.requests)
        load = {
            "users": max(users, spec.workers),
            "rate_rps": attack.rate_rps,
            "requests": attack.requests,
        }
    plan = Plan(
        **load,
        protocol=spec.protocol,
        target=str(attack.endpoint),
        source=str(attack.source),
        report=str(report),
        workers=spec.workers,
        connections=spec.connections,
        timeout_seconds=spec.timeout_seconds,
        locustfile=str(attack.locustfile or ""),
        meeting=str(attack.meeting or ""),
        parties=attack.parties,
        ca_file="" if options.ca_file == SYSTEM_CA else options.ca_file,
        certificate_file=options.certificate_file,
        key_file=options.key_file,
        server_name=options.server_name,
        metadata_file=str(attack.metadata_file or ""),
        keep_alive=spec.keep_alive,
        max_connections=spec.max_connections,
    )
    server = (f"--fork-server={attack.fork_server}",) if attack.fork_server else ()
    command = (generator.executable, "-m", _LOCUST_MODULE, *server, *plan_arguments(plan))
    return GeneratorCommand(command, report)


_COMMANDS: Final[dict[Tool, Callable[[Generator, LoadSpec, Attack], GeneratorCommand]]] = {
    "ghz": _ghz_command,
    "vegeta": _vegeta_command,
    "locust": _locust_command,
}
