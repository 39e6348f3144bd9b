"""What is particular to ML Metadata: linked artifacts, poison, the service's failures."""

import contextlib
import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from model_load_test.components.baseline import mlmd_connection
from model_load_test.components.baseline.lookup import ask_store, find_baseline
from model_load_test.components.baseline.mlmd import BASELINE_TYPE, MlmdStore
from model_load_test.components.baseline.mlmd_protos import metadata_store_pb2 as pb
from model_load_test.components.baseline.mlmd_protos import metadata_store_service_pb2 as service
from model_load_test.components.baseline.record import encode_record
from model_load_test.components.baseline.store import StoreUnavailable, open_store
from model_load_test.components.errors import InputError

WRITER = Path(__file__).with_name("write_runs.py")
SERVICE = Path(__file__).with_name("mlmd_service.py")


@pytest.fixture
def mlmd(mlmd_uri):
    with contextlib.closing(open_store(mlmd_uri)) as store:
        yield store


def put_artifact(store, type_name, **properties):
    """Puts an artifact as KFP's launcher does: unnamed, with custom properties only."""
    call = store._connection.call
    put_type = service.PutArtifactTypeRequest(artifact_type=pb.ArtifactType(name=type_name))
    type_id = call("PutArtifactType", put_type, service.PutArtifactTypeResponse).type_id
    artifact = pb.Artifact(type_id=type_id, uri="minio://pipelines/run/metrics", state=pb.Artifact.LIVE)
    for name, value in properties.items():
        if isinstance(value, str):
            artifact.custom_properties[name].string_value = value
        else:
            artifact.custom_properties[name].double_value = value
    request = service.PutArtifactsRequest(artifacts=[artifact])
    return call("PutArtifacts", request, service.PutArtifactsResponse).artifact_ids[0]


def members(store, key):
    context = store._context(BASELINE_TYPE, key)
    return {artifact.id: artifact for artifact in store._artifacts(context.id, 100)}


def attribute(store, key, *artifact_ids):
    context = store._context(BASELINE_TYPE, key)
    request = service.PutAttributionsAndAssociationsRequest(
        attributions=[pb.Attribution(artifact_id=member, context_id=context.id) for member in artifact_ids]
    )
    response_type = service.PutAttributionsAndAssociationsResponse
    store._connection.call("PutAttributionsAndAssociations", request, response_type)


def artifact_by_id(store, artifact_id):
    request = service.GetArtifactsByIDRequest(artifact_ids=[artifact_id])
    return store._connection.call("GetArtifactsByID", request, service.GetArtifactsByIDResponse).artifacts[0]


def test_the_artifact_that_kfp_wrote_is_linked_and_left_as_it_is(mlmd, key, make_record):
    metrics_id = put_artifact(mlmd, "system.Metrics", candidate_p95_ms=11.5, display_name="metrics")
    before = artifact_by_id(mlmd, metrics_id)
    for _ in range(2):
        mlmd.record(key, make_record(1), artifact_id=metrics_id)
    assert mlmd.latest(key) == [make_record(1, artifact_id=metrics_id)]
    assert metrics_id in members(mlmd, key)
    assert len(members(mlmd, key)) == 2
    assert artifact_by_id(mlmd, metrics_id) == before


def test_a_failed_run_is_not_linked_with_the_baseline(mlmd, key, make_record):
    metrics_id = put_artifact(mlmd, "system.Metrics", candidate_p95_ms=11.5)
    mlmd.record(key, make_record(1))
    mlmd.record(key, make_record(2, verdict="FAIL"), artifact_id=metrics_id)
    assert metrics_id not in members(mlmd, key)


def test_an_artifact_that_is_not_there_is_refused(mlmd, key, make_record):
    with pytest.raises(InputError, match="artifact_id: 123456789"):
        mlmd.record(key, make_record(1), artifact_id=123456789)
    assert mlmd.history(key) == []


