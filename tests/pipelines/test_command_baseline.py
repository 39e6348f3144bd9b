import json
import time

import pytest

from model_load_test.components.baseline.fingerprint import Fingerprint, fingerprint_hash
from model_load_test.components.baseline.key import BaselineKey, load_spec_hash
from model_load_test.components.baseline.record import Record
from model_load_test.components.baseline.recording import record_run
from model_load_test.components.baseline.store import open_store
from model_load_test.pipelines.command_line import main

DAY_NS = 86_400 * 10**9


def make_record(number, model="digits", rate=200.0, age_days=0, **changes):
    fingerprint, spec = Fingerprint(server_kind="tf-serving", replicas=number), {"rate_rps": rate}
    same = Fingerprint(server_kind="tf-serving")
    key = BaselineKey(
        namespace="team",
        model_name=model,
        load_spec_hash=load_spec_hash({}),
        fingerprint_hash=fingerprint_hash(same),
    )
    fields = {
        "run_id": f"run-{number}",
        "key": key,
        "metrics": {"candidate_p50_ms": 2.0 * number, "candidate_p95_ms": 10.0},
        "fingerprint": fingerprint,
        "load_spec": spec,
        "verdict": "PASS",
        "created_at_ns": time.time_ns() - age_days * DAY_NS,
        "model_version": f"v{number}",
    }
    return Record(**{**fields, **changes})


@pytest.fixture
def uri(tmp_path):
    return f"file://{tmp_path}/baselines"


@pytest.fixture
def store(uri):
    filled = open_store(uri)
    for number in (1, 2, 3):
        record = make_record(number, age_days=400 - number, verdict="FAIL" if number == 3 else "PASS")
        filled.record(record.key, record)
    other = make_record(9, model="bert")
    filled.record(other.key, other)
    return filled


@pytest.fixture
def command(capsys):
    def call(*words):
        code = main(["baseline", *map(str, words)])
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


def test_list_shows_the_keys(command, uri, store):
    code, out, _ = command("list", uri)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["key", "passing", "runs"]
    assert lines[1].startswith("mlt1/team/bert/")
    assert lines[2].split()[1:4] == ["2", "3", "run-3"]


def test_list_says_that_a_store_is_empty(command, uri):
    assert command("list", uri) == (0, "no runs are recorded here\n", "")


def test_list_writes_one_json_object_a_line(command, uri, store):
    _, out, _ = command("list", uri, "--format", "json")
    assert [json.loads(line)["runs"] for line in out.splitlines()] == [1, 3]
    _, out, _ = command("list", uri, "--key", "digits", "--format", "json")
    assert [json.loads(line)["run_id"] for line in out.splitlines()] == ["run-3", "run-2", "run-1"]


def test_list_shows_the_runs_of_a_key(command, uri, store):
    store.promote(make_record(1).key, "run-1", at_ns=1)
    _, out, _ = command("list", uri, "--key", "digits")
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [(row[0], row[3], row[-1]) for row in rows] == [
        ("run-3", "FAIL", "-"),
        ("run-2", "PASS", "-"),
        ("run-1", "PASS", "reference"),
    ]


def test_show_tells_everything_of_a_run(command, uri, store):
    code, out, _ = command("show", uri, "run-2")
    assert code == 0
    for text in ("run-2", "mlt1/team/digits/", "PASS", "v2", "candidate_p50_ms  4", "tf-serving", "rate_rps"):
        assert text in out
    _, out, _ = command("show", uri, "run-2", "--format", "json")
    assert json.loads(out)["metrics"]["candidate_p50_ms"] == 4.0


def test_diff_tells_numbers_and_circumstances(command, uri, store):
    code, out, _ = command("diff", uri, "run-1", "run-2")
    assert code == 0
    assert ["candidate_p50_ms", "2", "4", "2.000"] in [line.split() for line in out.splitlines()]
    assert "replicas 1 against 2" in out
    _, out, _ = command("diff", uri, "run-1", "run-1")
    assert "measured under the same circumstances" in out


def test_promote_makes_a_run_the_reference(command, uri, store):
    code, out, _ = command("promote", uri, "run-1")
    assert (code, store.promoted(make_record(1).key).run_id) == (0, "run-1")
    assert "run-1 is the reference" in out


def test_forget_removes_the_old_and_says_what(command, uri, store):
    key = make_record(1).key
    code, out, _ = command("forget", uri, "--keep", 0, "--older-than", "180d", "--dry-run")
    assert (code, out.splitlines()[-1], len(store.history(key))) == (0, "would forget 3 runs", 3)
    store.promote(key, "run-1", at_ns=1)
    code, out, _ = command("forget", uri, "--keep", 0, "--older-than", "180d", "--key", "digits")
    assert out.splitlines()[-1] == "forgot 2 runs"
    assert [record.run_id for record in store.history(key)] == ["run-1"]
    assert len(store.history(make_record(9, model="bert").key)) == 1


