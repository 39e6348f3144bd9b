"""The documents for Vertex AI: loaded by its SDK, machines and accounts by parameters, GCPC in them."""

import re

import pytest
import yaml

pytest.importorskip("google_cloud_pipeline_components", reason="the extra `vertex` is not installed")

from model_load_test.pipelines.compiling import compile_all

FILES = ("vertex.yaml", "vertex_deploy_and_gate.yaml")
GIVEN = {
    "vertex.yaml": {"candidate_endpoint": "grpc://10.0.0.7:8500", "model_name": "m"},
    "vertex_deploy_and_gate.yaml": {"candidate_model": "gs://bucket/model", "model_name": "m"},
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    compile_all(folder)
    return folder


def spec_of(folder, name):
    (document,) = yaml.safe_load_all((folder / name).read_text())
    return document


def executors(spec):
    return {
        name.removeprefix("exec-"): one["container"]
        for name, one in spec["deploymentSpec"]["executors"].items()
    }


@pytest.mark.parametrize("name", FILES)
def test_the_sdk_takes_the_document_with_machine_account_and_network(compiled, name):
    aiplatform = pytest.importorskip("google.cloud.aiplatform", reason="the extra `vertex` is not installed")
    from google.auth.credentials import AnonymousCredentials

    aiplatform.init(project="p", location="us-central1", credentials=AnonymousCredentials())
    machine = {"load_machine_type": "c2-standard-8", "load_network": "projects/1/global/networks/n"}
    job = aiplatform.PipelineJob(
        display_name="gate",
        template_path=str(compiled / name),
        pipeline_root="gs://bucket/root",
        parameter_values={**GIVEN[name], **machine, "load_service_account": "a@p.iam.gserviceaccount.com"},
        enable_caching=False,
    )
    given = job.to_dict()["runtimeConfig"]["parameterValues"]
    assert given["load_machine_type"] == "c2-standard-8"
    with pytest.raises(ValueError, match="not found in the pipeline job input definitions"):
        aiplatform.PipelineJob(
            display_name="gate",
            template_path=str(compiled / name),
            pipeline_root="gs://bucket/root",
            parameter_values={"surprise": 1},
        ).to_dict()


@pytest.mark.parametrize("name", FILES)
def test_the_load_is_a_custom_job_on_the_machine_that_is_asked_for(compiled, name):
    spec = spec_of(compiled, name)
    container = executors(spec)["run-load-test"]
    assert container["command"][-1].endswith("custom_job.launcher")
    inputs = spec["components"]["comp-run-load-test"]["inputDefinitions"]["parameters"]
    (pool,) = inputs["worker_pool_specs"]["defaultValue"]
    assert pool["machine_spec"] == {"machine_type": "{{$.inputs.parameters['machine_type']}}"}
    assert pool["container_spec"]["image_uri"].startswith("ghcr.io/model-load-test/load-test:")
    assert "def run_load_test(" in "".join(pool["container_spec"]["command"])
    task = next(
        dag["dag"]["tasks"]["run-load-test"]
        for dag in (spec["root"], *spec["components"].values())
        if "run-load-test" in dag.get("dag", {}).get("tasks", {})
    )
    for machine in ("machine_type", "service_account", "network"):
        assert task["inputs"]["parameters"][machine] == {"componentInputParameter": f"load_{machine}"}
    root = spec["root"]["inputDefinitions"]["parameters"]
    assert root["load_service_account"]["defaultValue"] == "{{$.pipeline_service_account}}"


@pytest.mark.parametrize("name", FILES)
def test_nothing_of_kubernetes_is_asked_for(compiled, name):
    spec = spec_of(compiled, name)
    knobs = spec["root"]["inputDefinitions"]["parameters"]
    assert not {"tolerations", "node_selector", "cpu_request", "connection_files", "generators"} & set(knobs)
    for container in executors(spec).values():
        assert "resources" not in container


def test_models_are_deployed_by_googles_own_components(compiled):
    spec = spec_of(compiled, "vertex_deploy_and_gate.yaml")
    run = {name: container["command"][-1] for name, container in executors(spec).items()}
    for launcher in ("upload_model", "create_endpoint", "deploy_model"):
        assert [name for name, module in run.items() if f".{launcher}.launcher" in module], launcher


def test_the_model_gets_all_traffic(compiled):
    spec = spec_of(compiled, "vertex_deploy_and_gate.yaml")
    splits = [
        task["inputs"]["parameters"]["traffic_split"]["runtimeValue"]["constant"]
        for component in spec["components"].values()
        for name, task in component.get("dag", {}).get("tasks", {}).items()
        if name.startswith("model-deploy")
    ]
    assert splits
    assert all(split == {"0": "100"} for split in splits)


def test_removal_waits_for_all_that_may_fail_and_runs_in_any_case(compiled):
    spec = spec_of(compiled, "vertex_deploy_and_gate.yaml")
    (dag,) = (
        component["dag"]
        for component in spec["components"].values()
        if "teardown-vertex-servers" in component.get("dag", {}).get("tasks", {})
    )
    teardown = dag["tasks"].pop("teardown-vertex-servers")
    assert teardown["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert teardown["dependentTasks"] == list(dag["tasks"])
    sources = teardown["inputs"]["parameters"].values()
    assert all("componentInputParameter" in source for source in sources), "no output of a task that failed"


@pytest.mark.parametrize("name", FILES)
def test_every_placeholder_is_one_that_vertex_resolves(compiled, name):
    text = (compiled / name).read_text()
    known = re.compile(
        r"\{\{\$(\.json_escape\[1\]"
        r"|\.(inputs|outputs)\.(parameters|artifacts)\[[^}]*"
        r"|\.pipeline_(google_cloud_(project_id|location)|service_account|network|persistent_resource_id)"
        r"|\.pipeline_(job|task)_[a-z_]+)?\}\}"
    )
    assert not [found for found in re.findall(r"\{\{.*?\}\}", text) if not known.fullmatch(found)]


@pytest.mark.parametrize(
    ("endpoints", "why"),
    [
        ({"candidate_endpoint": "grpc://10.0.0.7:8500"}, "use the protocol http"),
        ({"candidate_endpoint": "https://host/v1/models/m:predict"}, "leave the API's own path away"),
    ],
)
def test_an_endpoint_of_the_wrong_kind_is_refused_when_a_pipeline_is_compiled(endpoints, why):
    from kfp import dsl

    from model_load_test.components.errors import InputError
    from model_load_test.pipelines import vertex_deploy_and_gate

    with pytest.raises(InputError, match=why):

        @dsl.pipeline(name="users")
        def users():
            vertex_deploy_and_gate(model_name="m", **endpoints)


def test_the_gate_is_one_task_of_a_users_pipeline_and_its_failure_keeps_the_push_back(tmp_path):
    from kfp import compiler, dsl

    from model_load_test.pipelines import vertex_deploy_and_gate

    @dsl.component(base_image="python:3.11")
    def push():
        print("pushed")

    @dsl.pipeline(name="train-and-push")
    def train_and_push(model: str):
        gate = vertex_deploy_and_gate(model_name="m", candidate_model=model)
        push().after(gate)

    compiler.Compiler().compile(train_and_push, str(tmp_path / "user.yaml"))
    (document,) = yaml.safe_load_all((tmp_path / "user.yaml").read_text())
    assert document["root"]["dag"]["tasks"]["push"]["dependentTasks"] == ["vertex-deploy-and-gate"]