def test_another_client_finds_the_runs_by_context(sqlite_uri, key, make_record):
    metadata_store = pytest.importorskip("ml_metadata.metadata_store")
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = sqlite_uri.removeprefix("mlmd+sqlite://")
    with contextlib.closing(open_store(sqlite_uri)) as store:
        store.record(key, make_record(1))
    client = metadata_store.MetadataStore(config)
    context = client.get_context_by_type_and_name(BASELINE_TYPE, key.name)
    artifacts = client.get_artifacts_by_context(context.id)
    assert [artifact.custom_properties["candidate_p95_ms"].double_value for artifact in artifacts] == [11.5]


def test_poison_is_skipped_with_a_warning(mlmd, key, make_record, caplog):
    mlmd.record(key, make_record(1))
    other = msgspec.structs.replace(key, model_name="another")
    good = encode_record(make_record(2)).decode()
    poison = {
        "wrong type": {"model_load_test_record": 5.0},
        "no json": {"model_load_test_record": "{"},
        "wrong fields": {"model_load_test_record": good.replace('"metrics":{', '"metrics":{"p":"fast",')},
        "of another key": {"model_load_test_record": encode_record(make_record(3, key=other)).decode()},
        "of a later release": {
            "model_load_test_record": good.replace('"schema_version":1}', '"schema_version":9}')
        },
        "huge": {"model_load_test_record": good.replace("duet", "d" * 1_000_000)},
    }
    ids = [put_artifact(mlmd, "some.Tool", **properties) for properties in poison.values()]
    silent = put_artifact(mlmd, "some.Tool", candidate_p95_ms=1.0)
    attribute(mlmd, key, *ids, silent)
    with caplog.at_level(logging.WARNING):
        assert mlmd.latest(key, 1) == [make_record(1)]
    for artifact_id in ids:
        assert f"skipped artifact {artifact_id}" in caplog.text


def test_more_poison_than_a_page_hides_no_run(mlmd, key, make_record):
    mlmd.record(key, make_record(1))
    attribute(mlmd, key, *[put_artifact(mlmd, "some.Tool", number=1.0) for _ in range(7)])
    assert mlmd.latest(key, 1) == [make_record(1)]


def test_runs_created_out_of_order_are_all_found(tmp_path, sqlite_uri, key, make_record):
    # Concurrent writers take their time of creation before their id.
    with contextlib.closing(open_store(f"mlmd+sqlite://{tmp_path}/mlmd.db")) as store:
        for number in range(115):
            store.record(key, make_record(number))
        with contextlib.closing(sqlite3.connect(tmp_path / "mlmd.db")) as database, database:
            database.execute("UPDATE Artifact SET create_time_since_epoch = 1000000 + (id * 7) % 50")
        assert [record.run_id for record in store.history(key)] == [f"run-{n}" for n in range(114, -1, -1)]


def test_a_lookup_asks_only_for_contexts_and_their_artifacts(mlmd, key, make_record, monkeypatch):
    mlmd.record(key, make_record(1))
    asked = []
    plain = mlmd._call

    def watched(method, request, *arguments):
        asked.append(method)
        if hasattr(request, "options"):
            assert not request.options.filter_query
            assert 0 < request.options.max_result_size <= 100
        return plain(method, request, *arguments)

    monkeypatch.setattr(mlmd, "_call", watched)
    assert len(mlmd.latest(key)) == 1
    assert asked == ["GetContextByTypeAndName", "GetArtifactsByContext"]


def test_the_vendored_messages_are_those_of_the_wheel():
    for name, vendored in {"metadata_store": pb, "metadata_store_service": service}.items():
        wheel = pytest.importorskip(f"ml_metadata.proto.{name}_pb2")
        assert wheel.DESCRIPTOR.serialized_pb == vendored.DESCRIPTOR.serialized_pb


def test_grpc_needs_no_ml_metadata_wheel(grpc_uri, key):
    without = "import sys, runpy; sys.modules['ml_metadata'] = None; sys.argv = sys.argv[1:]; "
    without += "runpy.run_path(sys.argv[0], run_name='__main__')"
    key_json = msgspec.json.encode(key).decode()
    subprocess.run([sys.executable, "-c", without, str(WRITER), grpc_uri, key_json, "0", "2"], check=True)
    with contextlib.closing(open_store(grpc_uri)) as store:
        assert len(store.latest(key)) == 4


