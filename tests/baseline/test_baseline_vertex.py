"""What is particular to Vertex ML Metadata; the service here is a fake on its generated protos."""

import contextlib
import logging

import msgspec
import pytest

from model_load_test.components.baseline.lookup import find_baseline
from model_load_test.components.baseline.record import encode_record
from model_load_test.components.baseline.store import StoreUnavailable, open_store
from model_load_test.components.errors import InputError

pytest.importorskip("google.cloud.aiplatform_v1", reason="vertex: needs google-cloud-aiplatform")


@pytest.fixture
def vertex(fake_vertex_uri):
    with contextlib.closing(open_store(fake_vertex_uri)) as store:
        yield store


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("create_artifact", {"artifact": {"schema_title": "modelloadtest.Record"}}),
        ("create_artifact", {"parent": "PARENT"}),
        ("create_artifact", {"parent": "PARENT", "artifact": {"schema_title": "un.Known"}}),
        ("create_context", {"parent": "PARENT", "context": {"display_name": "d" * 129}}),
        ("create_metadata_schema", {"parent": "PARENT", "metadata_schema": {"schema": "title: system.X"}}),
        ("list_artifacts", {"parent": "PARENT", "filter": "metadata.x = 1"}),
        ("list_artifacts", {"parent": "PARENT", "page_size": 1001, "filter": 'in_context("x")'}),
        ("list_contexts", {"parent": "PARENT", "order_by": "age"}),
    ],
)
def test_the_fake_refuses_what_the_definition_refuses(vertex, method, request_):
    from google.api_core.exceptions import InvalidArgument, NotFound

    request = {**request_, **({"parent": vertex._parent} if "parent" in request_ else {})}
    with pytest.raises((InvalidArgument, NotFound)):
        list(getattr(vertex._client, method)(request=request, timeout=10))


def test_numbers_stand_beside_the_record_for_filters_and_people(vertex, key, make_record):
    vertex.record(key, make_record(1))
    artifact = vertex._artifact(key, "run-1")
    assert artifact.metadata["candidate_p95_ms"] == 11.5
    assert (artifact.schema_title, artifact.uri) == ("modelloadtest.Record", "s3://bucket/run-1/metrics")


def test_a_lookup_is_two_calls(vertex, key, make_record, monkeypatch):
    vertex.record(key, make_record(1))
    asked = []
    plain = vertex._call
    monkeypatch.setattr(
        vertex, "_call", lambda method, *rest: asked.append(method.__name__) or plain(method, *rest)
    )
    assert len(vertex.latest(key)) == 1
    assert asked == ["get_context", "list_artifacts"]


def test_a_failed_run_is_not_in_the_context_of_baselines(vertex, key, make_record):
    vertex.record(key, make_record(1, verdict="FAIL"))
    assert vertex._context("baseline", key) is None
    assert vertex._context("history", key) is not None


def test_a_promotion_in_the_middle_of_another_is_not_lost(vertex, key, make_record, monkeypatch):
    for number in (1, 2):
        vertex.record(key, make_record(number))
    plain = vertex._ensure_context
    interruptions = iter([("run-2", 200)])

    def interrupted(kind, of_key):
        read = plain(kind, of_key)
        for run_id, at_ns in interruptions:
            vertex.promote(of_key, run_id, at_ns)
        return read

    monkeypatch.setattr(vertex, "_ensure_context", interrupted)
    vertex.promote(key, "run-1", at_ns=100)
    assert vertex.promoted(key).run_id == "run-2"


def test_poison_is_skipped_with_a_warning(vertex, key, make_record, caplog):
    vertex.record(key, make_record(1))
    other = msgspec.structs.replace(key, model_name="another")
    good = encode_record(make_record(2)).decode()
    poison = [
        {"candidate_p95_ms": 1.0},
        {"model_load_test_record": 5.0},
        {"model_load_test_record": "{"},
        {"model_load_test_record": encode_record(make_record(3, key=other)).decode()},
        {"model_load_test_record": good.replace("duet", "d" * 100_000)},
    ]
    context = vertex._context("baseline", key).name
    names = []
    for metadata in poison:
        artifact = {
            "schema_title": "modelloadtest.Record",
            "schema_version": "0.0.1",
            "metadata": metadata,
        }
        request = {"parent": vertex._parent, "artifact": artifact}
        names.append(vertex._client.create_artifact(request=request).name)
    request = {"context": context, "artifacts": names}
    vertex._client.add_context_artifacts_and_executions(request=request)
    with caplog.at_level(logging.WARNING):
        assert vertex.latest(key, 1) == [make_record(1)]
    assert all(f"skipped artifact {name}" in caplog.text for name in names)


def test_a_service_that_is_down_gives_no_baseline(key, unused_port):
    uri = f"vertex://my-project/europe-west4?stand_in=127.0.0.1:{unused_port}"
    found = find_baseline(uri, key, time_limit_seconds=3)
    assert (found.history, found.store_answered) == ((), False)


def test_without_credentials_the_store_does_not_answer(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    with pytest.raises(StoreUnavailable, match="DefaultCredentialsError"):
        open_store("vertex://my-project/europe-west4")


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("vertex:", "name project and location"),
        ("vertex://my-project", "name project and location"),
        ("vertex://my-project/Europe", "is no location"),
        ("vertex://my-project/europe-west4?surprise=1", "unknown option 'surprise'"),
    ],
)
def test_a_wrong_uri_is_refused_with_its_remedy(monkeypatch, uri, remedy):
    for variable in ("CLOUD_ML_PROJECT_ID", "CLOUD_ML_REGION", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_REGION"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(InputError, match=remedy):
        open_store(uri)
