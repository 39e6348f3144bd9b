"""The embedded server's image without TensorFlow, as the tests on a cluster deploy it."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

import pytest

HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
MEGABYTES_ON_DISK = 300


def test_it_is_small_and_runs_as_nobody(docker: Any, server_image: str) -> None:
    (found,) = json.loads(docker("image", "inspect", server_image).stdout)
    print(f"{found['Size'] / 1e6:.0f} MB on disk")
    assert found["Size"] / 1e6 < MEGABYTES_ON_DISK
    assert found["Config"]["User"] == "65532:65532"
    assert set(found["Config"]["ExposedPorts"]) == {"8500/tcp", "8501/tcp"}


@pytest.mark.parametrize("options", [(), ("--rest_api_port=0", "--port=0", "--delay-ms=30")])
def test_it_serves_on_a_read_only_root_and_ends_cleanly(
    options: tuple[str, ...], docker: Any, server_image: str
) -> None:
    arguments = ("--host=127.0.0.1", "--port=0", "--rest-api-port=0", *options)
    name = docker(
        *("run", "--detach", "--network", "host", *HARDENED, "--env", "MODEL_NAME=digits", server_image),
        *arguments,
    ).stdout.strip()
    try:
        end = time.monotonic() + 60
        while not (said := docker("logs", name).stdout.strip()):
            assert time.monotonic() < end, docker("logs", name).stderr
            time.sleep(0.1)
        port = json.loads(said.splitlines()[0])["rest_port"]
        model = f"http://127.0.0.1:{port}/v1/models/digits"
        status = json.load(urllib.request.urlopen(model, timeout=10))
        assert status["model_version_status"][0]["state"] == "AVAILABLE"
        body = json.dumps({"instances": [[0.5] * 64]}).encode()
        started = time.monotonic()
        answer = json.load(urllib.request.urlopen(f"{model}:predict", body, timeout=10))
        assert len(answer["predictions"]) == 1
        if options:
            assert time.monotonic() - started >= 0.03, "its options did not reach the server"
        docker("stop", "--time", "10", name)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip() == "0"
    finally:
        docker("rm", "--force", name)


def test_without_tensorflow_a_saved_model_is_refused_by_name(docker: Any, server_image: str) -> None:
    done = docker(
        *("run", "--rm", "--network", "host", *HARDENED, "--env", "BACKEND=saved-model", server_image),
        *("--host=127.0.0.1", "--port=0", "--rest-api-port=0"),
        check=False,
    )
    assert done.returncode == 2
    assert "/models/model" in done.stderr
