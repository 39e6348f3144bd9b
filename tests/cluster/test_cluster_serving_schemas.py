"""Every kind's manifests against the schemas their makers publish, judged by the API server itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_api import Kube, wait_for

from model_load_test.components.cluster.connection import connect
from model_load_test.components.cluster.failures import Rejected
from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.serving.deploy import Deployment, planned_manifests
from model_load_test.components.serving.model_uri import Storage, parse_model_uri
from model_load_test.components.serving.spec import parse_serving_spec

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SCHEMAS = {
    "inferenceservices.serving.kserve.io": "kserve.inferenceservices.crd.yaml",
    "seldondeployments.machinelearning.seldon.io": "seldon-v1.seldondeployments.crd.yaml",
}
SELDON_V2 = "models.mlops.seldon.io"
EVERYTHING = {
    "replicas": 2,
    "arrangement": "apart",
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    "tolerations": [{"key": "model", "operator": "Equal", "value": "active", "effect": "NoSchedule"}],
    "node_selector": {"pool": "model"},
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "environment": [{"name": "TF_CPP_MIN_LOG_LEVEL", "value": "1"}],
    "annotations": {"example.com/team": "search"},
    "service_account": "server",
    "image_pull_secrets": ["registry"],
    "image": "registry.example/server:1",
}


def install(kube: Kube, path: Path) -> str:
    """Installs a definition and returns its name; one that is there is left as it is."""
    definition = yaml.safe_load(path.read_text())
    name = str(definition["metadata"]["name"])
    if kube.get(f"{DEFINITIONS}/{name}") is None:
        kube.create(definition)
    wait_for(f"{name} to be served", 60, lambda: is_served(kube.get(f"{DEFINITIONS}/{name}")))
    return name


def is_served(definition: dict[str, Any] | None) -> bool:
    conditions = (definition or {}).get("status", {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


@pytest.fixture(scope="module")
def definitions(kube: Kube, shared: Path) -> Iterator[set[str]]:
    """The custom resources whose schemas are at hand, for as long as these tests take."""
    if os.environ["MODEL_LOAD_TEST_CLUSTER"] != "disposable":
        pytest.skip("it installs definitions: `make test-cluster CLUSTER=disposable` allows that")
    folder = shared / "schemas"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/schemas with the published schemas is not here")
    there = {one["metadata"]["name"] for one in kube.items(DEFINITIONS)}
    names = {install(kube, folder / file) for file in SCHEMAS.values()}
    given = os.environ.get("MODEL_LOAD_TEST_SELDON_V2_CRD", "")
    if given:
        names.add(install(kube, Path(given)))
    yield names
    for name in names - there:
        kube.delete(f"{DEFINITIONS}/{name}")


def manifests(kind: str, **spec: Any) -> list[dict[str, Any]]:
    given = {"kind": kind, "model_name": "digits", **EVERYTHING, **spec}
    scheme = "s3" if kind in ("kserve", "seldon", "seldon-v2") else "minio"
    wanted = Deployment(
        identity=RunIdentity("run", "task"),
        spec=parse_serving_spec(given),
        models={
            "candidate": parse_model_uri(f"{scheme}://bucket/new"),
            "baseline": parse_model_uri("pvc://claim/old" if scheme == "minio" else "gs://bucket/old"),
        },
        loader_image="registry.example/load-test:1",
        storage=Storage(endpoint="http://minio:9000", secret="credentials", region="eu"),
    )
    return planned_manifests(wanted)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("tf-serving", {"flags": ["--x=1"], "batching": {"max_batch_size": 8}, "warmup": "pvc://claim/w"}),
        ("triton", {"flags": ["--log-verbose=1"]}),
        ("embedded", {}),
        ("kserve", {"flags": ["--x=1"], "runtime": "kserve-tensorflow-serving"}),
        ("kserve", {"protocol": "http", "model_format": "sklearn", "arrangement": "together"}),
        ("seldon", {"flags": ["--x=1"]}),
        ("seldon", {"protocol": "http", "model_format": "triton", "orchestrator": False}),
    ],
)
def test_the_api_server_takes_every_manifest_as_it_is(
    kind: str, options: dict[str, Any], definitions: set[str], kube: Kube, namespace: str
) -> None:
    cluster = connect(namespace)
    for manifest in manifests(kind, **options):
        taken = cluster.apply(manifest, dry_run=True)
        assert_kept(
            manifest["spec"] if "spec" in manifest else manifest["data"], taken.get("spec", taken.get("data"))
        )


def test_seldons_second_model_resource_too_where_its_schema_is_given(
    definitions: set[str], namespace: str
) -> None:
    if SELDON_V2 not in definitions:
        pytest.skip(
            "Seldon Core 2's schema is under a business licence: name it by MODEL_LOAD_TEST_SELDON_V2_CRD"
        )
    cluster = connect(namespace)
    for manifest in manifests("seldon-v2", flags=[], model_format="tensorflow"):
        assert_kept(manifest["spec"], cluster.apply(manifest, dry_run=True)["spec"])


def test_a_field_that_a_schema_does_not_know_would_be_seen(definitions: set[str], namespace: str) -> None:
    cluster = connect(namespace)
    (service, _) = manifests("kserve")
    service["spec"]["predictor"]["noSuchField"] = 1
    with pytest.raises((Rejected, AssertionError)):
        assert_kept(service["spec"], cluster.apply(service, dry_run=True)["spec"])


def assert_kept(wanted: Any, taken: Any, path: str = "spec") -> None:
    """An API server drops fields that a schema does not have: all that was wanted must have been taken."""
    if isinstance(wanted, dict):
        assert isinstance(taken, dict), f"{path} was dropped"
        for name, value in wanted.items():
            if value not in ({}, []):
                assert name in taken, f"{path}.{name} was dropped"
                assert_kept(value, taken[name], f"{path}.{name}")
    elif isinstance(wanted, list):
        for number, value in enumerate(wanted):
            assert_kept(value, taken[number], f"{path}[{number}]")
    else:
        assert str(taken) == str(wanted), path
