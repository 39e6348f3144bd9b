"""Promotion after the push, and what a first run becomes."""

import pytest

from model_load_test.components.baseline.missing import becomes_baseline
from model_load_test.components.baseline.promotion import promote_run
from model_load_test.components.baseline.store import StoreUnavailable, open_store
from model_load_test.components.errors import InputError


@pytest.fixture
def uri(tmp_path):
    return f"file://{tmp_path}/baselines"


@pytest.fixture
def closed_uri(unused_port):
    return f"mlmd+grpc://127.0.0.1:{unused_port}"


def test_a_run_that_the_store_has_missed_is_recorded_and_promoted(uri, key, make_record):
    answer = promote_run(uri, make_record(1), at_ns=5)
    assert (answer.promoted, open_store(uri).promoted(key)) == (
        True,
        make_record(1, promoted=True, promoted_at_ns=5),
    )


def test_a_later_promotion_stands(uri, key, make_record):
    promote_run(uri, make_record(2), at_ns=10)
    answer = promote_run(uri, make_record(1), at_ns=5)
    assert not answer.promoted
    assert answer.reason == "run-2 was promoted later and stays the reference"
    assert open_store(uri).promoted(key).run_id == "run-2"


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE", "INVALID"])
def test_a_run_that_did_not_pass_stays_unpromoted_and_is_no_error(closed_uri, make_record, verdict):
    answer = promote_run(closed_uri, make_record(1, verdict=verdict), at_ns=5)
    assert (answer.promoted, answer.reason) == (False, f"run run-1 is {verdict}; it stays unpromoted")


def test_a_store_that_is_down_fails_or_warns_by_policy(closed_uri, make_record):
    with pytest.raises(StoreUnavailable):
        promote_run(closed_uri, make_record(1), at_ns=5, time_limit_seconds=0.5)
    answer = promote_run(closed_uri, make_record(1), at_ns=5, time_limit_seconds=0.5, on_store_error="warn")
    assert not answer.promoted
    assert "does not answer" in answer.reason


def test_without_a_store_nothing_is_promoted(make_record):
    assert promote_run("", make_record(1), at_ns=5).reason == "no baseline store: none was named"


def test_a_wrong_policy_is_refused_before_the_store_is_asked(closed_uri, make_record):
    with pytest.raises(InputError, match="on_store_error"):
        promote_run(closed_uri, make_record(1), at_ns=5, on_store_error="ignore")
    with pytest.raises(InputError, match="on_missing_baseline"):
        becomes_baseline("PASS", "record")


@pytest.mark.parametrize("policy", ["pass-and-record", "warn", "fail"])
def test_only_a_first_run_needs_a_person(policy):
    assert becomes_baseline("NO_BASELINE", policy) == (policy == "pass-and-record")
    assert all(becomes_baseline(verdict, policy) for verdict in ("PASS", "FAIL", "INVALID"))
