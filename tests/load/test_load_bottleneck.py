"""The verdict from given numbers; `tests/local/test_local_bottleneck.py` makes each one happen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from model_load_test.components.load.bottleneck import (
    ArmEvidence,
    Bottleneck,
    arm_evidence,
    bottleneck_line,
    bottlenecks_of,
    find_bottleneck,
)
from model_load_test.components.load.counters import ServerTimes
from model_load_test.components.results.table import ROWS_SCHEMA

SERVER = ServerTimes("tf-serving", 1000.0, 0.004, 0.0005, True, 0.006)
ARM = ArmEvidence(
    offered_rps=200.0,
    achieved_rps=200.0,
    sent=1000,
    ok=1000,
    mean_seconds=0.005,
    wait_seconds=0.0,
    late_share=0.0,
    exhausted=0,
    server=SERVER,
    connect_seconds=0.0001,
)
QUIET = {"node_busy_share": 0.3, "generator_cores": 0.2, "generator_process_peak": 0.2}


def verdict(arm: ArmEvidence, machine: dict[str, float] | None = None) -> str:
    return find_bottleneck(arm, {**QUIET, **(machine or {})}, cores=2).verdict


def server(**values: Any) -> ServerTimes:
    return replace(SERVER, **values)


def test_the_part_that_is_half_of_the_latency_is_the_bottleneck() -> None:
    assert verdict(ARM) == "server compute"
    assert verdict(replace(ARM, server=server(queue_seconds=0.003))) == "server queue"
    assert verdict(replace(ARM, mean_seconds=0.05)) == "network or proxy"
    assert verdict(replace(ARM, mean_seconds=0.05, wait_seconds=0.04)) == "generator"


def test_no_part_of_half_is_unknown_and_shows_the_split() -> None:
    found = find_bottleneck(
        replace(ARM, mean_seconds=0.010, server=server(mean_seconds=0.006, queue_seconds=0.003)), QUIET, 2
    )
    assert found.verdict == "unknown"
    for part in ("between client and server 4 ms", "waiting in the server 3 ms", "the server's work 3 ms"):
        assert part in found.detail


def test_what_handling_a_message_takes_is_not_laid_to_the_network() -> None:
    fast = replace(ARM, mean_seconds=0.001, server=server(mean_seconds=0.0002, queue_seconds=0.0))
    assert verdict(fast) == "unknown"
    assert verdict(replace(fast, mean_seconds=0.010)) == "network or proxy"


def test_a_short_way_points_at_a_proxy_and_a_long_one_does_not() -> None:
    slow = replace(ARM, mean_seconds=0.1)
    assert "look at proxies" in find_bottleneck(slow, QUIET, 2).detail
    assert "look at proxies" not in find_bottleneck(replace(slow, connect_seconds=0.05), QUIET, 2).detail


@pytest.mark.parametrize(
    "machine",
    [
        {"generator_process_limit": 1.0, "generator_process_peak": 0.95},
        {"generator_process_limit": 1.0, "generator_process_wanted": 0.95},
        {"generator_process_peak": 1.9},
        {"node_busy_share": 0.97, "generator_cores": 1.2},
        {"ports_share": 0.95},
        {"descriptors_share": 1.0},
    ],
)
def test_the_generator_is_it_when_it_fell_short_and_something_of_it_was_used_up(
    machine: dict[str, float],
) -> None:
    assert verdict(replace(ARM, achieved_rps=150.0), machine) == "generator"
    assert verdict(replace(ARM, late_share=0.3), machine) == "generator"
    assert verdict(ARM, machine) == "server compute", "it was busy, and did what was asked"


def test_a_machine_busy_with_the_server_is_not_the_generators_fault() -> None:
    busy = {"node_busy_share": 0.99, "generator_cores": 0.2}
    assert verdict(replace(ARM, achieved_rps=150.0), busy) == "server compute"


def test_no_free_port_is_the_generator_even_at_full_rate() -> None:
    assert verdict(replace(ARM, exhausted=3)) == "generator"


def test_a_closed_loop_cannot_fall_short() -> None:
    hungry = {"generator_process_limit": 1.0, "generator_process_peak": 0.95}
    assert verdict(replace(ARM, offered_rps=None, achieved_rps=10.0), hungry) == "server compute"


def test_a_server_with_other_clients_tells_nothing_of_ours() -> None:
    found = find_bottleneck(replace(ARM, server=server(requests=5000.0)), QUIET, 2)
    assert found.verdict == "unknown"
    assert "counted 5000 requests where 1000 were sent" in found.detail
    assert verdict(replace(ARM, server=server(requests=300.0))) == "unknown", "one of several replicas"


def test_without_the_servers_times_only_a_long_way_can_be_told() -> None:
    blind = replace(ARM, server=None, server_missing="it shows no metrics")
    assert verdict(blind) == "unknown"
    assert "it shows no metrics" in find_bottleneck(blind, QUIET, 2).detail
    assert verdict(replace(blind, mean_seconds=0.05, connect_seconds=0.04)) == "network or proxy"


def test_no_answer_at_all_is_unknown() -> None:
    assert verdict(replace(ARM, ok=0, mean_seconds=0.0)) == "unknown"


def test_a_server_slower_than_its_clients_waited_is_still_split() -> None:
    # requests that timed out are the server's, and not among the client's successful ones
    late = replace(ARM, ok=900, mean_seconds=0.5, server=server(mean_seconds=1.5, queue_seconds=1.4))
    assert verdict(late) == "server queue"


def test_littles_law() -> None:
    assert ARM.in_flight == pytest.approx(200 * 0.005)
    assert replace(ARM, ok=500).in_flight == pytest.approx(100 * 0.005)


def rows(scheduled: list[int | None], sent: list[int], latency: list[int], errors: list[str]) -> pa.Table:
    count = len(sent)
    return pa.table(
        {
            "worker": [0] * count,
            "sent_at_ns": sent,
            "scheduled_at_ns": pa.array(scheduled, pa.int64()),
            "latency_ns": latency,
            "ok": [not error for error in errors],
            "status": ["OK" if not error else "0" for error in errors],
            "error": errors,
            "request_bytes": [1] * count,
            "response_bytes": [1] * count,
        }
    ).cast(ROWS_SCHEMA)


def test_evidence_is_gathered_from_rows() -> None:
    ms = 1_000_000
    table = rows(
        [0, 10 * ms, None, 30 * ms],
        [0, 30 * ms, 20 * ms, 31 * ms],
        [5 * ms, 25 * ms, 6 * ms, 1 * ms],
        ["", "", "", "dial tcp: cannot assign requested address"],
    )
    found = arm_evidence(table, 100.0, 0.04, None)
    assert (found.sent, found.ok, found.exhausted) == (4, 3, 1)
    assert found.achieved_rps == pytest.approx(100.0)
    assert found.mean_seconds == pytest.approx(0.012)
    assert found.wait_seconds == pytest.approx(0.020 / 3)
    assert found.late_share == 0.25, "a millisecond is the timer's"


def test_the_line_names_the_baseline_only_where_it_differs() -> None:
    one, other = Bottleneck("server queue", "a"), Bottleneck("generator", "b")
    assert bottleneck_line({}) == ""
    assert bottleneck_line({"baseline": one, "candidate": one}) == "The bottleneck was: server queue (a)."
    assert bottleneck_line({"baseline": one, "candidate": other}) == (
        "The bottleneck was: generator (b); for the baseline: server queue (a)."
    )


def test_metadata_of_another_version_loses_the_line_and_nothing_more() -> None:
    assert bottlenecks_of({"bottleneck": {"candidate": {"verdict": "gremlins", "detail": ""}}}) == {}
    assert bottlenecks_of({"bottleneck": 7}) == {}
    kept = {"candidate": find_bottleneck(ARM, QUIET, 2)}
    assert bottlenecks_of({"bottleneck": msgspec.to_builtins(kept)}) == kept
