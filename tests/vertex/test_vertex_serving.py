"""Serving on Vertex AI: what is planned, created, found, compared and removed; the service is a fake."""

import pytest

from model_load_test.components.google_cloud.rest import GoogleApiError, RestApi
from model_load_test.components.protocols.client import ModelNotFound, UnexpectedAnswer
from model_load_test.components.serving.vertex.plan import plan_vertex
from model_load_test.components.serving.vertex.resources import create_dedicated_endpoint
from model_load_test.components.serving.vertex.servers import find_servers
from model_load_test.components.serving.vertex.spec import (
    DEFAULT_IMAGE,
    VertexSpecError,
    parse_vertex_serving,
)
from model_load_test.components.serving.vertex.teardown import NotRemoved, expired, remove_all, teardown

PLACE = {"project": "my-project", "location": "europe-west4"}
REGISTERED = "projects/my-project/locations/europe-west4/models/77@2"
LIVE = "projects/my-project/locations/europe-west4/endpoints/8"


def open_api(location):
    return RestApi(f"https://{location}-aiplatform.googleapis.com", pause=lambda _: None)


def planned(**changes):
    given = {
        **PLACE,
        "spec": parse_vertex_serving({}, model_name="digits"),
        "models": {"candidate": "gs://bucket/digits"},
        "endpoints": {},
        "run_id": "run-1",
        "deadline_seconds": 60,
        "now": 1000.0,
    }
    return plan_vertex(**{**given, **changes})


def test_a_plan_has_one_name_a_run_and_labels_that_google_takes():
    plan, again, other = planned(), planned(now=2000.0), planned(run_id="run-2")
    assert plan.deployment == again.deployment != other.deployment
    labels = plan.labels("candidate")
    assert labels["model-load-test-arm"] == "candidate"
    assert labels["model-load-test-expires"] == "1060"
    assert len(plan.endpoint_id("candidate")) <= 63


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"project": "My Project"}, "project", "give the project's id"),
        ({"location": "europe"}, "location", "such as europe-west4"),
        ({"models": {"candidate": "s3://bucket/m"}}, "candidate_model", "gs://BUCKET/FOLDER"),
        ({"models": {"candidate": "gs://"}}, "candidate_model", "gs://BUCKET/FOLDER"),
        ({"models": {}}, "candidate_model", "give a model to deploy"),
        ({"run_id": ""}, "run_id", "the run's own"),
        ({"endpoints": {"candidate": LIVE}}, "candidate_endpoint", "not both"),
        (
            {"models": {}, "endpoints": {"candidate": "endpoints/8"}},
            "candidate_endpoint",
            "projects/PROJECT/locations/LOCATION/endpoints/ID",
        ),
        (
            {"models": {"candidate": REGISTERED.replace("west4", "west1")}},
            "candidate_model",
            "registered elsewhere than europe-west4",
        ),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(changes, field, why):
    with pytest.raises(VertexSpecError, match=why) as refused:
        planned(**changes)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("values", "fields", "field"),
    [
        ({"imag": "x"}, {}, "imag"),
        ({"image": 'x"y'}, {}, "image"),
        ({}, {"model_name": 'a "model"'}, "model_name"),
        ({}, {"replicas": 0}, "replicas"),
        ({}, {"accelerator_type": "NVIDIA_TESLA_T4"}, "accelerator_count"),
        ({}, {"accelerator_count": 1}, "accelerator_count"),
        ({"predict_route": "/predict"}, {}, "predict_route"),
        ({"predict_route": "predict", "health_route": "/health"}, {}, "predict_route"),
        ({}, {"endpoint_kind": "peered"}, "network"),
        ({}, {"network": "projects/1/global/networks/n"}, "network"),
        ({}, {"endpoint_kind": "peered", "network": "projects/name/global/networks/n"}, "network"),
        ({}, {"endpoint_kind": "public"}, "serving"),
        ({"machine_type": "n1-standard-2"}, {"machine_type": "n1-standard-4"}, "serving.machine_type"),
        ({"port": 70000}, {}, "port"),
        ({"environment": {"A": 1}}, {}, "serving"),
    ],
)
def test_a_serving_that_vertex_would_refuse_is_refused_before(values, fields, field):
    with pytest.raises(VertexSpecError) as refused:
        parse_vertex_serving(values, **{"model_name": "digits", **fields})
    assert refused.value.field == field


def test_a_container_of_ones_own_is_described_whole():
    spec = parse_vertex_serving(
        {
            "image": "europe-docker.pkg.dev/p/r/server@sha256:0",
            "predict_route": "/predict",
            "health_route": "/health",
            "port": 9000.0,
            "arguments": ["--fast"],
            "environment": {"THREADS": "4"},
        },
        model_name="digits",
    )
    assert spec.container_spec() == {
        "imageUri": "europe-docker.pkg.dev/p/r/server@sha256:0",
        "args": ["--fast"],
        "env": [{"name": "THREADS", "value": "4"}],
        "ports": [{"containerPort": 9000}],
        "predictRoute": "/predict",
        "healthRoute": "/health",
    }


