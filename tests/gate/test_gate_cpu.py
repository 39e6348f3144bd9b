"""CPU time per request as a metric of the gate: only where a margin is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import GateSpecError, parse_gate_spec
from model_load_test.components.gate.stopping import load_stop_rule
from model_load_test.components.results.resource_use import CpuUse
from model_load_test.components.results.table import SCHEMA

START_NS = 1_773_480_000 * 10**9
BLOCKS = 15
OFF = dict.fromkeys(("p50", "p95", "p99", "errors", "goodput"), "off")


@pytest.fixture
def table() -> pa.Table:
    """Two servers that are equally fast."""
    random = np.random.default_rng(3)
    parts = []
    for arm in ("candidate", "baseline"):
        block = np.repeat(np.arange(BLOCKS), 200)
        sent = START_NS + (np.arange(block.size) * 5_000_000)
        count = block.size
        parts.append(
            pa.table(
                {
                    "arm": pa.array([arm] * count),
                    "block": block.astype(np.int32),
                    "worker": np.zeros(count, np.int16),
                    "sent_at_ns": sent,
                    "scheduled_at_ns": sent,
                    "latency_ns": (5e6 * np.exp(random.normal(0, 0.1, count))).astype(np.int64),
                    "ok": np.ones(count, bool),
                    "status": pa.array(["OK"] * count),
                    "error": pa.array([""] * count),
                    "request_bytes": np.full(count, 1),
                    "response_bytes": np.full(count, 1),
                }
            ).cast(SCHEMA)
        )
    return pa.concat_tables(parts)


def uses(factor: float, blocks: int = BLOCKS, noise: float = 0.03, seed: int = 1) -> list[CpuUse]:
    random = np.random.default_rng(seed)
    found = []
    for block in range(blocks):
        weather = float(np.exp(random.normal(0, 0.2)))
        for arm, level in (("candidate", 0.4 * factor), ("baseline", 0.4)):
            spent = level * weather * float(np.exp(random.normal(0, noise)))
            found.append(CpuUse(arm, block, 1, spent, 200))
    return found


def verdict(table: pa.Table, cpu: list[CpuUse], **values: Any) -> Any:
    return judge(table, parse_gate_spec({"looks": [BLOCKS], **values}), cpu=cpu)


def test_equally_fast_and_18_percent_more_cpu_fails_where_5_are_allowed(table: pa.Table) -> None:
    found = verdict(table, uses(1.18), margins={"cpu": 0.05})
    assert found.verdict == "FAIL"
    assert "CPU time per request: +1" in found.reasons[0]
    metric = found.metrics["cpu"]
    assert (metric.verdict, metric.n) == ("FAIL", BLOCKS)
    assert metric.ratio == pytest.approx(1.18, abs=0.03)
    assert metric.lower < 1.18 < metric.upper
    assert metric.baseline == pytest.approx(2e-3, rel=0.2)
    assert {found.metrics[name].verdict for name in ("mean", "p50", "p95")} == {"PASS"}


def test_without_a_margin_it_is_not_judged(table: pa.Table) -> None:
    found = verdict(table, uses(3.0))
    assert found.verdict == "PASS"
    assert "cpu" not in found.metrics


@pytest.mark.parametrize(("factor", "expected"), [(1.0, "PASS"), (1.1, "PASS"), (1.22, "INCONCLUSIVE")])
def test_inside_and_near_the_margin(table: pa.Table, factor: float, expected: str) -> None:
    found = verdict(table, uses(factor, noise=0.08, seed=5), margins={"cpu": 0.25, **OFF})
    assert found.metrics["cpu"].verdict == expected


def test_no_one_looked_says_what_to_do(table: pa.Table) -> None:
    found = verdict(table, [], margins={"cpu": 0.1})
    assert found.metrics["cpu"].verdict == "REFUSED"
    assert any("resource_sources" in reason for reason in found.reasons)


def test_only_stretches_of_both_arms_count(table: pa.Table) -> None:
    some = [use for use in uses(1.0) if use.arm == "baseline" or use.block < 6]
    assert verdict(table, some, margins={"cpu": 0.1}).metrics["cpu"].n == 6


def test_the_margin_can_be_switched_off_and_misspelt(table: pa.Table) -> None:
    assert "cpu" not in parse_gate_spec({"margins": {"cpu": "off"}}).margins
    with pytest.raises(GateSpecError, match="did you mean 'cpu'"):
        parse_gate_spec({"margins": {"cpus": 0.1}})


def test_a_stored_baseline_alone_does_not_judge_it(table: pa.Table) -> None:
    alone = table.filter(pa.array(np.array(table["arm"].to_pylist()) == "candidate"))
    history = [{"mean": 0.005, "p50": 0.005, "errors": 0.0, "goodput": 200.0}] * 6
    found = judge(alone, parse_gate_spec({"margins": {"cpu": 0.1}}), history=history)
    assert found.metrics["cpu"].verdict == "REFUSED"
    assert "loaded beside it" in found.metrics["cpu"].note


def test_the_stop_rule_asks_for_the_cpu_time_so_far_only_where_it_counts(table: pa.Table) -> None:
    asked: list[int] = []

    def so_far(rows: pa.Table) -> list[CpuUse]:
        asked.append(rows.num_rows)
        return uses(2.0)

    rule: Callable[[pa.Table], Any] = load_stop_rule(
        parse_gate_spec({"looks": [BLOCKS], "margins": {"cpu": 0.1}}), so_far
    )
    decision = rule(table)
    assert decision.stop
    assert "FAIL" in decision.text
    assert asked == [table.num_rows]
    load_stop_rule(parse_gate_spec({"looks": [BLOCKS]}), so_far)(table)
    assert len(asked) == 1
