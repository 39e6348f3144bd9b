"""What is particular to KFP's API server; all servers here are fakes held against its definitions."""

import contextlib
import json
import logging
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from model_load_test.components.baseline.copying import copy_baselines
from model_load_test.components.baseline.kfp_api import KfpApi, NotServed
from model_load_test.components.baseline.lookup import find_baseline
from model_load_test.components.baseline.record import encode_record
from model_load_test.components.baseline.store import StoreUnavailable, open_store
from model_load_test.components.errors import InputError

pytest.importorskip("jsonschema", reason="the fake API server checks by jsonschema")


@pytest.fixture
def kfp(fake_kfp_uri):
    with contextlib.closing(open_store(fake_kfp_uri)) as store:
        yield store


@pytest.fixture(scope="module")
def older_uri(start_fake_kfp):
    return start_fake_kfp("kfp-2.17")


@pytest.fixture
def one_answer():
    """A server that answers everything alike, and tells what it was asked."""
    with contextlib.ExitStack() as stack:

        def start(status, body):
            asked = []

            class Handler(BaseHTTPRequestHandler):
                def do_GET(self):
                    asked.append(dict(self.headers))
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *arguments):
                    pass

            server = HTTPServer(("127.0.0.1", 0), Handler)
            Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return f"kfp://127.0.0.1:{server.server_address[1]}", asked

        yield start


def post(uri, body):
    address = uri.replace("kfp:", "http:").partition("?")[0]
    request = urllib.request.Request(
        f"{address}/apis/v2beta1/artifacts",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def artifact_of(key, kind, run_id="run-1", **changes):
    artifact = {
        "name": f"mlt1.{kind}.{key.digest}",
        "type": "Artifact",
        "uri": f"model-load-test:{key.digest}/{run_id}",
        "number_value": 1.0,
        "namespace": "team",
    }
    made = {"run_id": "11111111-run", "task_id": "22222222-task", "producer_key": "other"}
    return {"artifact": {**artifact, **changes}, **made}


@pytest.mark.parametrize(
    "wrong",
    [
        {"artifact": {"name": "x", "type": "Artifact", "namespace": "n"}},
        {"artifact": {"name": "x", "type": "Banana", "namespace": "n"}, "run_id": "r", "task_id": "t"},
        {"artifact": {"name": "x", "type": "Artifact", "namespace": "n", "artifact_id": "1"}},
        {"surprise": 1},
        {"artifact": {"name": "x", "type": "Artifact", "namespace": "n", "number_value": "1"}},
    ],
)
def test_the_fake_refuses_what_the_definition_and_the_server_refuse(fake_kfp_uri, wrong):
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(fake_kfp_uri, wrong)


def test_the_fake_has_only_the_paths_of_its_definition(older_uri):
    with pytest.raises(NotServed):
        KfpApi(older_uri.replace("kfp", "http"), "kfp:").get("/artifacts")


def test_a_retry_makes_no_second_artifact(kfp, key, make_record):
    for _ in range(2):
        kfp.record(key, make_record(1))
        kfp.promote(key, "run-1", at_ns=5)
    artifacts = kfp._api.get("/artifacts", {"page_size": 200})["artifacts"]
    ours = [one["name"] for one in artifacts if key.digest in one["name"] or key.digest in one["uri"]]
    assert sorted(ours) == sorted(["mlt1.key", f"mlt1.baseline.{key.digest}", f"mlt1.promoted.{key.digest}"])


def test_two_records_of_one_run_at_the_same_time_become_one(kfp, key, make_record):
    kfp.record(key, make_record(1))
    # What a writer puts that saw no record yet; the next writer settles it.
    record = encode_record(make_record(1, metrics={"p50_ms": 9.0})).decode()
    uri = kfp._of_run(key, "run-1")[0][0]["uri"]
    metadata = {"model_load_test_record": record}
    twin = artifact_of(key, "baseline", uri=uri, metadata=metadata, namespace=key.namespace, number_value=2.0)
    kfp._api.post("/artifacts", twin)
    assert len(kfp._of_run(key, "run-1")[0]) == 2
    assert len(kfp.latest(key)) == 1
    kfp.record(key, make_record(1))
    assert len(kfp._of_run(key, "run-1")[0]) == 1
    assert len(kfp.history(key)) == 1


def test_poison_is_skipped_with_a_warning(fake_kfp_uri, kfp, key, make_record, caplog):
    kfp.record(key, make_record(1))
    other = msgspec.structs.replace(key, model_name="another")
    good = encode_record(make_record(2)).decode()
    poison = [
        {},
        {"metadata": {"model_load_test_record": 5}},
        {"metadata": {"model_load_test_record": "{"}},
        {"metadata": {"model_load_test_record": encode_record(make_record(3, key=other)).decode()}},
        {"metadata": {"model_load_test_record": good.replace("duet", "d" * 100_000)}},
    ]
    ids = [
        post(fake_kfp_uri, artifact_of(key, "baseline", number_value=9e9 + number, **changes))["artifact_id"]
        for number, changes in enumerate(poison)
    ]
    post(fake_kfp_uri, artifact_of(key, "promoted", metadata={"run_id": 7, "promoted_at_ns": "soon"}))
    post(fake_kfp_uri, {**artifact_of(key, "x", metadata={}), "artifact": {**KEY_OF_NOTHING}})
    with caplog.at_level(logging.WARNING):
        assert kfp.latest(key, 1) == [make_record(1)]
        assert key in kfp.list_keys()
    assert all(f"skipped artifact {artifact_id}" in caplog.text for artifact_id in ids)
    assert "it names no key" in caplog.text


KEY_OF_NOTHING = {"name": "mlt1.key", "type": "Artifact", "namespace": "team", "metadata": {"a": "b"}}


def test_an_older_server_leads_to_its_metadata_service(older_uri, grpc_uri, key, make_record):
    mlmd = grpc_uri.removeprefix("mlmd+grpc://")
    with contextlib.closing(open_store(f"{older_uri}?mlmd={mlmd}")) as store:
        store.record(key, make_record(1))
    with contextlib.closing(open_store(grpc_uri)) as store:
        assert store.latest(key) == [make_record(1)]


def test_an_older_server_without_known_metadata_is_refused(older_uri):
    with pytest.raises(InputError, match=r"\?mlmd=HOST:8080"):
        open_store(older_uri)


def test_copy_out_of_mlmd_is_idempotent(grpc_uri, kfp, key, make_record):
    with contextlib.closing(open_store(grpc_uri)) as mlmd:
        for number in range(3):
            mlmd.record(key, make_record(number, verdict="FAIL" if number == 1 else "PASS"))
        mlmd.promote(key, "run-2", at_ns=50)
        mlmd.promote(key, "run-0", at_ns=100)
        assert copy_baselines(mlmd, kfp, [key])[0].copied == 3
        assert copy_baselines(mlmd, kfp, [key])[0].copied == 0
        assert kfp.history(key) == mlmd.history(key)
        assert kfp.promoted(key) == mlmd.promoted(key) == make_record(0, promoted=True, promoted_at_ns=100)


def test_reading_needs_no_run_and_writing_says_so(fake_kfp_uri, key, make_record):
    with contextlib.closing(open_store(fake_kfp_uri.partition("?")[0])) as store:
        assert store.latest(key) == []
        with pytest.raises(InputError, match=r"\?run_id=ID"):
            store.record(key, make_record(1))


def test_a_run_that_the_server_does_not_have_is_refused(fake_kfp_uri, key, make_record):
    uri = f"{fake_kfp_uri.partition('?')[0]}?run_id=nobody"
    with contextlib.closing(open_store(uri)) as store, pytest.raises(InputError, match="run_id: 'nobody'"):
        store.record(key, make_record(1))


def test_a_server_for_several_users_keeps_namespaces_apart(start_fake_kfp, key, make_record):
    uri = f"{start_fake_kfp('kfp-native-artifacts', 'team-a')}?run_id=11111111-run"
    with contextlib.closing(open_store(f"{uri}&namespace=team-a")) as store:
        store.record(key, make_record(1))
        assert store.latest(key) == [make_record(1)]
        assert store.list_keys() == [key]
    assert not find_baseline(f"{uri}&namespace=team-b", key, time_limit_seconds=1).store_answered
    with pytest.raises(InputError, match="empty namespace"):
        open_store(uri)


def test_the_token_is_sent_and_read_anew(one_answer, tmp_path, key):
    uri, asked = one_answer(200, b"{}")
    token = tmp_path / "token"
    token.write_text("first\n")
    with contextlib.closing(open_store(f"{uri}?token_file={token}")) as store:
        token.write_text("second\n")
        assert store.latest(key) == []
    sent = [headers["Authorization"] for headers in asked]
    assert (sent[0], sent[-1]) == ("Bearer first", "Bearer second")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b'{"message": "who are you"}'),
        (403, b'{"message": "not you"}'),
        (500, b"oops"),
        (503, b""),
        (302, b""),
        (200, b"<html>"),
        (200, b"[]"),
    ],
)
def test_a_server_that_refuses_or_talks_nonsense_gives_no_baseline(one_answer, key, status, body):
    uri, _ = one_answer(status, body)
    found = find_baseline(uri, key, time_limit_seconds=0.5)
    assert (found.history, found.store_answered) == ((), False)


