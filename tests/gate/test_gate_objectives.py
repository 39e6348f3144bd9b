from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.gate.blocks import ArmBlocks, read_arms
from model_load_test.components.gate.objectives import judge_objectives
from model_load_test.components.results.objective import parse_objective


def one_block(requests: int, over: int, failures: int = 0) -> ArmBlocks:
    latencies = np.sort(np.concatenate((np.full(requests - over - failures, 0.01), np.full(over, 0.1))))
    return ArmBlocks(
        numbers=np.array([0]),
        latencies=latencies,
        offsets=np.array([0, latencies.size]),
        requests=np.array([requests]),
        failures=np.array([failures]),
        first_sent_ns=np.array([0]),
        last_sent_ns=np.array([10**9]),
        doubled=False,
    )


@pytest.mark.parametrize(("requests", "over"), [(459, 0), (662, 1), (1307, 5), (2010, 10)])
def test_the_sizes_are_those_of_mlperfs_early_stopping(requests: int, over: int) -> None:
    # loadgen/early_stopping.cc at percentile 0.99, confidence 0.99, tolerance 0
    assert judge_objectives(("p99_ms<=50",), one_block(requests, over), 0.01)[0].verdict == "PASS"
    assert judge_objectives(("p99_ms<=50",), one_block(requests - 1, over), 0.01)[0].verdict == "INCONCLUSIVE"


def test_a_failed_request_is_over_every_limit() -> None:
    assert judge_objectives(("p99_ms<=50",), one_block(459, 0, failures=1), 0.01)[0].verdict == "INCONCLUSIVE"
    assert judge_objectives(("p99_ms<=50",), one_block(1000, 0, failures=100), 0.01)[0].verdict == "FAIL"


def test_error_rate() -> None:
    found = judge_objectives(("error_rate<=0.01",), one_block(1000, 0, failures=0), 0.05)[0]
    assert (found.verdict, found.observed) == ("PASS", 0.0)
    found = judge_objectives(("error_rate<=0.01",), one_block(1000, 0, failures=50), 0.05)[0]
    assert (found.verdict, found.observed) == ("FAIL", 0.05)
    assert judge_objectives(("error_rate<=0.01",), one_block(100, 0), 0.05)[0].verdict == "INCONCLUSIVE"


def test_units_goodput_and_mean(make_table: Callable[..., pa.Table]) -> None:
    arm = read_arms(make_table(arms=("candidate",)))["candidate"]
    texts = (
        "p50_ms<=7",
        "p50_us<=7000",
        "p50_s<=0.007",
        "mean_ms<=6.5",
        "goodput_rps>=190",
        "goodput_rps>=210",
    )
    found = judge_objectives(texts, arm, 0.05)
    assert [objective.verdict for objective in found] == ["PASS"] * 5 + ["FAIL"]
    assert found[0].observed == pytest.approx(6.0, rel=0.02)
    assert found[1].observed == pytest.approx(6000, rel=0.02)
    assert found[4].observed == pytest.approx(200, rel=0.01)


def test_requests_that_are_late_together_count_less(make_table: Callable[..., pa.Table]) -> None:
    def in_bursts(rng: np.random.Generator, arm: str, block: int, requests: int) -> np.ndarray:
        return np.full(requests, 0.1 if block in (3, 4) else 0.01)

    def spread(rng: np.random.Generator, arm: str, block: int, requests: int) -> np.ndarray:
        return np.where(np.arange(requests) % 30 == 0, 0.1, 0.01)

    objective = ("p95_ms<=50",)
    arms = [
        read_arms(make_table(arms=("candidate",), latency=shape))["candidate"]
        for shape in (in_bursts, spread)
    ]
    assert [judge_objectives(objective, arm, 0.05)[0].verdict for arm in arms] == ["INCONCLUSIVE", "PASS"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "p99", "p99_ms", "p99_ms<=", "p99_ms>=50", "p99_ms<50", "p99_ms<=fast", "p99_ms<=nan"),
        *("p99_ms<=0", "p99_ms<=inf", "p0_ms<=5", "p100_ms<=5", "latency<=5"),
        *("error_rate<=1", "error_rate<=-0.1", "goodput_rps<=5"),
    ],
)
def test_what_is_no_objective_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_objective(text)


def test_percentiles_may_have_decimals_and_spaces() -> None:
    objective = parse_objective(" p99.9_ms <= 50 ")
    assert objective.q == pytest.approx(0.999)
    assert objective.limit == pytest.approx(0.05)
