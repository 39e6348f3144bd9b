"""A generator without ports or files left, for real: in a network namespace, and below a limit of files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LOADED = '''
"""Loads a server that answers after two seconds: 120 connections are wanted at once, MOST are there."""

import fcntl, json, resource, socket, struct, sys
from pathlib import Path

import msgspec

from model_load_test.components.load.bottleneck import bottlenecks_of
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.run import StopDecision, run_load_test
from model_load_test.components.payload.make import make_payload
from model_load_test.components.serving.embedded.process import embedded_server

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
MOST = 70


def bring_loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack_from("16sh", fcntl.ioctl(any_socket, SIOCGIFFLAGS, asked))
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def leave_few(what):
    if what == "ports":
        Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"40001 {40000 + MOST}")
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (MOST, MOST))


what, folder = sys.argv[1], Path(sys.argv[2])
if what == "ports":
    bring_loopback_up()
with embedded_server("digits", backend="numpy", delay_ms=2000) as server:
    make_payload(server.rest, model_name="digits", out_dir=folder / "payload", requests=10)
    test = prepare(
        candidate_endpoint=str(server.rest),
        baseline_endpoint="",
        model_name="digits",
        signature_name="serving_default",
        payload_path=folder / "payload",
        mode="single",
        spec_values={
            "tool": "vegeta", "rate_rps": 60, "block_seconds": 2.5, "looks": (1,), "warmup_seconds": 0
        },
        work_path=folder / "work",
    )
    leave_few(what)
    table, metadata = run_load_test(test, lambda _: StopDecision(True, ""), progress=lambda _: None)
found = bottlenecks_of(metadata.host)["candidate"]
errors = sorted(set(table["error"].to_pylist()))
print(json.dumps({"found": msgspec.to_builtins(found), "errors": errors, "host": metadata.host}))
'''


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "share", "said", "error"),
    [
        ("ports", "ports_share", "ports", "bind: address already in use"),
        ("files", "descriptors_share", "files", "too many open files"),
    ],
)
def test_a_generator_without_any_left_is_the_bottleneck(
    what: str, share: str, said: str, error: str, tmp_path: Path
) -> None:
    if shutil.which("vegeta") is None:
        pytest.skip("vegeta is not on PATH (`make tools` says why it could not be installed)")
    namespace = ["unshare", "--net"] if what == "ports" else []
    if namespace and subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may make no network namespace, whose ports it could use up")
    done = subprocess.run(
        [*namespace, sys.executable, "-c", LOADED, what, tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["found"]["verdict"] == "generator", answer["found"]["detail"]
    assert said in answer["found"]["detail"]
    assert answer["host"]["saturation"][share] >= 0.9
    assert any(error in one for one in answer["errors"]), answer["errors"]
