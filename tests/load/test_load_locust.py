"""What surrounds Locust, without it: the plan, the timetable, the meeting, the rows, the accounts."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_load_test.components.errors import InputError
from model_load_test.components.load.connection import ConnectionOptions
from model_load_test.components.load.generators import Attack, Generator, attack_command
from model_load_test.components.load.locust.account import (
    WorkerAccount,
    core_shares,
    findings,
    read_accounts,
    write_account,
)
from model_load_test.components.load.locust.meeting import SETTLE_SECONDS, meet
from model_load_test.components.load.locust.pace import grpc_code_name
from model_load_test.components.load.locust.plan import (
    MOST_USERS,
    Plan,
    parse_plan,
    plan_arguments,
    users_for,
)
from model_load_test.components.load.locust.rows import UNKNOWN, Row, RowWriter, read_rows
from model_load_test.components.load.locust.timetable import ClosedTurns, OpenTurns, constant_arrivals
from model_load_test.components.load.locust.users import read_metadata, read_targets
from model_load_test.components.load.spec import LoadSpecError, parse_load_spec
from model_load_test.components.protocols.endpoint import parse_endpoint
from model_load_test.components.results.table import ROWS_SCHEMA

PLAN = Plan(
    protocol="http", target="http://h:1", source="/t", report="/r", users=3, rate_rps=12.5, requests=7
)


@given(
    st.builds(
        Plan,
        protocol=st.sampled_from(["grpc", "http"]),
        target=st.text(),
        source=st.text(),
        report=st.text(),
        users=st.integers(1, 10**6),
        rate_rps=st.floats(0.001, 1e6),
        requests=st.integers(1, 10**9),
        closed_seconds=st.floats(0, 1e3),
        workers=st.integers(1, 64),
        timeout_seconds=st.floats(0.01, 600),
        locustfile=st.text(),
        keep_alive=st.booleans(),
    )
)
def test_a_plan_survives_the_command_line(plan: Plan) -> None:
    assert parse_plan(plan_arguments(plan)) == plan


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--users"], "--users"),
        (["users=3"], "users=3"),
        ([*plan_arguments(PLAN), "--colour=red"], "colour"),
        ([*plan_arguments(PLAN), "--workers=many"], "workers"),
        ([word for word in plan_arguments(PLAN) if not word.startswith("--target")], "target"),
        ([word for word in plan_arguments(PLAN) if not word.startswith("--rate-rps")], "rate_rps"),
    ],
)
def test_words_that_are_no_plan_are_refused_by_name(words: list[str], named: str) -> None:
    with pytest.raises(InputError, match=named):
        parse_plan(words)


def test_there_is_always_a_free_user_within_the_timeout() -> None:
    # an answer that never comes holds its user for the timeout; by then rate x timeout more are due
    users, rate_rps, timeout_seconds = users_for(200.0, 5.0, 10**6), 200.0, 5.0
    due = np.arange(5000) / rate_rps
    free_at = np.zeros(users)
    for moment in due:
        user = int(free_at.argmin())
        assert free_at[user] <= moment
        free_at[user] = moment + timeout_seconds
    assert users_for(200.0, 5.0, 60) == 60, "never more than there are requests"
    assert users_for(1e5, 60.0, 10**9) == MOST_USERS


@given(st.floats(0.5, 5000), st.integers(1, 500), st.integers(1, 7))
def test_workers_share_a_timetable_without_gap_or_overlap(
    rate_rps: float, requests: int, workers: int
) -> None:
    arrivals = constant_arrivals(rate_rps, requests)
    drawn = []
    for worker in range(workers):
        turns = OpenTurns(arrivals, worker, workers)
        while turn := turns.draw(0):
            drawn.append((turn.number, turn.due_ns))
    drawn.sort()
    assert [number for number, _ in drawn] == list(range(requests))
    expected = np.arange(requests) * (1e9 / rate_rps)
    assert np.abs(np.array([due for _, due in drawn]) - expected).max() <= 1


def test_turns_know_how_many_are_due() -> None:
    turns = OpenTurns(constant_arrivals(10.0, 5))
    assert [turns.due(round(second * 1e9)) for second in (-1, 0, 0.05, 0.1, 9)] == [0, 1, 1, 2, 5]


def test_closed_turns_end_with_the_time_and_are_never_due() -> None:
    turns = ClosedTurns(2.0, worker=1, workers=3)
    numbers = [turn.number for _ in range(3) if (turn := turns.draw(10**9))]
    assert numbers == [1, 4, 7]
    turn = turns.draw(10**9)
    assert turn is not None
    assert not turn.scheduled
    assert turns.draw(2 * 10**9) is None
    assert turns.due(10**10) == 0


def test_those_who_meet_start_at_one_instant_after_the_last_has_come(tmp_path: Path) -> None:
    starts: dict[str, int] = {}

    def come(name: str, after_seconds: float) -> None:
        time.sleep(after_seconds)
        starts[name] = meet(tmp_path / "place", name, 3, patience_seconds=30)

    threads = [threading.Thread(target=come, args=(name, 0.1 * index)) for index, name in enumerate("abc")]
    before = time.time_ns()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (start,) = set(starts.values())
    assert start >= before + round((0.2 + SETTLE_SECONDS) * 1e9)


def test_one_who_waits_in_vain_or_is_called_off_starts_alone(tmp_path: Path) -> None:
    assert meet(tmp_path / "one", "a", 2, patience_seconds=0.05) > time.time_ns() - 10**9
    assert meet(tmp_path / "two", "a", 2, patience_seconds=600, called_off=lambda: True)


MS = 1_000_000


def row(number: int, **values: Any) -> Row:
    plain = Row(number * MS, number * MS, 3 * MS, True, "200", "", 10, 20)
    return plain._replace(**values)


def test_rows_come_back_as_the_results_table_wants_them(tmp_path: Path) -> None:
    for worker in (0, 1):
        writer = RowWriter(tmp_path, worker)
        writer.add(row(1))
        writer.flush()
        writer.add(row(2, ok=False, status="503", error="at 10.0.0.7:8501: token=abcdef refused"))
        writer.add(row(3, scheduled_at_ns=UNKNOWN, request_bytes=UNKNOWN, response_bytes=UNKNOWN))
        writer.close()
        assert writer.written == 3
    table = read_rows(tmp_path)
    assert table.schema == ROWS_SCHEMA
    assert table["worker"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert table["status"].to_pylist()[:3] == ["200", "503", "200"]
    error = table["error"].to_pylist()[1]
    assert "10.0.0.7" not in error
    assert "abcdef" not in error
    assert table["scheduled_at_ns"].to_pylist()[2] is None
    assert table["request_bytes"].to_pylist()[2] is None


def test_latency_is_counted_from_the_schedule_beyond_the_timers_jitter(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path, 0)
    for late_ms in (0, 4, 40):
        writer.add(row(100, sent_at_ns=(100 + late_ms) * MS))
    writer.close()
    assert read_rows(tmp_path)["latency_ns"].to_pylist() == [3 * MS, 3 * MS, 43 * MS]


def test_a_killed_workers_rows_are_kept_up_to_its_last_flush(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path, 0)
    for number in range(50):
        writer.add(row(number))
    writer.flush()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    assert read_rows(tmp_path).num_rows == 50, "the stream has no end yet"
    for number in range(50, 90):
        writer.add(row(number))
    writer.flush()
    longer = path.read_bytes()
    path.write_bytes(longer[: (len(whole) + len(longer)) // 2])
    assert read_rows(tmp_path).num_rows == 50, "half a batch is none"
    path.write_bytes(b"")
    assert read_rows(tmp_path).num_rows == 0
    assert read_rows(tmp_path / "missing").num_rows == 0


def account(**values: Any) -> WorkerAccount:
    return msgspec.structs.replace(
        WorkerAccount(worker=0, users=50, turns=1000, rows=1000, load_seconds=10.0, cpu_seconds=2.0), **values
    )


def codes(*accounts: WorkerAccount) -> dict[str, str]:
    return {check.code: check.consequence for check in findings(accounts)}


def test_a_clean_account_says_nothing() -> None:
    assert codes(account(), account()) == {}
    assert codes() == {}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"drawn_late": 5}, {}),
        ({"drawn_late": 20}, {"locust-users-busy": "WARNING"}),
        ({"drawn_late": 100}, {"locust-users-busy": "INVALID"}),
        ({"woken_late": 49}, {}),
        ({"woken_late": 50, "latest_seconds": 0.2}, {"locust-late": "WARNING"}),
        ({"cpu_seconds": 9.5}, {"locust-cpu": "WARNING"}),
        ({"cpu_seconds": 4.0, "waited_seconds": 5.5}, {"locust-cpu": "WARNING"}),
        ({"cpu_warnings": 1, "highest_cpu_percent": 97.0}, {"locust-cpu": "WARNING"}),
        ({"exceptions": {"ValueError: x": 3}}, {"locust-exceptions": "WARNING"}),
        ({"exceptions": {"ValueError: x": 50}}, {"locust-exceptions": "INVALID"}),
        ({"requests_before_start": 4}, {"locust-requests-before-start": "INFO"}),
    ],
)
def test_what_an_account_says_against_the_run(values: dict[str, Any], expected: dict[str, str]) -> None:
    assert codes(account(**values)) == expected


def test_accounts_are_read_back_and_a_broken_one_is_left_out(tmp_path: Path) -> None:
    accounts = [account(worker=worker, cpu_seconds=float(worker)) for worker in range(3)]
    for one in accounts:
        write_account(tmp_path, one)
    (tmp_path / "account-0001.json").write_text("{")
    assert read_accounts(tmp_path) == [accounts[0], accounts[2]]
    assert core_shares(accounts)["generator_process_peak"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("python", "go"),
    [
        ("OK", "OK"),
        ("CANCELLED", "Canceled"),
        ("DEADLINE_EXCEEDED", "DeadlineExceeded"),
        ("UNAVAILABLE", "Unavailable"),
    ],
)
def test_grpc_codes_are_spelled_as_ghz_does(python: str, go: str) -> None:
    assert grpc_code_name(python) == go


def test_a_target_file_is_sent_to_the_endpoint_under_the_name_it_calls(tmp_path: Path) -> None:
    path = tmp_path / "targets.jsonl"
    path.write_text(
        '{"method":"POST","url":"http://models.example:8501/v1/models/m:predict?a=1",'
        '"header":{"Content-Type":["application/json"]},"body":"e30="}\n'
    )
    (request,) = read_targets(path)
    assert request.path == "/v1/models/m:predict?a=1"
    assert request.headers == {"Host": "models.example:8501", "Content-Type": "application/json"}
    assert request.body == b"{}"


@pytest.mark.parametrize("content", ["", "{", '{"url": 3}'])
def test_a_file_that_is_no_target_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "targets.jsonl"
    path.write_text(content)
    with pytest.raises(InputError):
        read_targets(path)


def test_secrets_are_read_as_ghz_would_and_never_told(tmp_path: Path) -> None:
    path = tmp_path / "metadata.json"
    path.write_text('{"Authorization": "Bearer a{{`{{`}}b"}')
    assert read_metadata(path) == {"authorization": "Bearer a{{b"}
    path.write_text('{"Authorization": "Bearer canary"')
    with pytest.raises(InputError) as caught:
        read_metadata(path)
    assert "canary" not in str(caught.value)


def attack(**values: Any) -> Attack:
    return Attack(
        parse_endpoint("grpcs://models.example:8500"),
        rate_rps=201.0,
        source=Path("/payload"),
        load_seconds=2.0,
        report=Path("/scratch/candidate-0001.json"),
        **values,
    )


def plan_of(spec_values: dict[str, Any], **values: Any) -> Plan:
    generator = Generator("locust", "/python", "2.46.6")
    command = attack_command(generator, parse_load_spec({"tool": "locust", **spec_values}), attack(**values))
    assert command.attack[:3] == ("/python", "-m", "model_load_test.components.load.locust")
    assert str(command.report_path) == "/scratch/candidate-0001.locust"
    return parse_plan([word for word in command.attack[3:] if not word.startswith("--fork-server")])


def test_locust_is_told_what_to_load() -> None:
    plan = plan_of({"rate_rps": 200.0}, meeting=Path("/scratch/meeting"), parties=2, fork_server=Path("/s"))
    assert (plan.rate_rps, plan.requests) == (201.0, 402)
    assert plan.users == 402, "as many as requests, for rate x timeout would be more"
    assert (plan.meeting, plan.parties) == ("/scratch/meeting", 2)
    assert plan_of({"rate_rps": 200.0, "users": 7, "workers": 3}).users == 7
    assert plan_of({"rate_rps": 200.0, "users": 2, "workers": 3}).users == 3, "each worker needs one"


def test_a_closed_loop_of_locust_is_its_users() -> None:
    plan = plan_of({"concurrency": 9})
    assert (plan.users, plan.closed_seconds, plan.requests) == (9, 2.0, 0)


def test_locust_connects_as_the_options_say() -> None:
    plan = plan_of(
        {},
        connection=ConnectionOptions("/ca", "/cert", "/key", "other.example"),
        metadata_file=Path("/scratch/metadata.json"),
    )
    assert (plan.ca_file, plan.certificate_file, plan.key_file) == ("/ca", "/cert", "/key")
    assert (plan.server_name, plan.metadata_file) == ("other.example", "/scratch/metadata.json")
    assert plan_of({}, connection=ConnectionOptions(ca_file="system")).ca_file == ""


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"workers": 2}, "workers"),
        ({"users": 5}, "users"),
        ({"tool": "locust", "workers": 0}, "workers"),
        ({"tool": "locust", "concurrency": 3, "users": 3}, "users"),
        ({"tool": "locust", "protocol": "http", "http_version": "2"}, "http_version"),
        ({"tool": "siege"}, "tool"),
    ],
)
def test_what_locust_cannot_do_is_refused_by_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(LoadSpecError) as caught:
        parse_load_spec(values)
    assert caught.value.field == field


def test_locust_loads_both_protocols() -> None:
    for protocol in ("grpc", "http"):
        assert parse_load_spec({"tool": "locust", "protocol": protocol, "rate_rps": 10.5}).tool == "locust"


def test_the_stream_is_plain_arrow(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path, 4)
    writer.add(row(1))
    writer.close()
    with (tmp_path / "rows-0004.arrow").open("rb") as file:
        assert pa.ipc.open_stream(file).read_all().num_rows == 1
