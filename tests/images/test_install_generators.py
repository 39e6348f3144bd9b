"""Where the load generators come from, and what is said about it; without a network."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def installer(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The installer, in a world with nothing on PATH, no Go and no network."""
    path = repository / "images" / "load_test" / "install_generators.py"
    spec = importlib.util.spec_from_file_location("install_generators", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "install_generators", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.shutil, "which", lambda _name: None)

    def no_network(*_: Any, **__: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr(module.urllib.request, "urlopen", no_network)
    return module


@pytest.fixture
def given(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    return folder


@pytest.fixture
def run(
    installer: ModuleType, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Runs the installer; its exit code and what generators.json says of ghz."""

    def main(*arguments: str) -> tuple[int, dict[str, Any]]:
        into = tmp_path / "into"
        monkeypatch.setattr(sys, "argv", ["-", "--into", str(into), "--given", str(given), *arguments])
        code = installer.main()
        records = {record["tool"]: record for record in json.loads((into / "generators.json").read_text())}
        return code, records.get("ghz", {})

    return main


def program(version: str) -> bytes:
    return f"#!/bin/sh\necho {version}\n".encode()


def executable(folder: Path, version: str) -> bytes:
    (folder / "ghz").write_bytes(program(version))
    (folder / "ghz").chmod(0o755)
    return program(version)


def release(folder: Path, installer: ModuleType, monkeypatch: pytest.MonkeyPatch, sha256: str = "") -> None:
    """A release file of ghz whose checksum is the pinned one, or pinned as `sha256`."""
    pin = installer.PINS[0]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        content = program(pin.version)
        member = tarfile.TarInfo("ghz")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    file = "ghz-test.tar.gz"
    (folder / file).write_bytes(buffer.getvalue())
    pinned = {installer._machine(): (file, sha256 or hashlib.sha256(buffer.getvalue()).hexdigest())}
    monkeypatch.setattr(installer, "PINS", (replace(pin, files=pinned),))


def test_a_given_release_file_is_verified(
    installer: ModuleType, given: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    release(given, installer, monkeypatch)
    code, ghz = run()
    assert code == 0
    assert ghz["verified"]
    assert ghz["sha256"] == hashlib.sha256(program(ghz["version"])).hexdigest()


def test_a_given_release_file_of_another_checksum_is_not_used(
    installer: ModuleType,
    given: Path,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    release(given, installer, monkeypatch, sha256="0" * 64)
    code, ghz = run()
    assert code == 1
    assert not ghz
    assert "pinned is 0000" in capsys.readouterr().err


def test_a_given_executable_is_used_and_said_to_be_unverified(
    installer: ModuleType, given: Path, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    content = executable(given, installer.PINS[0].version)
    code, ghz = run()
    assert code == 0
    assert ghz["source"] == "the given folder"
    assert not ghz["verified"]
    assert ghz["sha256"] == hashlib.sha256(content).hexdigest()
    assert "NOT verified" in capsys.readouterr().out


def test_a_given_executable_of_another_version_is_not_used(
    given: Path, run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    executable(given, "0.95.0")
    code, ghz = run()
    assert code == 1
    assert not ghz
    assert "is not version" in capsys.readouterr().err


def test_what_is_known_of_an_installed_one_is_kept_until_it_changes(
    installer: ModuleType,
    given: Path,
    tmp_path: Path,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release(given, installer, monkeypatch)
    run()
    assert run()[1]["verified"]
    installed = tmp_path / "into" / "ghz"
    installed.write_bytes(installed.read_bytes() + b"# changed\n")
    assert not run()[1]["verified"]


def test_a_tool_that_is_not_required_may_be_missing(given: Path, run: Callable[..., Any]) -> None:
    assert run("--require")[0] == 0
    assert run("--require", "vegeta")[0] == 1
