"""What is created for an arm: equal for both, owned, labelled, restricted; schemas are held in ../cluster."""

from __future__ import annotations

from typing import Any

import pytest

from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.serving.arm import Arm
from model_load_test.components.serving.deploy import Deployment, planned_manifests
from model_load_test.components.serving.model_uri import (
    ModelUriError,
    Storage,
    parse_model_uri,
)
from model_load_test.components.serving.spec import ServingSpecError, parse_serving_spec
from model_load_test.components.serving.tf_serving import batching_file

KINDS = ("tf-serving", "triton", "kserve", "seldon", "seldon-v2", "embedded")


def deployment(
    spec: dict[str, Any], *, run: str = "run", storage: Storage | None = None, **models: str
) -> Deployment:
    given: dict[Arm, Any] = {
        "candidate": parse_model_uri(models.get("candidate", "gs://bucket/new")),
        "baseline": parse_model_uri(models.get("baseline", "gs://bucket/old")),
    }
    parsed = parse_serving_spec({"model_name": "digits", **spec})
    return Deployment(RunIdentity(run, "task"), parsed, given, "ours:1", storage or Storage())


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in manifests if one["kind"] == kind]


def without_identity(manifest: dict[str, Any], arm: str, uri: str) -> str:
    """The manifest with all that may differ between the arms taken out."""
    name = manifest["metadata"]["name"]
    return str(manifest).replace(name, "NAME").replace(f"'{arm}'", "ARM").replace(uri, "URI")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arrangement", ["any", "apart", "together"])
def test_both_arms_are_the_same_but_for_their_names_and_models(kind: str, arrangement: str) -> None:
    spec = {
        "kind": kind,
        "arrangement": arrangement,
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
        "tolerations": [{"key": "model", "operator": "Exists"}],
        "node_selector": {"pool": "model"},
    }
    manifests = planned_manifests(deployment(spec))
    half = len(manifests) // 2
    for candidate, baseline in zip(manifests[:half], manifests[half:], strict=True):
        left = without_identity(candidate, "candidate", "gs://bucket/new")
        assert left == without_identity(baseline, "baseline", "gs://bucket/old")
        assert candidate["metadata"]["name"] != baseline["metadata"]["name"]


@pytest.mark.parametrize("kind", KINDS)
def test_everything_bears_the_run_and_the_task(kind: str) -> None:
    for one in planned_manifests(deployment({"kind": kind})):
        labels = one["metadata"]["labels"]
        assert (labels["model-load-test/run"], labels["model-load-test/task"]) == ("run", "task")
        assert labels["model-load-test/arm"] in ("candidate", "baseline")


