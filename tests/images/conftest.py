"""The images that `make images` has built, where Docker is here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest

HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
"""As in a namespace under the restricted profile, with a read-only root besides."""

Docker = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def docker() -> Docker:
    """Runs a docker command; the test fails where it fails, unless `check` is False."""

    def run(*words: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["docker", *words], capture_output=True, text=True, check=False, timeout=timeout
        )
        assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stdout}{done.stderr}"
        return done

    if not shutil.which("docker") or run("version", check=False).returncode:
        pytest.skip("no Docker daemon answers here")
    return run


@pytest.fixture(scope="session")
def load_test_image(docker: Docker, built_image: Callable[..., str]) -> str:
    return built_image("load-test")


@pytest.fixture(scope="session")
def server_image(docker: Docker, built_image: Callable[..., str]) -> str:
    return built_image("embedded-server", holds_the_components=False)


@pytest.fixture(scope="session")
def run_hardened(docker: Docker, load_test_image: str) -> Docker:
    """Runs a command in the load-test image as a restricted pod with a read-only root would."""

    def run(
        *words: str, options: tuple[str, ...] = (), check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        command, *arguments = words
        place = ("--entrypoint", command) if command else ()
        return docker(
            *("run", "--rm", "--network", "host", *HARDENED, *options, *place, load_test_image, *arguments),
            check=check,
        )

    return run
