"""The compiled pipeline for Vertex AI, run whole: GCPC's launchers, CustomJob, tokens, TLS, vegeta, teardown.

What is Google's is a fake here (fake_google.py, vertex_pipelines.py); all else is what runs there.
"""

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from model_load_test.pipelines.compiling import compile_all

pytest.importorskip("google_cloud_pipeline_components", reason="vertex: needs Google's components")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

AROUND = {
    "pipeline_google_cloud_project_id": "my-project",
    "pipeline_google_cloud_location": "europe-west4",
    "pipeline_service_account": "load-test@my-project.iam.gserviceaccount.com",
    "pipeline_network": "",
    "pipeline_persistent_resource_id": "",
}
SITE = """
import os
from google_names import point_google_at
point_google_at(int(os.environ["FAKE_GOOGLE_PORT"]))
"""
OWN_CONTAINER = {
    "image": "europe-docker.pkg.dev/my-project/r/server:1",
    "predict_route": "/predict",
    "health_route": "/health",
}
A_SHORT_LOAD = {
    "model_name": "digits",
    "model_inputs": {"x": "float32[?, 4]"},
    "serving": OWN_CONTAINER,
    "payload_requests": 20,
    "rate_rps": 20,
    "block_seconds": 1,
    "looks": [10],
    "warmup_seconds": 1,
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    compile_all(folder)
    return yaml.safe_load((folder / "vertex_deploy_and_gate.yaml").read_text())


@pytest.fixture
def pipelines(google, repository, tmp_path, sibling):
    """A fake of Vertex Pipelines, in whose containers Google is the fake too."""
    real = shutil.which("vegeta")
    if not real:
        pytest.skip("vegeta is not on PATH")
    mount = Path("/gcs/load-test-of-the-tests")
    try:
        mount.mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"the mount point {mount} cannot be made here ({error.strerror}); run as root")
    module_path = repository / "tests" / "tfx" / "kfp_backend.py"
    spec = importlib.util.spec_from_file_location("tests_tfx_kfp_backend", module_path)
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    module = sibling("vertex_pipelines")
    programs = tmp_path / "programs"
    programs.mkdir()
    sibling("vegeta_names").write_vegeta(programs, real, google.port)
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    shutil.copy(repository / "tests" / "vertex" / "google_names.py", site)
    environment = {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(site),
        "FAKE_GOOGLE_PORT": str(google.port),
        # The identity is the machine's, as it is there.
        **dict.fromkeys(("GCE_METADATA_HOST", "GCE_METADATA_IP"), google.metadata_server()),
        "CLOUDSDK_CONFIG": str(tmp_path / "no-login"),
        **{name: os.environ[name] for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NO_PROXY")},
    }
    image = sys.modules[spec.name].Image(programs, environment)
    google.vertex.looks_until_done = 0
    yield module.VertexPipelines(tmp_path, "gs://load-test-of-the-tests/root", {"": image}, AROUND)
    shutil.rmtree(mount, ignore_errors=True)


def states(pipelines):
    return {name: run.state for name, run in pipelines.tasks.items()}


def metadata(pipelines, task, output):
    (found,) = [
        run.artifacts[output]["metadata"]
        for name, run in pipelines.tasks.items()
        if name.endswith(f"/{task}") and output in run.artifacts
    ]
    return found


def test_a_slow_model_breaks_the_run_and_everything_is_removed(google, compiled, pipelines):
    """Both uploaded and deployed to endpoints with the location's common name."""
    passed = pipelines.run(
        compiled,
        {
            **A_SHORT_LOAD,
            "candidate_model": "gs://bucket/slow",
            "baseline_model": "gs://bucket/digits",
            "load_machine_type": "c2-standard-8",
        },
    )
    found = states(pipelines)
    assert not passed
    failed = {name for name, state in found.items() if state == "FAILED"}
    assert {name.rpartition("/")[2] for name in failed} >= {"enforce-gate"}, pipelines.account()
    assert metadata(pipelines, "compare-to-baseline", "metrics")["gate_passed"] == 0.0
    assert metadata(pipelines, "compare-to-baseline", "metrics")["ratio_p50"] > 1.5
    (removed,) = [state for name, state in found.items() if name.endswith("teardown-vertex-servers")]
    assert removed == "SUCCEEDED", pipelines.account()
    assert not google.vertex.endpoints
    assert not google.vertex.models
    (job,) = pipelines.custom_jobs
    (pool,) = job.job_spec.worker_pool_specs
    assert pool.machine_spec.machine_type == "c2-standard-8"
    assert job.job_spec.service_account == AROUND["pipeline_service_account"]
    ways = {way for _, way, _ in google.vertex.predictions}
    assert ways == {"predict"}
    assert len({name for name, _, _ in google.vertex.predictions}) == 2, "both arms were loaded"


def test_a_good_model_passes_on_endpoints_with_names_of_their_own(google, compiled, pipelines, deployed):
    """The baseline comes from the registry; tokens end every few seconds; requests go raw."""
    registered = deployed().partition("/v1/")[2]
    model = google.vertex.endpoints[registered].deployed_models[0].model
    google.vertex.looks_until_done = 0
    passed = pipelines.run(
        compiled,
        {
            **A_SHORT_LOAD,
            "candidate_model": "gs://bucket/digits",
            "baseline_model": f"{model.replace('123456789012', 'my-project')}@1",
            "endpoint_kind": "dedicated",
            "body_format": "row",
            "margins": {"mean": 3.0, "p50": 3.0, "p95": 3.0, "p99": 9.0, "errors": 0.05, "goodput": 0.5},
        },
    )
    assert passed, pipelines.account()
    assert metadata(pipelines, "compare-to-baseline", "metrics")["gate_passed"] == 1.0
    assert {way for _, way, _ in google.vertex.predictions} == {"rawPredict"}
    assert {host for host in google.hosts if host.endswith(".prediction.vertexai.goog")}
    assert set(google.vertex.endpoints) == {registered}, "what was there before stays"
    assert set(google.vertex.models) == {model}
    server = next(run for name, run in pipelines.tasks.items() if name.endswith("/find-vertex-servers"))
    assert server.parameters["server_kind"] == "vertex"
    assert server.parameters["server_flags"] == [
        "endpoint=dedicated",
        "machine_type=n1-standard-4",
        "replicas=1-1",
    ]
    assert json.dumps(server.parameters["reached_by"]) == '{"ca_file": "system", "token_source": "google"}'


def test_a_run_that_fails_before_the_load_leaves_nothing(google, compiled, pipelines, monkeypatch):
    plain = google.vertex.deploy_model

    def no_machines(name, body):
        if google.vertex.endpoints[name].labels["model-load-test-arm"] == "baseline":
            raise plain.__globals__["Refused"](429, "RESOURCE_EXHAUSTED", "no machines of that type")
        return plain(name, body)

    monkeypatch.setattr(google.vertex, "deploy_model", no_machines)
    given = {"candidate_model": "gs://bucket/digits", "baseline_model": "gs://bucket/other"}
    assert not pipelines.run(compiled, {**A_SHORT_LOAD, **given})
    found = states(pipelines)
    assert any(name.endswith("find-vertex-servers") and state == "SKIPPED" for name, state in found.items())
    assert not google.vertex.endpoints
    assert not google.vertex.models
