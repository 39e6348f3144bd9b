from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from model_load_test.components.gate.judge import judge
from model_load_test.components.gate.spec import GateSpec, parse_gate_spec
from model_load_test.components.gate.stopping import load_stop_rule, stop_rule, stops

TRACES = Path(__file__).resolve().parents[2] / ".." / "shared" / "gate-traces"
MakeTable = Callable[..., pa.Table]


@pytest.mark.parametrize("ratio", [1.0, 1.05, 1.1])
def test_judging_the_finished_table_gives_the_verdict_the_run_stopped_with(
    make_table: MakeTable, ratio: float
) -> None:
    spec = GateSpec()
    whole = make_table(ratio=ratio, seed=5)
    blocks = whole.column("block").to_numpy()
    rule = stop_rule(spec)
    for look in spec.looks:
        measured = whole.filter(pa.array(blocks < look))
        verdict = rule(measured)
        if verdict.verdict != "INCONCLUSIVE":
            break
    assert judge(measured, spec) == verdict


def test_an_early_look_is_stricter_than_the_only_look(make_table: MakeTable) -> None:
    table = make_table(pairs=15)
    early = judge(table, GateSpec()).metrics["p50"]
    only = judge(table, parse_gate_spec({"looks": [15]})).metrics["p50"]
    assert early.upper is not None
    assert only.upper is not None
    assert early.upper > only.upper


def test_a_refused_percentile_waits_while_looks_remain(make_table: MakeTable) -> None:
    table = make_table(pairs=15, requests=100)
    demands = {"margins": {"errors": 0.01}}
    waiting = judge(table, parse_gate_spec({**demands, "looks": [15, 30]}))
    assert waiting.metrics["p99"].verdict == "REFUSED"
    assert (waiting.verdict, waiting.pairs_wanted) == ("INCONCLUSIVE", 5)
    assert judge(table, parse_gate_spec({**demands, "looks": [15]})).verdict == "PASS"


def test_a_run_stops_early_only_when_decided_against_its_baseline(make_table: MakeTable) -> None:
    spec = GateSpec()
    assert stops(judge(make_table(pairs=15, ratio=1.2), spec))
    assert stops(judge(make_table(pairs=15, arms=("baseline",)), spec))
    assert not stops(judge(make_table(pairs=15, ratio=1.05), spec))
    alone = make_table(pairs=15, arms=("candidate",), ratio=2.0)
    assert not stops(judge(alone, spec))
    past = [{"p50": 0.006 + 1e-6 * i} for i in range(6)]
    assert judge(alone, spec, history=past).verdict == "FAIL"
    assert not stops(judge(alone, spec, history=past))


def test_the_load_room_is_told_to_stop_and_why(make_table: MakeTable) -> None:
    pytest.importorskip("model_load_test.components.load.run")
    rule = load_stop_rule(GateSpec())
    failed, open_ = rule(make_table(pairs=15, ratio=1.2)), rule(make_table(pairs=15, ratio=1.05))
    assert (failed.stop, open_.stop) == (True, False)
    assert "FAIL" in failed.text
    assert "p50 x1.2" in failed.text


def recorded(candidate: str, baseline: str, start: int, pairs: int) -> pa.Table:
    if not TRACES.exists():
        pytest.skip(f"the recorded traces are not here: {TRACES}")
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("arm", "block", "sent", "latency")}
    with np.load(TRACES / "noisy.npz") as trace:
        for code, server in enumerate((candidate, baseline)):
            sent = trace[f"{server}_t"].astype(float)
            chosen = (sent >= start) & (sent < start + pairs)
            columns["arm"].append(np.full(int(chosen.sum()), code, np.int8))
            columns["block"].append(sent[chosen].astype(int) - start)
            columns["sent"].append((sent[chosen] * 1e9).astype(np.int64))
            columns["latency"].append((trace[f"{server}_l"][chosen] * 1e6).astype(np.int64))
    rows = sum(part.size for part in columns["arm"])
    return pa.table(
        {
            "arm": pa.DictionaryArray.from_arrays(np.concatenate(columns["arm"]), ["candidate", "baseline"]),
            "block": np.concatenate(columns["block"]).astype(np.int32),
            "latency_ns": np.concatenate(columns["latency"]),
            "sent_at_ns": np.concatenate(columns["sent"]),
            "ok": np.ones(rows, bool),
        }
    )


@pytest.mark.parametrize("start", [100, 400, 700])
def test_recorded_servers_get_the_verdict_their_truth_deserves(start: int) -> None:
    spec = GateSpec()
    assert judge(recorded("a1", "a2", start, 60), spec).verdict == "PASS"
    assert judge(recorded("b0", "a1", start, 60), spec).verdict == "PASS"
    assert judge(recorded("b10", "a1", start, 60), spec).verdict == "FAIL"
    assert judge(recorded("b20", "a2", start, 15), spec).verdict == "FAIL"


def test_identical_servers_hardly_ever_fail() -> None:
    failed = 0
    rng = np.random.default_rng(17)
    spec = GateSpec()
    for _ in range(150):
        blocks = np.tile(np.repeat(np.arange(15), 200), 2)
        shared = np.tile(np.repeat(np.exp(rng.normal(0, 0.3, 15)), 200), 2)
        latencies = rng.lognormal(np.log(6e-3), 0.25, blocks.size) * shared
        table = pa.table(
            {
                "arm": pa.DictionaryArray.from_arrays(
                    np.repeat(np.array([0, 1], np.int8), 3000), ["candidate", "baseline"]
                ),
                "block": blocks.astype(np.int32),
                "latency_ns": (latencies * 1e9).astype(np.int64),
                "sent_at_ns": blocks * 10**9 + np.tile(np.arange(200) * 5_000_000, 30),
                "ok": np.ones(blocks.size, bool),
            }
        )
        failed += judge(table, spec).verdict == "FAIL"
    assert failed <= 3
