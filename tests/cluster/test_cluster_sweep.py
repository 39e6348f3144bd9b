"""A serving sweep on a cluster: one configuration after the other, and nothing left behind."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_api import Kube
from serving_place import Place, place

from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.payload.make import make_payload
from model_load_test.components.serving.model_uri import parse_model_uri
from model_load_test.components.sweep.journal import Journal
from model_load_test.components.sweep.on_cluster import ClusterServers
from model_load_test.components.sweep.result import REFERENCE
from model_load_test.components.sweep.run import Sweeper, run_sweep
from model_load_test.components.sweep.spec import parse_sweep_spec

__all__ = ["place"]

pytestmark = pytest.mark.cluster


@pytest.fixture
def identity(place: Place) -> Iterator[RunIdentity]:
    yield RunIdentity(f"run-{uuid.uuid4().hex[:6]}", "sweep")


@pytest.mark.slow
def test_each_configuration_is_deployed_loaded_and_removed(
    kube: Kube, place: Place, namespace: str, identity: RunIdentity, tmp_path: Path
) -> None:
    if shutil.which("ghz") is None:
        pytest.skip("ghz is not on PATH (`make tools` says why it could not be installed)")
    spec = parse_sweep_spec(
        {
            "model_name": "digits",
            "serving": {
                "kind": "embedded",
                "image": place.images.embedded_server,
                "flags": ["--backend=numpy", "--compute_ms=8", "--compute_threads=1"],
                "ready_seconds": 90,
                "grace_seconds": 1,
            },
            "parameters": {"enable_batching": [True], "max_batch_size": [16], "replicas": [1, 2]},
            "rates_rps": [60.0],
            "pairs": 6,
            "warmup_seconds": 0.5,
        }
    )
    report = run_sweep(
        Sweeper(
            spec=spec,
            serve=ClusterServers(
                cluster=place.cluster,
                identity=identity,
                model=parse_model_uri(f"{place.models}/new.tar.gz"),
                loader_image=place.images.load_test,
            ),
            make_payload=lambda endpoint, path: make_payload(
                endpoint, model_name="digits", out_dir=path, requests=20, batch_sizes=[1]
            ),
            journal=Journal(str(tmp_path / "journal")),
            work_path=tmp_path / "work",
            limits={"allowed_hosts": ["0.0.0.0/0"]},
        )
    )
    assert report.complete
    assert report.configurations[0].name == REFERENCE
    outcomes = {one.outcome for each in report.configurations for one in each.measurements}
    assert outcomes == {"measured"}
    assert kube.objects_of_runs(namespace, identity.run) == []
