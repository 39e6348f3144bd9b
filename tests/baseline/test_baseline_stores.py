"""One suite for every store that can run here."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from model_load_test.components.baseline.copying import copy_baselines
from model_load_test.components.baseline.retention import forget_old
from model_load_test.components.baseline.store import open_store
from model_load_test.components.errors import InputError

WRITERS = 8
ROUNDS = int(os.environ.get("MODEL_LOAD_TEST_WRITER_ROUNDS", "8"))
"""With 100 of them each writer records 200 times."""
WRITER = Path(__file__).with_name("write_runs.py")


def run_ids(records):
    return [record.run_id for record in records]


def test_an_unknown_key_has_no_runs(store, key):
    assert store.latest(key) == []
    assert store.history(key) == []
    assert store.promoted(key) is None
    assert store.find(key, "run-1") is None
    assert store.forget(key, ["run-1"]) == []


def test_what_was_recorded_is_found_unchanged(store, key, make_record):
    record = make_record(1, metrics={"p50_ms": 1.5, "ratio_p95": 1 / 3, "achieved_rps": 1e-300})
    store.record(key, record)
    assert store.latest(key) == [record]
    assert store.find(key, "run-1") == record


def test_the_newest_come_first_and_only_as_many_as_asked(store, key, make_record):
    for number in range(5):
        store.record(key, make_record(number))
    assert run_ids(store.latest(key, 3)) == ["run-4", "run-3", "run-2"]
    assert run_ids(store.history(key, 2)) == ["run-4", "run-3"]


def test_more_runs_than_one_answer_holds(store, key, make_record):
    for number in range(115):
        store.record(key, make_record(number))
    assert run_ids(store.latest(key, 110)) == [f"run-{number}" for number in range(114, 4, -1)]
    assert len(store.history(key)) == 115


def test_only_passing_runs_are_a_baseline(store, key, make_record):
    verdicts = ["NO_BASELINE", "PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
    for number, verdict in enumerate(verdicts):
        store.record(key, make_record(number, verdict=verdict))
    assert run_ids(store.latest(key)) == ["run-1", "run-0"]
    assert [record.verdict for record in store.history(key)] == verdicts[::-1]


def test_recording_a_run_again_changes_nothing(store, key, make_record):
    store.record(key, make_record(1))
    store.record(key, make_record(2))
    store.record(key, make_record(1))
    store.record(key, make_record(1, metrics={"other": 1.0}, created_at_ns=5, verdict="FAIL"))
    assert store.latest(key) == [make_record(2), make_record(1)]
    assert len(store.history(key)) == 2


def test_a_failed_run_recorded_again_as_passing_stays_failed(store, key, make_record):
    store.record(key, make_record(1, verdict="FAIL"))
    store.record(key, make_record(1))
    assert store.latest(key) == []
    assert store.history(key) == [make_record(1, verdict="FAIL")]


def test_only_promoting_promotes(store, key, make_record):
    store.record(key, make_record(1, promoted=True, promoted_at_ns=5))
    assert store.latest(key) == [make_record(1)]
    assert store.promoted(key) is None


def test_keys_do_not_see_each_other(store, key, make_record):
    other = msgspec.structs.replace(key, namespace=f"{key.namespace}-other")
    store.record(key, make_record(1))
    store.record(other, make_record(1, key=other, metrics={"p50_ms": 9.0}))
    assert store.latest(other)[0].metrics == {"p50_ms": 9.0}
    assert store.latest(key) == [make_record(1)]
    assert {key, other} <= set(store.list_keys())


@pytest.mark.parametrize(
    "model_name", ["..", "a/b", "Digits", "digits", "m" * 300, "größe %2F?#", "-", "a b"]
)
def test_any_model_name_makes_a_place_of_its_own(store, key, make_record, model_name):
    named = msgspec.structs.replace(key, model_name=model_name)
    store.record(named, make_record(1, key=named))
    assert store.latest(named) == [make_record(1, key=named)]
    assert store.latest(key) == []
    assert set(store.list_keys()) >= {named}


def test_a_record_of_another_key_is_refused(store, key, make_record):
    other = msgspec.structs.replace(key, model_name="another")
    with pytest.raises(InputError, match=r"record\.key"):
        store.record(key, make_record(1, key=other))


def test_the_promoted_run_is_marked_until_another_one_is(store, key, make_record):
    for number in range(3):
        store.record(key, make_record(number))
    store.promote(key, "run-0", at_ns=100)
    assert store.promoted(key) == make_record(0, promoted=True, promoted_at_ns=100)
    store.promote(key, "run-2", at_ns=200)
    marks = {record.run_id: (record.promoted, record.promoted_at_ns) for record in store.latest(key)}
    assert marks == {"run-0": (False, 100), "run-1": (False, 0), "run-2": (True, 200)}
    store.promote(key, "run-0", at_ns=300)
    assert store.promoted(key).run_id == "run-0"
    store.promote(key, "run-1", at_ns=250)
    assert store.promoted(key).run_id == "run-0", "a later promotion stands"


def test_only_a_passing_run_of_the_key_can_be_promoted(store, key, make_record):
    store.record(key, make_record(1, verdict="FAIL"))
    with pytest.raises(InputError, match="its verdict is FAIL"):
        store.promote(key, "run-1", at_ns=1)
    with pytest.raises(InputError, match="run_id"):
        store.promote(key, "run-9", at_ns=1)
    assert store.promoted(key) is None


def test_forgetting_spares_the_promoted_run(store, key, make_record):
    for number in range(4):
        store.record(key, make_record(number))
    store.promote(key, "run-1", at_ns=100)
    assert sorted(store.forget(key, ["run-0", "run-1", "run-3", "run-9"])) == ["run-0", "run-3"]
    assert run_ids(store.latest(key)) == ["run-2", "run-1"]
    assert run_ids(store.history(key)) == ["run-2", "run-1"]
    assert store.find(key, "run-0") is None
    assert store.forget(key, ["run-0"]) == []


def test_a_forgotten_run_can_be_recorded_again(store, key, make_record):
    store.record(key, make_record(1))
    store.forget(key, ["run-1"])
    store.record(key, make_record(1))
    assert store.latest(key) == [make_record(1)]


def test_retention_keeps_the_newest_the_young_and_the_promoted(store, key, make_record):
    for number in range(8):
        store.record(key, make_record(number, verdict="FAIL" if number == 6 else "PASS"))
    store.promote(key, "run-0", at_ns=100)
    before_ns = make_record(7).created_at_ns
    would = forget_old(store, key, keep=2, measured_before_ns=before_ns, dry_run=True)
    assert run_ids(would) == ["run-6", "run-4", "run-3", "run-2", "run-1"]
    assert len(store.history(key)) == 8
    assert forget_old(store, key, keep=0, measured_before_ns=make_record(2).created_at_ns) == [make_record(1)]
    assert forget_old(store, key, keep=2, measured_before_ns=before_ns) == [
        record for record in would if record.run_id != "run-1"
    ]
    assert run_ids(store.history(key)) == ["run-7", "run-5", "run-0"]


@pytest.mark.parametrize("target_name", ["sqlite_uri", "file_uri", "grpc_uri"])
def test_a_copy_holds_the_same_and_copying_again_changes_nothing(
    request, store, key, make_record, target_name
):
    for number in range(3):
        store.record(key, make_record(number, verdict="FAIL" if number == 1 else "PASS"))
    store.promote(key, "run-2", at_ns=100)
    store.promote(key, "run-0", at_ns=200)
    target = open_store(request.getfixturevalue(target_name))
    shared = target.history(key) != []
    first = copy_baselines(store, target, [key])[0]
    assert (first.copied, first.present) == ((0, 3) if shared else (3, 0))
    assert target.history(key) == store.history(key)
    assert target.latest(key) == store.latest(key)
    assert target.promoted(key) == store.promoted(key)
    again = copy_baselines(store, target, [key])[0]
    assert (again.copied, again.present) == (0, 3)
    assert target.history(key) == store.history(key)


@pytest.mark.timeout(300 + 20 * ROUNDS)
def test_concurrent_writers_lose_and_double_nothing(store_uri, key):
    """In each round a writer records a run of its own, and one that all writers record."""
    if store_uri.startswith("memory:"):
        pytest.skip("fsspec's memory store lives in one process")
    key_json = msgspec.json.encode(key).decode()
    arguments = [sys.executable, str(WRITER), store_uri, key_json]
    # Eight processes that may not keep what they compile would compile Vertex's client eight times.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    writers = [
        subprocess.Popen(
            [*arguments, str(number), str(ROUNDS)], stderr=subprocess.PIPE, text=True, env=environment
        )
        for number in range(WRITERS)
    ]
    for process in writers:
        _, errors = process.communicate(timeout=240 + 18 * ROUNDS)
        assert process.returncode == 0, errors
    found = run_ids(open_store(store_uri).history(key))
    expected = {f"own-{writer}-{number}" for writer in range(WRITERS) for number in range(ROUNDS)}
    expected |= {f"shared-{number}" for number in range(ROUNDS)}
    assert sorted(found) == sorted(expected)