def test_sqlite_without_the_wheel_says_what_to_install(tmp_path, monkeypatch):
    extension = "ml_metadata.metadata_store.pywrap.metadata_store_extension"
    monkeypatch.setitem(sys.modules, extension, None)
    with pytest.raises(InputError, match=r"model-load-test\[mlmd\]"):
        open_store(f"mlmd+sqlite://{tmp_path}/mlmd.db")


def test_writers_outlive_a_service_killed_and_restarted(tmp_path, key, start_mlmd_service):
    database = tmp_path / "mlmd.db"
    port, process = start_mlmd_service(database)
    uri = f"mlmd+grpc://127.0.0.1:{port}"
    key_json = msgspec.json.encode(key).decode()
    writers = [
        subprocess.Popen([sys.executable, str(WRITER), uri, key_json, str(number), "40"])
        for number in range(2)
    ]
    with contextlib.closing(open_store(uri)) as store:
        while len(store.history(key)) < 10:
            assert all(writer.poll() is None for writer in writers), "the writers ended too early"
    process.kill()
    process.wait()
    start_mlmd_service(database, port=port)
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    found = [record.run_id for record in ask_store(uri, lambda store: store.history(key), 30)]
    expected = {f"own-{writer}-{number}" for writer in range(2) for number in range(40)}
    assert sorted(found) == sorted(expected | {f"shared-{number}" for number in range(40)})


def test_a_certificate_of_another_authority_is_not_trusted(grpcs_uri, key, tmp_path, other_certificate):
    uri = f"{grpcs_uri.partition('?')[0]}?ca={other_certificate}"
    with pytest.raises(StoreUnavailable, match="UNAVAILABLE"):
        ask_store(uri, lambda store: store.latest(key), time_limit_seconds=0.5)


def test_a_certificate_of_another_name_is_not_trusted(grpcs_uri, key):
    with pytest.raises(StoreUnavailable, match="UNAVAILABLE"):
        ask_store(f"{grpcs_uri}&server_name=elsewhere", lambda store: store.latest(key), 0.5)


def test_plain_grpc_does_not_reach_a_tls_service(grpcs_uri, key):
    uri = grpcs_uri.replace("grpcs", "grpc").partition("?")[0]
    assert not find_baseline(uri, key, time_limit_seconds=0.5).store_answered


@pytest.mark.parametrize(("version", "remedy"), [(4, "migrate the database"), (9999, "migrate the database")])
def test_a_database_of_another_schema_is_refused(tmp_path, sqlite_uri, version, remedy):
    uri = f"mlmd+sqlite://{tmp_path}/mlmd.db"
    open_store(uri).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "mlmd.db")) as database, database:
        database.execute("UPDATE MLMDEnv SET schema_version = ?", (version,))
    with pytest.raises(InputError, match=remedy):
        open_store(uri)


def test_a_file_that_is_no_database_is_refused(tmp_path, sqlite_uri):
    (tmp_path / "notes.txt").write_text("these are notes, not a database\n" * 100)
    with pytest.raises(InputError, match="name a file of ML Metadata"):
        open_store(f"mlmd+sqlite://{tmp_path}/notes.txt")


def test_giving_way_to_another_writer_is_tried_again():
    answers = iter([mlmd_connection.MlmdError(mlmd_connection.ABORTED, "deadlock")] * 2)

    def deadlocked(method, request):
        for error in answers:
            raise error
        return b""

    connection = mlmd_connection._Connection("mlmd+mysql://host:1/db", deadlocked, lambda: None)
    assert MlmdStore(connection, "mlmd+mysql://host:1/db").list_keys() == []


def test_an_error_the_store_does_not_expect_is_not_a_crash():
    def refuse(method, request):
        raise mlmd_connection.MlmdError(7, "RBAC: access denied")

    connection = mlmd_connection._Connection("mlmd+grpc://host:1", refuse, lambda: None)
    with pytest.raises(StoreUnavailable, match="RBAC"):
        MlmdStore(connection, "mlmd+grpc://host:1").list_keys()
