"""Finding and keeping runs while the store is down, slow, or holds only similar runs."""

import contextlib
import socket

import msgspec
import pytest

from model_load_test.components.baseline.comparable import Circumstances
from model_load_test.components.baseline.fingerprint import Fingerprint, fingerprint_hash
from model_load_test.components.baseline.key import load_spec_hash
from model_load_test.components.baseline.lookup import ask_store, find_baseline
from model_load_test.components.baseline.recording import FILE_NAME, read_record_file, record_run
from model_load_test.components.baseline.store import StoreUnavailable, open_store
from model_load_test.components.errors import InputError


@pytest.fixture
def uri(tmp_path):
    return f"file://{tmp_path}/baselines"


@pytest.fixture
def fill(uri, key, make_record):
    def record(*numbers, **changes):
        with contextlib.closing(open_store(uri)) as store:
            for number in numbers:
                run = make_record(number, **changes)
                store.record(run.key, run)

    return record


@pytest.fixture
def silent_uri():
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"mlmd+grpc://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed_uri(unused_port):
    return f"mlmd+grpc://127.0.0.1:{unused_port}"


def test_the_first_run_has_no_baseline(uri, key):
    found = find_baseline(uri, key)
    assert (found.history, found.reference, found.store_answered) == ((), None, True)
    assert found.reason == f"no passing run under {key.name} yet"


def test_no_store_is_no_baseline(key):
    assert find_baseline("", key).history == ()


def test_a_search_survives_json(uri, key, fill):
    fill(1, 2)
    found = find_baseline(uri, key)
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found


@pytest.mark.parametrize(
    ("policy", "run_id"),
    [
        ("latest", "run-3"),
        ("promoted", "run-1"),
        ("best:candidate_p95_ms", "run-1"),
        ("run:run-2", "run-2"),
        ("version:2", "run-2"),
        ("run:run-4", None),
        ("version:9", None),
        ("best:unheard_of", None),
    ],
)
def test_the_reference_is_chosen_by_policy(uri, key, fill, policy, run_id):
    fill(1, 2, 3)
    fill(4, verdict="FAIL")
    with contextlib.closing(open_store(uri)) as store:
        store.promote(key, "run-1", at_ns=1)
    found = find_baseline(uri, key, n=3, reference=policy)
    assert (found.reference.run_id if found.reference else None) == run_id
    assert [record.run_id for record in found.history] == ["run-3", "run-2", "run-1"]


def test_a_reference_is_judged_by_the_runs_of_its_own_model(uri, key, fill):
    fill(1, 2, 3)
    with contextlib.closing(open_store(uri)) as store:
        store.promote(key, "run-1", at_ns=1)
    found = find_baseline(uri, key, n=3, reference="promoted")
    assert [record.run_id for record in found.judged_against()] == ["run-1"]
    assert "judged against the 1 of version '1'" in found.reason
    assert len(found.history) == 3
    assert len(find_baseline(uri, key, n=3).judged_against()) == 3
    assert find_baseline(uri, key, n=3, reference="version:9").judged_against() == ()


def test_a_promoted_run_older_than_the_history_is_found(uri, key, fill):
    fill(1, 2, 3)
    with contextlib.closing(open_store(uri)) as store:
        store.promote(key, "run-1", at_ns=1)
    assert find_baseline(uri, key, n=1, reference="promoted").reference.run_id == "run-1"


@pytest.mark.parametrize("policy", ["newest", "", "run", "run:", "best: ", "version"])
def test_an_unknown_policy_is_refused_before_the_store_is_asked(key, closed_uri, policy):
    with pytest.raises(InputError, match="reference"):
        find_baseline(closed_uri, key, reference=policy)


HERE = Fingerprint(server_kind="tf-serving", node_type="n2")
SPEC = {"rate_rps": 200.0}


def key_of(key, fingerprint, spec):
    return msgspec.structs.replace(
        key, fingerprint_hash=fingerprint_hash(fingerprint), load_spec_hash=load_spec_hash(spec)
    )


