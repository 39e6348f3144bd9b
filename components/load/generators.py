"""The load generators: where they are, and the command line that offers a constant open-loop rate."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from model_load_test.components.errors import InputError
from model_load_test.components.load.spec import LoadSpec, Tool
from model_load_test.components.protocols.endpoint import Endpoint

VERSIONS: Final[dict[Tool, str]] = {"ghz": "0.120.0", "vegeta": "12.13.0"}
"""What `make tools` and the image install; other versions run, and the report names them."""

_PREDICT: Final = "tensorflow.serving.PredictionService.Predict"


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
    """One constant-rate, open-loop load of one server."""

    endpoint: Endpoint
    rate_rps: float
    source: Path
    """For ghz the payload's folder; for vegeta the target file of this endpoint."""
    load_seconds: float
    """How long requests are sent."""
    report: Path
    """Where the tool's own report is to be written."""

    @property
    def requests(self) -> int:
        """How many requests that are."""
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
    executable = shutil.which(tool)
    remedy = f"install {tool} {VERSIONS[tool]} with `make tools` and put its folder on PATH"
    if executable is None:
        raise GeneratorMissing("tool", tool, remedy)
    flag = "--version" if tool == "ghz" else "-version"
    try:
        answer = subprocess.run([executable, flag], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GeneratorMissing("tool", executable, f"it does not run ({error}); {remedy}") from None
    said = re.search(r"\bv?(\d+\.\d+\.\d+\S*)", answer.stdout + answer.stderr)
    return Generator(tool, executable, said.group(1) if said else _recorded_version(executable))


def _recorded_version(executable: str) -> str:
    """The module version that Go wrote into the program; built by `go install`, ghz calls itself "dev"."""
    recorded = re.search(rb"mod\t\S+\tv(\S+)\t", Path(executable).read_bytes())
    return recorded.group(1).decode() if recorded else "unknown"


def attack_command(generator: Generator, spec: LoadSpec, attack: Attack) -> GeneratorCommand:
    """The command line that carries out `attack`."""
    return (_ghz_command if generator.tool == "ghz" else _vegeta_command)(generator, spec, attack)


def _ghz_command(generator: Generator, spec: LoadSpec, attack: Attack) -> GeneratorCommand:
    # --async is ghz's only open loop, and a total instead of a duration leaves nothing to cut off
    # at the end: the run ends when the last answer, or its timeout, is in.
    command = (
        generator.executable,
        f"--protoset={attack.source / 'tf_serving.protoset'}",
        f"--call={_PREDICT}",
        f"--binary-file={attack.source / 'requests.bin'}",
        "--async",
        "--concurrency=1",
        f"--rps={attack.rate_rps:.0f}",
        f"--total={attack.requests}",
        f"--connections={spec.connections}",
        f"--timeout={spec.timeout_seconds}s",
        "--connect-timeout=5s",
        "--duration-stop=wait",
        "--format=json",
        f"--output={attack.report}",
        *(() if attack.endpoint.secure else ("--insecure",)),
        attack.endpoint.address,
    )
    return GeneratorCommand(command, attack.report)


def _vegeta_command(generator: Generator, spec: LoadSpec, attack: Attack) -> GeneratorCommand:
    gob = attack.report.with_suffix(".gob")
    hits, period_seconds = _whole_rate(attack.rate_rps)
    command = (
        generator.executable,
        "attack",
        f"-name={attack.report.stem}",
        "-format=json",
        f"-targets={attack.source}",
        f"-rate={hits}/{period_seconds}s",
        f"-duration={attack.load_seconds}s",
        f"-timeout={spec.timeout_seconds}s",
        "-redirects=-1",
        f"-output={gob}",
    )
    decode = (generator.executable, "encode", "-to=json", f"-output={attack.report}", str(gob))
    return GeneratorCommand(command, attack.report, decode)


def _whole_rate(rate_rps: float) -> tuple[int, int]:
    """`rate_rps` as vegeta wants it: whole requests in whole seconds."""
    whole = Fraction(rate_rps).limit_denominator(1000)
    return whole.numerator, whole.denominator


def write_targets(path: Path, url: str, bodies: Sequence[bytes]) -> None:
    """Writes vegeta's JSON target file: each body as one POST to `url`."""
    target = {"method": "POST", "url": url, "header": {"Content-Type": ["application/json"]}}
    with path.open("w") as file:
        for body in bodies:
            file.write(json.dumps({**target, "body": base64.b64encode(body).decode()}) + "\n")