@pytest.mark.parametrize("kind", KINDS)
def test_two_runs_at_once_have_no_name_in_common(kind: str) -> None:
    names = [
        (one["kind"], one["metadata"]["name"])
        for run in ("run-1", "run-2")
        for one in planned_manifests(deployment({"kind": kind}, run=run))
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", ["tf-serving", "triton", "embedded"])
def test_our_own_pods_fit_the_restricted_profile_with_a_read_only_root(kind: str) -> None:
    for one in of_kind(planned_manifests(deployment({"kind": kind})), "Deployment"):
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in (*pod["containers"], *pod["initContainers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
        assert one["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"


def test_tf_serving_gets_its_flags_its_files_and_its_names() -> None:
    spec = {"flags": ["--tensorflow_intra_op_parallelism=4"], "batching": {"max_batch_size": 64}}
    manifests = planned_manifests(deployment(spec))
    config, workload, service = manifests[:3]
    (server,) = workload["spec"]["template"]["spec"]["containers"]
    assert server["args"] == [
        "--tensorflow_intra_op_parallelism=4",
        "--enable_batching=true",
        "--batching_parameters_file=/serving-configuration/batching.pbtxt",
        "--monitoring_config_file=/serving-configuration/monitoring.pbtxt",
    ]
    assert {"name": "MODEL_NAME", "value": "digits"} in server["env"]
    assert config["data"]["batching.pbtxt"] == "max_batch_size { value: 64 }\n"
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {"grpc": 8500, "http": 8501}
    selected = service["spec"]["selector"].items()
    assert selected <= workload["spec"]["template"]["metadata"]["labels"].items()
    assert ("model-load-test/arm", "candidate") in selected


def test_no_probe_asks_a_server_that_is_under_load() -> None:
    for kind in ("tf-serving", "triton"):
        for one in of_kind(planned_manifests(deployment({"kind": kind})), "Deployment"):
            (server,) = one["spec"]["template"]["spec"]["containers"]
            assert "startupProbe" in server
            assert not {"readinessProbe", "livenessProbe"} & set(server)


def test_the_loader_verifies_the_checksum_and_finds_the_volume_and_the_warm_up() -> None:
    spec = {"warmup": "pvc://warm/requests"}
    uri = f"pvc://claim/new#sha256={'a' * 64}"
    (workload, *_) = of_kind(planned_manifests(deployment(spec, candidate=uri)), "Deployment")
    pod = workload["spec"]["template"]["spec"]
    (loader,) = pod["initContainers"]
    assert loader["args"][:2] == ["--uri", uri]
    assert loader["args"][-2:] == ["--warmup", "pvc://warm/requests"]
    assert {"name": "claim", "persistentVolumeClaim": {"claimName": "claim", "readOnly": True}} in pod[
        "volumes"
    ]


def test_secrets_are_named_and_never_written() -> None:
    storage = Storage(endpoint="http://minio:9000", secret="creds")
    (workload, *_) = of_kind(
        planned_manifests(
            deployment({}, storage=storage, candidate="minio://b/new", baseline="minio://b/old")
        ),
        "Deployment",
    )
    (loader,) = workload["spec"]["template"]["spec"]["initContainers"]
    environment = {one["name"]: one for one in loader["env"]}
    assert environment["AWS_ENDPOINT_URL"]["value"] == "http://minio:9000"
    secret = environment["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": "creds", "key": "secretkey"}
    (server,) = workload["spec"]["template"]["spec"]["containers"]
    assert not [one for one in server["env"] if one["name"].startswith("AWS")], "the server needs no keys"


def test_apart_keeps_the_arms_apart_and_lets_replicas_be() -> None:
    (workload, *_) = of_kind(planned_manifests(deployment({"arrangement": "apart"})), "Deployment")
    (term,) = workload["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term["labelSelector"]["matchExpressions"] == [
        {"key": "model-load-test/arm", "operator": "NotIn", "values": ["candidate"]}
    ]


def test_the_users_own_affinity_stays() -> None:
    node_terms = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
    spec = {"arrangement": "together", "affinity": {"nodeAffinity": node_terms}}
    (workload, *_) = of_kind(planned_manifests(deployment(spec)), "Deployment")
    assert set(workload["spec"]["template"]["spec"]["affinity"]) == {"nodeAffinity", "podAffinity"}


def test_kserve_runs_as_many_replicas_as_asked_for_and_without_knative() -> None:
    spec = {"kind": "kserve", "replicas": 2, "protocol": "grpc", "runtime": "r"}
    (service, _) = planned_manifests(deployment(spec))
    annotations = service["metadata"]["annotations"]
    assert annotations["serving.kserve.io/deploymentMode"] == "RawDeployment"
    assert annotations["serving.kserve.io/autoscalerClass"] == "none"
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 2)
    assert predictor["model"]["storageUri"] == "gs://bucket/new"
    assert predictor["model"]["args"] == ["--model_name=digits"], "both arms know the model by one name"
    assert predictor["model"]["ports"][0]["name"] == "h2c"


def test_seldon_can_do_without_its_orchestrator() -> None:
    (thing, _) = planned_manifests(deployment({"kind": "seldon", "orchestrator": False, "protocol": "http"}))
    assert thing["spec"]["annotations"]["seldon.io/no-engine"] == "true"
    assert thing["spec"]["predictors"][0]["graph"]["implementation"] == "TENSORFLOW_SERVER"
    assert thing["spec"]["transport"] == "rest"


@pytest.mark.parametrize("kind", ["kserve", "seldon", "seldon-v2"])
def test_a_checksum_that_nobody_would_verify_is_refused(kind: str) -> None:
    uri = f"gs://bucket/new#sha256={'a' * 64}"
    with pytest.raises(ModelUriError, match="verifies no checksum"):
        planned_manifests(deployment({"kind": kind}, candidate=uri))


def test_batching_is_written_as_tf_serving_reads_it() -> None:
    text = batching_file(
        {
            "max_batch_size": 128.0,
            "batch_timeout_micros": 0,
            "num_batch_threads": 8,
            "allowed_batch_sizes": [32, 128],
            "pad_variable_length_inputs": True,
        }
    )
    assert text.splitlines() == [
        "max_batch_size { value: 128 }",
        "batch_timeout_micros { value: 0 }",
        "num_batch_threads { value: 8 }",
        "allowed_batch_sizes: 32",
        "allowed_batch_sizes: 128",
        "pad_variable_length_inputs: true",
    ]


@pytest.mark.parametrize(
    ("batching", "named"),
    [
        ({"max_batch": 1}, "no such batching parameter"),
        ({"max_batch_size": "many"}, "whole number"),
        ({"max_batch_size": 64, "allowed_batch_sizes": [32]}, "last of them"),
        ({"allowed_batch_sizes": 32}, "list"),
        ({"pad_variable_length_inputs": 1}, "true or false"),
    ],
)
def test_batching_that_tf_serving_would_not_take_is_refused(batching: dict[str, Any], named: str) -> None:
    with pytest.raises(ServingSpecError, match=named):
        batching_file(batching)


def test_a_flag_given_twice_is_refused() -> None:
    with pytest.raises(ServingSpecError, match="given twice"):
        planned_manifests(
            deployment({"flags": ["--enable_batching=true"], "batching": {"max_batch_size": 1}})
        )


def test_nothing_to_deploy_is_said() -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match="give a model"):
        planned_manifests(replace(deployment({}), models={}))