def test_similar_runs_are_found_when_asked_for_and_their_differences_told(uri, key, fill):
    there = msgspec.structs.replace(HERE, node_type="e2")
    embedded = msgspec.structs.replace(HERE, server_kind="embedded")
    faster = {"rate_rps": 250.0}
    fill(1, key=key_of(key, there, faster), fingerprint=there, load_spec=faster)
    fill(2, key=key_of(key, embedded, SPEC), fingerprint=embedded, load_spec=SPEC)
    wanted, circumstances = key_of(key, HERE, SPEC), Circumstances(HERE, SPEC)
    assert find_baseline(uri, wanted, match="exact", circumstances=circumstances).history == ()
    assert find_baseline(uri, wanted, match="spec", circumstances=circumstances).history == ()
    found = find_baseline(uri, wanted, match="model", circumstances=circumstances)
    assert [record.run_id for record in found.history] == ["run-1"]
    assert found.differences == ("rate rps 200 against 250", "node type n2 against e2")
    assert "rate rps 200 against 250" in found.reason
    fill(3, key=key_of(key, there, SPEC), fingerprint=there, load_spec=SPEC)
    found = find_baseline(uri, wanted, match="spec", circumstances=circumstances)
    assert found.differences == ("node type n2 against e2",)
    fill(4, key=wanted, fingerprint=HERE, load_spec=SPEC)
    found = find_baseline(uri, wanted, match="model", circumstances=circumstances)
    assert [record.run_id for record in found.history] == ["run-4"]
    assert found.differences == ()


def test_an_embedded_server_is_never_compared_with_a_real_one(uri, key, fill):
    embedded = msgspec.structs.replace(HERE, server_kind="embedded")
    fill(1, key=key_of(key, embedded, SPEC), fingerprint=embedded, load_spec=SPEC)
    circumstances = Circumstances(HERE, SPEC)
    assert (
        find_baseline(uri, key_of(key, HERE, SPEC), match="model", circumstances=circumstances).history == ()
    )


@pytest.mark.parametrize("match", ["any", "", "model"])
def test_an_unknown_match_or_one_without_circumstances_is_refused(uri, key, match):
    with pytest.raises(InputError, match="match"):
        find_baseline(uri, key, match=match)


@pytest.mark.parametrize("down", ["closed_uri", "silent_uri"])
def test_a_store_that_is_down_gives_no_baseline_or_an_error_by_policy(request, key, down):
    uri = request.getfixturevalue(down)
    found = find_baseline(uri, key, time_limit_seconds=0.5)
    assert (found.history, found.store_answered) == ((), False)
    assert "went on without a baseline" in found.reason
    with pytest.raises(StoreUnavailable, match="does not answer"):
        find_baseline(uri, key, time_limit_seconds=0.5, on_store_error="fail")


def test_a_bucket_that_is_down_gives_no_baseline(key, unused_port, monkeypatch):
    s3fs = pytest.importorskip("s3fs", reason="s3: needs s3fs")
    settings = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_MAX_ATTEMPTS": "1"}
    for name, value in {**settings, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{unused_port}"}.items():
        monkeypatch.setenv(name, value)
    # s3fs keeps its clients whatever the environment says later.
    s3fs.S3FileSystem.clear_instance_cache()
    found = find_baseline("s3://bucket/down", key, time_limit_seconds=3)
    s3fs.S3FileSystem.clear_instance_cache()
    assert not found.store_answered
    assert "EndpointConnectionError" in found.reason


def test_a_store_that_comes_back_within_the_time_limit_answers(uri):
    calls = []

    def flaky(store):
        calls.append(store)
        if len(calls) < 3:
            raise StoreUnavailable(uri, "deadlock")
        return "answer"

    assert ask_store(uri, flaky, time_limit_seconds=60) == "answer"
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"n": 0}, "n"),
        ({"time_limit_seconds": 0}, "time_limit_seconds"),
        ({"on_store_error": "x"}, "on_store_error"),
    ],
)
def test_a_wrong_argument_is_refused(uri, key, arguments, field):
    with pytest.raises(InputError, match=field):
        find_baseline(uri, key, **arguments)


