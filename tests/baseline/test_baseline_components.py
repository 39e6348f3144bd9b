"""The components as KFP runs them: its own command, with the executor input that its driver writes."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from google.protobuf import json_format

from model_load_test.components import find_baseline, promote_baseline, record_baseline
from model_load_test.components.baseline.lookup import FoundBaseline
from model_load_test.components.baseline.mlmd import BASELINE_TYPE
from model_load_test.components.baseline.mlmd_protos import metadata_store_pb2 as pb
from model_load_test.components.baseline.mlmd_protos import metadata_store_service_pb2 as service
from model_load_test.components.baseline.recording import read_record_file
from model_load_test.components.baseline.run_records import key_of_run
from model_load_test.components.baseline.store import open_store
from model_load_test.components.results.table import SCHEMA, RunMetadata, write_results

STARTED_NS = 1_760_000_000_123_456_789
METADATA = RunMetadata(
    load_spec={"rate_rps": 200.0, "mode": "duet"},
    payload={"requests": 64},
    fingerprint={"server_kind": "tf-serving", "node_type": "n2-standard-8"},
    started_at_ns=STARTED_NS,
)


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "results"
    write_results(path, SCHEMA.empty_table(), METADATA)
    return {"name": "1", "uri": str(path)}


@pytest.fixture
def run(tmp_path):
    """Runs a component in a process of its own, as its pod would; returns what it put out."""

    def execute(component, artifacts, **parameters):
        name = component.component_spec.name.replace("-", "_")
        folder = tmp_path / name / str(len(list(tmp_path.glob(f"{name}/*"))))
        folder.mkdir(parents=True)
        outputs = component.component_spec.outputs or {}
        defaults = {
            key: spec.default
            for key, spec in component.component_spec.inputs.items()
            if not spec.type.startswith("system.") and spec.default is not None
        }
        executor_input = {
            "inputs": {
                "artifacts": {key: {"artifacts": [artifact]} for key, artifact in artifacts.items()},
                "parameterValues": {**defaults, **parameters},
            },
            "outputs": {
                "artifacts": {
                    key: {
                        "artifacts": [
                            {
                                "name": key,
                                "uri": str(folder / key),
                                "type": {"schemaTitle": "system.Artifact"},
                            }
                        ]
                    }
                    for key, spec in outputs.items()
                    if spec.type.startswith("system.")
                },
                "parameters": {
                    key: {"outputFile": str(folder / key)}
                    for key, spec in outputs.items()
                    if not spec.type.startswith("system.")
                },
                "outputFile": str(folder / "executor_output.json"),
            },
        }
        container = component.component_spec.implementation.container
        words = [*container.command, *container.args]
        command = [json.dumps(executor_input) if word == "{{$}}" else word for word in words]
        assert json.dumps(executor_input) in command
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return folder, done.stdout

    return execute


@pytest.fixture
def upstream_metrics(grpc_uri):
    """A Metrics artifact as KFP's launcher records it, and as its driver hands it to a later task."""
    with contextlib.closing(open_store(grpc_uri)) as store:
        call = store._connection.call
        put_type = service.PutArtifactTypeRequest(artifact_type=pb.ArtifactType(name="system.Metrics"))
        type_id = call("PutArtifactType", put_type, service.PutArtifactTypeResponse).type_id
        artifact = pb.Artifact(type_id=type_id, uri="minio://mlpipeline/v2/metrics", state=pb.Artifact.LIVE)
        for name, value in {"candidate_p95_ms": 11.5, "error_rate": 0.0, "gate_passed": 1.0}.items():
            artifact.custom_properties[name].double_value = value
        artifact.custom_properties["display_name"].string_value = "metrics"
        request = service.PutArtifactsRequest(artifacts=[artifact])
        artifact.id = call("PutArtifacts", request, service.PutArtifactsResponse).artifact_ids[0]
    # toRuntimeArtifact of backend/src/v2/metadata/converter.go: the id for a name, no type.
    metadata = {}
    for name, value in artifact.custom_properties.items():
        kind = value.WhichOneof("value")
        metadata[name] = getattr(value, kind)
    return artifact, {"name": str(artifact.id), "uri": artifact.uri, "metadata": metadata}


@pytest.fixture
def key(key):
    return key_of_run(METADATA, key.namespace, "resnet")


