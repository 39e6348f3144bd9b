"""The numbers for dsl.Metrics: flat, finite, stable."""

from __future__ import annotations

import math

import msgspec
import pytest

from model_load_test.components.report.metrics import metrics

OUTCOMES = ("PASS", "FAIL", "INCONCLUSIVE", "NO_BASELINE", "INVALID")


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_value_is_a_finite_float(report_of, outcome: str) -> None:
    values = metrics(report_of(outcome))
    assert values
    for name, value in values.items():
        assert type(value) is float, name
        assert math.isfinite(value), name


def test_names_and_units(report_of) -> None:
    report = report_of("FAIL")
    values = metrics(report)
    assert values["gate_passed"] == 0.0
    assert values["ratio_p95"] == report.verdict.metrics["p95"].ratio
    assert values["ratio_p95_upper"] == report.verdict.metrics["p95"].upper
    assert values["difference_errors"] == report.verdict.metrics["errors"].ratio
    assert values["candidate_p95_ms"] == pytest.approx(12.5, abs=1)
    assert values["candidate_p95_ms"] > values["baseline_p95_ms"]
    assert values["achieved_rps"] == pytest.approx(200, rel=0.01)
    assert values["offered_rps"] == 200.0
    assert values["error_rate"] == pytest.approx(0.002, abs=0.002)
    assert values["pairs"] == 15.0


def test_of_goodput_the_lower_bound_counts(report_of) -> None:
    report = report_of("PASS")
    found = msgspec.structs.replace(report.verdict.metrics["p95"], lower=0.97, upper=1.02, candidate=198.0)
    verdict = msgspec.structs.replace(report.verdict, metrics={"goodput": found})
    values = metrics(msgspec.structs.replace(report, verdict=verdict))
    assert values["ratio_goodput_lower"] == 0.97
    assert "ratio_goodput_upper" not in values
    assert values["goodput_rps"] == 198.0


def test_only_a_pass_passes(report_of) -> None:
    passed = {outcome for outcome in OUTCOMES if metrics(report_of(outcome))["gate_passed"] == 1.0}
    assert passed == {"PASS"}


def test_what_is_not_a_number_is_left_out(report_of) -> None:
    report = report_of("FAIL")
    p95 = msgspec.structs.replace(report.verdict.metrics["p95"], ratio=math.nan, upper=math.inf)
    verdict = msgspec.structs.replace(report.verdict, metrics={"p95": p95})
    broken = msgspec.structs.replace(report, verdict=verdict, load_spec={"rate_rps": True})
    values = metrics(broken)
    assert not {"ratio_p95", "ratio_p95_upper", "offered_rps"} & set(values)
    assert values["pairs"] == 15.0


def test_one_arm_has_no_comparison(report_of) -> None:
    values = metrics(report_of("NO_BASELINE"))
    assert "candidate_p95_ms" in values
    assert not [name for name in values if name.startswith(("ratio_", "baseline_"))]
