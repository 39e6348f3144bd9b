"""Does in a step's container what KFP's launcher does (backend/src/v2/component/launcher_v2.go).

    python3 kfp_launcher.py STORE RECORD EXECUTOR_INPUT -- COMMAND...

Fetches the input artifacts to the paths their URIs map to, makes the folders of the outputs, runs the
command, and only if it ended well stores the output artifacts and what the command wrote about them.
SIGTERM is passed on. Only the publishing to ML Metadata is left out.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

SCHEMES = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}


def main() -> int:
    """Runs the step; its exit status is the command's."""
    store, record, executor_input = sys.argv[1:4]
    inputs, outputs = (json.loads(executor_input).get(side, {}) for side in ("inputs", "outputs"))
    for artifact in first_of_each(inputs):
        fetch(store, artifact["uri"])
    for file in (
        *(Path(parameter["outputFile"]) for parameter in outputs.get("parameters", {}).values()),
        *(local_path(artifact["uri"]) for artifact in first_of_each(outputs)),
        Path(outputs["outputFile"]),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
    command = subprocess.Popen(sys.argv[sys.argv.index("--") + 1 :])
    signal.signal(signal.SIGTERM, lambda number, _: command.send_signal(number))
    status = command.wait()
    if status == 0:
        written = executor_output(outputs)
        for artifact in first_of_each(outputs):
            keep(store, artifact["uri"])
        put(f"{store}/{record}", json.dumps(written).encode())
    return status if status >= 0 else 128 - status


def executor_output(outputs: dict[str, Any]) -> dict[str, Any]:
    """What the step says of its outputs: by KFP's executor in one file, by others in a file a parameter."""
    file = Path(outputs["outputFile"])
    written: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    values = written.setdefault("parameterValues", {})
    for name, parameter in outputs.get("parameters", {}).items():
        path = Path(parameter["outputFile"])
        if name not in values and path.exists():
            values[name] = path.read_text()
    return written


def first_of_each(side: dict[str, Any]) -> list[dict[str, Any]]:
    """The artifacts of one side; of each list the first."""
    return [found["artifacts"][0] for found in side.get("artifacts", {}).values() if found.get("artifacts")]


def local_path(uri: str) -> Path:
    """Where an artifact is in the container."""
    for scheme, folder in SCHEMES.items():
        if uri.startswith(scheme):
            return Path(folder + uri.removeprefix(scheme))
    raise ValueError(f"no local path for {uri}")


def fetch(store: str, uri: str) -> None:
    """Copies an artifact, a file or a folder of files, from the store."""
    root = local_path(uri)
    key = uri.partition("://")[2]
    for found in json.loads(get(f"{store}/{quote(key)}?keys")):
        path = root / found.removeprefix(key).lstrip("/") if found != key else root
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(get(f"{store}/{quote(found)}"))


def keep(store: str, uri: str) -> None:
    """Copies an artifact to the store; that the step made none is no error."""
    root = local_path(uri)
    key = uri.partition("://")[2]
    files = [root] if root.is_file() else [path for path in root.rglob("*") if path.is_file()]
    for file in files:
        relative = file.relative_to(root).as_posix()
        put(f"{store}/{quote(key if relative == '.' else f'{key}/{relative}')}", file.read_bytes())


def get(url: str) -> bytes:
    """The bytes at a URL."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


def put(url: str, content: bytes) -> None:
    """Stores bytes at a URL."""
    urllib.request.urlopen(urllib.request.Request(url, content, method="PUT"), timeout=60).close()


if __name__ == "__main__":
    sys.exit(main())