def test_a_downstream_task_records_the_upstream_metrics_by_its_mlmd_id(
    run, results, upstream_metrics, grpc_uri, key
):
    artifact, metrics = upstream_metrics
    asked = {"model_name": "resnet", "namespace": key.namespace, "baseline_store": grpc_uri}
    folder, output = run(
        record_baseline, {"results": results, "metrics": metrics}, verdict="PASS", model_version="7", **asked
    )
    assert f"run {STARTED_NS} recorded under {key.name}" in output
    with contextlib.closing(open_store(grpc_uri)) as store:
        record = store.latest(key)[0]
        assert (record.artifact_id, record.model_version) == (artifact.id, "7")
        assert record.metrics == {"candidate_p95_ms": 11.5, "error_rate": 0.0, "gate_passed": 1.0}
        members = {member.id for member in store._artifacts(store._context(BASELINE_TYPE, key).id, 100)}
        assert artifact.id in members
        request = service.GetArtifactsByIDRequest(artifact_ids=[artifact.id])
        answer = store._connection.call("GetArtifactsByID", request, service.GetArtifactsByIDResponse)
        assert json_format.MessageToDict(answer.artifacts[0].custom_properties["gate_passed"])
        assert answer.artifacts[0].custom_properties.keys() == artifact.custom_properties.keys()
    assert read_record_file(folder / "record") == record
    spec = json.loads((folder / "load_spec").read_text())
    assert spec["load_spec"] == METADATA.load_spec
    assert spec["key"]["name"] == key.name
    produced = json.loads((folder / "executor_output.json").read_text())["artifacts"]["load_spec"]
    assert produced["artifacts"][0]["metadata"]["baseline_key"] == key.name

    folder, output = run(find_baseline, {"results": results}, **asked)
    found = msgspec.json.decode((folder / "history").read_bytes(), type=FoundBaseline)
    assert found.history == (record,)
    assert f"the reference (latest) is {STARTED_NS}" in output


def test_a_later_backend_names_artifacts_by_text_and_nothing_is_linked(run, results, tmp_path, key):
    store_uri = f"file://{tmp_path}/baselines"
    metrics = {"name": "metrics", "uri": "minio://x", "metadata": {"candidate_p95_ms": 11.5}}
    asked = {"model_name": "resnet", "namespace": key.namespace, "baseline_store": store_uri}
    folder, _ = run(record_baseline, {"results": results, "metrics": metrics}, verdict="PASS", **asked)
    record = {"name": "record", "uri": str(folder / "record")}
    assert open_store(store_uri).latest(key)[0].artifact_id == 0
    folder, output = run(promote_baseline, {"record": record}, baseline_store=store_uri)
    assert json.loads((folder / "executor_output.json").read_text())["parameterValues"] == {"promoted": True}
    assert f"{STARTED_NS} is the reference" in output
    assert open_store(store_uri).promoted(key).run_id == str(STARTED_NS)


def test_a_failed_run_is_history_and_stays_unpromoted(run, results, tmp_path, key):
    store_uri = f"file://{tmp_path}/baselines"
    metrics = {"name": "metrics", "uri": "minio://x", "metadata": {}}
    asked = {"model_name": "resnet", "namespace": key.namespace, "baseline_store": store_uri}
    folder, _ = run(record_baseline, {"results": results, "metrics": metrics}, verdict="FAIL", **asked)
    folder, output = run(
        promote_baseline, {"record": {"name": "r", "uri": str(folder / "record")}}, baseline_store=store_uri
    )
    assert json.loads((folder / "executor_output.json").read_text())["parameterValues"] == {"promoted": False}
    assert "is FAIL; it stays unpromoted" in output
    assert open_store(store_uri).promoted(key) is None
    assert len(open_store(store_uri).history(key)) == 1


@pytest.mark.parametrize(
    ("verdict", "policy", "recorded"),
    [
        ("NO_BASELINE", "pass-and-record", True),
        ("NO_BASELINE", "warn", False),
        ("NO_BASELINE", "fail", False),
        ("PASS", "fail", True),
        ("FAIL", "warn", True),
    ],
)
def test_a_first_run_becomes_the_baseline_by_policy(
    results, tmp_path, key, verdict, policy, recorded, capsys
):
    from kfp import dsl

    store_uri = f"file://{tmp_path}/baselines"
    spec = dsl.Artifact(uri=str(tmp_path / "spec"))
    record_baseline.python_func(
        results=dsl.Dataset(uri=results["uri"]),
        metrics=dsl.Metrics(name="metrics", uri="minio://x", metadata={"candidate_p95_ms": 1.0}),
        record=dsl.Artifact(uri=str(tmp_path / "record")),
        load_spec=spec,
        verdict=verdict,
        model_name="resnet",
        namespace=key.namespace,
        baseline_store=store_uri,
        on_missing_baseline=policy,
    )
    assert len(open_store(store_uri).history(key)) == recorded
    assert read_record_file(tmp_path / "record").verdict == verdict
    assert ("a person decides" in capsys.readouterr().out) != recorded
