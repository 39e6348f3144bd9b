"""Puts ghz and vegeta, at the versions this project pins, into one folder.

For each: the one on PATH if it has the right version, else what a given folder holds, else `go
install` at that version, else the release file with its pinned checksum. Used by `make tools` and by
the image. Needs only Python.

    python images/load_test/install_generators.py --into .tools/bin [--require ghz vegeta] [--given FOLDER]

generators.json beside the executables says of each where it came from, its checksum, and whether that
was verified: a release file against the checksum pinned here, a build of Go's against Go's own
checksum database; an executable that was simply there, not at all.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

RECORD = "generators.json"
GO_INSTALL_TIMEOUT_SECONDS = 900
DOWNLOAD_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Pin:
    """One generator at one version."""

    tool: str
    version: str
    version_flag: str
    module: str
    """What `go install` builds."""
    release: str
    """Address of the release file; `{file}` is filled from `files`."""
    files: dict[str, tuple[str, str]]
    """Platform to file name and its SHA-256, as published with the release."""


PINS = (
    Pin(
        tool="ghz",
        version="0.120.0",
        version_flag="--version",
        module="github.com/bojand/ghz/cmd/ghz@v0.120.0",
        release="https://github.com/bojand/ghz/releases/download/v0.120.0/{file}",
        files={
            "Linux x86_64": (
                "ghz-linux-x86_64.tar.gz",
                "c1b5eee89fd7c779213f198753d1d961dfbcb257bc470eb3c336f333060a6d6c",
            ),
            "Darwin x86_64": (
                "ghz-darwin-x86_64.tar.gz",
                "fd4fd614ac0a55dab0aa2f32a0674038f1b41e0b51156104c59e5ce477ec99ee",
            ),
        },
    ),
    Pin(
        tool="vegeta",
        version="12.13.0",
        version_flag="-version",
        module="github.com/tsenart/vegeta/v12@v12.13.0",
        release="https://github.com/tsenart/vegeta/releases/download/v12.13.0/{file}",
        files={
            "Linux x86_64": (
                "vegeta_12.13.0_linux_amd64.tar.gz",
                "e8759ce45c14e18374bdccd3ba6068197bc3a9f9b7e484db3837f701b9d12e61",
            ),
        },
    ),
)


@dataclass(frozen=True)
class Installed:
    """One generator that is there now."""

    tool: str
    version: str
    source: str
    sha256: str
    verified: bool
    """Whether its content was compared with a checksum published for that version."""


def main() -> int:
    """Installs every pinned generator; 1 when a required one could not be had."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--into", type=Path, required=True, help="the folder for the executables")
    parser.add_argument("--given", type=Path, help="a folder that may hold executables or release files")
    parser.add_argument("--require", nargs="*", default=["ghz"], help="tools without which this fails")
    arguments = parser.parse_args()
    folder = arguments.into.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    done = [install(pin, folder, arguments.given) for pin in PINS]
    installed = [generator for generator in done if generator]
    (folder / RECORD).write_text(json.dumps([asdict(generator) for generator in installed], indent=1) + "\n")
    return 1 if set(arguments.require) - {generator.tool for generator in installed} else 0


def install(pin: Pin, folder: Path, given: Path | None = None) -> Installed | None:
    """Installs one generator and says in one line where it came from; None when it could not be had."""
    target = folder / pin.tool
    if _has_version(str(target), pin):
        print(f"{pin.tool} {pin.version}: already installed")
        return _recorded(pin, target) or _installed(pin, target, "already there", verified=False)
    on_path = shutil.which(pin.tool)
    if on_path and _has_version(on_path, pin):
        target.unlink(missing_ok=True)
        target.symlink_to(on_path)
        print(f"{pin.tool} {pin.version}: the one on PATH")
        return _installed(pin, target, "the one on PATH", verified=False)
    target.unlink(missing_ok=True)
    reasons = []
    for source, attempt, verified in (
        ("the given folder's release file", lambda: _given_release(pin, target, given), True),
        ("the given folder", lambda: _given_executable(pin, target, given), False),
        ("go install", lambda: _go_install(pin, target), True),
        ("release file", lambda: _download(pin, target), True),
    ):
        reason = attempt()
        if not reason:
            print(
                f"{pin.tool} {pin.version}: from {source}, {'' if verified else 'NOT '}verified by checksum"
            )
            return _installed(pin, target, source, verified)
        reasons.append(f"{source}: {reason}")
    print(
        f"{pin.tool} {pin.version}: NOT installed, going on without it ({'; '.join(reasons)})",
        file=sys.stderr,
    )
    return None