def test_record_stores_what_a_dead_store_did_not(command, tmp_path, uri):
    record = make_record(1)
    record_run("", record, tmp_path / "run")
    code, out, _ = command("record", tmp_path / "run", "--store", uri)
    assert (code, open_store(uri).latest(record.key)) == (0, [record])
    assert "run-1 recorded" in out
    _, out, _ = command("record", tmp_path / "run" / "baseline_record.json", "--store", uri)
    assert "was there already" in out


def test_record_links_an_artifact_only_when_told_to(command, tmp_path):
    pytest.importorskip("ml_metadata", reason="MLMD on sqlite needs the ml-metadata wheel")
    uri = f"mlmd+sqlite://{tmp_path}/mlmd.db"
    record_run("", make_record(1), tmp_path, artifact_id=7)
    code, _, err = command("record", tmp_path, "--store", uri, "--link")
    assert code == 2
    assert "artifact_id: 7" in err
    assert command("record", tmp_path, "--store", uri)[0] == 0
    assert open_store(uri).latest(make_record(1).key)[0].artifact_id == 7


def test_copy_carries_a_store_into_another(command, tmp_path, uri, store):
    target = f"file://{tmp_path}/target"
    code, out, _ = command("copy", uri, target)
    assert code == 0
    assert "copied 3 runs, 0 there already" in out
    assert open_store(target).list_keys() == store.list_keys()
    _, out, _ = command("copy", uri, target, "--key", "bert")
    assert out.strip().endswith("copied 0 runs, 1 there already")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["list", "nowhere"], "baseline_store"),
        (["list", "URI", "--key", "unheard-of"], "no key of the store fits"),
        (["list", "URI", "--key", "team"], "name one key"),
        (["show", "URI", "run-7"], "no such run"),
        (["diff", "URI", "run-1", "run-7"], "no such run"),
        (["promote", "URI", "run-3"], "its verdict is FAIL"),
        (["forget", "URI", "--older-than", "half a year"], "--older-than"),
        (["forget", "URI", "--older-than", "\u0661d"], "--older-than"),
        (["forget", "URI", "--keep", "-1"], "keep"),
        (["record", "nowhere", "--store", "URI"], "baseline_record.json"),
        (["copy", "URI", "ftp://host"], "unknown scheme"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_2(command, uri, store, words, complaint):
    code, out, err = command(*(uri if word == "URI" else word for word in words))
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert complaint in err


def test_a_run_id_that_two_keys_have_must_be_said_with_its_key(command, uri, store):
    twin = make_record(1, model="bert")
    store.record(twin.key, twin)
    code, _, err = command("show", uri, "run-1")
    assert code == 2
    assert "--key" in err
    assert command("show", uri, "run-1", "--key", "bert")[0] == 0


def test_a_silent_store_is_one_line_and_exit_1(command, unused_port):
    code, _, err = command("list", f"mlmd+grpc://127.0.0.1:{unused_port}")
    assert code == 1
    assert "does not answer" in err
    assert len(err.splitlines()) == 1


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def trend(uri):
    filled = open_store(uri)
    for number in range(1, 9):
        p95 = {"candidate_p95_ms": 10.0 + number % 3, "candidate_p50_ms": 5.0}
        verdict = "FAIL" if number == 6 else "PASS"
        record = make_record(number, age_days=20 - number, verdict=verdict, metrics=p95)
        filled.record(record.key, record)
    filled.promote(record.key, "run-3", at_ns=1)
    filled.promote(record.key, "run-7", at_ns=2)
    return filled


def test_history_is_drawn_in_the_terminal(command, uri, trend):
    code, out, _ = command("history", uri, "--plot")
    lines = out.splitlines()
    assert (code, lines[0]) == (0, "candidate_p95_ms")
    assert [line.split()[2] for line in lines[1:9]] == [f"v{number}" for number in range(1, 9)]
    assert lines[6].endswith("FAIL")
    assert "\N{MULTIPLICATION SIGN}" in lines[6]
    assert lines[3].endswith("promoted")
    assert lines[7].endswith("reference")
    assert sum("\N{BLACK CIRCLE}" in line for line in lines) == 7
    assert all("\N{LIGHT SHADE}" in line for line in lines[1:9])
    _, out, _ = command("history", uri, "--plot", "--last", 2, "--metric", "candidate_p50_ms")
    assert len(out.splitlines()) == 4


def test_history_is_a_table_without_plot_and_a_page_with_a_file(command, tmp_path, uri, trend):
    code, out, _ = command("history", uri)
    assert (code, len(out.splitlines())) == (0, 9)
    page = tmp_path / "trend.html"
    code, out, _ = command("history", uri, "--plot", page)
    assert (code, out) == (0, f"wrote {page}\n")
    content = page.read_text()
    assert "8 runs under mlt1/team/digits/" in content
    assert content.count('class="dot failed"') == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--plot", "trend.bmp"], "ends in .html"),
        (["--plot", "/proc/nowhere/trend.html"], "can be written"),
        (["--plot", "--metric", "unheard_of"], "candidate_p50_ms, candidate_p95_ms"),
        (["--last", "0"], "at least one run"),
    ],
)
def test_a_wrong_history_is_one_clear_line(command, uri, trend, words, complaint):
    code, out, err = command("history", uri, *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert complaint in err