def test_only_a_saved_model_tells_its_signature():
    of_own = parse_vertex_serving({"image": "own:1"}, model_name="digits")
    assert planned().saved_model("") == "gs://bucket/digits"
    assert planned().saved_model("gs://bucket/other") == "gs://bucket/other"
    assert planned(spec=of_own).saved_model("") == ""
    assert planned(models={"candidate": REGISTERED}).saved_model("") == ""
    assert "tf2-" in DEFAULT_IMAGE


def test_an_endpoint_of_its_own_name_is_made_once(google):
    plan = planned()
    made = [
        create_dedicated_endpoint(
            open_api("europe-west4"),
            *PLACE.values(),
            plan.endpoint_id("candidate"),
            plan.shown_name("candidate"),
            plan.labels("candidate"),
        )
        for _ in range(2)
    ]
    assert made[0] == made[1]
    (endpoint,) = google.vertex.endpoints.values()
    assert endpoint.dedicated_endpoint_enabled
    assert endpoint.display_name == "load test of digits: candidate"


def test_servers_are_found_by_name_and_by_address(google, deployed):
    candidate, baseline = deployed(), deployed()
    name = candidate.partition("/v1/")[2]
    servers = find_servers(
        open_api, **PLACE, deployment="", endpoints={"candidate": name, "baseline": baseline}
    )
    assert {arm: str(one.endpoint).replace(":443", "") for arm, one in servers.items()} == {
        "candidate": candidate,
        "baseline": baseline,
    }
    assert servers["candidate"].image == "image:1"
    assert servers["candidate"].model.endswith("@1")
    assert servers["candidate"].flags == (
        "endpoint=shared",
        "machine_type=n1-standard-4",
        "replicas=1-1",
    )


def test_a_peered_endpoint_is_reached_where_its_model_is(google, deployed):
    name = deployed().partition("/v1/")[2]
    endpoint = google.vertex.endpoints[name]
    endpoint.network = "projects/123456789012/global/networks/n"
    (model,) = endpoint.deployed_models
    address = f"http://8.aiplatform.googleapis.com/v1/models/{model.id}"
    model.private_endpoints.predict_http_uri = f"{address}:predict"
    servers = find_servers(open_api, **PLACE, deployment="", endpoints={"candidate": name})
    assert str(servers["candidate"].endpoint).replace(":80/", "/") == address
    with pytest.raises(VertexSpecError, match="give a peered endpoint by its name"):
        find_servers(open_api, **PLACE, deployment="", endpoints={"candidate": address})


def test_private_service_connect_needs_the_users_address(google, deployed):
    name = deployed().partition("/v1/")[2]
    google.vertex.endpoints[name].private_service_connect_config = {"enable_private_service_connect": True}
    with pytest.raises(VertexSpecError, match="your forwarding rule"):
        find_servers(open_api, **PLACE, deployment="", endpoints={"candidate": name})
    given = f"https://10.1.2.3/v1/{name}"
    servers = find_servers(open_api, **PLACE, deployment="", endpoints={"candidate": given})
    assert (servers["candidate"].kind, servers["candidate"].endpoint.host) == ("service-connect", "10.1.2.3")


def test_arms_on_other_machines_are_no_equals(google, deployed):
    names = [deployed().partition("/v1/")[2] for _ in range(2)]
    other = google.vertex.endpoints[names[1]].deployed_models[0]
    other.dedicated_resources.machine_spec.machine_type = "n1-standard-8"
    with pytest.raises(VertexSpecError, match="candidate and baseline are no equals") as refused:
        find_servers(
            open_api,
            **PLACE,
            deployment="",
            endpoints=dict(zip(("candidate", "baseline"), names, strict=True)),
        )
    assert "n1-standard-8" in str(refused.value)


def test_a_server_that_may_scale_is_warned_of(google, deployed, capsys):
    name = deployed().partition("/v1/")[2]
    google.vertex.endpoints[name].deployed_models[0].dedicated_resources.max_replica_count = 3
    find_servers(open_api, **PLACE, deployment="", endpoints={"candidate": name})
    assert "may scale from 1 to 3 replicas" in capsys.readouterr().err


def test_an_endpoint_that_is_no_arm_is_not_found(google, deployed):
    name = deployed().partition("/v1/")[2]
    endpoint = google.vertex.endpoints[name]
    endpoint.traffic_split = {endpoint.deployed_models[0].id: 60, "9": 40}
    with pytest.raises(UnexpectedAnswer, match="shared out"):
        find_servers(open_api, **PLACE, deployment="", endpoints={"candidate": name})
    endpoint.traffic_split = {}
    with pytest.raises(ModelNotFound, match="none of its models gets traffic"):
        find_servers(open_api, **PLACE, deployment="", endpoints={"candidate": name})
    with pytest.raises(VertexSpecError, match="has no endpoint of the candidate"):
        find_servers(open_api, **PLACE, deployment="mlt-0", endpoints={})