def test_a_server_that_is_down_gives_no_baseline(key, unused_port):
    assert not find_baseline(f"kfp://127.0.0.1:{unused_port}", key, time_limit_seconds=0.5).store_answered


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("kfp:", "name the API server"),
        ("kfp://:8888", "the host is missing"),
        ("kfp://host:port", "the port is not a number"),
        ("kfp://host?tls=yes", "tls=true or tls=false"),
        ("kfp://host?surprise=1", "unknown option 'surprise'"),
        ("kfp://host?task_id=1", "the task's run"),
        ("kfp://host?ca=/nowhere.pem&tls=true", "PEM file"),
        ("kfp://user:secret@host", "leave the password out"),
    ],
)
def test_a_wrong_uri_is_refused_with_its_remedy(uri, remedy):
    with pytest.raises(InputError, match=remedy.replace("?", r"\?")) as refused:
        open_store(uri)
    assert "secret" not in str(refused.value)


def test_tls_is_checked(tmp_path, key):
    trustme = pytest.importorskip("trustme", reason="trustme makes the certificates")
    import ssl

    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    for name, ca in (("ours", authority), ("strange", stranger)):
        ca.cert_pem.write_to_path(tmp_path / f"{name}.pem")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    uri = f"kfp://127.0.0.1:{server.server_address[1]}?tls=true&ca={tmp_path}"
    try:
        assert open_store(f"{uri}/ours.pem").latest(key) == []
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            open_store(f"{uri}/strange.pem")
    finally:
        server.shutdown()
        server.server_close()


def test_the_definitions_are_the_published_ones():
    published = Path(__file__).parents[3] / "shared" / "schemas"
    if not published.is_dir():
        pytest.skip("../shared/schemas is not here")
    for file in (Path(__file__).parent / "fixtures").glob("*.swagger.json"):
        assert file.read_bytes() == (published / file.name).read_bytes()