def _installed(pin: Pin, target: Path, source: str, verified: bool) -> Installed:
    sha256 = hashlib.sha256(target.read_bytes()).hexdigest()
    return Installed(pin.tool, pin.version, source, sha256, verified)


def _recorded(pin: Pin, target: Path) -> Installed | None:
    """What an earlier installation wrote down about this very executable."""
    try:
        records = json.loads((target.parent / RECORD).read_text())
        earlier = next(Installed(**record) for record in records if record["tool"] == pin.tool)
    except (OSError, ValueError, TypeError, KeyError, StopIteration):
        return None
    return earlier if earlier == _installed(pin, target, earlier.source, earlier.verified) else None


def _has_version(executable: str, pin: Pin) -> bool:
    """Whether `executable` says it is the pinned version; a build by `go install` records its module's."""
    if not Path(executable).exists():
        return False
    said = _output([executable, pin.version_flag])
    if re.search(rf"(?<![\d.]){re.escape(pin.version)}(?![\d.])", said):
        return True
    # Go writes the module's version into the program: "mod<TAB>path<TAB>version<TAB>".
    recorded = rf"mod\t\S+\tv{re.escape(pin.version)}\t".encode()
    return re.search(recorded, Path(executable).read_bytes()) is not None


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _given_release(pin: Pin, target: Path, given: Path | None) -> str:
    """Empty when it worked, else the reason."""
    file, _ = pin.files.get(_machine(), ("", ""))
    if given is None or not file or not (given / file).is_file():
        return "not there"
    return _unpack(pin, target, (given / file).read_bytes())


def _given_executable(pin: Pin, target: Path, given: Path | None) -> str:
    """Empty when it worked, else the reason."""
    if given is None or not (given / pin.tool).is_file():
        return "not there"
    shutil.copyfile(given / pin.tool, target)
    target.chmod(0o755)
    if _has_version(str(target), pin):
        return ""
    target.unlink()
    return f"{pin.tool} is not version {pin.version}, or does not run"


def _go_install(pin: Pin, target: Path) -> str:
    """Empty when it worked, else the reason."""
    if shutil.which("go") is None:
        return "Go is not installed"
    environment = {**os.environ, "GOBIN": str(target.parent), "CGO_ENABLED": "0"}
    print(f"{pin.tool} {pin.version}: building with go install ...", flush=True)
    try:
        done = subprocess.run(
            ["go", "install", "-trimpath", "-ldflags=-s -w", pin.module],
            env=environment,
            capture_output=True,
            text=True,
            timeout=GO_INSTALL_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"took longer than {GO_INSTALL_TIMEOUT_SECONDS} s"
    if done.returncode == 0 and target.exists():
        return ""
    # The last line is Go's verdict; the address of the module proxy it may name says nothing here.
    said = (done.stderr.strip().splitlines() or ["no message"])[-1].strip()
    return re.sub(r"https?://\S+", "the module proxy", said)


def _download(pin: Pin, target: Path) -> str:
    """Empty when it worked, else the reason."""
    if _machine() not in pin.files:
        return f"no checksum is pinned for {_machine()}"
    file, _ = pin.files[_machine()]
    try:
        with urllib.request.urlopen(
            pin.release.format(file=file), timeout=DOWNLOAD_TIMEOUT_SECONDS
        ) as answer:
            content = answer.read()
    except (urllib.error.URLError, OSError) as error:
        return f"{file} could not be fetched ({error})"
    return _unpack(pin, target, content)


def _unpack(pin: Pin, target: Path, content: bytes) -> str:
    """Puts the executable of a release file, whose checksum must be the pinned one, into place."""
    file, sha256 = pin.files[_machine()]
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        return f"{file} has the checksum {found}, pinned is {sha256}: not used"
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        program = archive.extractfile(pin.tool)
        if program is None:
            return f"{file} holds no file {pin.tool}"
        target.write_bytes(program.read())
    target.chmod(0o755)
    return ""


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}"


if __name__ == "__main__":
    sys.exit(main())
