from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from made_reports import START_NS, ghz_detail, ghz_report, make_rows, vegeta_lines, vegeta_record

from model_load_test.components.results.checks import Check
from model_load_test.components.results.in_flight import in_flight
from model_load_test.components.results.readers import read_report
from model_load_test.components.results.table import RunMetadata, with_arm
from model_load_test.components.results.validity import validate, validate_report

Write = Callable[..., Path]
SECOND = 1_000_000_000
SPEC = {"mode": "single", "rate_rps": 100.0, "block_seconds": 1.0}


def steady(count: int = 3000, *, rate: float = 100.0, latency_ns: int = 5_000_000, **more: Any) -> pa.Table:
    generator = np.random.default_rng(0)
    sent = [START_NS + round(i * 1e9 / rate) for i in range(count)]
    return make_rows(
        sent, (latency_ns * (1 + generator.exponential(size=count) / 4)).astype(int).tolist(), **more
    )


def table_of(rows: pa.Table, arm: str = "candidate", blocks: int = 30) -> pa.Table:
    block = (np.arange(rows.num_rows) * blocks // max(1, rows.num_rows)).astype(np.int32)
    return with_arm(rows, arm, block)


def of_code(checks: Sequence[Check], code: str) -> Check:
    (check,) = [check for check in checks if check.code == code]
    return check


def codes(checks: Sequence[Check]) -> set[str]:
    return {check.code for check in checks}


def test_a_sound_run_has_no_finding() -> None:
    assert validate(table_of(steady()), RunMetadata(load_spec=SPEC)) == ()


def test_both_arms_are_wanted_of_a_duet() -> None:
    metadata = RunMetadata(load_spec=SPEC | {"mode": "duet"})
    checks = validate(table_of(steady()), metadata)
    assert of_code(checks, "no-requests").consequence == "INVALID"
    assert "baseline" in of_code(checks, "no-requests").detail
    both = pa.concat_tables([table_of(steady()), table_of(steady(), "baseline")]).unify_dictionaries()
    assert validate(both, metadata) == ()


def test_a_table_of_warm_up_only_is_empty() -> None:
    checks = validate(with_arm(steady(), "candidate", -1), RunMetadata(load_spec=SPEC))
    assert codes(checks) == {"no-requests"}


@pytest.mark.parametrize(("sent", "consequence"), [(0.98, None), (0.95, "WARNING"), (0.85, "INVALID")])
def test_a_saturated_generator_is_no_slow_model(sent: float, consequence: str | None) -> None:
    rows = steady(round(3000 * sent), rate=100 * sent)
    checks = validate(table_of(rows), RunMetadata(load_spec=SPEC))
    if consequence is None:
        assert checks == ()
        return
    check = of_code(checks, "generator-saturated")
    assert check.consequence == consequence
    assert check.numbers == {"asked_rps": 100.0, "sent_rps": pytest.approx(100 * sent)}
    assert check.detail.startswith("candidate: ")


def test_a_rate_that_varies_is_asked_for_block_by_block() -> None:
    varying = SPEC | {"rate_rps": 55.0, "block_rates_rps": [100.0, 10.0, 0.0]}
    sent = [START_NS + block * SECOND + k * SECOND // rate
            for block, rate in enumerate([100, 10, 0] * 10) for k in range(rate)]  # fmt: skip
    rows = make_rows(sent, [5_000_000] * len(sent))
    block = ((np.array(sent) - START_NS) // SECOND).astype(np.int32)
    assert "generator-saturated" not in codes(
        validate(with_arm(rows, "candidate", block), RunMetadata(load_spec=varying))
    )
    half = rows.filter(pa.array(np.arange(rows.num_rows) % 2 == 0))
    checks = validate(with_arm(half, "candidate", block[::2]), RunMetadata(load_spec=varying))
    assert of_code(checks, "generator-saturated").numbers["asked_rps"] == pytest.approx(55)


def test_a_closed_loop_that_was_asked_for_is_at_its_workers_and_that_is_no_finding() -> None:
    closed = SPEC | {"rate_rps": 0.0, "concurrency": 1}
    sent = [START_NS + k * 10_000_000 for k in range(3000)]
    table = table_of(make_rows(sent, [10_000_000] * 3000))
    assert "workers-all-busy" in codes(validate(table, RunMetadata(load_spec=SPEC)))
    assert not codes(validate(table, RunMetadata(load_spec=closed)))


def test_findings_made_while_loading_are_kept_and_the_worst_comes_first() -> None:
    stopped = Check(code="generator-stopped", detail="it died", consequence="INVALID")
    metadata = RunMetadata(
        load_spec=SPEC,
        checks=(msgspec.to_builtins(stopped),),
        host={"cpu_busy_share": 0.95, "cpu_steal_share": 0.2},
    )
    checks = validate(table_of(steady()), metadata)
    assert [check.code for check in checks] == ["generator-stopped", "generator-busy", "cpu-stolen"]


@pytest.mark.parametrize(
    ("error", "share", "code", "consequence"),
    [
        ("dial tcp 1.2.3.4:5: connect: connection refused", 0.06, "transport-collapse", "INVALID"),
        ('Post "http://x/y": EOF', 0.06, "transport-collapse", "INVALID"),
        ("read: connection reset by peer", 0.01, "transport-errors", "WARNING"),
        ("unexpected EOF", 0.2, None, None),
        ("context deadline exceeded", 0.9, None, None),
        ("500 Internal Server Error", 0.9, None, None),
    ],
)
def test_a_server_that_fell_over_is_no_slow_model(
    error: str, share: float, code: str | None, consequence: str | None
) -> None:
    failed = np.arange(3000) < 3000 * share
    rows = steady(ok=(~failed).tolist(), error=[error if f else "" for f in failed])
    checks = [c for c in validate(table_of(rows), RunMetadata(load_spec=SPEC)) if c.code != "too-few-rows"]
    assert [(c.code, c.consequence) for c in checks] == ([(code, consequence)] if code else [])


def test_too_few_rows_for_the_99th_percentile() -> None:
    check = of_code(validate(table_of(steady(1999)), RunMetadata()), "too-few-rows")
    assert check.numbers == {"ok": 1999.0, "needed": 2000.0}


def test_a_clock_set_back_is_found() -> None:
    rows = steady()
    sent = np.array(rows["sent_at_ns"].to_pylist())
    sent[1500:] -= 20 * SECOND
    stepped = make_rows(sent.tolist(), rows["latency_ns"].to_pylist())
    check = of_code(validate(table_of(stepped), RunMetadata()), "clock-step")
    assert check.consequence == "INVALID"
    assert check.numbers["seconds"] == pytest.approx(20, abs=0.1)


def test_a_pause_or_a_clock_set_forward_is_found() -> None:
    rows = steady()
    sent = np.array(rows["sent_at_ns"].to_pylist())
    sent[1500:] += 20 * SECOND
    paused = make_rows(sent.tolist(), rows["latency_ns"].to_pylist())
    assert of_code(validate(table_of(paused), RunMetadata()), "sending-gap").consequence == "WARNING"


def test_a_slow_answer_is_no_pause() -> None:
    sent = [START_NS + i * 10_000_000 for i in range(3000)]
    sent[1500:] = [at + 20 * SECOND for at in sent[1500:]]
    latency = [5_000_000] * 3000
    latency[1499] = 20 * SECOND
    assert "sending-gap" not in codes(validate(table_of(make_rows(sent, latency)), RunMetadata()))


def workers(write: Write, *starts_seconds: float, same: bool = False) -> tuple[Check, ...]:
    paths = []
    for worker, start in enumerate(starts_seconds):
        records = [
            vegeta_record(
                seq,
                attack=f"w{worker}",
                timestamp=str(np.datetime64(START_NS + round(start * 1e9) + seq * 10_000_000, "ns")) + "Z",
                latency=5_000_000 + seq + (0 if same else worker),
            )
            for seq in range(1000)
        ]
        paths.append(write(vegeta_lines(records), f"w{worker}"))
    return validate_report(read_report(paths))


def test_workers_side_by_side_are_fine(write: Write) -> None:
    assert workers(write, 0.0, 0.2) == ()


def test_workers_one_after_the_other_are_two_runs(write: Write) -> None:
    check = of_code(workers(write, 0.0, 30.0), "windows-apart")
    assert check.consequence == "INVALID"
    assert check.numbers["apart_seconds"] == pytest.approx(20, abs=0.1)


def test_workers_started_far_apart_lower_the_load(write: Write) -> None:
    check = of_code(workers(write, 0.0, 4.0), "start-skew")
    assert check.consequence == "WARNING"
    assert check.numbers["skew_seconds"] == pytest.approx(4.0)


def test_a_worker_given_under_two_names_is_found(write: Write) -> None:
    check = of_code(workers(write, 0.0, 0.0, same=True), "duplicate-worker")
    assert (check.consequence, check.numbers) == ("INVALID", {"repeated": 1000.0})


def test_in_flight_counts_open_requests() -> None:
    sent = np.array([0, 10, 20, 30], dtype=np.int64)
    assert in_flight(sent, np.array([15, 15, 15, 15])) == (2, pytest.approx(10 / 30))
    assert in_flight(sent, np.array([10, 10, 10, 10])) == (1, 1.0)
    assert in_flight(sent[:1], np.array([5])) == (1, 0.0)


@pytest.mark.parametrize(
    ("name", "busy"),
    [
        ("vegeta-overload-capped.results.json", True),
        ("vegeta-rate0-closed-loop.results.json", True),
        ("ghz-0.120.0-clean.json", True),
        ("vegeta-clean.results.json", False),
        ("vegeta-overload-open.results.json", False),
        ("vegeta-slow-timeout.results.json", False),
        ("ghz-0.120.0-overload-async.json", False),
        ("ghz-0.120.0-conc-step.json", False),
    ],
)
def test_generators_at_their_number_of_workers(shared: Path, name: str, busy: bool) -> None:
    assert ("workers-all-busy" in codes(validate_report(read_report(shared / "fixtures" / name)))) == busy


def test_ghz_that_cannot_keep_its_rate_is_saturated(shared: Path) -> None:
    checks = validate_report(read_report(shared / "fixtures/ghz-0.120.0-overload-rps.json"))
    check = of_code(checks, "generator-saturated")
    assert check.consequence == "INVALID"
    assert check.numbers["asked_rps"] == 1500.0
    assert "generator-saturated" not in codes(
        validate_report(read_report(shared / "fixtures/ghz-0.120.0-overload-async.json"))
    )


def test_one_report_of_several_steps_describes_none(shared: Path) -> None:
    for name in ("ghz-0.120.0-load-step.json", "ghz-0.120.0-conc-step.json"):
        assert "load-varies" in codes(validate_report(read_report(shared / "fixtures" / name)))


def test_ghz_closed_loop_is_told(write: Write) -> None:
    details = [ghz_detail(START_NS + i * SECOND, 5) for i in range(9)]
    closed = validate_report(read_report(write(ghz_report(details, options={"concurrency": 2}))))
    assert of_code(closed, "closed-loop").consequence == "INFO"
    opened = validate_report(read_report(write(ghz_report(details))))
    assert "closed-loop" not in codes(opened)


def test_every_number_is_finite_and_every_sentence_has_a_remedy(shared: Path) -> None:
    for path in sorted((shared / "fixtures").glob("*.json")):
        if path.stat().st_size:
            for check in validate_report(read_report(path)):
                assert all(np.isfinite(number) for number in check.numbers.values())
                assert len(check.detail) > 40
                assert not check.detail.endswith(".")


def test_a_summary_tells_saturation_and_collapse_too(write: Write) -> None:
    refused = "rpc error: desc = dial tcp 1.2.3.4:5: connect: connection refused"
    report = ghz_report(
        [],
        count=1000,
        total=10 * SECOND,
        average=39_000_000,
        statusCodeDistribution={"OK": 900, "Unavailable": 100},
        errorDistribution={refused: 100},
        options={"concurrency": 4, "rps": 200},
    )
    del report["details"]
    checks = validate_report(read_report(write(report)))
    assert of_code(checks, "generator-saturated").numbers == {"asked_rps": 200.0, "sent_rps": 100.0}
    assert of_code(checks, "workers-all-busy").numbers["little"] == pytest.approx(3.9)
    assert of_code(checks, "transport-collapse").numbers["unreachable"] == 100.0
