"""Puts ghz and vegeta, at the versions this project pins, into one folder.

For each: the one on PATH if it has the right version, else `go install` at that version, else the
release file with its pinned checksum. Used by `make tools` and by the image. Needs only Python.

    python images/load_test/install_generators.py --into .tools/bin [--require ghz vegeta]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

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


def main() -> int:
    """Installs every pinned generator; 1 when a required one could not be had."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--into", type=Path, required=True, help="the folder for the executables")
    parser.add_argument("--require", nargs="*", default=["ghz"], help="tools without which this fails")
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    missing = [pin.tool for pin in PINS if not install(pin, arguments.into.resolve())]
    return 1 if set(missing) & set(arguments.require) else 0


def install(pin: Pin, folder: Path) -> bool:
    """Installs one generator and says in one line where it came from; False when it could not be had."""
    target = folder / pin.tool
    if _has_version(str(target), pin):
        print(f"{pin.tool} {pin.version}: already installed")
        return True
    on_path = shutil.which(pin.tool)
    if on_path and _has_version(on_path, pin):
        target.unlink(missing_ok=True)
        target.symlink_to(on_path)
        print(f"{pin.tool} {pin.version}: the one on PATH")
        return True
    reasons = []
    for source, attempt in (("go install", _go_install), ("release file", _download)):
        reason = attempt(pin, target)
        if not reason:
            print(f"{pin.tool} {pin.version}: installed by {source}")
            return True
        reasons.append(f"{source}: {reason}")
    print(
        f"{pin.tool} {pin.version}: NOT installed, going on without it ({'; '.join(reasons)})",
        file=sys.stderr,
    )
    return False


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


def _go_install(pin: Pin, target: Path) -> str:
    """Empty when it worked, else the reason."""
    if shutil.which("go") is None:
        return "Go is not installed"
    environment = {**os.environ, "GOBIN": str(target.parent), "CGO_ENABLED": "0"}
    print(f"{pin.tool} {pin.version}: building with go install ...", flush=True)
    try:
        done = subprocess.run(
            ["go", "install", pin.module],
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
    machine = f"{platform.system()} {platform.machine()}"
    if machine not in pin.files:
        return f"no checksum is pinned for {machine}"
    file, sha256 = pin.files[machine]
    try:
        with urllib.request.urlopen(
            pin.release.format(file=file), timeout=DOWNLOAD_TIMEOUT_SECONDS
        ) as answer:
            content = answer.read()
    except (urllib.error.URLError, OSError) as error:
        return f"{file} could not be fetched ({error})"
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


if __name__ == "__main__":
    sys.exit(main())