def labelled(google, name, plan, arm):
    endpoint = google.vertex.endpoints[name]
    endpoint.labels = plan.labels(arm)
    model = endpoint.deployed_models[0].model
    google.vertex.models[model].labels = plan.labels(arm)


def test_teardown_takes_all_that_is_ours_and_nothing_else(google, deployed, capsys):
    plan, other = planned(), planned(run_id="run-2")
    for arm, of in (("candidate", plan), ("baseline", plan), ("candidate", other)):
        labelled(google, deployed().partition("/v1/")[2], of, arm)
    live = deployed().partition("/v1/")[2]
    removed = teardown(open_api("europe-west4"), *PLACE.values(), plan.deployment)
    assert len(removed) == 4
    assert set(google.vertex.endpoints) == {live, *_of(google, other)}
    assert len(google.vertex.models) == 2
    assert teardown(open_api("europe-west4"), *PLACE.values(), plan.deployment) == []
    assert capsys.readouterr().out.count("removed endpoint") == 2


def _of(google, plan):
    return [
        name
        for name, one in google.vertex.endpoints.items()
        if one.labels.get("model-load-test-deployment") == plan.deployment
    ]


def test_an_endpoint_with_two_models_is_emptied_before_it_is_deleted(google, deployed):
    plan = planned()
    name = deployed().partition("/v1/")[2]
    labelled(google, name, plan, "candidate")
    endpoint = google.vertex.endpoints[name]
    first = endpoint.deployed_models[0]
    endpoint.deployed_models = [first, {"id": "9", "model": first.model}]
    endpoint.traffic_split = {first.id: 100, "9": 0}
    teardown(open_api("europe-west4"), *PLACE.values(), plan.deployment)
    assert not google.vertex.endpoints


def test_what_cannot_be_removed_is_named_and_the_rest_goes(google, deployed, monkeypatch):
    plan = planned()
    names = [deployed().partition("/v1/")[2] for _ in range(2)]
    for name, arm in zip(names, ("candidate", "baseline"), strict=True):
        labelled(google, name, plan, arm)
    plain = google.vertex.undeploy_model

    def stuck(name, body):
        if name == names[0]:
            raise plain.__globals__["Refused"](400, "FAILED_PRECONDITION", "other operations are running")
        return plain(name, body)

    monkeypatch.setattr(google.vertex, "undeploy_model", stuck)
    with pytest.raises(NotRemoved, match="costs money: delete it by hand") as left:
        teardown(open_api("europe-west4"), *PLACE.values(), plan.deployment, deadline_seconds=0)
    assert names[0] in str(left.value)
    assert names[1] not in google.vertex.endpoints


def test_what_is_over_its_time_is_found_whatever_run_made_it(google, deployed):
    for run, arm in (("run-1", "candidate"), ("run-2", "baseline")):
        labelled(google, deployed().partition("/v1/")[2], planned(run_id=run), arm)
    api = open_api("europe-west4")
    assert expired(api, *PLACE.values(), now=1059) == []
    found = expired(api, *PLACE.values(), now=1061)
    assert sorted(one.kind for one in found) == ["endpoints", "endpoints", "models", "models"]
    assert len(remove_all(api, found)) == 4
    assert not google.vertex.endpoints
    assert not google.vertex.models


def test_what_does_not_say_when_it_ends_is_never_over(google, deployed):
    name = deployed().partition("/v1/")[2]
    google.vertex.endpoints[name].labels = {"model-load-test": "yes"}
    assert expired(open_api("europe-west4"), *PLACE.values(), now=1e12) == []


def test_errors_of_the_service_name_the_right_that_is_missing(google, monkeypatch):
    monkeypatch.setattr(
        google.vertex,
        "listed",
        lambda *_: (_ for _ in ()).throw(
            google.vertex.upload_model.__globals__["Refused"](403, "PERMISSION_DENIED", "endpoints.list")
        ),
    )
    with pytest.raises(GoogleApiError, match=r"may not .*roles/aiplatform.user"):
        teardown(open_api("europe-west4"), *PLACE.values(), "mlt-0")


def test_the_broom_takes_what_is_over_its_time(google, deployed, capsys):
    from model_load_test.pipelines.command_line import main

    google.vertex.looks_until_done = 0
    for run, ends in (("run-1", 0.0), ("run-2", 4e9)):
        labelled(google, deployed().partition("/v1/")[2], planned(run_id=run, now=ends), "candidate")
    google.vertex.looks_until_done = 0
    assert main(["cleanup", "--vertex", "my-project/europe-west4", "--dry-run"]) == 0
    assert "would remove 2 resources" in capsys.readouterr().out
    assert len(google.vertex.endpoints) == 2
    assert main(["cleanup", "--vertex", "my-project/europe-west4"]) == 0
    assert "removed 2 resources in my-project/europe-west4" in capsys.readouterr().out
    assert len(google.vertex.endpoints) == 1
    assert main(["cleanup", "--vertex", "my-project"]) == 2
    assert "location" in capsys.readouterr().err
