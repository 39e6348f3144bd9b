"""Deploy to ready and teardown, in seconds, with the embedded server's image on the nodes.

KUBECONFIG=... MODEL_LOAD_TEST_CLUSTER=shared python tests/benchmarks/serving_deploy.py [TIMES]
"""

from __future__ import annotations

import contextlib
import io
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "cluster"))

import os

import cluster_fixtures
import serving_place
from cluster_api import connect

from model_load_test.components.serving.deploy import deploy
from model_load_test.components.serving.teardown import teardown
from model_load_test.components.version import __version__


def main(times: int) -> None:
    kube = connect(os.environ["KUBECONFIG"])
    images = cluster_fixtures.Images(
        f"localhost/model-load-test/load-test:{__version__}",
        f"localhost/model-load-test/embedded-server:{__version__}",
    )
    namespace = cluster_fixtures._create_namespace(kube)
    up: list[float] = []
    down: list[float] = []
    try:
        place = serving_place.place_in(kube, namespace, images)
        for number in range(times):
            wanted = place.deployment(f"benchmark-{number}")
            with contextlib.redirect_stdout(io.StringIO()):
                started = time.monotonic()
                deploy(place.cluster, wanted)
                up.append(time.monotonic() - started)
                started = time.monotonic()
                teardown(place.cluster, wanted.identity)
                down.append(time.monotonic() - started)
    finally:
        kube.delete(f"/api/v1/namespaces/{namespace}")
    for name, seconds in (("deploy to ready (two arms)", up), ("teardown (grace period 1 s)", down)):
        print(f"{name}: median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s of {times}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