def test_a_run_is_kept_while_the_store_is_down_and_recorded_later(
    tmp_path, uri, key, closed_uri, make_record
):
    folder = tmp_path / "artifacts"
    answer = record_run(closed_uri, make_record(1), folder, artifact_id=7, time_limit_seconds=0.5)
    assert not answer.recorded
    assert FILE_NAME in answer.reason
    kept = read_record_file(folder)
    assert kept == read_record_file(folder / FILE_NAME) == make_record(1, artifact_id=7)
    assert record_run(uri, kept, folder).recorded
    assert find_baseline(uri, key).history == (kept,)


def test_a_run_is_written_beside_its_artifacts_even_when_the_store_is_wrong(tmp_path, make_record):
    with pytest.raises(InputError, match="baseline_store"):
        record_run("ftp://host/x", make_record(1), tmp_path)
    assert read_record_file(tmp_path) == make_record(1)


def test_a_missing_record_file_is_named(tmp_path):
    with pytest.raises(InputError, match=FILE_NAME):
        read_record_file(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("", "no scheme"),
        ("baselines.db", "no scheme"),
        ("mlmd://host:8080", "unknown scheme 'mlmd'"),
        ("mlmd+sqlite://relative/file.db", "three slashes"),
        ("mlmd+sqlite:///", "name a file"),
        ("mlmd+sqlite:///tmp/x.db?mode=ro", "unknown option 'mode'"),
        ("mlmd+sqlite:///proc/nowhere/mlmd.db", "can be written"),
        ("mlmd+grpc://host", "add the port"),
        ("mlmd+grpc://:8080", "the host is missing"),
        ("mlmd+grpc://host:port", "the port is not a number"),
        ("mlmd+grpc://host:8080?ca=/x", "unknown option 'ca'"),
        ("mlmd+grpcs://host:8080?ca=/nowhere/ca.pem", "readable text file"),
        ("mlmd+grpcs://host:8080?ca=/etc/hostname", "certificate"),
        ("mlmd+grpcs://host:8080?ca", "write options as"),
        ("mlmd+mysql://host/db", "name user and database"),
        ("mlmd+mysql://root@host", "name user and database"),
        ("mlmd+mysql://root:secret@host/db", "leave the password out"),
        ("file:///", "name a folder"),
        ("file:///proc/nowhere", "can be made"),
    ],
)
def test_a_wrong_uri_is_refused_with_its_remedy(uri, remedy):
    with pytest.raises(InputError, match=remedy) as refused:
        open_store(uri)
    assert refused.value.field in ("baseline_store", "ca")
    assert "secret" not in str(refused.value)


def test_a_broken_record_file_is_skipped_with_a_warning(tmp_path, uri, key, fill, caplog):
    fill(1, 2, 3)
    files = sorted((tmp_path / "baselines").glob("mlt1/*/*/*/runs/*.json"), key=lambda file: file.read_text())
    files[0].write_text("{")
    files[1].write_bytes(files[2].read_bytes())
    (next((tmp_path / "baselines").glob("mlt1/*/*/*/index/*")) / "notes.txt").write_text("")
    with contextlib.closing(open_store(uri)) as store:
        assert [record.run_id for record in store.latest(key)] == ["run-3"]
    assert caplog.text.count("skipped") == 3


def test_a_writer_that_died_before_its_index_entry_is_mended_by_a_retry(tmp_path, uri, key, fill):
    fill(1)
    next((tmp_path / "baselines").glob("mlt1/*/*/*/index/*/*")).unlink()
    assert find_baseline(uri, key).history == ()
    fill(1)
    assert len(find_baseline(uri, key).history) == 1


def test_an_entry_that_belies_its_record_is_no_baseline(tmp_path, uri, key, fill):
    fill(1, verdict="FAIL")
    entry = next((tmp_path / "baselines").glob("mlt1/*/*/*/index/*/*"))
    entry.rename(entry.with_name(entry.name.replace("-other-", "-pass-")))
    assert find_baseline(uri, key).history == ()


def test_half_written_files_are_not_seen(tmp_path, uri, key, fill):
    fill(1)
    entry = next((tmp_path / "baselines").glob("mlt1/*/*/*/index/*/*"))
    (entry.parent / f".{entry.name}.abc").write_text("half")
    assert len(find_baseline(uri, key).history) == 1
